"""What is said of memory that could not be had, and shown of blocks that could not change their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import KernelCrash, KernelError, OutOfMemory
from memshell.mm.mmzone import ZoneType
from memshell.result import Column, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

ADVISED = 100  # rows at most for which a way out is looked for


def failed_blocks(shell: Shell, mm: Mm, failed: Sequence[tuple[int, KernelError]], state: str) -> Result:
    """Return a row for each block that could not go *state*: errno, the first page in the way, whose, what frees it."""
    rows = [_failed_row(mm, number, error) for number, error in failed]
    if state == "online":
        return Result(rows=rows, columns=(Column("BLOCK"), Column("ERRNO"), Column("REASON")))
    from memshell.commands.advice import frees_block

    for row, (number, _) in list(zip(rows, failed, strict=True))[:ADVISED]:
        row["freed"] = frees_block(shell, mm, number) if number in mm.blocks else None  # its driver took it since
    more = f"what frees them was looked for in the first {ADVISED}" if len(rows) > ADVISED else ""
    return Result(rows=rows, columns=FAILED, footer=more)


def held_blocks(shell: Shell, mm: Mm, blocks: Sequence[int]) -> Result:
    """Return a row for each of *blocks* that is online and cannot go offline now."""
    failed = [(number, attempt(mm, number)) for number in blocks if mm.blocks[number].state == "online"]
    return failed_blocks(shell, mm, [(number, error) for number, error in failed if error is not None], "offline")


def attempt(mm: Mm, number: int) -> KernelError | None:
    """Return the error of an offline of the block on a copy of the state; None where it ends well, or the kernel dies."""
    from memshell.drivers.base.memory.state import state_store

    try:
        state_store(mm.copy(), number, "offline")
    except KernelError as error:
        return error
    except KernelCrash:
        return None
    return None


FAILED = (
    Column("BLOCK"),
    Column("ERRNO"),
    Column("PFN", right=True),
    Column("WHOSE"),
    Column("FREED BY", key="freed"),
    Column("REASON", drop=1),
)


def _failed_row(mm: Mm, number: int, error: KernelError) -> dict[str, Any]:
    from memshell.views.obstacles import whose_page

    return {
        "block": f"memory{number}",
        "errno": error.errno,
        "pfn": "" if error.pfn is None else f"{error.pfn:#x}",
        "whose": error.message.removeprefix(f"memory{number} ") if error.pfn is None else whose_page(mm, error.pfn),
        "freed": None,
        "reason": error.message,
    }


# --- memory that there was not ---

BASEPAGES = "mm/sparse-vmemmap.c:vmemmap_populate_basepages"


def free_text(mm: Mm) -> str:
    """Return how much is free, that of ZONE_MOVABLE apart: nothing of the kernel's can lie there."""
    from memshell.views.lsmem import human

    free = {True: 0, False: 0}
    for (_, kind), zone in mm.zones.items():
        free[kind is ZoneType.MOVABLE] += zone.free << mm.arch.page_shift
    movable = f", {human(free[True])} in Movable" if free[True] else ""
    return f"{human(free[False])} was free in kernel zones{movable}"


def out_of_memory(error: OutOfMemory, before: Mm, size: int, start: int) -> OutOfMemory:
    """Return the error of a memmap for [start, +size) bytes in the words of who asked for that much."""
    from memshell.mm.pfn import format_size
    from memshell.views.lsmem import human

    if error.pfn is None:
        return error
    if error.where == BASEPAGES:
        memmap = human((size >> before.arch.page_shift) * before.arch.struct_page_size)
        text = f"the memmap of {format_size(size)} needs {memmap}, {free_text(before)}"
    else:
        text = f"the memmap of {format_size(size)} found no page, {free_text(before)}"
    done = (error.pfn << before.arch.page_shift) - start
    if 0 < done < size:
        text += f"; it ended after {human(done)}"
    return OutOfMemory(text, where=error.where, pfn=error.pfn)
