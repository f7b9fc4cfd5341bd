"""mm/mm_init.c: zones, struct pages and CMA areas are initialised."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.mmzone import MigrateType, Zone, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.free_area import FreeArea
from memshell.mm.state import Mm, ZoneKey


@mirrors("mm/mm_init.c:init_currently_empty_zone", "v6.12", "complete")
def init_currently_empty_zone(mm: Mm, key: ZoneKey) -> None:
    """Prepare a zone that has no pages yet."""
    mm.change_zone(key, initialized=True)


@mirrors("mm/mm_init.c:memmap_init_range", "v6.12", "complete")
def memmap_init_range(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int, migratetype: MigrateType) -> None:
    """Initialise the struct pages: not given to the buddy yet, in the zone, every pageblock of *migratetype*."""
    # New pages are PageOffline since v6.11, PG_reserved before.
    owner = Owner.OFFLINE if mm.features.memmap_init.page_offline else Owner.RESERVED
    mm.pages.set(start_pfn, start_pfn + nr_pages, Page(owner, *key))
    mm.pageblocks.set(start_pfn, start_pfn + nr_pages, migratetype)
    mm.seam.memmap_initialised(mm, key, start_pfn, nr_pages)


@mirrors("mm/mm_init.c:memmap_init_zone_device", "v6.12", "complete")
def memmap_init_zone_device(mm: Mm, pfn: int, nr_pages: int, nid: int) -> None:
    """Initialise the struct pages of device memory."""
    mm.pages.set(pfn, pfn + nr_pages, Page(Owner.DEVICE, nid, ZoneType.DEVICE))


def add_zones(mm: Mm, nid: int) -> None:
    """Give node *nid* its zones, empty; which kinds there are is the architecture's."""
    kinds = {kind for kind, _ in mm.arch.zone_limits} | {ZoneType.NORMAL, ZoneType.MOVABLE, ZoneType.DEVICE}
    for kind in sorted(kinds):
        if (nid, kind) not in mm.zones:
            mm.zones[nid, kind] = Zone(nid, kind)
            mm.free[nid, kind] = FreeArea(mm.arch.max_order)


@mirrors("mm/mm_init.c:init_cma_reserved_pageblock", "v6.12", "complete")
def init_cma_reserved_pageblocks(mm: Mm, start: int, end: int) -> None:
    """Give [start, end) the migratetype CMA; its free pages stand on lists of their own from now on."""
    runs = [(max(a, start), min(b, end), page) for a, b, page in mm.pages.items(start, end)]
    free = [(a, b, mm.free[page.nid, page.zone]) for a, b, page in runs if page.owner is Owner.FREE]
    for a, b, area in free:
        area.take_range(a, b)
    mm.pageblocks.set(start, end, MigrateType.CMA)
    for a, b, area in free:
        area.free_range(a, b, MigrateType.CMA)
    for a, b, page in runs:
        if page.owner is Owner.KERNEL:  # whose place is only guessed: what uses an area can move
            mm.pages.set(a, b, Page(Owner.USER, page.nid, page.zone))
