"""What happens when a check is missing: play the same steps with check sites off, and say what differs first.

How a scenario is played is not known here: a caller hands over what each play has shown (`Shown`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from memshell.experiment.trouble import Trouble
from memshell.mm.state import Mm
from memshell.series.features import CHECKS

Sites = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one play has shown: its trouble in order, and a few numbers of each zone after each step."""

    troubles: tuple[Trouble, ...]
    numbers: tuple[tuple[int, str, dict[str, int]], ...]  # (step, command, numbers)


class Verdict(NamedTuple):
    """One row of the table."""

    sites: Sites
    first: Trouble | None  # None: no difference
    silent: tuple[int, str, str] | None  # (step, command, what) where numbers differ before anything complains


def mutants(pairs: bool) -> list[Sites]:
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


def judge(sites: Sites, plain: Shown, mutant: Shown) -> Verdict:
    """Return what differs first between the play with all checks and the one without *sites*."""
    first = first_trouble(plain.troubles, mutant.troubles)
    silent = first_number(plain.numbers, mutant.numbers)
    if first is not None and silent is not None and silent[0] >= first.step:
        silent = None
    return Verdict(sites, first, silent)


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


SHORT = {
    "unable to handle kernel NULL pointer dereference": "NULL dereference",
    "unable to handle kernel paging request": "page fault",
    "BadPageState": "bad page state",
    "Warning": "WARN_ON",
}


def _short(trouble: Trouble) -> str:
    """Return what kind of trouble it is, in a word or two."""
    return "BUG" if trouble.kind.startswith("kernel BUG") else SHORT.get(trouble.kind, trouble.kind)


def rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the table: site, what went wrong first, in which function, at which step, at which address."""
    table = []
    for verdict in verdicts:
        first, silent = verdict.first, verdict.silent
        numbered = " + ".join(CHECKS[name][0] for name in verdict.sites)
        table.append(
            {
                "site": numbered,
                "check": " + ".join(name.removeprefix("check.") for name in verdict.sites),
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
