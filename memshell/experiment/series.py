"""What the steps of a machine did to a memmap in the added range: numbers for expectations, tables and comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memshell.errors import KernelCrash
from memshell.machine import Step
from memshell.mm.events import Event

# name -> (kind of event, what of its data is added up; None: how many events)
SUMS = {
    "marked": ("VmemmapMarked", "nr"),
    "marks": ("VmemmapMarked", None),
    "freed": ("VmemmapFreed", None),
    "puts": ("HeadPut", None),
    "online": ("RangeOnlined", "onlined"),
    "visits": ("RangeOnlined", "visits"),
    "misaligned": ("PagesOnlined", "misaligned"),
    "overshoot": ("PagesOnlined", "overshoot"),
    "double": ("DoubleFree", "pages"),
    "bad": ("BadPageState", "pages"),
    "leaked": ("MappingLeaked", None),
    "warnings": ("Warning", None),
}
# name -> (kind of event, what of its data: that of the last one)
LAST = {
    "head": ("VmemmapMarked", "head"),
    "head_count": ("VmemmapMarked", "refcount"),
    "nr_sects": ("VmemmapMarked", "nr_sects"),
    "altmap_free": ("VmemmapMarked", "free"),
    "first_freed": ("VmemmapFreed", "start"),
}


def numbers(steps: Iterable[Step]) -> dict[str, int]:
    """Return every number of *steps* by name: sums over the events; of `LAST` the newest value, of ``first_freed`` the oldest."""
    events = [event for step in steps for event in step.events]
    found = {name: _sum(events, kind, what) for name, (kind, what) in SUMS.items()}
    for name, (kind, what) in LAST.items():
        values = [event.data[what] for event in events if event.kind == kind and event.data[what] is not None]
        found[name] = (values[0] if name.startswith("first") else values[-1]) if values else 0
    found["heads"] = len({event.data["head"] for event in events if event.kind == "VmemmapMarked"})
    for order in (8, 9, 10):
        found[f"order{order}"] = sum(e.data["orders"].get(order, 0) for e in events if e.kind == "PagesOnlined")
    return found


def _sum(events: list[Event], kind: str, what: str | None) -> int:
    return sum(1 if what is None else event.data[what] for event in events if event.kind == kind)


def crash(steps: Iterable[Step]) -> dict[str, Any]:
    """Return kind, function and address of the crash that ended *steps*; empty ones without."""
    for step in steps:
        if isinstance(step.error, KernelCrash):
            return {"kind": step.error.kind, "function": step.error.function, "address": step.error.address or 0}
    return {"kind": "none", "function": "none", "address": 0}
