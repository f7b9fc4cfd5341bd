"""The prompt: read a line, play it, show what came out, keep it in the journal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import DEFAULT_BUFFER, EditingMode
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import ColorDepth

from memshell.errors import MemshellError
from memshell.paths import rc_path, state_path
from memshell.repl.complete import ShellCompleter
from memshell.repl.highlight import ShellLexer, coloured, theme
from memshell.repl.journal import Journal, finished_lines, last_journal, new_journal
from memshell.repl.screen import Screen, progress, toolbar
from memshell.scenario.modes import make_player, tell
from memshell.scenario.player import StepFailed
from memshell.scenario.syntax import SyntaxProblem, parse_text

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from prompt_toolkit.key_binding import KeyPressEvent

    from memshell.commands.shell import Shell
    from memshell.scenario.player import Player

PROMPT = "prompt"  # what stands for the file in the place of a failure


def prompt(args: argparse.Namespace) -> int:
    """Run the prompt until Ctrl-D and return the exit code."""
    if os.environ.get("TERM", "dumb") == "dumb":
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    player = make_player(args)
    shell = player.shell
    folder = _state(shell)
    shell.out = Screen()
    shell.options.colour = coloured()
    journal = _start(player, args, folder)
    try:
        _loop(player, _session(shell, folder), debug=args.debug)
    finally:
        if journal is not None:
            journal.close()
    return 0


def _state(shell: Shell) -> Path | None:
    try:
        folder = state_path()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        shell.note(f"memshell: no history and no journal: {error.filename}: {error.strerror}")
        return None
    return folder


def _start(player: Player, args: argparse.Namespace, folder: Path | None) -> Journal | None:
    """Start the journal, and play what comes before the first prompt: the killed session, or rc.mem."""
    shell = player.shell

    def warn(text: str) -> None:
        shell.note(f"memshell: {text}")

    if args.resume:
        return _resume(player, folder, debug=args.debug)
    journal = new_journal(folder, warn) if folder is not None else None
    if journal is not None:
        shell.journal = journal.add
    rc = rc_path()
    if not args.no_rc and rc.is_file():
        play(player, rc.read_text(encoding="utf-8", errors="replace"), str(rc), debug=args.debug)
    return journal


def _resume(player: Player, folder: Path | None, *, debug: bool) -> Journal | None:
    """Play the newest journal of a session that has ended, and go on in it."""
    shell = player.shell
    path = last_journal(folder) if folder is not None else None
    if path is None:
        shell.note("memshell: there is no session to resume")
        return new_journal(folder, shell.note) if folder is not None else None
    shown, shell.out = shell.out, open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below
    try:
        play(player, finished_lines(path), str(path), debug=debug)
    finally:
        shell.out.close()
        shell.out = shown
    journal = Journal(path, shell.note)
    shell.journal = journal.add
    steps = shell.machine.step.n if shell.machine is not None else 0
    shell.note(f"resumed at step {steps}")
    return journal


def _session(shell: Shell, folder: Path | None) -> PromptSession[str]:
    history: History = FileHistory(str(folder / "history")) if folder is not None else InMemoryHistory()
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
        bottom_toolbar=lambda: toolbar(shell)[: shutil.get_terminal_size().columns],
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


def _loop(player: Player, session: PromptSession[str], *, debug: bool) -> None:
    while True:
        try:
            text = session.prompt("memshell> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text.strip():
            play(player, text, PROMPT, debug=debug)


def play(player: Player, text: str, file: str, *, debug: bool) -> None:
    """Play what was typed; failures are told and the session goes on."""
    shell = player.shell
    shell.options.width = shutil.get_terminal_size().columns
    try:
        with progress(shell):
            player.play_text(text, file)
    except KeyboardInterrupt:
        shell.note("interrupted: the machine is as it was before the command")
    except MemshellError as failure:
        show_failure(failure, typed=text, debug=debug)
    for failed in player.failures:
        show_failure(failed, typed=text, debug=debug)
    player.failures.clear()


def show_failure(failure: MemshellError, *, typed: str, debug: bool) -> None:
    """Tell a failure; its place is worth a word when several lines were typed, or a file was played."""
    alone = isinstance(failure, StepFailed) and failure.where.file == PROMPT and "\n" not in typed.strip()
    if alone and not debug and isinstance(failure, StepFailed) and isinstance(failure.cause, MemshellError):
        print(failure.cause, file=sys.stderr)
    else:
        tell(failure, debug=debug)
