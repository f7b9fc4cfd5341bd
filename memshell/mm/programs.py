"""What programs, drivers and balloons hold: allocations of many pages under one tag, at the cost of runs."""

from __future__ import annotations

from memshell.errors import KernelError, OutOfMemory
from memshell.mm.hugetlb.folio import dequeue_hugetlb_folios, folios, free_huge_folios, migrate_hugetlb
from memshell.mm.hugetlb.pool import counts
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import Runs, free_range, node_order
from memshell.mm.state import Mm


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


def alloc_huge(mm: Mm, order: int, count: int, owner: Owner, *, nid: int = 0, tag: int = 0) -> Runs:
    """Map and touch *count* huge pages of a pool, those of the node *nid* and then of its neighbours.

    Raises ENOMEM, with none taken, where the pool does not have as many free ones: a mapping reserves them first.
    """
    free = sum(free for _, free in counts(mm, order).values())
    if free < count:
        raise OutOfMemory(
            f"the pool has {free} free huge pages, {count} are wanted", where="mm/hugetlb.c:hugetlb_acct_memory"
        )
    return dequeue_hugetlb_folios(mm, order, count, owner, tag, node_order(mm, nid))


def migrate_huge(mm: Mm, tag: int, nid: int) -> int:
    """Move the huge pages of the allocation *tag* to node *nid*; return how many pages moved. Raises ENOMEM without room.

    Those that were moved before it stay there, as with migrate_pages(2).
    """
    moved = 0
    for found in [f for f in folios(mm) if f.page.tag == tag and f.page.owner is Owner.USER and f.page.nid != nid]:
        for pfn in range(found.start, found.end, 1 << found.order):
            if not migrate_hugetlb(mm, pfn, found.page, [nid], (0, 0)):
                raise OutOfMemory(
                    f"no huge page on node {nid} for that at pfn {pfn:#x}", where="mm/migrate.c:migrate_pages"
                )
            moved += 1 << found.order
    return moved


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
    """Give all pages of the allocation *tag* back, huge pages to their pools; return how many they were."""
    adjust_managed_page_count(mm, tag, 1)
    runs = runs_of(mm, tag)
    for start, end, _ in runs:
        if mm.hugetlb.get(start) is None:
            free_range(mm, start, end)
        else:
            free_huge_folios(mm, start, end)
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
        if page.tag > 0:
            owners = found.setdefault(page.tag, {})
            owners[page.owner] = owners.get(page.owner, 0) + end - start
    return dict(sorted(found.items()))
