"""What programs and the kernel itself hold, said from outside: nobody can predict it, it is a fact about a machine.

Which free page the kernel takes for a memmap or a page table depends on what ran before. The model takes one too; when
somebody else is said to be there (slab, a program, the buddy), the memmap page or table must be another of the kernel's
pages: it is moved to one that nothing else claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from memshell.errors import CommandError
from memshell.mm.hugetlb.folio import Hstate
from memshell.mm.page import Owner, Page
from memshell.mm.pfn import align_down, align_up
from memshell.mm.pgtable import leaf_pfn, set_leaf
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, ZoneKey

HOLDERS = {
    "free": Owner.FREE,
    "user": Owner.USER,
    "pinned": Owner.PINNED,
    "kernel": Owner.KERNEL,
    "slab": Owner.SLAB,
    "slab_page": Owner.SLAB_PAGE,
    "pagetable": Owner.PAGETABLE,
    "offline": Owner.OFFLINE,
}
HUGE_HOLDERS = {"huge": Owner.HUGETLB, "huge_user": Owner.USER}  # huge pages, of a size that is said too
FIXED = (
    Owner.MEMMAP_SELF,
    Owner.OFFLINE,
    Owner.RESERVED,
    Owner.VMEMMAP,
    Owner.BAD,
    Owner.DEVICE,
)  # nobody else gets these


def hold(mm: Mm, runs: Iterable[tuple[int, int, Owner, int]]) -> int:
    """Give each [start, end) pfns to its owner, free lists and counters with them; return how many pages changed.

    The last of a run is the order of the huge pages that it has, 0 for none. Raises `CommandError` for a page that is not
    online, or not one that a program or the kernel can have got, and for a part of a huge page.
    """
    changed, said = 0, RangeMap[Owner]()
    for start, end, owner, order in runs:
        _hold_huge(mm, start, end, order)
        said.set(start, end, owner)
        gap = next(mm.pages.gaps(start, end), None)
        if gap is not None:
            raise CommandError(f"pfn {gap[0]:#x} is not online")
        for a, b, page in list(mm.pages.items(start, end)):
            if page.owner in FIXED:
                raise CommandError(f"pfn {a:#x} is {page.owner.value}: nobody else can have it")
            if page.owner is not owner or page.tag:
                _set_owner(mm, a, b, page._replace(owner=owner, tag=0))
                changed += b - a
    _settle_backing(mm, said)
    return changed


def _hold_huge(mm: Mm, start: int, end: int, order: int) -> None:
    """Make whole huge pages of [start, end), or, of order 0, nothing of the kind."""
    pages = 1 << order
    if (start | end) % pages:
        raise CommandError(f"pfns {start:#x}-{end - 1:#x} are not whole huge pages", hint=f"one has {pages:#x} pages")
    mm.hugetlb.delete(start, end)
    if order:
        mm.hugetlb.set(start, end, order)
        mm.hstates.setdefault(order, Hstate(order))


def _set_owner(mm: Mm, start: int, end: int, page: Page) -> None:
    """Make *page* the state of [start, end), which is online in that zone; the free lists and counters follow."""
    key = (page.nid, page.zone)
    taken = sum(b - a for a, b, _ in mm.free[key].take_range(start, end))
    mm.pages.set(start, end, page)
    given = 0
    if page.owner is Owner.FREE:
        given = end - start
        for a, b, kind in list(mm.pageblocks.items(start, end)):
            mm.free[key].free_range(a, b, kind)
    zone = mm.zones[key]
    inflated = end - start if page.owner is Owner.OFFLINE else 0  # PageOffline pages are nobody's to manage
    mm.change_zone(key, free=zone.free - taken + given, managed=zone.managed - inflated)


def used_ranges(mm: Mm) -> list[tuple[int, int, Page]]:
    """Return the online hot-added runs that somebody can have put something into."""
    hot = [
        (b.id * mm.block_pages, (b.id + 1) * mm.block_pages)
        for b in mm.blocks.values()
        if not b.early and b.state == "online"
    ]
    return [run for start, end in hot for run in mm.pages.items(start, end) if run[2].owner not in FIXED]


KERNELS = (Owner.MEMMAP, Owner.PAGETABLE, Owner.KERNEL)


class Backing(NamedTuple):
    """A vmemmap leaf (*level* "") or a page table, and the pages that it has from the buddy."""

    level: str
    address: int
    pfn: int
    nr_pages: int


def _settle_backing(mm: Mm, known: RangeMap[Owner]) -> None:
    """Move what lies on pages that somebody else has: *known* are owners that were said, those of hot-added memory follow."""
    for start, end, page in used_ranges(mm):
        known.set(start, end, page.owner)
    claimed: RangeMap[bool] = RangeMap()
    wrong: list[Backing] = []
    for run in _backings(mm):
        for item in [run] if _fits(known, run) else _units(mm, run):
            if _fits(known, item):
                claimed.set(item.pfn, item.pfn + item.nr_pages, value=True)
            else:
                wrong.append(item)
    kernel: RangeMap[bool] = RangeMap()
    for start, end, owner in known.items() if wrong else ():
        if owner in KERNELS:
            kernel.set(start, end, value=True)
    for item in wrong:
        pfn = _spare(kernel, claimed, item)
        if pfn is None:
            pfn = _take_free(mm, item)
        claimed.set(pfn, pfn + item.nr_pages, value=True)
        _move(mm, item, pfn)


def _fits(known: RangeMap[Owner], item: Backing) -> bool:
    return all(owner in KERNELS for _, _, owner in known.items(item.pfn, item.pfn + item.nr_pages))


def _backings(mm: Mm) -> Iterator[Backing]:
    for start, end, leaf in mm.leaves.items():
        if leaf.owner == "buddy":
            yield Backing("", start, leaf_pfn(mm, start, leaf), (end - start) >> mm.arch.page_shift)
    for address, end, run in mm.tables.runs("pte"):  # other levels can be larger than a page
        first, last = run.pfns(address, end) or (0, 0)
        if run.owner == "buddy":
            yield Backing("pte", address, first, last - first)


def _units(mm: Mm, item: Backing) -> list[Backing]:
    """Split a run of leaves, or of tables, into single ones."""
    leaf = mm.leaves.get(item.address)
    if item.level:
        size, count = mm.tables[item.level, item.address].span, 1
    elif leaf is None:
        return [item]
    else:
        size, count = leaf.size, leaf.size >> mm.arch.page_shift
    return [
        Backing(item.level, item.address + i * size, item.pfn + i * count, count) for i in range(item.nr_pages // count)
    ]


def _spare(kernel: RangeMap[bool], claimed: RangeMap[bool], item: Backing) -> int | None:
    """Return aligned pages of the kernel's that nothing claims: in the longest run, as near as there are.

    A memmap is taken in long runs; a few pages between free ones are rather something else's.
    """
    found: list[tuple[int, int, int]] = []
    for start, end, _ in kernel.items():
        for low, high in claimed.gaps(start, end):
            first, last = align_up(low, item.nr_pages), align_down(high, item.nr_pages) - item.nr_pages
            if first <= last:
                pfn = min(max(align_down(item.pfn, item.nr_pages), first), last)
                found.append((start - end, abs(pfn - item.pfn), pfn))
    return min(found)[2] if found else None


def _take_free(mm: Mm, item: Backing) -> int:
    """Take free pages of boot memory for *item*, of hot-added memory where there are none. Raises `CommandError` without any."""
    found: tuple[bool, int, ZoneKey] | None = None
    for key, area in mm.free.items():
        for start, _, order in area.runs():
            block = mm.blocks.get(start // mm.block_pages)
            hot = block is not None and not block.early
            if 1 << order >= item.nr_pages and (found is None or hot < found[0]):
                found = (hot, start, key)
    if found is None:
        raise CommandError(f"no {item.nr_pages} free pages are left for what lay at pfn {item.pfn:#x}")
    _, pfn, key = found
    owner = Owner.PAGETABLE if item.level else Owner.MEMMAP
    _set_owner(mm, pfn, pfn + item.nr_pages, Page(owner, *key))
    return pfn


def _move(mm: Mm, item: Backing, pfn: int) -> None:
    if item.level:
        key = item.level, item.address
        mm.tables[key] = mm.tables[key]._replace(pfn=pfn)
    else:
        size = item.nr_pages << mm.arch.page_shift
        set_leaf(mm, item.address, item.address + size, size, pfn, "buddy")
