"""What happens when a check is missing: play the same steps with check sites off, and say what differs first.

How a scenario is played is not known here: a caller hands over what makes a fresh player.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.errors import KernelCrash, KernelError, UsageError
from memshell.experiment.trouble import Trouble, troubles
from memshell.mm.state import Mm
from memshell.series.features import CHECKS, REDUNDANT
from memshell.series.processes import process_runs

if TYPE_CHECKING:
    from memshell.machine import Machine
    from memshell.shell.shell import Played, Player

    Fresh = Callable[[Callable[[Played], None]], Player]

Sites = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one play has shown: its trouble in order, and a few numbers of each zone after each step."""

    troubles: tuple[Trouble, ...]
    numbers: tuple[tuple[int, str, dict[str, int]], ...]  # (step, command, numbers)
    marks: bool = True  # a machine was one of the series: it had the checks


class Mutant(NamedTuple):
    """A kernel without the checks at *sites*, and what goes wrong first on it: one row of the table."""

    sites: Sites
    first: Trouble | None  # None: no difference
    silent: tuple[int, str, str] | None  # (step, command, what) where numbers differ before anything complains


def sites(pairs: bool) -> list[Sites]:
    """Return the sites to switch off: each alone, or every two."""
    names = list(CHECKS)
    return [(a, b) for a, b in combinations(names, 2)] if pairs else [(name,) for name in names]


def numbers(mm: Mm) -> dict[str, int]:
    """Return what is compared of a state: the counters of every zone."""
    return {
        f"zone.{nid}.{kind.label}.{name}": getattr(zone, name)
        for (nid, kind), zone in mm.zones.items()
        for name in ("spanned", "present", "managed", "free")
        if zone.spanned
    }


def judge(sites: Sites, plain: Shown, mutant: Shown) -> Mutant:
    """Return what differs first between the play with all checks and the one without *sites*."""
    first = first_trouble(plain.troubles, mutant.troubles)
    silent = first_number(plain.numbers, mutant.numbers)
    if first is not None and silent is not None and silent[0] >= first.step:
        silent = None
    return Mutant(sites, first, silent)


def _signature(trouble: Trouble) -> tuple[int, str, str]:
    return trouble.step, trouble.kind, trouble.function


def first_trouble(plain: Sequence[Trouble], mutant: Sequence[Trouble]) -> Trouble | None:
    """Return the first trouble of *mutant* that *plain* does not have at that place."""
    known = {_signature(trouble) for trouble in plain}
    return next((trouble for trouble in mutant if _signature(trouble) not in known), None)


def first_number(
    plain: Sequence[tuple[int, str, dict[str, int]]], mutant: Sequence[tuple[int, str, dict[str, int]]]
) -> tuple[int, str, str] | None:
    """Return the first step after which a number differs, and which."""
    for (step, command, before), (_, _, after) in zip(plain, mutant, strict=False):
        for name in [*before, *(name for name in after if name not in before)]:
            if before.get(name, 0) != after.get(name, 0):
                return step, command, f"{name} {after.get(name, 0)} instead of {before.get(name, 0)}"
    return None


@dataclass(slots=True)
class Watcher:
    """Sets the features of a scenario's machines, lets a process run after each step, keeps what it sees."""

    features: Mapping[str, Any]
    player: Player | None = None
    found: list[Trouble] = field(default_factory=list)
    numbers: list[tuple[int, str, dict[str, int]]] = field(default_factory=list)
    marks: bool = False  # a machine of the series was seen

    def __call__(self, played: Played) -> None:
        """Look at one finished step."""
        machine = self.player.shell.machine if self.player is not None else None
        if machine is None:
            return
        self.marks |= machine.mm.seam.marks_memmap
        steps = list(played.steps)
        if not machine.mm.crashed:
            mark = len(machine.steps)
            self._attend(machine)
            steps += machine.steps[mark:]
        self.found += [trouble._replace(step=played.n, command=played.command) for trouble in troubles(steps)]
        if steps:
            self.numbers.append((played.n, played.command, numbers(machine.mm)))

    def _attend(self, machine: Machine) -> None:
        known = machine.mm.profile.features
        wanted = {name: value for name, value in self.features.items() if known.get(name, value) != value}
        try:
            if wanted:
                with machine.transaction("set " + " ".join(wanted)) as mm:
                    for name, value in wanted.items():
                        mm.profile = mm.profile.with_feature(name, value)
            with machine.transaction("a process runs") as mm:
                process_runs(mm)
        except (KernelError, KernelCrash):
            pass  # the step says so


def show(path: str, features: Mapping[str, Any], fresh: Fresh) -> Shown:
    """Play the scenario at *path* with *features*, whatever fails in it, and return what it showed."""
    watcher = Watcher(features)
    watcher.player = fresh(watcher)
    watcher.player.play_file(path)
    return Shown(tuple(watcher.found), tuple(watcher.numbers), watcher.marks)


def mutate(path: str, fresh: Fresh, *, pairs: bool = False, jobs: int | None = None) -> list[Mutant]:
    """Play *path* with all checks, then without each (or each two), and return what differed first.

    *fresh* gives a player that shows its steps to what it is given. Raises `UsageError` where no machine of the
    scenario has the checks.
    """
    plain = show(path, {}, fresh)
    if not plain.marks:
        raise UsageError(f"{path} plays no kernel with checks", hint="use x86_64 profile=rfc-2018")
    wanted = sites(pairs)
    shown = in_parallel(partial(_without, path, fresh), wanted, jobs or os.cpu_count() or 1)
    return [judge(names, plain, mutant) for names, mutant in zip(wanted, shown, strict=True)]


def _without(path: str, fresh: Fresh, names: Sites) -> Shown:
    return show(path, dict.fromkeys(names, False), fresh)


def in_parallel(job: Callable[[Sites], Shown], items: Sequence[Sites], jobs: int) -> list[Shown]:
    """Return [job(item) ...], on *jobs* processes where there are several and the system can fork."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [job(item) for item in items]
    context = multiprocessing.get_context("fork")
    # A forked process has the job as it is: a player's plugins and commands could not be sent to it.
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_inherit, initargs=(job,)) as pool:
        return list(pool.map(_inherited, items, chunksize=max(len(items) // (4 * jobs), 1)))


_INHERITED: list[Callable[[Sites], Shown]] = []


def _inherit(job: Callable[[Sites], Shown]) -> None:
    _INHERITED[:] = [job]


def _inherited(item: Sites) -> Shown:
    return _INHERITED[0](item)


SHORT = {
    "unable to handle kernel NULL pointer dereference": "NULL dereference",
    "unable to handle kernel paging request": "page fault",
    "BadPageState": "bad page state",
    "Warning": "WARN_ON",
}


def _short(trouble: Trouble) -> str:
    """Return what kind of trouble it is, in a word or two."""
    return "BUG" if trouble.kind.startswith("kernel BUG") else SHORT.get(trouble.kind, trouble.kind)


def rows(found: Sequence[Mutant]) -> list[dict[str, Any]]:
    """Return the table: site, what went wrong first, in which function, at which step, at which address.

    Of single sites it has all, those that decide nothing among them.
    """
    table = _rows(found)
    if any(len(mutant.sites) > 1 for mutant in found):
        return table
    blank = {"function": "", "step": None, "command": "", "address": None, "silent": ""}
    table += [
        {"site": number, "check": check, "short": "redundant", "first": "redundant", **blank, "text": why}
        for number, (check, why) in REDUNDANT.items()
    ]
    return sorted(table, key=lambda row: (int(row["site"].rstrip("ab")), row["site"]))


def _rows(found: Sequence[Mutant]) -> list[dict[str, Any]]:
    table = []
    for mutant in found:
        first, silent = mutant.first, mutant.silent
        numbered = " + ".join(CHECKS[name].number for name in mutant.sites)
        table.append(
            {
                "site": numbered,
                "check": " + ".join(name.removeprefix("check.") for name in mutant.sites),
                "short": _short(first) if first else "no difference" if not silent else "silent",
                "first": first.kind if first else "no difference" if not silent else "silent",
                "function": first.function if first else "",
                "step": first.step if first else silent[0] if silent else None,
                "command": first.command if first else silent[1] if silent else "",
                "address": None if first is None or first.address is None else f"{first.address:#x}",
                "silent": silent[2] if silent else "",
                "text": first.text if first else "",
            }
        )
    return table
