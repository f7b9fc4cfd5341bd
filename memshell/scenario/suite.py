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
from memshell.scenario.parameters import Values, cell_name, check_given, define, matrix
from memshell.scenario.player import Player, play_subtest
from memshell.shell.shell import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from memshell.plugins import Plugins
    from memshell.scenario.syntax import Run, Subtest


@dataclass(slots=True)
class Case:
    """A scenario or a subtest of one, and how it ended; *failures* and *errors* are ready to print.

    A failure is what the machine did otherwise than it was expected to, an error what could not be asked: a command
    that is typed wrong, a plugin that failed.
    """

    name: str
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    subtests: list[Case] = field(default_factory=list)
    edits: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)  # file -> span -> golden block
    line: int = 1
    code: int = 0  # what its worst failure gives the process

    @property
    def ok(self) -> bool:
        """Whether nothing in it failed."""
        return not self.failures and not self.errors and all(case.ok for case in self.subtests)

    def fail(self, failure: MemshellError) -> None:
        """Take a failure in, as what it is."""
        (self.errors if failure.exit_code > 1 else self.failures).append(str(failure))
        self.code = max(self.code, failure.exit_code)

    @property
    def exit_code(self) -> int:
        """What it gives the process: 0 fine, 1 failed, 2 typed wrong, 3 a plugin or memshell failed."""
        own = self.code or bool(self.failures)
        return max([own, *(case.exit_code for case in self.subtests)])

    def all_failures(self) -> list[str]:
        """Return the failures and errors of this case and of its subtests."""
        inner = (text for case in self.subtests for text in case.all_failures())
        return [*self.failures, *self.errors, *inner]


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


def find_files(names: Iterable[str]) -> list[str]:
    """Return the scenario files of files and folders.  Raises UsageError for a name that does not exist, and for none."""
    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += sorted(str(item) for item in path.rglob("*.mem"))
        elif path.is_file():
            found.append(name)
        else:
            read_scenario(name)
    if not found:
        raise UsageError("no scenario to test")
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Cell:
    """A file to be played with values of its parameters: those of its matrix (*axes*), and those *given* by hand."""

    path: str
    axes: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    problem: UsageError | None = None  # why the file has no cells that can be played

    @property
    def name(self) -> str:
        """The file, and where in its matrix."""
        return self.path + cell_name(self.axes)

    @property
    def values(self) -> dict[str, str]:
        """All parameters with their values."""
        return {**self.axes, **self.given}


def find_cells(paths: Iterable[str], given: Mapping[str, str]) -> list[Cell]:
    """Return the cells of each file's matrix, one of a file without.  Raises UsageError for a wrong matrix."""
    return [Cell(path, axes, given) for path in paths for axes in _axes(path, given)]


def find_tests(paths: Iterable[str], given: Mapping[str, str], wanted: str = "") -> list[Cell]:
    """Return the cells whose name contains *wanted*; a wrong matrix is one, which fails.  Raises UsageError for none."""
    cells = [cell for path in paths for cell in _cells_or_problem(path, given) if wanted in cell.name]
    if not cells:
        raise UsageError("no scenario to test", hint=f"-k {wanted} matches none")
    return cells


def _cells_or_problem(path: str, given: Mapping[str, str]) -> list[Cell]:
    try:
        return find_cells([path], given)
    except UsageError as problem:
        return [Cell(path, problem=problem)]


def _axes(path: str, given: Mapping[str, str]) -> list[Values]:
    """Return the matrix of a file; one that cannot be read is one cell, which says so."""
    try:
        text = read_scenario(path)
    except MemshellError:
        return [{}]
    cells = matrix(text, path, given)
    check_given(cells[0], [path])
    return cells


def play_case(
    path: str,
    values: Mapping[str, str] | None = None,
    *,
    update: bool = False,
    keep_going: bool = False,
    allow_shell: bool = False,
    loader: Callable[[], Plugins] = shared_plugins,
) -> Case:
    """Play one file as a test.  Failures are in the case; with *update*, so are the new golden blocks."""
    return play_text_case(
        path, None, values, update=update, keep_going=keep_going, allow_shell=allow_shell, loader=loader
    )


def play_cell(
    cell: Cell,
    *,
    update: bool = False,
    keep_going: bool = False,
    allow_shell: bool = False,
    loader: Callable[[], Plugins] = shared_plugins,
) -> Case:
    """Play a cell of a file."""
    if cell.problem is not None:
        return Case(cell.name, errors=[str(cell.problem)], code=cell.problem.exit_code)
    case = play_case(
        cell.path, cell.values, update=update, keep_going=keep_going, allow_shell=allow_shell, loader=loader
    )
    case.name = cell.name
    return case


def play_text_case(
    path: str,
    text: str | None,
    values: Mapping[str, str] | None = None,
    *,
    update: bool = False,
    keep_going: bool = False,
    allow_shell: bool = False,
    loader: Callable[[], Plugins] = shared_plugins,
) -> Case:
    """Play *text*, or the file when there is none, as a test."""
    case = Case(path)
    player = Player(loader, Output(_Silent(), _Silent()), echo=False, keep_going=keep_going)
    player.shell.allow_shell, player.shell.trusted = allow_shell, text is not None
    define(player, values or {})
    stack = [case]
    if update:
        player.update = lambda run, output: _edit(case, run, output)
    player.subtest = lambda statement, inner: _subtest(statement, inner, stack)
    started = time.perf_counter()
    try:
        player.play_text(read_scenario(path) if text is None else text, path)
    except MemshellError as failure:
        case.fail(failure)
    for failed in player.failures:
        case.fail(failed)
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
        case.fail(failure)
    finally:
        stack.pop()
        case.seconds = time.perf_counter() - started
        for failed in player.failures[before:]:
            case.fail(failed)
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
