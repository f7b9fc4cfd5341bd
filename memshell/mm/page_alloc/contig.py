"""mm/page_alloc.c: exactly these pages are allocated, migrating what is in the way."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.hugetlb.folio import replace_free_hugetlb_folios
from memshell.mm.migrate import migrate_pages
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import zonelist
from memshell.mm.page_isolation import (
    give_back,
    movable_runs,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from memshell.mm.pfn import align_up
from memshell.mm.state import Mm, ZoneKey


@mirrors("mm/page_alloc.c:alloc_contig_range_noprof", "v6.12", "simplified", "no retry of a migration that failed")
def alloc_contig_range(mm: Mm, start: int, end: int, key: ZoneKey) -> None:
    """Take exactly [start, end) off the free lists, migrating what is movable; the caller says whose the pages are.

    Raises EBUSY, with every page that is not free where it was or where it was migrated to.
    """
    start_isolate_page_range(mm, start, end, key)
    if mm.trace is not None:
        for name in ("__drain_all_pages", "lru_cache_disable"):
            mm.trace.leaf(name)
    try:
        _alloc_contig_migrate_range(mm, start, end, key)
    except KernelError:
        give_back(mm, start, end, key)
        undo_isolate_page_range(mm, start, end)
        raise
    if not mm.features.pageblock.isolate_bit:
        mm.pageblocks.set(start, end, MigrateType.MOVABLE)
    undo_isolate_page_range(mm, start, end)


def _alloc_contig_migrate_range(mm: Mm, start: int, end: int, key: ZoneKey) -> None:
    """Move what is in the way to other places of the node. Raises EBUSY where that is not possible."""
    where = "mm/page_alloc.c:__alloc_contig_migrate_range"
    replace_free_hugetlb_folios(mm, start, end)
    runs = movable_runs(mm, start, end)
    if runs:
        mm.enter("do_migrate_range")
    for a, b, page in runs:
        fixed = page.owner in (Owner.PINNED, Owner.BALLOON)
        failed = a if fixed else migrate_pages(mm, a, b, page, (key[0],), (start, end))
        if failed is not None:
            raise KernelError(f"pfn {failed:#x} cannot be migrated", "EBUSY", where=where)
    if test_pages_isolated(mm, start, end, offline=False) is not None:
        raise KernelError(f"pages of {start:#x}-{end - 1:#x} stay in use", "EBUSY", where=where)


@mirrors("mm/page_alloc.c:alloc_contig_pages_noprof", "v6.12", "complete")
def alloc_contig_pages(mm: Mm, nr_pages: int, nid: int, highest: ZoneType) -> tuple[int, ZoneKey] | None:
    """Take the first aligned run of *nr_pages* of a node that can be had, from the zone *highest* down; return where it is.

    The pages are off the free lists then, and their state is the caller's to set.
    """
    for key in [key for key in zonelist(mm, nid, highest) if key[0] == nid]:
        zone = mm.zones[key]
        for pfn in range(align_up(zone.start_pfn, nr_pages), zone.end_pfn - nr_pages + 1, nr_pages):
            if not pfn_range_valid_contig(mm, key, pfn, nr_pages):
                continue
            try:
                alloc_contig_range(mm, pfn, pfn + nr_pages, key)
            except KernelError:
                continue
            return pfn, key
    return None


@mirrors("mm/page_alloc.c:pfn_range_valid_contig", "v6.12", "complete")
def pfn_range_valid_contig(mm: Mm, key: ZoneKey, pfn: int, nr_pages: int) -> bool:
    """Whether all of [pfn, +nr_pages) is online in the zone, and none of it reserved or of a huge page."""
    end = pfn + nr_pages
    if mm.hugetlb.intersects(pfn, end) or not mm.pages.covers(pfn, end):
        return False
    return all((p.nid, p.zone) == key and p.owner is not Owner.RESERVED for _, _, p in mm.pages.items(pfn, end))
