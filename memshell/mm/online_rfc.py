"""How kernels with marked memmap pages online and offline the rest of a block (the series of 2017 to 2019).

Each function is the part of its namesake in mm/memory_hotplug.c or mm/page_alloc.c that looks at marks; the
callers there branch here when the profile has marks.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from memshell.errors import KernelCrash, KernelError
from memshell.mm import mirrors
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.state import Mm, ZoneKey
from memshell.mm.struct_page import (
    PG_LOCKED,
    PG_LRU,
    PG_RESERVED,
    VMEMMAP_PAGE,
    StructPage,
    filled,
    in_zone,
    marked_runs,
    read_pfn,
    runs,
    update,
)
from memshell.mm.vmemmap_rfc import bad_page

RANGE = "mm/memory_hotplug.c:online_pages_range"
NR_OFFLINE_AT_ONCE_PAGES = 256  # mm/memory_hotplug.c, v4.20


class Onlined(NamedTuple):
    """What online_pages_range() did: pages given to the buddy, and marked pages that count as present."""

    freed: int
    skipped: int


@mirrors("mm/page_alloc.c:memmap_init_zone", "v4.20 + series", "complete")
def memmap_init_zone(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int) -> None:
    """Initialise the struct pages of a block: a marked one is neither zeroed nor does it lose its count.

    All of them are reserved then. Raises `KernelCrash` for a struct page that is not mapped.
    """
    for a, b, content in list(runs(mm, start_pfn, start_pfn + nr_pages)):
        if mm.feature("config.debug_vm_pgflags") and content == filled(0xFF):
            raise KernelCrash(
                "kernel BUG at include/linux/page-flags.h:304!", "__init_single_page", None, "PagePoisoned(page)"
            )
        mark = isinstance(content, StructPage) and content.vmemmap
        update(mm, a, b, "__init_single_page", partial(init_single_page, mm, key, mark=mark))
    for a, b in marked_runs(mm, start_pfn, start_pfn + nr_pages):
        mm.pages.set(a, b, Page(Owner.VMEMMAP, *key))


def init_single_page(mm: Mm, key: ZoneKey, page: StructPage, *, mark: bool) -> StructPage:
    """__init_single_page() and SetPageReserved() for one struct page."""
    if not mark or not mm.feature("check.init_single_page_zero"):
        return StructPage(in_zone(0, key) | PG_RESERVED, 0, 1, 0, -1)
    count = page.refcount if mm.feature("check.init_single_page_count") else 1
    return page._replace(flags=in_zone(page.flags, key) | PG_RESERVED, refcount=count, mapcount=-1)


def online_pages_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> Onlined:
    """Give the pages of a block to the buddy, but not those that are marked.

    By page in 2017, by section in 2018 (with a scan for the first marked page before), by prefix since.
    """
    marks = marked_runs(mm, start_pfn, end_pfn) if mm.feature("check.online_pages_range") else []
    strip, nr_pages = mm.feature("online.strip"), end_pfn - start_pfn
    skipped = sum(b - a for a, b in marks)
    if strip == "page":
        visits, pieces = nr_pages, _between(marks, start_pfn, end_pfn)
    elif strip == "section":
        visits = nr_pages if not marks else marks[0][0] - start_pfn + 1 + nr_pages
        pieces = _by_section(mm, marks, start_pfn, end_pfn) if marks else [(start_pfn, end_pfn)]
    else:
        visits = 1
        skipped = marks[0][1] - start_pfn if marks and marks[0][0] == start_pfn else 0
        pieces = [(start_pfn + skipped, end_pfn)]
    freed = sum(online_pages_blocks(mm, a, b, key) for a, b in pieces if a < b and _reserved(mm, a))
    mm.event(
        "RangeOnlined",
        RANGE,
        f"pfn {start_pfn:#x}: {freed} of {nr_pages} pages, {visits} struct pages visited",
        pfn=start_pfn,
        onlined=freed,
        vmemmap=int(bool(marks)),
        visits=visits,
    )
    return Onlined(freed, skipped if mm.feature("present.counts_vmemmap") else 0)


def _reserved(mm: Mm, pfn: int) -> bool:
    page = read_pfn(mm, pfn, "online_pages_range")
    return bool(page.flags & PG_RESERVED) or not mm.feature("online.tests_reserved")


def _between(marks: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return [start, end) without the marked runs."""
    pieces, at = [], start
    for a, b in marks:
        pieces.append((at, a))
        at = b
    return [(a, b) for a, b in [*pieces, (at, end)] if a < b]


def _by_section(mm: Mm, marks: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return for each section what is left behind as many pages as are marked in it.

    Marked pages are taken for a prefix.
    """
    size, pieces = mm.arch.pages_per_section, []
    for section in range(start, end, size):
        count = sum(max(min(b, section + size) - max(a, section), 0) for a, b in marks)
        pieces.append((section + count, section + size))
    return pieces


@mirrors("mm/memory_hotplug.c:online_pages_blocks", "v4.20 + series", "complete")
def online_pages_blocks(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> int:
    """Free [start_pfn, end_pfn) in chunks.

    Return the pages, which may be more when the last chunk reaches over the end.

    Each chunk is as large as get_order() of what is left, up to the largest order; aligned only where the
    fault is off.
    """
    orders: dict[int, int] = {}
    misaligned: list[int] = []
    by_page = mm.feature("online.strip") == "page"
    pfn = start_pfn
    while pfn < end_pfn:
        order = 0 if by_page else _order(mm, pfn, end_pfn)
        count = max(end_pfn - pfn >> order, 1) if order in (0, mm.arch.max_order) else 1
        orders[order] = orders.get(order, 0) + count
        if pfn & ((1 << order) - 1):
            misaligned += range(pfn, pfn + (count << order), 1 << order)
        online_chunks(mm, pfn, order, count, key)
        pfn += count << order
    over = max(pfn - end_pfn, 0)
    chunks = ", ".join(f"{count} of order {order}" for order, count in sorted(orders.items(), reverse=True))
    mm.event(
        "PagesOnlined",
        "mm/memory_hotplug.c:online_pages_blocks",
        f"pfn {start_pfn:#x}: {chunks}"
        + (f"; {len(misaligned)} misaligned, first {misaligned[0]:#x}" if misaligned else "")
        + (f"; {over} pages over the end" if over else ""),
        pfn=start_pfn,
        nr=end_pfn - start_pfn,
        orders=orders,
        misaligned=len(misaligned),
        first_misaligned=misaligned[0] if misaligned else 0,
        overshoot=over,
    )
    return pfn - start_pfn


def _order(mm: Mm, pfn: int, end_pfn: int) -> int:
    order = min(mm.arch.max_order, (end_pfn - pfn - 1).bit_length())
    if not mm.feature("bug.online_order_unaligned"):
        while pfn & ((1 << order) - 1):
            order -= 1
    return order


def online_chunks(mm: Mm, pfn: int, order: int, count: int, key: ZoneKey) -> None:
    """Free *count* adjacent chunks of *order* from *pfn* on, as generic_online_page() does.

    Count them as managed.

    A chunk with a page that has a mapping is bad and stays out, all of it. With CONFIG_DEBUG_VM a misaligned
    chunk is a BUG.
    """
    size = 1 << order
    end = pfn + (count << order)
    mm.change_zone(key, managed=mm.zones[key].managed + end - pfn)
    marks = [
        (a, b) for a, b, page in runs(mm, pfn, end) if isinstance(page, StructPage) and page.mapping == VMEMMAP_PAGE
    ]
    update(
        mm, pfn, end, "__free_pages_boot_core", lambda page: page._replace(flags=page.flags & ~PG_RESERVED, refcount=0)
    )
    good = pfn
    for a, b in marks:
        low, high = max(good, pfn + (a - pfn) // size * size), pfn + -(-(b - pfn) // size) * size
        if good < low:
            free_chunks(mm, good, order, low - good >> order, key)
        if low < high:
            bad_page(mm, a if order == 0 else max(a, low + 1), b - a, "non-NULL mapping")
            mm.pages.set(low, high, Page(Owner.BAD, *key))
        good = max(good, high)
    if good < end:
        free_chunks(mm, good, order, end - good >> order, key)


def free_chunks(mm: Mm, pfn: int, order: int, count: int, key: ZoneKey) -> None:
    """__free_one_page() for *count* adjacent chunks, on the free lists where they lie, aligned or not."""
    end, area = pfn + (count << order), mm.free[key]
    if pfn & ((1 << order) - 1) and mm.feature("config.debug_vm"):
        raise KernelCrash(
            "kernel BUG at mm/page_alloc.c:797!",
            "__free_one_page",
            None,
            f"pfn {pfn:#x} is not aligned to order {order}",
        )
    twice = sum(b - a for a, b, page in mm.pages.items(pfn, end) if page.owner is Owner.FREE)
    if twice:
        mm.event(
            "DoubleFree",
            "mm/page_alloc.c:__free_one_page",
            f"{twice} pages of [{pfn:#x}, {end:#x}) are free already",
            pfn=pfn,
            pages=twice,
        )
    if not pfn & ((1 << order) - 1) and not twice:
        area.free_range(pfn, end, MigrateType.MOVABLE)
    else:
        for at in range(pfn, end, 1 << order):
            area.free_one_page(at, order, MigrateType.MOVABLE)
    mm.pages.set(pfn, end, Page(Owner.FREE, *key))
    mm.change_zone(key, free=mm.zones[key].free + end - pfn)


def require_resource(mm: Mm, start_pfn: int, nr_pages: int) -> None:
    """walk_system_ram_range(): EPERM where no System RAM covers the block, as after an add that failed."""
    start, end = start_pfn << mm.arch.page_shift, (start_pfn + nr_pages << mm.arch.page_shift) - 1
    if not any(r.name.startswith("System RAM") and r.start <= start and r.end >= end for r in mm.resources):
        mm.pages.delete(
            start_pfn, start_pfn + nr_pages
        )  # the struct pages stay initialised, the zone's span stays grown
        mm.pageblocks.delete(start_pfn, start_pfn + nr_pages)
        raise KernelError(f"{start:#x}-{end:#x} is no System RAM", "EPERM", where="mm/memory_hotplug.c:online_pages")


def unmovable_mark(mm: Mm, page: Page, pfn: int) -> bool:
    """has_unmovable_pages(): a marked page counts only where the check is off; a warning in ZONE_MOVABLE."""
    if page.owner is not Owner.VMEMMAP or mm.feature("check.has_unmovable_pages"):
        return False
    if page.zone is ZoneType.MOVABLE:
        mm.event(
            "Warning",
            "mm/page_isolation.c:has_unmovable_pages",
            f"WARN_ON_ONCE: a reserved page in ZONE_MOVABLE, pfn {pfn:#x}",
            pfn=pfn,
        )
    return True


def scan_marked_pages(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """scan_movable_pages() and do_migrate_range() on marked pages: only garbage flags make them look movable.

    With PG_lru set in the garbage they are found and passed over for ever: EINTR. Without the check they are
    isolated, and migration waits for the lock that the garbage says is held: raises `KernelCrash`.
    """
    for a, b in marked_runs(mm, start_pfn, end_pfn):
        for c, d, page in list(runs(mm, a, b)):
            assert isinstance(page, StructPage)
            if not page.flags & PG_LRU:
                continue
            if mm.feature("check.do_migrate_range"):
                raise KernelError(
                    f"pfn {c:#x}: PG_lru is set in its garbage flags; found and passed over until a signal",
                    "EINTR",
                    where="mm/memory_hotplug.c:do_migrate_range",
                )
            update(
                mm,
                c,
                min(d, c + NR_OFFLINE_AT_ONCE_PAGES),
                "isolate_lru_page",
                lambda p: p._replace(flags=p.flags & ~PG_LRU, refcount=p.refcount + 1),
            )
            if page.flags & PG_LOCKED:
                raise KernelCrash(
                    "hang",
                    "migrate_pages",
                    None,
                    f"lock_page() of pfn {c:#x} sleeps for ever: PG_locked is set in its garbage flags",
                )


def isolated(mm: Mm, page: Page) -> bool:
    """__test_page_isolated_in_pageblock(): whether one run lets the test go on."""
    return page.owner is Owner.VMEMMAP and bool(mm.feature("check.__test_page_isolated_in_pageblock"))


def only_marked(mm: Mm, start_pfn: int, end_pfn: int) -> bool:
    """Whether every page of the range is marked, in kernels that then skip isolation and migration."""
    return bool(mm.feature("offline.skips_vmemmap_block")) and all(
        page.owner is Owner.VMEMMAP for _, _, page in mm.pages.items(start_pfn, end_pfn)
    )


def offline_isolated_pages(mm: Mm, start_pfn: int, end_pfn: int) -> Onlined:
    """__offline_isolated_pages(): unlink the free pages and reserve them; marked pages stay.

    Returns what goes.

    Without the check the first marked page is a BUG_ON(page_count(page)): raises `KernelCrash`.
    """
    skipped = 0
    for a, b, page in list(mm.pages.items(start_pfn, end_pfn)):
        if page.owner is Owner.VMEMMAP:
            if not mm.feature("check.__offline_isolated_pages"):
                raise KernelCrash(
                    "kernel BUG at mm/page_alloc.c:8192!",
                    "__offline_isolated_pages",
                    None,
                    f"page_count of pfn {a:#x} is not 0",
                )
            skipped += b - a
        else:
            update(mm, a, b, "__offline_isolated_pages", lambda p: p._replace(flags=p.flags | PG_RESERVED, refcount=0))
    return Onlined(end_pfn - start_pfn - skipped, skipped if mm.feature("present.counts_vmemmap") else 0)
