"""What went wrong first in a sequence of steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from memshell.errors import KernelCrash
from memshell.machine import Step
from memshell.mm.events import Event

KINDS = (
    "Crash",
    "Warning",
    "BadPageState",
    "DoubleFree",
    "MemmapOverwritten",
    "FramesFreed",
    "MemoryOverwritten",
    "FramesLeaked",
    "MappingLeaked",
)


class Trouble(NamedTuple):
    """One thing that went wrong: what, in which kernel function, at which step, at which address or pfn."""

    step: int
    command: str
    kind: str
    function: str
    address: int | None
    text: str


def of_event(step: Step, event: Event) -> Trouble:
    """Return *event* as trouble."""
    data: dict[str, Any] = event.data
    kind = data["crash"] if event.kind == "Crash" else event.kind
    place = data.get("address", data.get("pfn", data.get("start")))
    return Trouble(step.n, step.command, str(kind), event.function.rpartition(":")[2], place, event.text)


def troubles(steps: Iterable[Step], kinds: Sequence[str] = KINDS) -> list[Trouble]:
    """Return what went wrong in *steps*, in order: bad events, crashes, errors that the kernel returned."""
    found: list[Trouble] = []
    for step in steps:
        found += [of_event(step, event) for event in step.events if event.kind in kinds]
        if step.error is not None and not isinstance(step.error, KernelCrash):
            found.append(
                Trouble(
                    step.n,
                    step.command,
                    step.error.errno or "failed",
                    step.error.where.rpartition(":")[2],
                    None,
                    step.error.message,
                )
            )
    return found
