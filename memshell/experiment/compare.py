"""One sequence of commands on several kernels, policies or architectures: what it costs on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError
from memshell.experiment.series import crash
from memshell.experiment.series import numbers as series_numbers
from memshell.machine import Step
from memshell.mm.page import Owner
from memshell.mm.pfn import align_down, align_up
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm

if TYPE_CHECKING:
    from memshell.shell.shell import Player

GIGANTIC = 1 << 30


def played(player: Player, text: str) -> Sequence[Step]:
    """Play *text*, which starts a machine, whatever fails in it; return the machine's steps.

    Raises what was typed wrong, and what kept the machine from starting.
    """
    player.play_text(text, "compare")
    for failure in player.failures:
        if isinstance(failure.__cause__, UsageError):
            raise failure
    if player.shell.machine is None:
        raise player.failures[0] if player.failures else UsageError("no machine was started")
    return player.shell.machine.steps


def memmap_bytes(mm: Mm, owner: str) -> int:
    """Return the bytes of struct pages that leaves of *owner* ("buddy", "altmap") map."""
    return sum(
        end - start for start, end, leaf in mm.leaves.items() if leaf.owner == owner and start >= mm.arch.vmemmap_base
    )


def wasted_bytes(mm: Mm) -> int:
    """Return what blocks keep from the buddy beyond the pages of their memmap."""
    needed = -(-mm.block_pages * mm.arch.struct_page_size // mm.arch.page_size)
    return (
        sum(max(block.nr_vmemmap_pages - needed, 0) for block in mm.blocks.values() if block.nr_vmemmap_pages)
        * mm.arch.page_size
    )


def free_runs(mm: Mm) -> RangeMap[bool]:
    """Return the free pages of memory that was added, as runs."""
    runs: RangeMap[bool] = RangeMap()
    for block in mm.blocks.values():
        if not block.early:
            for start, end, page in mm.pages.items(block.id * mm.block_pages, (block.id + 1) * mm.block_pages):
                if page.owner is Owner.FREE:
                    runs.set(start, end, value=True)
    return runs


def gigantic_runs(mm: Mm, runs: RangeMap[bool]) -> int:
    """Return how many aligned 1 GiB runs are free."""
    pages = GIGANTIC >> mm.arch.page_shift
    return sum(max(align_down(end, pages) - align_up(start, pages), 0) // pages for start, end, _ in runs.items())


def table_pages(mm: Mm) -> int:
    """Return the page-table pages that were not there at boot."""
    return len({table.pfn for table in mm.tables.values() if table.owner in ("buddy", "fragment")})


def row(name: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what *steps* cost: peaks over the steps, and what is left after the last."""
    states = [step.mm for step in steps]
    boot, last = states[0], states[-1]
    runs = [free_runs(mm) for mm in states]
    died = crash(steps)
    shift = last.arch.page_shift
    return {
        "kernel": name,
        "existing": max(memmap_bytes(mm, "buddy") for mm in states),
        "inside": max(memmap_bytes(mm, "altmap") for mm in states),
        "wasted": max(wasted_bytes(mm) for mm in states),
        "largest": max((end - start for run in runs for start, end, _ in run.items()), default=0) << shift,
        "gigantic": max(gigantic_runs(mm, run) for mm, run in zip(states, runs, strict=True)),
        "visits": series_numbers(steps)["visits"],
        "tables": max(map(table_pages, states)),
        "left": (free_bytes(boot) - free_bytes(last)) if not last.blocks.keys() - boot.blocks.keys() else None,
        "outcome": died["function"] if last.crashed else next((s.error.errno for s in steps if s.error), None) or "ok",
    }


def free_bytes(mm: Mm) -> int:
    """Return the free bytes of all zones."""
    return sum(zone.free for zone in mm.zones.values()) << mm.arch.page_shift
