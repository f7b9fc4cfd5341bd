"""For tests of plugins: fixtures, `run_scenario`, the conformance kit; ``*.mem`` files below ``memshell_paths`` are tests.

Loaded through the entry point ``pytest11``.  Importing this module costs next to nothing: every pytest run
of an environment with memshell loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from memshell.api import Machine
    from memshell.arch import Arch
    from memshell.conformance import Report
    from memshell.policy import Policy
    from memshell.scenario.suite import Case

__all__ = ["arch_conformance", "machine", "policy_conformance", "run_file", "run_scenario", "shell"]


class ScenarioFailed(Exception):
    """A scenario did not end well; the case has the failures, ready to print."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.name)
        self.case = case


class ScenarioFile(pytest.File):
    """A ``.mem`` file: one test, or one for each cell of its matrix."""

    def collect(self) -> Iterator[ScenarioItem]:
        """Yield the tests of the file.  Raises `CollectError` for a matrix that cannot be read."""
        from memshell.errors import UsageError
        from memshell.scenario.parameters import cell_name
        from memshell.scenario.suite import find_cells

        try:
            cells = find_cells([str(self.path)], {})
        except UsageError as error:
            raise self.CollectError(str(error)) from error
        for cell in cells:
            item = ScenarioItem.from_parent(self, name=self.path.stem + cell_name(cell.axes))
            item.axes = cell.axes
            yield item


class ScenarioItem(pytest.Item):
    """One scenario, or one cell of its matrix, played on a shell of its own."""

    axes: Mapping[str, str]

    def runtest(self) -> None:
        """Play the scenario. Raises `ScenarioFailed` unless it ends well."""
        case = run_file(self.path, self.axes, allow_shell=self.config.getini("memshell_allow_shell"))
        if not case.ok:
            raise ScenarioFailed(case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the failure as the player words it."""
        if isinstance(excinfo.value, ScenarioFailed):
            return "\n".join(excinfo.value.case.all_failures())
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the test is: the file, its first line, its name."""
        return self.path, 0, self.name


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare where scenarios are, and what they may."""
    parser.addini(
        "memshell_paths", "folders and files whose *.mem are tests; none unless said", type="paths", default=[]
    )
    parser.addini("memshell_allow_shell", "whether *.mem may run programs and write files", type="bool", default=False)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    """Collect the scenarios below ``memshell_paths``: a file that happens to lie in a checkout is not played."""
    if file_path.suffix != ".mem" or not _is_wanted(file_path, parent.config):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


def _is_wanted(path: Path, config: pytest.Config) -> bool:
    named = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    return path in named or any(path.is_relative_to(place) for place in config.getini("memshell_paths"))


def run_file(path: Path, parameters: Mapping[str, str] | None = None, *, allow_shell: bool = False) -> Case:
    """Play a scenario file and return how it ended; *parameters* are what ``-D`` gives on the command line.

    It runs no program and writes no file unless *allow_shell*.
    """
    from memshell.scenario.suite import play_case

    return play_case(str(path), parameters, allow_shell=allow_shell)


class ScenarioResult:
    """How a scenario ended, for assertions."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def assert_ok(self) -> None:
        """Raise AssertionError with the failures unless all went well."""
        if not self.case.ok:
            raise AssertionError("\n".join(self.case.all_failures()))


def run_scenario(text: str, name: str = "scenario") -> ScenarioResult:
    """Play a scenario given as text: ``run_scenario("use x86_64; add 1G").assert_ok()``."""
    from memshell.scenario.suite import play_text_case

    return ScenarioResult(play_text_case(name, text))


@pytest.fixture
def machine() -> Callable[..., Machine]:
    """Return a function that boots a machine: ``machine("x86_64", ram="2G", policy="memmap_on_memory")``.

    It takes what `memshell.Machine.boot` takes; the installed plugins are loaded once for all tests.
    """
    from functools import partial

    from memshell.api import Machine
    from memshell.scenario.suite import shared_plugins

    return partial(Machine.boot, plugins=shared_plugins())


@pytest.fixture
def shell() -> Callable[[str], str]:
    """Return a session as a function: ``shell("use x86_64; add 1G")`` returns what is shown."""
    from memshell.api import Session
    from memshell.scenario.suite import shared_plugins

    return Session(shared_plugins()).run


def policy_conformance(policy: Policy, *, arches: Iterable[Arch] | None = None, examples: int = 20) -> Report:
    """Try a policy on every installed architecture: ``policy_conformance(Mine()).assert_ok()``.

    Every order of add, online, offline and remove, and a random user that plays *examples* times on a
    machine, with all invariants after every step.  The report says in words what is wrong, and after what.
    """
    from memshell.conformance import policy_conformance

    return policy_conformance(policy, arches=arches, examples=examples)


def arch_conformance(arch: Arch, *, policies: Iterable[Policy] | None = None, examples: int = 20) -> Report:
    """Try an architecture with all its options: ``arch_conformance(Mine()).assert_ok()``.

    As `policy_conformance`, under each of the policies of released kernels, or *policies*.
    """
    from memshell.conformance import arch_conformance

    return arch_conformance(arch, policies=policies, examples=examples)
