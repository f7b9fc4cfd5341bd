"""Scenarios as tests: play files, each on a shell of its own, and say how each ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, UsageError
from memshell.scenario.files import read_scenario
from memshell.scenario.golden import block, renewed
from memshell.scenario.player import Player, play_subtest
from memshell.shell.shell import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memshell.plugins import Plugins
    from memshell.scenario.syntax import Run, Subtest


@dataclass(slots=True)
class Case:
    """A scenario or a subtest of one, and how it ended; *failures* are ready to print."""

    name: str
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    subtests: list[Case] = field(default_factory=list)
    edits: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)  # file -> span -> golden block
    line: int = 1

    @property
    def ok(self) -> bool:
        """Whether nothing in it failed."""
        return not self.failures and all(case.ok for case in self.subtests)

    def all_failures(self) -> list[str]:
        """Return the failures of this case and of its subtests."""
        return [*self.failures, *(text for case in self.subtests for text in case.all_failures())]


class _Silent:
    """Takes what a scenario shows; its golden blocks have seen it already."""

    def write(self, text: str, /) -> None:
        """Drop *text*."""

    def flush(self) -> None:
        """Have nothing to bring out."""


@cache
def shared_plugins() -> Plugins:
    """Return the installed plugins, loaded once for all scenarios of a run."""
    from memshell.plugins import load_plugins

    return load_plugins()


def find_files(names: Iterable[str], wanted: str = "") -> list[str]:
    """Return the scenario files of files and folders whose path contains *wanted*.

    Raises UsageError for a name that does not exist, and when nothing is left.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += sorted(str(item) for item in path.rglob("*.mem"))
        elif path.is_file():
            found.append(name)
        else:
            read_scenario(name)
    chosen = [name for name in dict.fromkeys(found) if wanted in name]
    if not chosen:
        raise UsageError("no scenario to test", hint=f"-k {wanted} matches none" if wanted else None)
    return chosen


def play_case(path: str, *, update: bool = False, keep_going: bool = False) -> Case:
    """Play one file as a test.  Failures are in the case; with *update*, so are the new golden blocks."""
    return play_text_case(path, None, update=update, keep_going=keep_going)


def play_text_case(path: str, text: str | None, *, update: bool = False, keep_going: bool = False) -> Case:
    """Play *text*, or the file when there is none, as a test."""
    case = Case(path)
    player = Player(shared_plugins, Output(_Silent(), _Silent()), echo=False, keep_going=keep_going)
    stack = [case]
    if update:
        player.update = lambda run, output: _edit(case, run, output)
    player.subtest = lambda statement, inner: _subtest(statement, inner, stack)
    started = time.perf_counter()
    try:
        player.play_text(read_scenario(path) if text is None else text, path)
    except MemshellError as failure:
        case.failures.append(str(failure))
    case.failures += [str(failure) for failure in player.failures]
    case.seconds = time.perf_counter() - started
    return case


def _subtest(statement: Subtest, player: Player, stack: list[Case]) -> None:
    """Play a subtest; its failure is its own, and what follows it is played all the same."""
    case = Case(statement.name, line=statement.where.line)
    stack[-1].subtests.append(case)
    stack.append(case)
    before = len(player.failures)
    started = time.perf_counter()
    try:
        play_subtest(statement, player)
    except MemshellError as failure:
        case.failures.append(str(failure))
    finally:
        stack.pop()
        case.seconds = time.perf_counter() - started
        case.failures += [str(failure) for failure in player.failures[before:]]
        del player.failures[before:]


def _edit(case: Case, run: Run, output: str) -> None:
    assert run.golden is not None
    edits = case.edits.setdefault(run.where.file, {})
    edits[run.golden.span] = block(renewed(run.golden.lines, output.splitlines()))


def apply_edits(path: str, edits: dict[tuple[int, int], str]) -> tuple[str, str]:
    """Write new golden blocks into a file; return the text before and after."""
    before = after = read_scenario(path)
    for (start, end), text in sorted(edits.items(), reverse=True):
        after = after[:start] + text + after[end:]
    Path(path).write_text(after, encoding="utf-8")
    return before, after
