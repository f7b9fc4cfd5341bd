"""The conformance kit: what a stranger's policy or architecture has to keep, tried and told in words.

`memshell.testing` exports it. Three parts: what can be read off the object, every order of add, online,
offline and remove on two blocks, and a random user (hypothesis) with injected faults. The machines that it
plays on are in `memshell.conformance_trial`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memshell.conformance_trial import Broken, Trial, trials_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memshell.arch import Arch
    from memshell.policy import Policy

EXAMPLES = 20  # runs of the random user, 20 steps each, for every machine
MOST_FAULTS = 12


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and how to get there."""

    what: str
    where: str = ""


@dataclass(slots=True)
class Report:
    """What a conformance run found: the faults, each kind once, and how many machines it was tried on."""

    subject: str
    machines: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def add(self, what: str, where: str = "") -> None:
        """Note a fault, unless one of its kind is known: they differ in numbers only."""
        kinds = {_kind(fault.what) for fault in self.faults}
        if _kind(what) not in kinds and len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(what, where))

    def assert_ok(self) -> None:
        """Raise AssertionError with the report when something is wrong."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        if self.ok:
            return f"{self.subject} conforms (tried on {self.machines} machines)"
        count = f"{len(self.faults)} kinds of faults on {self.machines} machines"
        lines = [f"{self.subject} does not conform: {count}"]
        for fault in self.faults:
            lines.append(f"- {fault.what}")
            lines += [f"    {line}" for line in fault.where.splitlines()]
        return "\n".join(lines)


def _kind(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "N", text)


def play(trial: Trial, report: Report, examples: int) -> None:
    """Play every order and the random user on a machine; note what breaks."""
    from memshell.conformance_random import random_user
    from memshell.conformance_scenes import play_scenes

    report.machines += 1
    if trial.mended:
        for broken in play_scenes(trial):
            report.add(broken.what, broken.where)
        return
    for part in (trial.walk, trial.cycle):
        try:
            part()
        except Broken as broken:
            report.add(broken.what, broken.where)
            return
    found = random_user(trial, examples) if examples else None
    if found is not None:
        report.add(found.what, found.where)


def policy_conformance(policy: Policy, *, arches: Iterable[Arch] | None = None, examples: int = EXAMPLES) -> Report:
    """Try *policy* on every installed architecture and release, or on *arches*; return what it got wrong.

    *examples* is how often the random user plays on a machine; 0: not at all, without hypothesis.
    """
    from memshell.conformance_policy import answer_faults, form_faults, taken

    report = Report(f"policy {getattr(policy, 'name', '?')}")
    for what in form_faults(policy):
        report.add(what)
    if not report.ok:
        return report
    if arches is None:
        from memshell.plugins import load_plugins

        installed = load_plugins()
        arches = installed.arches().values()
        for what in taken(policy, installed.policies()):
            report.add(what)
        if not report.ok:
            return report
    for arch in arches:
        for trial in trials_of(arch, [policy]):
            for what, where in answer_faults(policy, trial):
                report.add(what, where)
            play(trial, report, examples if trial.plain else 0)
    return report


def arch_conformance(arch: Arch, *, policies: Iterable[Policy] | None = None, examples: int = EXAMPLES) -> Report:
    """Try *arch* with every choice of its options, every release and every installed policy, or *policies*.

    *examples* is how often the random user plays on a machine; 0: not at all, without hypothesis.
    """
    from memshell.conformance_arch import boot_faults, form_faults

    report = Report(f"arch {getattr(arch, 'name', '?')}")
    for what in form_faults(arch):
        report.add(what)
    if not report.ok:
        return report
    if policies is None:
        from memshell.plugins import load_plugins

        known = load_plugins().policies()
        policies = [known[name] for name in RELEASED_POLICIES if name in known]
    try:
        for trial in trials_of(arch, list(policies)):
            for what in boot_faults(trial.mm, trial.memory):
                report.add(what, trial.title)
            play(trial, report, examples if trial.plain else 0)
    except Broken as broken:  # the machine does not even boot
        report.add(broken.what, broken.where)
    return report


RELEASED_POLICIES = ("buddy", "memmap_on_memory", "memmap_on_memory_force")
