"""mm/hugetlb.c: the huge pages of the pools, and what becomes of them when their memory goes.

A free page of a pool is `Owner.HUGETLB`; one in use is its program's, as any other of its pages. Which runs of pages
are huge pages, and of which order, `Mm.hugetlb` has. Of the free ones the highest is used first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import alloc_pages, free_range
from memshell.mm.pfn import align_down, align_up
from memshell.mm.state import Mm


class Hstate(NamedTuple):
    """struct hstate: one pool. *surplus* has (node, pages) beyond what was asked for, still in use."""

    order: int
    surplus: tuple[tuple[int, int], ...] = ()

    def surplus_of(self, nid: int) -> int:
        """Return the surplus pages of one node."""
        return dict(self.surplus).get(nid, 0)

    def with_surplus(self, nid: int, pages: int) -> Hstate:
        """Return the pool with *pages* surplus pages on node *nid*."""
        counts = {**dict(self.surplus), nid: pages}
        return self._replace(surplus=tuple(sorted((n, k) for n, k in counts.items() if k)))


class Folios(NamedTuple):
    """A run of whole huge pages of one order that share their state."""

    start: int
    end: int
    order: int
    page: Page

    @property
    def nr(self) -> int:
        """How many huge pages."""
        return (self.end - self.start) >> self.order


def folios(mm: Mm, start: int | None = None, end: int | None = None) -> Iterator[Folios]:
    """Yield the huge pages that lie in [start, end) or reach into it, whole, by pfn. Do not change them meanwhile."""
    for a, b, order in mm.hugetlb.items(start, end):
        low, high = align_down(a, 1 << order), align_up(b, 1 << order)
        for p, q, page in mm.pages.items(low, high):
            yield Folios(p, q, order, page)


def hugepage_migration_supported(mm: Mm, order: int) -> bool:
    """Whether huge pages of *order* can be migrated at all: the architecture's, for the sizes of a page table level."""
    del order
    return mm.arch.hugepage_migration


def hugepage_movable_supported(mm: Mm, order: int) -> bool:
    """Whether huge pages of *order* may lie in ZONE_MOVABLE: gigantic ones only where vm.movable_gigantic_pages is set (v7.0)."""
    if not hugepage_migration_supported(mm, order):
        return False
    if not is_gigantic(mm, order):
        return True
    return mm.features.hugetlb.movable_gigantic_pages and mm.params.movable_gigantic_pages


def is_gigantic(mm: Mm, order: int) -> bool:
    """hstate_is_gigantic(): whether the buddy has no blocks of that order."""
    return order > mm.arch.max_order


def highest_zone(mm: Mm, order: int) -> ZoneType:
    """Return the zone that an allocation of the pool begins with. Source: mm/hugetlb.c:htlb_alloc_mask."""
    return ZoneType.MOVABLE if hugepage_movable_supported(mm, order) else ZoneType.NORMAL


def is_unmovable(mm: Mm, start: int, page: Page) -> bool:
    """Whether the run of *page* from *start* on is of huge pages that keep a pageblock of a kernel zone from being isolated."""
    if page.zone is ZoneType.MOVABLE or page.owner not in (Owner.HUGETLB, Owner.USER, Owner.PINNED):
        return False
    order = mm.hugetlb.get(start)
    return order is not None and not hugepage_migration_supported(mm, order)


# --- leaving the pool ---


def release(mm: Mm, start: int, end: int, isolated: tuple[int, int] = (0, 0)) -> None:
    """Make ordinary free pages of the huge pages [start, end): on the lists, but for those in an isolated range."""
    mm.hugetlb.delete(start, end)
    a, b = max(start, isolated[0]), min(end, isolated[1])
    if a >= b:
        a = b = end
    for low, high in ((start, a), (b, end)):
        for p, q, _ in list(mm.pages.items(low, high)) if low < high else ():
            free_range(mm, p, q)
    for p, q, page in list(mm.pages.items(a, b)) if a < b else ():
        mm.pages.set(p, q, Page(Owner.FREE, page.nid, page.zone))


def dissolve_free_hugetlb_folios(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Take the free huge pages that meet the isolated range [start_pfn, end_pfn) out of their pools: the pools shrink."""
    mm.enter(mm.features.offline.dissolve)
    for found in [f for f in folios(mm, start_pfn, end_pfn) if f.page.owner is Owner.HUGETLB] if mm.hugetlb else ():
        dissolve_free_hugetlb_folio(mm, found, (start_pfn, end_pfn))


@mirrors(
    "mm/hugetlb.c:dissolve_free_hugetlb_folio",
    "v6.12",
    "simplified",
    "pages are touched as they are mapped, so none is reserved; the memmap of huge pages is always whole",
)
def dissolve_free_hugetlb_folio(mm: Mm, found: Folios, isolated: tuple[int, int]) -> None:
    """Take a run of free huge pages out of their pool."""
    release(mm, found.start, found.end, isolated)
    mm.event(
        "HugePagesDissolved",
        "mm/hugetlb.c:dissolve_free_hugetlb_folio",
        f"{found.nr} huge pages of order {found.order} from pfn {found.start:#x}",
        order=found.order,
        pages=found.nr,
    )


@mirrors("mm/hugetlb.c:free_huge_folio", "v6.12", "complete")
def free_huge_folios(mm: Mm, start: int, end: int) -> None:
    """Give the used huge pages [start, end) back to their pool, the surplus ones of it to the buddy."""
    for found in list(folios(mm, start, end)):
        nid, pool = found.page.nid, mm.hstates[found.order]
        surplus = min(pool.surplus_of(nid), found.nr)
        cut = found.start + (surplus << found.order)
        if surplus:
            mm.hstates[found.order] = pool.with_surplus(nid, pool.surplus_of(nid) - surplus)
            release(mm, found.start, cut)
        if cut < found.end:
            mm.pages.set(cut, found.end, Page(Owner.HUGETLB, nid, found.page.zone))


# --- taking from the pool ---


def free_folios(mm: Mm, order: int, nid: int) -> list[Folios]:
    """Return the free huge pages of one node's pool that are not in an isolated range, by pfn."""
    return [
        found
        for found in folios(mm)
        if found.order == order and found.page.owner is Owner.HUGETLB and found.page.nid == nid
    ]


@mirrors(
    "mm/hugetlb.c:dequeue_hugetlb_folio_nodemask", "v6.12", "simplified", "the highest pfn is taken, not the newest"
)
def dequeue_hugetlb_folios(
    mm: Mm, order: int, count: int, owner: Owner, tag: int, nodes: list[int]
) -> list[tuple[int, int]]:
    """Take up to *count* free huge pages of *nodes*, in that order, for a program; return the runs."""
    taken: list[tuple[int, int]] = []
    left = count
    for nid in nodes:
        for found in reversed(free_folios(mm, order, nid)):
            size = min(left, found.nr) << order
            if size:
                start = found.end - size
                mm.pages.set(start, found.end, found.page._replace(owner=owner, tag=tag))
                taken.append((start, found.end))
                left -= size >> order
    return taken


@mirrors(
    "mm/hugetlb.c:alloc_hugetlb_folio_nodemask",
    "v6.12",
    "simplified",
    "a free page of the pool that lies in the range being emptied is never the target",
)
def alloc_hugetlb_folio_nodemask(
    mm: Mm, order: int, page: Page, nodes: list[int], avoid: tuple[int, int]
) -> tuple[int, bool] | None:
    """Return where a used huge page can go, and whether the place is of the pool; None without room.

    A page of the pool outside of *avoid* (it is isolated) is taken first; else the buddy gives one, which the pool
    counts in the old one's place. Gigantic pages are not allocated for a migration.
    """
    for nid in nodes:
        for found in reversed(free_folios(mm, order, nid)):
            for pfn in range(found.end - (1 << order), found.start - 1, -(1 << order)):
                if pfn >= avoid[1] or pfn + (1 << order) <= avoid[0]:
                    mm.pages.set(pfn, pfn + (1 << order), found.page._replace(owner=page.owner, tag=page.tag))
                    return pfn, True
    if is_gigantic(mm, order):
        return None
    movable = highest_zone(mm, order) is ZoneType.MOVABLE
    at = alloc_pages(mm, order, page.owner, nid=page.nid, movable=movable, tag=page.tag, nodes=tuple(nodes))
    if at is None:
        return None
    mm.hugetlb.set(at, at + (1 << order), order)
    return at, False


def migrate_hugetlb(mm: Mm, start: int, page: Page, nodes: list[int], isolated: tuple[int, int]) -> bool:
    """Move the used huge page at *start* to one of *nodes*; return whether there was room.

    Its old place becomes a free page of the pool where the new one came from there, else it leaves the pool.
    Source: mm/hugetlb.c:move_hugetlb_state.
    """
    order = mm.hugetlb.get(start)
    assert order is not None
    target = alloc_hugetlb_folio_nodemask(mm, order, page, nodes, isolated)
    if target is None:
        return False
    if target[1]:
        mm.pages.set(start, start + (1 << order), Page(Owner.HUGETLB, page.nid, page.zone))
        return True
    release(mm, start, start + (1 << order), isolated)
    pool, moved = mm.hstates[order], mm.pages.get(target[0])
    if moved is not None and moved.nid != page.nid and pool.surplus_of(page.nid):
        pool = pool.with_surplus(page.nid, pool.surplus_of(page.nid) - 1)
        mm.hstates[order] = pool.with_surplus(moved.nid, pool.surplus_of(moved.nid) + 1)
    return True


def replace_free_hugetlb_folios(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Replace the free huge pages that meet [start_pfn, end_pfn), which is isolated, by others. Raises ENOMEM without room."""
    for found in [f for f in folios(mm, start_pfn, end_pfn) if f.page.owner is Owner.HUGETLB] if mm.hugetlb else ():
        for pfn in range(found.start, found.end, 1 << found.order):
            alloc_and_dissolve_hugetlb_folio(mm, found, pfn, (start_pfn, end_pfn))


@mirrors("mm/hugetlb.c:alloc_and_dissolve_hugetlb_folio", "v6.12", "complete")
def alloc_and_dissolve_hugetlb_folio(mm: Mm, found: Folios, pfn: int, isolated: tuple[int, int]) -> None:
    """Give the pool another page of its node for the free one at *pfn*. Raises ENOMEM; a gigantic page is never replaced."""
    if is_gigantic(mm, found.order) or _new_free_folio(mm, found) is None:
        where = "mm/hugetlb.c:alloc_and_dissolve_hugetlb_folio"
        raise KernelError(f"no room for another huge page than that at pfn {pfn:#x}", "ENOMEM", where=where)
    release(mm, pfn, pfn + (1 << found.order), isolated)


def _new_free_folio(mm: Mm, old: Folios) -> int | None:
    """Allocate a huge page on the node of *old* for the pool; return its pfn, or None."""
    movable = highest_zone(mm, old.order) is ZoneType.MOVABLE
    at = alloc_pages(mm, old.order, Owner.HUGETLB, nid=old.page.nid, movable=movable, nodes=(old.page.nid,))
    if at is not None:
        mm.hugetlb.set(at, at + (1 << old.order), old.order)
    return at
