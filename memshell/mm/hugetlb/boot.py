"""mm/hugetlb.c: the pools that the command line asks for."""

from __future__ import annotations

from collections.abc import Mapping

from memshell.errors import UsageError
from memshell.mm import mirrors
from memshell.mm.hugetlb.folio import Hstate, is_gigantic
from memshell.mm.hugetlb.pool import alloc_pool_huge_folios, hugepage_order, memory_nodes, pool_shifts, total
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.pfn import align_down, align_up, format_size, memparse
from memshell.mm.state import Mm


def default_order(mm: Mm) -> int | None:
    """Return the order of the default pool: default_hugepagesz=, else the architecture's; None without huge pages."""
    asked = mm.params.default_hugepagesz
    if asked:
        return checked_order(mm, asked, "default_hugepagesz")
    shifts = pool_shifts(mm)
    return shifts[0] - mm.arch.page_shift if shifts else None


def checked_order(mm: Mm, size: str, key: str) -> int:
    """Return the order of the huge pages of *size*. Raises `UsageError` for a size that the architecture does not have."""
    order = hugepage_order(mm, memparse(size))
    if order is None:
        sizes = ", ".join(format_size(1 << shift) for shift in pool_shifts(mm))
        raise UsageError(
            f"{key}={size} cannot be", hint=f"huge pages here: {sizes}" if sizes else "there are none here"
        )
    return order


def asked_pages(mm: Mm) -> dict[int | None, int]:
    """Return what hugepages= asks for, by node; None: all nodes share it. Raises `UsageError`."""
    text = mm.params.hugepages
    found: dict[int | None, int] = {}
    for part in text.split(",") if text else ():
        nid, colon, count = part.rpartition(":")
        numbers = [nid, count] if colon else [count]
        if not all(n.isascii() and n.isdecimal() for n in numbers) or (not colon and part != text):
            raise UsageError(f"hugepages={text} cannot be", hint="a number, or node:number,node:number")
        if colon and int(nid) not in mm.nodes:
            raise UsageError(f"hugepages={text}: there is no node {nid}")
        found[int(nid) if colon else None] = int(count)
    return found


@mirrors("mm/hugetlb.c:hugetlb_init", "v6.12", "simplified", "one size of page at boot")
def hugetlb_init(mm: Mm) -> None:
    """Fill the pool that the command line asks for. Raises `UsageError` for what it cannot ask."""
    size, default = mm.params.hugepagesz, default_order(mm)
    asked = asked_pages(mm)
    if size and not asked:
        raise UsageError(f"hugepagesz={size} alone does nothing", hint="give hugepages=N too")
    if not asked:
        return
    order = checked_order(mm, size, "hugepagesz") if size else default
    if order is None:
        raise UsageError(f"hugepages={mm.params.hugepages}: there are no huge pages here")
    mm.hstates[order] = Hstate(order)
    for nid, count in asked.items():
        nodes = memory_nodes(mm) if nid is None else [nid]
        got = (alloc_bootmem_huge_pages if is_gigantic(mm, order) else alloc_pool_huge_folios)(mm, order, count, nodes)
        if got < count:
            size_text = format_size(mm.arch.page_size << order)
            mm.event(
                "Warning",
                "mm/hugetlb.c:report_hugepages",
                f"HugeTLB: allocating {count} of page size {size_text} failed; only {total(mm, order)} are there",
            )


@mirrors("mm/hugetlb.c:alloc_bootmem_huge_page", "v6.12", "simplified", "all nodes in turn, each from its end")
def alloc_bootmem_huge_pages(mm: Mm, order: int, count: int, nodes: list[int]) -> int:
    """Take gigantic pages before the buddy has the memory, from the end of each node in turn; return how many."""
    got, able = 0, list(nodes)
    while got < count and able:
        for nid in list(able):
            if got == count:
                break
            if _bootmem_page(mm, order, nid):
                got += 1
            else:
                able.remove(nid)
    return got


def _bootmem_page(mm: Mm, order: int, nid: int) -> bool:
    """Take the highest aligned run of free pages of one node."""
    size = 1 << order
    for start, end, page in reversed(list(mm.pages.items())):
        first = align_down(end, size) - size
        if page.owner is Owner.FREE and page.nid == nid and first >= start:
            key = (nid, page.zone)
            mm.free[key].take_range(first, first + size)
            mm.pages.set(first, first + size, Page(Owner.HUGETLB, *key))
            mm.hugetlb.set(first, first + size, order)
            mm.change_zone(key, free=mm.zones[key].free - size)
            return True
    return False


def place_pool(mm: Mm, meminfo: Mapping[str, int]) -> None:
    """Make the default pool that a running machine's /proc/meminfo shows, of memory that its zones count as used.

    Which pages it has is not shown: the nodes give some in turn, each its highest whole runs. The free ones come first;
    those in use are programs'. A machine file has no lines of other pools.
    """
    size = meminfo.get("Hugepagesize", 0) << 10
    order = hugepage_order(mm, size) if size else default_order(mm)
    count = meminfo.get("HugePages_Total", 0)
    if order is None or not count:
        return
    mm.hstates[order] = Hstate(order)
    places = {nid: _used_runs(mm, order, nid) for nid in memory_nodes(mm)}
    free, able = meminfo.get("HugePages_Free", count), list(places)
    while count and able:
        nid = able.pop(0)
        if not places[nid]:
            continue
        pfn, page = places[nid].pop()
        owner = Owner.HUGETLB if free > 0 else Owner.USER
        mm.pages.set(pfn, pfn + (1 << order), Page(owner, *page))
        mm.hugetlb.set(pfn, pfn + (1 << order), order)
        count, free = count - 1, free - 1
        able.append(nid)


def _used_runs(mm: Mm, order: int, nid: int) -> list[tuple[int, tuple[int, ZoneType]]]:
    """Return where huge pages of one node can be: aligned runs that are in use, by pfn, each with its zone."""
    size = 1 << order
    return [
        (pfn, (nid, page.zone))
        for start, end, page in mm.pages.items()
        if page.nid == nid and page.owner in (Owner.KERNEL, Owner.USER)
        for pfn in range(align_up(start, size), align_down(end, size), size)
    ]
