"""The prompt: read a line, play it, show what came out, keep it in the journal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from memshell.errors import MemshellError, Terminated
from memshell.modes.players import make_player, tell
from memshell.paths import rc_path, state_path
from memshell.repl.complete import ShellCompleter
from memshell.repl.highlight import ShellLexer, coloured, theme
from memshell.repl.history import History
from memshell.repl.journal import Journal, last_journal, new_journal
from memshell.repl.resume import resume
from memshell.repl.sessions import Sessions
from memshell.scenario.player import StepFailed
from memshell.scenario.syntax import SyntaxProblem, parse_text
from memshell.shell.screen import Notes, Screen, toolbar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from prompt_toolkit.key_binding import KeyPressEvent

    from memshell.scenario.player import Player
    from memshell.shell.shell import Shell

OFFERED = 3  # sessions that are named beside the one that was resumed
PROMPT = "prompt"  # what stands for the file in the place of a failure
_ROOT = re.compile(r"\s*#\s*(?:echo|cat|sudo|lsmem|chmem)\s")  # root's prompt, pasted along


def prompt(args: argparse.Namespace, player: Player | None = None) -> int:
    """Run the prompt until Ctrl-D and return the exit code; *player* has a machine already that others write to."""
    if os.environ.get("TERM", "dumb") == "dumb":
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    if player is not None:
        return Prompt(player, debug=args.debug, around=partial(patch_stdout, raw=True)).run(resume=None, rc=False)
    return Prompt(make_player(args), debug=args.debug).run(resume=args.resume, rc=not args.no_rc)


class Prompt:
    """A session at a terminal. *around* is what the line is typed in: it keeps it whole when others have something to say."""

    def __init__(
        self, player: Player, *, debug: bool, around: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.player = player
        self.shell = player.shell
        self.screen = Screen()
        self.debug = debug
        self.shell.output.out, self.shell.output.err = self.screen, Notes(self.screen)
        self.shell.output.colour = coloured()
        self.around = around
        self._hand_over, player.hand_over = player.hand_over, self.hand_over

    @contextmanager
    def hand_over(self) -> Iterator[None]:
        """Leave screen and machine to another program."""
        with self._hand_over(), self.screen.hand_over():
            yield

    def run(self, *, resume: str | None, rc: bool) -> int:
        """Run until Ctrl-D; *resume* is the name of a session to bring back, "" the newest one, None for a new one.

        Raises UsageError for a session that there is not.
        """
        folder = self._folder()
        self.shell.sessions = sessions = Sessions(folder) if folder is not None else None
        path = sessions.find(resume).path if resume and sessions is not None else None
        journal = self._start(folder, rc=rc) if resume is None else self._resume(folder, path)
        try:
            with _terminable():
                self._loop(_session(self.shell, History(folder / "history" if folder is not None else None, self.warn)))
        except Terminated:
            with suppress(OSError):  # the terminal may be gone
                self.warn("terminated; --resume brings the session back")
            raise
        finally:
            if journal is not None:
                journal.close()
        return 0

    def _folder(self) -> Path | None:
        try:
            folder = state_path()
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.warn(f"no history and no journal: {error.filename}: {error.strerror}")
            return None
        return folder

    def warn(self, text: str) -> None:
        """Tell what is not in order."""
        self.shell.note(f"memshell: {text}")

    def _start(self, folder: Path | None, *, rc: bool) -> Journal | None:
        """Start the journal, and play rc.mem."""
        journal = new_journal(folder, self.warn) if folder is not None else None
        if journal is not None:
            self._keep_in(journal)
            for step in self.shell.machine.steps if self.shell.machine is not None else ():
                journal.add(f"! {step.command}" if step.error else step.command, step.n)
        path = rc_path()
        if rc and path.is_file():
            self.play(path.read_text(encoding="utf-8", errors="replace"), str(path))
        return journal

    def _resume(self, folder: Path | None, path: Path | None) -> Journal | None:
        """Play a journal, or the newest one of a session that has ended, and go on from there."""
        if path is None:
            path = last_journal(folder) if folder is not None else None
        if path is None:
            self.warn("there is no session to resume")
            return self._start(folder, rc=False)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - it is no path of a file
            self.shell.output.out, told = nowhere, self.shell.output.err
            self.shell.output.err = nowhere
            journal = resume(self.player, path, lambda text: print(f"memshell: {text}", file=told))
        self.shell.output.out, self.shell.output.err = self.screen, told
        self._keep_in(journal)
        steps = self.shell.machine.step.n if self.shell.machine is not None else 0
        name = f" of {self.shell.session}" if self.shell.session else ""
        self.shell.note(f"resumed at step {steps}{name}")
        self._offer()
        return journal

    def _offer(self) -> None:
        """Say which other sessions there are."""
        others = self.shell.sessions.rows() if self.shell.sessions is not None else []
        if others:
            named = [f"{row['name']} ({row['age']} ago, {row['machine'] or 'no machine'})" for row in others[:OFFERED]]
            more = f", {len(others) - OFFERED} more" if len(others) > OFFERED else ""
            self.shell.note(f"others, for --resume NAME: {', '.join(named)}{more}")

    def _keep_in(self, journal: Journal) -> None:
        """Write what is done from now on into *journal*."""

        def keep(text: str) -> None:
            machine = self.shell.machine
            journal.add(text, machine.step.n if machine is not None else 0, typed=self.shell.trusted)

        self.player.journal = keep

    def _loop(self, session: PromptSession[str]) -> None:
        while True:
            try:
                with self.around():
                    text = session.prompt("memshell> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if text.strip():
                self.play(text, PROMPT)
            if self.shell.leaving:
                return

    def play(self, text: str, file: str) -> None:
        """Play what was typed; failures are told and the session goes on."""
        if file == PROMPT and _ROOT.match(text):
            self.shell.note("a line that begins with # is a comment: leave the # out")
        self.shell.output.width = shutil.get_terminal_size().columns
        try:
            with self.screen.progress(self.shell):
                self.player.play_text(text, file)
        except KeyboardInterrupt:
            self.shell.note("interrupted: the step in hand is undone, the steps before it stand (history)")
        except MemshellError as failure:
            self._tell(failure, typed=text)
        for failed in self.player.failures:
            self._tell(failed, typed=text)
        self.player.failures.clear()

    def _tell(self, failure: MemshellError, *, typed: str) -> None:
        """Tell a failure; its place is worth a word when several lines were typed, or a file was played."""
        if isinstance(failure, StepFailed) and isinstance(failure.cause, MemshellError) and not self.debug:
            alone = failure.where.file == PROMPT and "\n" not in typed.strip()
            self.shell.note(str(failure.cause if alone else failure))
        else:
            tell(failure, debug=self.debug)


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise `Terminated` when SIGTERM or SIGHUP comes: the terminal is left as it was found, and the journal is closed."""

    def leave(number: int, _frame: object) -> None:
        raise Terminated(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _session(shell: Shell, history: History) -> PromptSession[str]:
    mode = EditingMode.VI if os.environ.get("MEMSHELL_KEYS", "emacs") == "vi" else EditingMode.EMACS
    return PromptSession(
        history=history,
        completer=ThreadedCompleter(ShellCompleter(shell)),
        complete_while_typing=False,
        lexer=ShellLexer(shell),
        auto_suggest=AutoSuggestFromHistory(),
        enable_history_search=True,
        multiline=True,
        prompt_continuation="... ",
        key_bindings=bindings(),
        editing_mode=mode,
        style=theme(),
        color_depth=None if coloured() else ColorDepth.DEPTH_1_BIT,
        bottom_toolbar=lambda: toolbar(shell, shutil.get_terminal_size().columns),
    )


def bindings() -> KeyBindings:
    """Return the keys: Enter runs what is complete, and otherwise opens a line."""
    keys = KeyBindings()

    @Condition
    def complete() -> bool:
        return not is_incomplete(get_app().current_buffer.text)

    @keys.add("enter", filter=complete & has_focus(DEFAULT_BUFFER))
    def run(event: KeyPressEvent) -> None:
        state = event.current_buffer.complete_state
        if state is not None and state.current_completion is not None:
            event.current_buffer.complete_state = None
        else:
            event.current_buffer.validate_and_handle()

    return keys


def is_incomplete(text: str) -> bool:
    """Return whether more lines have to follow: an open repeat, subtest or quote, a backslash at the end."""
    if text.endswith("\\"):
        return True
    try:
        parse_text(text, "prompt")
    except SyntaxProblem as problem:
        return problem.incomplete
    return False
