"""Many allocations of one order at once: the same result as one by one, at the cost of runs, not of pages."""

from __future__ import annotations

from memshell.errors import KernelError, OutOfMemory
from memshell.mm import struct_page
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc import FreeArea, free_range, lowmem_reserve, rmqueue, zonelist
from memshell.mm.pfn import order_of
from memshell.mm.state import Mm, ZoneKey

Runs = list[tuple[int, int]]


def alloc_bulk(
    mm: Mm,
    nr_blocks: int,
    order: int,
    owner: Owner,
    *,
    nid: int = 0,
    movable: bool = False,
    tag: int = 0,
    nodes: tuple[int, ...] | None = None,
) -> Runs:
    """Allocate *nr_blocks* blocks of 2^order pages; return their runs in the order of allocation.

    Zones, watermarks, lists and stealing are those of `alloc_pages`. Raises `OutOfMemory` with everything
    given back.
    """
    highest = ZoneType.MOVABLE if movable else ZoneType.NORMAL
    kind = MigrateType.MOVABLE if movable else MigrateType.UNMOVABLE
    keys = (
        zonelist(mm, nid, highest)
        if nodes is None
        else [k for n in nodes for k in zonelist(mm, n, highest) if k[0] == n]
    )
    runs: Runs = []
    left = nr_blocks
    for key in keys:
        zone = mm.zones[key]
        room = (zone.free - zone.watermark_min - lowmem_reserve(mm, key, highest)) >> order
        taken = _take(mm, key, order, kind, min(left, room))
        pages = sum(end - start for start, end in taken)
        for start, end in taken:
            if mm.struct_pages:
                for pfn in range(start, end, 1 << order):
                    struct_page.taken(mm, pfn, order, key)
            mm.pages.set(start, end, Page(owner, *key, tag))
        mm.change_zone(key, free=mm.zones[key].free - pages)
        left -= pages >> order
        runs += taken
    if left:
        for start, end in runs:
            free_range(mm, start, end)
        size = 1 << order
        raise OutOfMemory(
            f"only {nr_blocks - left} of {nr_blocks} blocks of {size} pages can be had",
            where="mm/page_alloc.c:__alloc_pages",
            hint="online more memory, free some, or take smaller blocks: order=0",
        )
    return runs


def _take(mm: Mm, key: ZoneKey, order: int, kind: MigrateType, nr_blocks: int) -> Runs:
    """Take up to *nr_blocks* off the lists of one zone, the smallest that do first, then by stealing."""
    area, runs = mm.free[key], Runs()
    left = nr_blocks
    while left > 0:
        run = _take_listed(area, order, kind, left)
        if run is None:
            pfn = rmqueue(mm, key, order, kind)
            if pfn is None:
                break
            run = (pfn, pfn + (1 << order))
        left -= (run[1] - run[0]) >> order
        runs.append(run)
    return runs


def _take_listed(area: FreeArea, order: int, kind: MigrateType, nr_blocks: int) -> tuple[int, int] | None:
    """Take as much as is wanted of the block that the next allocation would split; the rest goes back."""
    for have in range(order, area.max_order + 1):
        pfn = area.first(have, kind)
        if pfn is None:
            continue
        area.remove(pfn, have, kind)
        end, stop = pfn + (1 << have), pfn + min(nr_blocks << order, 1 << have)
        at = stop
        while at < end:
            rest = order_of(at, end - at, area.max_order)
            area.add(at, rest, kind)
            at += 1 << rest
        return pfn, stop
    return None


def alloc_at(mm: Mm, start_pfn: int, nr_pages: int, owner: Owner, *, tag: int = 0) -> Runs:
    """Take [start_pfn, +nr_pages), all of which must be free, as alloc_contig_range() would.

    Raises EBUSY where it is not.
    """
    end_pfn = start_pfn + nr_pages
    where = "mm/page_alloc.c:alloc_contig_range"
    if not mm.pages.covers(start_pfn, end_pfn):
        raise KernelError(f"pfns {start_pfn:#x}-{end_pfn - 1:#x} are not all online", "EINVAL", where=where)
    for start, _, page in mm.pages.items(start_pfn, end_pfn):
        if page.owner is not Owner.FREE:
            raise KernelError(f"pfn {start:#x} is in use ({page.owner.value})", "EBUSY", where=where)
    for start, end, page in list(mm.pages.items(start_pfn, end_pfn)):
        key = (page.nid, page.zone)
        mm.free[key].take_range(start, end)
        mm.pages.set(start, end, Page(owner, *key, tag))
        mm.change_zone(key, free=mm.zones[key].free - (end - start))
    return [(start_pfn, end_pfn)]


def runs_of(mm: Mm, tag: int) -> list[tuple[int, int, Page]]:
    """Return the runs of the allocation *tag*, wherever migration has put them."""
    return [(start, end, page) for start, end, page in mm.pages.items() if page.tag == tag]


def adjust_managed_page_count(mm: Mm, tag: int, sign: int) -> None:
    """Take the PageOffline pages of *tag* off their zones' managed pages (*sign* -1), or add them again."""
    for start, end, page in runs_of(mm, tag):
        if page.owner is Owner.OFFLINE:
            key = (page.nid, page.zone)
            mm.change_zone(key, managed=mm.zones[key].managed + sign * (end - start))


def free_bulk(mm: Mm, tag: int) -> int:
    """Give all pages of the allocation *tag* back; return how many they were."""
    adjust_managed_page_count(mm, tag, 1)
    runs = runs_of(mm, tag)
    for start, end, _ in runs:
        free_range(mm, start, end)
    return sum(end - start for start, end, _ in runs)


def set_pinned(mm: Mm, tag: int, *, pinned: bool) -> int:
    """Take or drop a reference that migration cannot drop, on all pages of *tag*; return how many changed."""
    old, new = (Owner.USER, Owner.PINNED) if pinned else (Owner.PINNED, Owner.USER)
    changed = 0
    for start, end, page in runs_of(mm, tag):
        if page.owner is old:
            mm.pages.set(start, end, page._replace(owner=new))
            changed += end - start
    return changed


def allocations(mm: Mm) -> dict[int, dict[Owner, int]]:
    """Return the pages of every allocation that a tag was given to: tag -> owner -> pages."""
    found: dict[int, dict[Owner, int]] = {}
    for start, end, page in mm.pages.items():
        if page.tag:
            owners = found.setdefault(page.tag, {})
            owners[page.owner] = owners.get(page.owner, 0) + end - start
    return dict(sorted(found.items()))
