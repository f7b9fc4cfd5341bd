"""Bring a session back from its journal: what can be replayed is, and the rest is named.

The commands that are replayed make a new journal, so that nothing typed later stands behind a line that fails. Where one
could not be replayed, an `undo` behind it takes back what is there of what it took back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.repl.journal import Entry, Journal, begun_journal, read_journal, since_last_use
from memshell.scenario.player import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memshell.scenario.player import Player

TOLD = 5  # lines that were skipped; of more the number


@dataclass(slots=True)
class Replay:
    """The replay of one journal. *done* is what the new one begins with, *skipped* the lines and why."""

    player: Player
    done: list[Entry] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _typed: bool = True  # who asked for the command that is replayed
    _origin: list[int] = field(default_factory=list)  # of each step that is there: its number in the journal

    def play(self, path: Path) -> None:
        """Play the journal at *path*; nothing is shown. Raises OSError where it cannot be read, and nothing else."""
        keep_going, self.player.keep_going = self.player.keep_going, False
        self.player.journal = self._keep
        try:
            for entry in since_last_use(read_journal(path), self._is_setting):
                self._entry(entry, path)
        finally:
            self.player.keep_going = keep_going

    @property
    def step(self) -> int:
        """The number of the step that the machine is at."""
        machine = self.player.shell.machine
        return machine.step.n if machine is not None else 0

    def _is_setting(self, text: str) -> bool:
        """Whether the line changes the session, and not the machine."""
        word, registry = text.partition(" ")[0], self.player.shell.registry
        return word == "let" or (word in registry and registry.get(word).settings)

    def _keep(self, text: str) -> None:
        self.done.append(Entry(0, self.step, text, typed=self._typed))

    def _entry(self, entry: Entry, path: Path) -> None:
        if not entry.whole:
            self._skip(entry, "the line is damaged")
            return
        text = entry.text if not self.skipped else self._adjusted(entry)
        machine, before = self.player.shell.machine, self.step
        if text:
            try:
                self._play(text, path, entry)
            except StepFailed as failed:
                self._skip(entry, str(failed.cause))
            except MemshellError as error:
                self._skip(entry, error.message)
            except KeyboardInterrupt:
                self._skip(entry, "interrupted")
        if self.player.shell.machine is not machine:
            self._origin, before = [0], 0
        if entry.steps is not None:
            del self._origin[self.step + 1 :]
            self._origin += range(entry.steps - (self.step - before) + 1, entry.steps + 1)

    def _play(self, text: str, path: Path, entry: Entry) -> None:
        shell, self._typed = self.player.shell, entry.typed
        shell.trusted = entry.typed
        try:
            self.player.play_text(text, str(path), first_line=entry.line)
        finally:
            shell.trusted = True

    def _adjusted(self, entry: Entry) -> str:
        """Return an `undo` with the number of steps that are there to be undone, "" for none; other text as it is."""
        if entry.steps is None or not entry.text.startswith("undo"):
            return entry.text
        count = sum(number > entry.steps for number in self._origin)
        return f"undo {count}" if count else ""

    def _skip(self, entry: Entry, why: str) -> None:
        shown = entry.text if len(entry.text) < 60 else entry.text[:57] + "..."
        self.skipped.append(f"line {entry.line} is skipped: {shown}: {why}")


def resume(player: Player, path: Path, warn: Callable[[str], None]) -> Journal:
    """Play the journal at *path*; return the journal that goes on, which begins with what came back.

    The old one goes when all of it did, and is kept with a word about it otherwise.
    """
    replay, held = Replay(player), Journal(path, warn)  # nobody else resumes it meanwhile
    try:
        replay.play(path)
    except OSError as error:
        warn(f"cannot read {path}: {error.strerror}")
        replay.skipped.append(str(path))
    journal = begun_journal(path.parent, replay.done, warn)
    held.close()
    for text in replay.skipped[:TOLD]:
        warn(text)
    if len(replay.skipped) > TOLD:
        warn(f"{len(replay.skipped) - TOLD} more lines are skipped")
    if replay.skipped:
        warn(f"the journal with these lines stays: {path}")
    elif journal.path.exists():
        with suppress(OSError):
            path.unlink()
    return journal
