"""Where memmap and page tables of hot-added memory lie, when a recording has something else in their place.

Which free page the kernel takes depends on what its programs did before. The model takes one too; when the
recording shows another owner there (slab, a free block), the memmap page or table must be one of the kernel's
other pages: it is moved to one that nothing else claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memshell.mm.page import Owner
from memshell.mm.pfn import align_down, align_up
from memshell.mm.pgtable import leaf_pfn, set_leaf
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, Table
from memshell.verify.inputs import used_ranges

KERNELS = (Owner.MEMMAP, Owner.PAGETABLE, Owner.KERNEL)


class Backing(NamedTuple):
    """A vmemmap leaf (*level* "") or a page table, and the pages that it has from the buddy."""

    level: str
    address: int
    pfn: int
    nr_pages: int


def settle_backing(mm: Mm) -> None:
    """Move what lies on pages that the recording gives to somebody else."""
    hot: RangeMap[Owner] = RangeMap()
    for start, end, page in used_ranges(mm):
        hot.set(start, end, page.owner)
    claimed: RangeMap[bool] = RangeMap()
    wrong: list[Backing] = []
    for run in _backings(mm):
        for item in [run] if _fits(hot, run) else _units(mm, run):
            if _fits(hot, item):
                claimed.set(item.pfn, item.pfn + item.nr_pages, value=True)
            else:
                wrong.append(item)
    for item in wrong:
        pfn = _spare(hot, claimed, item)
        if pfn is not None:
            claimed.set(pfn, pfn + item.nr_pages, value=True)
            _move(mm, item, pfn)


def _fits(hot: RangeMap[Owner], item: Backing) -> bool:
    return all(owner in KERNELS for _, _, owner in hot.items(item.pfn, item.pfn + item.nr_pages))


def _backings(mm: Mm) -> Iterator[Backing]:
    for start, end, leaf in mm.leaves.items():
        if leaf.owner == "buddy":
            yield Backing("", start, leaf_pfn(mm, start, leaf), (end - start) >> mm.arch.page_shift)
    for (level, address), table in mm.tables.items():
        if table.owner == "buddy" and level == "pte":  # other levels can be larger than a page
            yield Backing(level, address, table.pfn, 1)


def _units(mm: Mm, item: Backing) -> list[Backing]:
    """Split a run of leaves into single ones."""
    leaf = mm.leaves.get(item.address)
    if item.level or leaf is None:
        return [item]
    size, count = leaf.size, leaf.size >> mm.arch.page_shift
    return [Backing("", item.address + i * size, item.pfn + i * count, count) for i in range(item.nr_pages // count)]


def _spare(hot: RangeMap[Owner], claimed: RangeMap[bool], item: Backing) -> int | None:
    """Return aligned pages of the kernel's that nothing claims: in the longest run, as near as there are.

    A memmap is taken in long runs; a few pages between free ones are rather something else's.
    """
    kernel: RangeMap[bool] = RangeMap()
    for start, end, owner in hot.items():
        if owner in KERNELS:
            kernel.set(start, end, value=True)
    found: list[tuple[int, int, int]] = []
    for start, end, _ in kernel.items():
        for low, high in claimed.gaps(start, end):
            first, last = align_up(low, item.nr_pages), align_down(high, item.nr_pages) - item.nr_pages
            if first <= last:
                pfn = min(max(align_down(item.pfn, item.nr_pages), first), last)
                found.append((start - end, abs(pfn - item.pfn), pfn))
    return min(found)[2] if found else None


def _move(mm: Mm, item: Backing, pfn: int) -> None:
    if item.level:
        mm.tables[item.level, item.address] = Table(pfn, "buddy")
    else:
        size = item.nr_pages << mm.arch.page_shift
        set_leaf(mm, item.address, item.address + size, size, pfn, "buddy")
