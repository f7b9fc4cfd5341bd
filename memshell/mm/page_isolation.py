"""mm/page_isolation.c: take a range's free pages out of circulation, or say why that cannot be."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.hugetlb.folio import is_unmovable as is_unmovable_huge
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import UNMOVABLE_OWNERS, Owner, Page
from memshell.mm.pfn import align_down
from memshell.mm.state import Mm, ZoneKey

CMA = MigrateType.CMA


def has_unmovable_pages(mm: Mm, start_pfn: int, end_pfn: int) -> int | None:
    """Return the first pfn in [start_pfn, end_pfn) that keeps its pageblock from being isolated, or None.

    PG_reserved pages and CMA areas count everywhere; in ZONE_MOVABLE nothing else does.
    Source: mm/page_isolation.c:has_unmovable_pages.
    """
    area = next((a for a, _, kind in mm.pageblocks.items(start_pfn, end_pfn) if kind is CMA), None) if mm.cma else None
    page = _first_unmovable(mm, start_pfn, end_pfn if area is None else area)
    return area if page is None else page


def _first_unmovable(mm: Mm, start_pfn: int, end_pfn: int) -> int | None:
    passed_over = Owner.SLAB_PAGE if mm.features.bug.offline_finds_slab_too_late else None
    for start, _, page in mm.pages.items(start_pfn, end_pfn):
        if page.owner is passed_over:
            continue
        if page.owner is Owner.RESERVED or (page.owner in UNMOVABLE_OWNERS and page.zone is not ZoneType.MOVABLE):
            return start
        if mm.hugetlb and is_unmovable_huge(mm, start, page):
            return start
        if page.owner is Owner.VMEMMAP and mm.seam.is_unmovable(mm, page, start):
            return start
    return None


@mirrors("mm/page_isolation.c:set_migratetype_isolate", "v6.12", "complete")
def set_migratetype_isolate(mm: Mm, pfn: int) -> None:
    """Check one pageblock; raises EBUSY when it holds an unmovable page."""
    bad = has_unmovable_pages(mm, pfn, pfn + mm.arch.pageblock_nr_pages)
    if bad is not None:
        page = mm.pages.get(bad)
        owner = "of a CMA area" if mm.pageblocks.get(bad) is CMA else page.owner.value if page else "none"
        where = "mm/page_isolation.c:has_unmovable_pages"
        raise KernelError(f"pfn {bad:#x} is unmovable ({owner})", "EBUSY", where=where, pfn=bad)


@mirrors(
    "mm/page_isolation.c:isolate_single_pageblock",
    "v6.12",
    "simplified",
    "an allocation never reaches over the range's edge here",
)
def isolate_single_pageblock(mm: Mm, pfn: int, *, skip_isolation: bool = False) -> None:
    """Isolate the first or the last pageblock of a range; of a range that has but one, the first call was enough."""
    if not skip_isolation:
        set_migratetype_isolate(mm, pfn)


@mirrors(
    "mm/page_isolation.c:unset_migratetype_isolate",
    "v6.12",
    "simplified",
    "the lists are given back by undo_isolate_page_range as a whole",
)
def unset_migratetype_isolate(mm: Mm, pfn: int) -> None:
    """Name the end of one pageblock's isolation in the trace; its pages are given back with the whole range."""


@mirrors("mm/page_isolation.c:undo_isolate_page_range", "v6.12", "complete")
def undo_isolate_page_range(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Undo the isolation of every pageblock of [start_pfn, end_pfn).

    Since v6.10 the largest free blocks come to the heads of their lists where they hold four pageblocks or more: each of
    their pageblocks is given back on its own, and the last one joins them again. Before, and with two, they go to the tails.
    """
    run = mm.pages.get(start_pfn)
    if run is not None and mm.features.isolate.undo_to_head and mm.arch.max_order - mm.arch.pageblock_order > 1:
        mm.free[run.nid, run.zone].to_head(start_pfn, end_pfn)
    if mm.trace is not None:
        for pfn in range(start_pfn, end_pfn, mm.arch.pageblock_nr_pages):
            unset_migratetype_isolate(mm, pfn)


def _isolate_one_by_one(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Check pageblock by pageblock in the kernel's order: the first, the last, those between. Raises EBUSY."""
    size = mm.arch.pageblock_nr_pages
    last = end_pfn - size
    isolate_single_pageblock(mm, start_pfn)
    try:
        isolate_single_pageblock(mm, last, skip_isolation=last == start_pfn)
    except KernelError:
        unset_migratetype_isolate(mm, start_pfn)
        raise
    middle = start_pfn + size
    bad = has_unmovable_pages(mm, middle, last) if middle < last else None
    stop = last if bad is None else align_down(bad, size)
    if mm.trace is not None:
        for pfn in range(middle, stop, size):
            set_migratetype_isolate(mm, pfn)
    if bad is not None:
        try:
            set_migratetype_isolate(mm, stop)
        finally:
            undo_isolate_page_range(mm, start_pfn, stop)
            unset_migratetype_isolate(mm, last)


@mirrors("mm/page_isolation.c:start_isolate_page_range", "v6.12", "complete")
def start_isolate_page_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """Isolate [start_pfn, end_pfn): the first pageblock, the last, then those between, as the kernel does.

    Takes the free pages off the lists. Raises EBUSY, with all pages as they were.
    """
    if mm.trace is not None or has_unmovable_pages(mm, start_pfn, end_pfn) is not None:
        _isolate_one_by_one(mm, start_pfn, end_pfn)
    taken = mm.free[key].take_range(start_pfn, end_pfn)
    mm.change_zone(key, free=mm.zones[key].free - sum(end - start for start, end, _ in taken))


def give_back(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """Put the free pages of an isolated range on the lists again.

    The pageblocks are movable then, whatever they were; since isolation is a bit of its own (v6.17) they keep their type.
    """
    if not mm.features.pageblock.isolate_bit:
        mm.pageblocks.set(start_pfn, end_pfn, MigrateType.MOVABLE)
    given = 0
    for start, end, page in mm.pages.items(start_pfn, end_pfn):
        if page.owner is Owner.FREE:
            for a, b, kind in list(mm.pageblocks.items(start, end)):
                mm.free[key].free_range(a, b, kind)
            given += end - start
    mm.change_zone(key, free=mm.zones[key].free + given)


@mirrors("mm/page_isolation.c:test_pages_isolated", "v6.12", "complete")
def test_pages_isolated(mm: Mm, start_pfn: int, end_pfn: int, *, offline: bool) -> int | None:
    """Return the first pfn of the range that is neither free nor, where memory goes *offline* (MEMORY_OFFLINE), PageOffline."""
    gone = (Owner.FREE, Owner.OFFLINE) if offline else (Owner.FREE,)
    runs = mm.pages.items(start_pfn, end_pfn)
    return next((a for a, _, page in runs if page.owner not in gone and not mm.seam.is_isolated(mm, page)), None)


def movable_runs(mm: Mm, start_pfn: int, end_pfn: int) -> list[tuple[int, int, Page]]:
    """Return the runs of pages that an offline has to migrate away, or cannot pass."""
    kinds = (Owner.USER, Owner.PINNED, Owner.BALLOON)
    return [(a, b, page) for a, b, page in mm.pages.items(start_pfn, end_pfn) if page.owner in kinds]
