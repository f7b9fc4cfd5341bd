"""mm/hugetlb.c: the pools grow and shrink."""

from __future__ import annotations

from collections.abc import Iterable

from memshell.mm import mirrors
from memshell.mm.hugetlb.folio import Hstate, folios, free_folios, highest_zone, is_gigantic, release
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import alloc_some
from memshell.mm.page_alloc.contig import alloc_contig_pages
from memshell.mm.state import Mm


def counts(mm: Mm, order: int) -> dict[int, tuple[int, int]]:
    """Return nr_huge_pages and free_huge_pages of one pool, by node."""
    found: dict[int, tuple[int, int]] = {}
    for f in folios(mm):
        if f.order == order:
            total, free = found.get(f.page.nid, (0, 0))
            found[f.page.nid] = total + f.nr, free + (f.nr if f.page.owner is Owner.HUGETLB else 0)
    return found


def total(mm: Mm, order: int) -> int:
    """Return nr_huge_pages of one pool."""
    return sum(pages for pages, _ in counts(mm, order).values())


def pool_shifts(mm: Mm) -> tuple[int, ...]:
    """Return the sizes of huge pages that the kernel has pools of, as shifts, the default one first."""
    return mm.arch.hugepage_shifts if mm.features.config.hugetlb_page else ()


def hugepage_order(mm: Mm, size: int) -> int | None:
    """Return the order of the architecture's huge pages of *size* bytes; None where it has no such pages."""
    shift = size.bit_length() - 1
    return shift - mm.arch.page_shift if shift in pool_shifts(mm) and size == 1 << shift else None


def memory_nodes(mm: Mm) -> list[int]:
    """Return the nodes that have memory."""
    return [nid for nid, node in sorted(mm.nodes.items()) if node.n_memory]


@mirrors("mm/hugetlb.c:__nr_hugepages_store_common", "v6.12", "complete")
def nr_hugepages_store(mm: Mm, order: int, count: int, nid: int | None = None) -> None:
    """Write *count* to nr_hugepages, of one node or of all. What cannot be had is not an error: the pool is smaller then."""
    nodes = memory_nodes(mm) if nid is None else [nid]
    set_max_huge_pages(mm, order, count, nodes)


@mirrors("mm/hugetlb.c:set_max_huge_pages", "v6.12", "complete")
def set_max_huge_pages(mm: Mm, order: int, count: int, nodes: list[int]) -> None:
    """Grow or shrink the pool on *nodes* until it has *count* pages that are not surplus.

    Surplus pages are made persistent first. Used pages cannot be taken away: they become surplus, and leave the pool
    when they are freed.
    """
    pool = mm.hstates.setdefault(order, Hstate(order))
    have = {nid: counts(mm, order).get(nid, (0, 0)) for nid in nodes}
    persistent = sum(pages for pages, _ in have.values()) - sum(pool.surplus_of(nid) for nid in nodes)
    if count > persistent:
        grown = adjust_pool_surplus(mm, order, nodes, persistent - count)
        alloc_pool_huge_folios(mm, order, count - persistent - grown, nodes)
    elif count < persistent:
        gone = remove_pool_hugetlb_folios(mm, order, persistent - count, nodes)
        adjust_pool_surplus(mm, order, nodes, persistent - count - gone)
    mm.event(
        "HugePagesPool",
        "mm/hugetlb.c:set_max_huge_pages",
        f"{total(mm, order)} huge pages of order {order}",
        order=order,
        pages=total(mm, order),
    )


def adjust_pool_surplus(mm: Mm, order: int, nodes: Iterable[int], delta: int) -> int:
    """Make *delta* used pages surplus, or -*delta* surplus ones persistent; return how many changed."""
    changed = 0
    for nid in nodes:
        pool, (pages, _) = mm.hstates[order], counts(mm, order).get(nid, (0, 0))
        now = pool.surplus_of(nid)
        step = min(delta - changed, pages - now) if delta > 0 else -min(-delta - changed, now)
        mm.hstates[order] = pool.with_surplus(nid, now + step)
        changed += abs(step)
    return changed


def alloc_pool_huge_folios(mm: Mm, order: int, count: int, nodes: list[int]) -> int:
    """Allocate up to *count* pages for the pool, in turn from each node that has some; return how many came."""
    got, able = 0, list(nodes)
    while got < count and able:
        share = max((count - got) // len(able), 1)
        for nid in list(able):
            want = min(share, count - got)
            pages = _alloc_on_node(mm, order, want, nid)
            got += pages
            if pages < want:
                able.remove(nid)
    return got


def _alloc_on_node(mm: Mm, order: int, count: int, nid: int) -> int:
    """Allocate up to *count* pages of one node; return how many came."""
    if is_gigantic(mm, order):
        return next((n for n in range(count) if not alloc_gigantic_folio(mm, order, nid)), count)
    movable = highest_zone(mm, order) is ZoneType.MOVABLE
    runs = alloc_some(mm, count, order, Owner.HUGETLB, nid=nid, movable=movable, nodes=(nid,))
    for start, end in runs:
        mm.hugetlb.set(start, end, order)
    return sum(end - start for start, end in runs) >> order


@mirrors("mm/hugetlb.c:alloc_gigantic_folio", "v6.12", "simplified", "no CMA area of hugetlb_cma=")
def alloc_gigantic_folio(mm: Mm, order: int, nid: int) -> bool:
    """Allocate one gigantic page on a node for the pool, moving what is in the way; return whether there is one."""
    found = alloc_contig_pages(mm, 1 << order, nid, highest_zone(mm, order))
    if found is None:
        return False
    start, key = found
    mm.pages.set(start, start + (1 << order), Page(Owner.HUGETLB, *key))
    mm.hugetlb.set(start, start + (1 << order), order)
    return True


def remove_pool_hugetlb_folios(mm: Mm, order: int, count: int, nodes: list[int]) -> int:
    """Give up to *count* free pages of the pool back to the buddy, in turn from each node; return how many went."""
    gone, able = 0, list(nodes)
    while gone < count and able:
        share = max((count - gone) // len(able), 1)
        for nid in list(able):
            want = min(share, count - gone)
            pages = _remove_from_node(mm, order, want, nid)
            gone += pages
            if pages < want:
                able.remove(nid)
    return gone


def _remove_from_node(mm: Mm, order: int, count: int, nid: int) -> int:
    left = count
    for found in reversed(free_folios(mm, order, nid)):
        size = min(left, found.nr) << order
        if size:
            release(mm, found.end - size, found.end)
            left -= size >> order
    return count - left
