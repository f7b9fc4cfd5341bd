"""mm/migrate.c: used pages are moved to other places."""

from __future__ import annotations

from memshell.mm.hugetlb.folio import folios, migrate_hugetlb
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import alloc_pages
from memshell.mm.pfn import order_of
from memshell.mm.state import Mm


def migrate_pages(
    mm: Mm, start: int, end: int, page: Page, nodes: tuple[int, ...], isolated: tuple[int, int]
) -> int | None:
    """Move the used movable pages [start, end), which share the state *page*, to *nodes*; *isolated* is being emptied.

    What was moved is free memory of the isolated range. Returns the first pfn that there is no room for, or None.
    A huge page is moved whole, also where only a part of it lies in the range.
    """
    for a, b, is_huge in _parts(mm, start, end):
        failed = (_migrate_huge if is_huge else _migrate_base)(mm, a, b, page, nodes, isolated)
        if failed is not None:
            return failed
    return None


def _parts(mm: Mm, start: int, end: int) -> list[tuple[int, int, bool]]:
    if not mm.hugetlb:
        return [(start, end, False)]
    huge = [(a, b, True) for a, b, _ in mm.hugetlb.items(start, end)]
    return sorted([*huge, *((a, b, False) for a, b in mm.hugetlb.gaps(start, end))])


def _migrate_base(
    mm: Mm, start: int, end: int, page: Page, nodes: tuple[int, ...], isolated: tuple[int, int]
) -> int | None:
    """Move ordinary pages, in blocks of up to a pageblock where they are free, else smaller ones."""
    del isolated  # they lie in it
    pfn = start
    while pfn < end:
        order = order_of(pfn, end - pfn, mm.arch.pageblock_order)
        while alloc_pages(mm, order, page.owner, nid=page.nid, movable=True, tag=page.tag, nodes=nodes or None) is None:
            if not order:
                return pfn
            order -= 1
        mm.pages.set(pfn, pfn + (1 << order), Page(Owner.FREE, page.nid, page.zone))
        pfn += 1 << order
    return None


def _migrate_huge(
    mm: Mm, start: int, end: int, page: Page, nodes: tuple[int, ...], isolated: tuple[int, int]
) -> int | None:
    """Move the huge pages that meet [start, end), one by one."""
    order = list(nodes) or [page.nid]
    for found in list(folios(mm, start, end)):
        for pfn in range(found.start, found.end, 1 << found.order):
            if found.page.owner is page.owner and not migrate_hugetlb(mm, pfn, found.page, order, isolated):
                return pfn
    return None
