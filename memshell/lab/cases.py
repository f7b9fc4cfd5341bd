"""Scenarios as tests on a kernel: what fails there, told as the model's failures are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.lab.plan import Action, make_plan
from memshell.lab.report import Compared, compare_runs, kernel_answer
from memshell.scenario.files import read_scenario
from memshell.scenario.suite import Case, Cell

if TYPE_CHECKING:
    from memshell.lab.play import Lab
    from memshell.plugins import Plugins


def play_lab_case(cell: Cell, lab: Lab, loader: Callable[[], Plugins]) -> Case:
    """Play one cell of a file as a test on a kernel.  Failures are in the case: what cannot be played there is none."""
    case = Case(f"{cell.name} on {lab.image.kernel.name}")
    started = time.perf_counter()
    try:
        plan = make_plan(cell.path, read_scenario(cell.path), loader, cell.values)
        compared = compare_runs(lab.run(plan), loader())
        case.failures += [text for one in compared for text in failures(one)]
    except MemshellError as failure:
        case.fail(failure)
    case.seconds = time.perf_counter() - started
    return case


def failures(one: Compared) -> list[str]:
    """Return what failed on the kernel: expectations, commands that had to end otherwise, its death."""
    found = []
    verdicts = iter(one.verdicts)
    for outcome in one.ran.outcomes:
        step = outcome.step
        if not isinstance(step, Action):
            verdict = next(verdicts)
            if verdict.word == "fails":
                found.append(
                    f"{step.where}: expect failed: {step.text.removeprefix('expect').strip()}\n    {verdict.text}"
                )
        elif outcome.recorded is not None and "died" not in outcome.recorded:
            answer = kernel_answer(outcome)
            if (answer != "ok") != step.must_fail:
                had = "had to fail, and did not" if step.must_fail else answer
                found.append(f"{step.where}: {step.text}: {had}")
    if one.ran.died:
        found.append(f"the guest died: {one.ran.died}")
    return found
