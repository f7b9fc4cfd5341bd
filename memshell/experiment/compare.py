"""One sequence of commands on several kernels, policies or architectures: what it costs on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memshell.experiment.series import numbers as series_numbers
from memshell.machine import Step
from memshell.mm.page import Owner
from memshell.mm.pfn import align_down, align_up
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm

GIGANTIC = 1 << 30


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


def free_runs(mm: Mm, before: Mm | None = None) -> RangeMap[bool]:
    """Return the free pages of blocks that were added, as runs; with *before*, since that state."""
    runs: RangeMap[bool] = RangeMap()
    for block in mm.blocks.values():
        if not (block.early if before is None else block.id in before.blocks):
            for start, end, page in mm.pages.items(block.id * mm.block_pages, (block.id + 1) * mm.block_pages):
                if page.owner is Owner.FREE:
                    runs.set(start, end, value=True)
    return runs


def gigantic_runs(mm: Mm, runs: RangeMap[bool]) -> int:
    """Return how many aligned 1 GiB runs are free."""
    pages = GIGANTIC >> mm.arch.page_shift
    return sum(max(align_down(end, pages) - align_up(start, pages), 0) // pages for start, end, _ in runs.items())


def table_pages(mm: Mm) -> int:
    """Return the page-table pages that came after boot."""
    pages: RangeMap[bool] = RangeMap()
    for _, start, end, run in mm.tables.all_runs():
        pages.set(*(run.pfns(start, end) or (0, 0)), value=True)
    return sum(last - first for first, last, _ in pages.items())


def row(name: str, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what *steps* cost beyond the state of the first: peaks over the steps, and what is left after the last."""
    states = [step.mm for step in steps]
    first, last = states[0], states[-1]
    runs = [free_runs(mm, first) for mm in states]
    shift = last.arch.page_shift

    def grown(count: Callable[[Mm], int]) -> int:
        return max(map(count, states)) - count(first)

    return {
        "kernel": name,
        "existing": grown(lambda mm: memmap_bytes(mm, "buddy")),
        "inside": grown(lambda mm: memmap_bytes(mm, "altmap")),
        "wasted": grown(wasted_bytes),
        "largest": max((end - start for run in runs for start, end, _ in run.items()), default=0) << shift,
        "gigantic": max(gigantic_runs(mm, run) for mm, run in zip(states, runs, strict=True)),
        "visits": series_numbers(steps[1:])["visits"],
        "tables": grown(table_pages),
        "left": (free_bytes(first) - free_bytes(last)) if not last.blocks.keys() - first.blocks.keys() else None,
    }


def free_bytes(mm: Mm) -> int:
    """Return the free bytes of all zones."""
    return sum(zone.free for zone in mm.zones.values()) << mm.arch.page_shift
