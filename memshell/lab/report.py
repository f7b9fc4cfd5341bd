"""What a run on a kernel shows: the steps with both answers, what agreed, and where the two differ."""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memshell.capture.recording import recording_of
from memshell.lab.judge import Judge, Verdict
from memshell.lab.plan import Action, Plan
from memshell.lab.play import TIMED_OUT, Outcome, Ran
from memshell.result import Column, Result, render
from memshell.scenario.player import Player
from memshell.verify import Quantity, verify_recording

if TYPE_CHECKING:
    from memshell.plugins import Plugins

STEPS = (Column("LINE"), Column("STEP"), Column("MODEL"), Column("KERNEL"))
AGREED = (Column("QUANTITY"), Column("EQUAL"), Column("WITHIN"), Column("DIFFERS"))
DIFFERENCES = (Column("STEP"), Column("QUANTITY"), Column("MODEL"), Column("KERNEL"))
FAMILIES = {"block": "block states", "blocks": "block states", "zone": "zones", "buddy": "free lists"}
SHORT = 60


@dataclass(slots=True)
class Compared:
    """A boot on the kernel beside the model's replay of it."""

    ran: Ran
    quantities: list[Quantity]
    verdicts: list[Verdict]

    @property
    def differs(self) -> list[Quantity]:
        """The quantities that differ."""
        return [one for one in self.quantities if one.verdict == "differs"]

    @property
    def ok(self) -> bool:
        """Whether both engines agree, and every expectation holds on both."""
        checks = [outcome.step for outcome in self.ran.outcomes if not isinstance(outcome.step, Action)]
        failed = any(check.held is False for check in checks if not isinstance(check, Action))
        return not (self.differs or self.ran.died or failed or any(one.word == "fails" for one in self.verdicts))


def compare_runs(runs: list[Ran], plugins: Plugins) -> list[Compared]:
    """Replay each recording on the model, and judge its expectations."""
    judge, player = Judge(), Player(lambda: plugins)
    found = []
    for ran in runs:
        recording = recording_of(ran.raw, ran.raw["name"])
        quantities = verify_recording(recording, player)
        found.append(Compared(ran, quantities, judge.boot(ran)))
    return found


def text_report(plan: Plan, compared: list[Compared]) -> str:
    """Return what ``lab run`` prints."""
    parts = [f"scenario: {failure}" for failure in plan.failures]
    if compared:
        parts += plan.playable(compared[0].ran.boot.hardware.arch)[1]
    for number, one in enumerate(compared, start=1):
        head = f"boot {number}: " if len(compared) > 1 else ""
        parts.append(head + _machine(one.ran))
        parts.append(_table(list(step_rows(one)), STEPS))
        if one.ran.died:
            parts.append(f"the guest died: {one.ran.died}")
    parts.append(_table(agreed_rows([q for one in compared for q in one.quantities]), AGREED))
    rows = [row for one in compared for row in difference_rows(one)]
    if rows:
        parts.append(_table(rows, DIFFERENCES))
    parts.append(_last_line(compared))
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> str:
    return render(Result(rows=rows, columns=columns), "table").rstrip()


def _machine(ran: Ran) -> str:
    from memshell.lab.plan import describe

    kernel = ran.raw["kernel"].removeprefix("Linux version ").split(" (")[0]
    text = f"Linux {kernel}, {describe(ran.boot.hardware)}, memmap_on_memory={ran.boot.policy}"
    return f"{text}, booted in {ran.seconds:.0f} s ({ran.raw['accel']})"


def step_rows(one: Compared) -> Iterator[dict[str, Any]]:
    """Yield a row for each step: its line, its text, and how it ended on both."""
    verdicts = iter(one.verdicts)
    for outcome in one.ran.outcomes:
        step = outcome.step
        if isinstance(step, Action):
            kernel = f"not played: {step.cannot}" if step.cannot else kernel_answer(outcome)
            model = step.errno or "ok"
        else:
            verdict = next(verdicts)
            if step.name:
                continue
            model = {True: "holds", False: "fails", None: "?"}[step.held]
            kernel = f"{verdict.word}: {verdict.text}" if verdict.text else verdict.word
        yield {"line": step.where.line, "step": step.text, "model": model, "kernel": kernel}


def kernel_answer(outcome: Outcome) -> str:
    """Return how an action ended on the kernel, in a word or two."""
    step = outcome.recorded
    if outcome.missing:
        return f"not played: there is no {outcome.missing} here"
    if step is None:
        return "not played: the guest is gone"
    if "died" in step:
        return "died"
    if "outcome" in step:
        return "ok" if step["outcome"] == "deleted" else "rejected"
    number = step.get("kernel_ret") or step.get("errno", 0)
    if number == TIMED_OUT:
        return "no answer"
    if step["op"].get("start", 0) is None:
        return f"QEMU: {step['note']}"
    return "ok" if number == 0 else "failed" if number == -1 else errno.errorcode.get(abs(number), str(number))


def agreed_rows(quantities: list[Quantity]) -> list[dict[str, Any]]:
    """Return how many quantities of each kind agreed."""
    kinds: dict[str, Counter[str]] = {}
    for one in quantities:
        head = one.name.partition(".")[0]
        kinds.setdefault(FAMILIES.get(head, head), Counter())[one.verdict] += 1
    return [
        {"quantity": kind, "equal": counts["equal"], "within": counts["within"], "differs": counts["differs"]}
        for kind, counts in kinds.items()
    ]


def difference_rows(one: Compared) -> list[dict[str, Any]]:
    """Return the quantities that differ, with both values."""
    return [
        {"step": q.action, "quantity": q.name, "model": _short(q.predicted), "kernel": _short(q.recorded)}
        for q in one.differs
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def _last_line(compared: list[Compared]) -> str:
    differ = sum(len(one.differs) for one in compared)
    total = sum(len(one.quantities) for one in compared)
    failed = sum(verdict.word == "fails" for one in compared for verdict in one.verdicts)
    parts = [f"{total - differ} of {total} quantities agree"]
    if failed:
        parts.append(f"{failed} expectations fail on the kernel")
    return "; ".join(parts)


def as_json(plan: Plan, compared: list[Compared]) -> dict[str, Any]:
    """Return what ``lab run --json`` prints."""
    return {
        "scenario": plan.name,
        "failures": plan.failures,
        "passed_over": plan.playable(compared[0].ran.boot.hardware.arch)[1] if compared else [],
        "boots": [
            {
                "kernel": one.ran.raw["kernel"],
                "accel": one.ran.raw["accel"],
                "memmap_on_memory": one.ran.boot.policy,
                "died": one.ran.died or None,
                "steps": list(step_rows(one)),
                "agreed": agreed_rows(one.quantities),
                "differences": [q._asdict() for q in one.differs],
            }
            for one in compared
        ],
        "ok": not plan.failures and all(one.ok for one in compared),
    }
