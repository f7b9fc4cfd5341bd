"""mm/cma.c: memory that is kept for DMA, and that movable pages may use meanwhile.

Its pageblocks are MIGRATE_CMA for ever: nothing unmovable is allocated there, and no block with one of them goes offline.
"""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.mm_init.zones import init_cma_reserved_pageblocks
from memshell.mm.page import Owner
from memshell.mm.pfn import align_down, align_up
from memshell.mm.state import Mm

SIZE_4G = 1 << 32


@mirrors("mm/cma.c:cma_declare_contiguous_nid", "v6.12", "simplified", "of the memory that is free after boot")
def cma_declare_contiguous(mm: Mm, pages: int, base: int, limit: int, *, fixed: bool, running: bool = False) -> bool:
    """Make an area of *pages* at *base* exactly, or between *base* and *limit* (0: anywhere); return whether it could be.

    Where memory lies above 4G it is the lowest free place there, else the highest. The area of a *running* machine is
    where it is, whatever is in it.
    """
    if fixed:
        place = base if _fits(mm, base, base + pages, running=running) else None
    else:
        place = _place(mm, pages, align_up(base, mm.arch.pageblock_nr_pages), limit or mm.max_pfn)
    if place is None:
        return False
    init_cma_reserved_pageblocks(mm, place, place + pages)
    mm.cma = (*mm.cma, (place, place + pages))
    return True


def _fits(mm: Mm, start: int, end: int, *, running: bool) -> bool:
    if start >= end or start % mm.arch.pageblock_nr_pages or not mm.pages.covers(start, end):
        return False
    return running or all(page.owner is Owner.FREE for _, _, page in mm.pages.items(start, end))


def _place(mm: Mm, pages: int, low: int, high: int) -> int | None:
    unit, border = mm.arch.pageblock_nr_pages, SIZE_4G // mm.arch.page_size
    runs = [(max(a, low), min(b, high)) for a, b, page in mm.pages.items(low, high) if page.owner is Owner.FREE]
    above = [at for a, b in runs if (at := align_up(max(a, border), unit)) + pages <= b]
    below = [at for a, b in runs if (at := align_down(b - pages, unit)) >= a]
    return above[0] if above else below[-1] if below else None


def total_pages(mm: Mm) -> int:
    """Return totalcma_pages."""
    return sum(end - start for start, end in mm.cma)
