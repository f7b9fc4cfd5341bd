"""Transcripts, as in EXAMPLES and documents: lines after ``> `` are typed, the others are the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.scenario.golden import mismatch
from memshell.scenario.player import Player, installed_plugins
from memshell.shell.shell import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.plugins import Plugins

TYPED = "> "


class Recorder:
    """Takes what a shell writes, results and notes alike, as a terminal would show it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str, /) -> None:
        """Take *text*."""
        self.text += text

    def flush(self) -> None:
        """Have everything already."""


def exchanges(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line number, what is typed, the expected lines) for each command of a transcript."""
    typed, at, expected = "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(TYPED):
            if typed:
                yield at, typed, expected
            typed, at, expected = line.removeprefix(TYPED), number, []
        elif typed:
            expected.append(line)
    if typed:
        yield at, typed, expected


class Session:
    """A session that is typed line by line, as at the prompt."""

    def __init__(self, loader: Callable[[], Plugins] = installed_plugins) -> None:
        self.out = Recorder()
        self.player = Player(loader, Output(self.out, self.out, width=100), capture=True)

    def type(self, line: str) -> list[str]:
        """Play a line and return what it shows, an error's message included."""
        self.out.text = ""
        try:
            self.player.play_text(line, "prompt")
        except MemshellError as failure:
            self.out.write(str(failure).removeprefix("prompt:1: ") + "\n")
        return self.out.text.splitlines()


def failures(text: str, loader: Callable[[], Plugins] = installed_plugins) -> list[str]:
    """Play a transcript and return where its output is not what it says."""
    session = Session(loader)
    found = []
    for number, typed, expected in exchanges(text):
        wrong = mismatch(expected, session.type(typed))
        if wrong is not None:
            found.append(f"line {number}: {typed}\n{wrong}")
    return found


def renewed(text: str, loader: Callable[[], Plugins] = installed_plugins) -> str:
    """Return the transcript with the output that its commands have now; what still fits stays as it is."""
    session = Session(loader)
    lines = []
    for _number, typed, expected in exchanges(text):
        actual = session.type(typed)
        lines += [TYPED + typed, *(expected if mismatch(expected, actual) is None else actual)]
    return "".join(line.rstrip() + "\n" for line in lines)
