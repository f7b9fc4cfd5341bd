"""mm/memory_hotplug.c with the series: one altmap for the whole add; sections and memory blocks appear one by one.

They stay when a later one fails; removal goes section by section; marked pages stay out of the buddy. Sources: "[RFC
PATCH 2/4] mm, memory_hotplug: provide a more generic restrictions for memory hotplug" and 3/4 of the same series, O.
Salvador, 2018-11-16; mm/memory_hotplug.c and mm/sparse.c of v4.20.
"""

from __future__ import annotations

from memshell.errors import KernelCrash, KernelError
from memshell.kernel.resource import holders
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.zone import update_pgdat_span
from memshell.mm.memremap import VmemAltmap
from memshell.mm.page import Owner, Page
from memshell.mm.pfn import align_down
from memshell.mm.state import Mm, ZoneKey
from memshell.series.features import series
from memshell.series.memory import hotplug_memory_register
from memshell.series.memremap import RangeAltmap, begin_altmap, mark_vmemmap_range
from memshell.series.page_alloc import Onlined, bad_page, free_chunks
from memshell.series.sparse import kfree_section_memmap, sparse_add_one_section
from memshell.series.struct_page import (
    NODE_SHIFT,
    PG_LOCKED,
    PG_LRU,
    PG_RESERVED,
    VMEMMAP_PAGE,
    StructPage,
    marked_runs,
    read,
    read_pfn,
    runs,
    update,
    zone_bits,
    zone_of,
)

MHP_MEMBLOCK_API, MHP_MEMMAP_FROM_RANGE = 1, 2

WANTED = 4  # the caller asked for the memmap in the range, whatever the architecture made of it


def add_restricted(mm: Mm, nid: int, start: int, size: int, *, from_range: bool) -> None:
    """The part of add_memory_resource() that sets the restrictions and calls the architecture."""
    mm.restrictions = MHP_MEMBLOCK_API | (MHP_MEMMAP_FROM_RANGE | WANTED if from_range else 0)
    try:
        mm.arch.arch_add_memory(mm, nid, start, size, None)
    except KernelError:
        if not series(mm).bug.failed_add_stays:
            undo_add(mm, start, size)
        raise
    finally:
        mm.restrictions = None


def undo_add(mm: Mm, start: int, size: int) -> None:
    """Remove what an add that failed has made: what the series should do."""
    first, last = start >> mm.arch.page_shift, start + size >> mm.arch.page_shift
    if mm.sections.intersects(first, last):
        mm.arch.arch_remove_memory(mm, start, size, None)


def veto_from_range(mm: Mm) -> None:
    """Take MHP_MEMMAP_FROM_RANGE back for an architecture that cannot.

    The macro of the flag has no parentheses (bug.mhp_macro_parentheses): ~1<<1 clears MHP_MEMBLOCK_API too.
    """
    if mm.restrictions is not None and series(mm).check.s390_veto:
        mm.restrictions &= ~1 << 1 if series(mm).bug.mhp_macro_parentheses else ~MHP_MEMMAP_FROM_RANGE


@mirrors("mm/memory_hotplug.c:__add_pages with restrictions", "v4.20 + series", "complete")
def add_pages_restricted(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections of [pfn, +nr_pages), each with its memory block. What was added before an error stays.

    Raises EINVAL for an altmap that does not fit (a reserve that was never set), ENOMEM where a section's
    memory cannot be had.
    """
    flags, where = mm.restrictions or 0, "mm/memory_hotplug.c:__add_pages"
    if altmap is None and flags & MHP_MEMMAP_FROM_RANGE:
        altmap = begin_altmap(mm, pfn, nr_pages)
    if altmap is not None and (altmap.base_pfn != pfn or altmap.offset > nr_pages):
        raise KernelError("memory add fail, invalid altmap", "EINVAL", where=where)
    require_backing(mm, pfn, nr_pages, altmap)
    done = pfn
    try:
        for done in range(pfn, pfn + nr_pages, mm.arch.pages_per_section):
            _add_section(mm, nid, done, altmap, flags)
        done = pfn + nr_pages
    finally:
        broke_off = done < pfn + nr_pages
        # The constructor of 2019 marks what the whole add would have, also when it broke off (bug.count_set_after_failed_add).
        whole = nr_pages if not broke_off or series(mm).bug.count_set_after_failed_add else done - pfn
        if isinstance(altmap, RangeAltmap) and series(mm).vmemmap.mark == "range":
            mark_vmemmap_range(mm, altmap, whole)
    if altmap is None and flags & WANTED and series(mm).bug.constructor_without_altmap:
        why = "the constructor is called for a range whose altmap was vetoed"
        raise KernelCrash("unable to handle kernel NULL pointer dereference", "mark_vmemmap_pages", None, why)
    source = "existing memory" if altmap is None else "the range"
    mm.event(
        "SectionsAdded",
        where,
        f"pfns {pfn:#x}-{pfn + nr_pages - 1:#x}, memmap from {source}",
        start_pfn=pfn,
        end_pfn=pfn + nr_pages,
    )


def require_backing(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Raise `KernelCrash` where the memmap lies in memory that the hypervisor does not back before it is onlined.

    The first struct pages that are written lie at the start of the range. The parameter ``backed`` is how many MiB of each
    range are backed (Xen and Hyper-V: a part).
    """
    backed = mm.params.backed
    needed = nr_pages // mm.arch.pages_per_section * (mm.arch.pages_per_section * mm.arch.struct_page_size)
    if altmap is not None and backed and needed > backed << 20:
        at = mm.arch.page_offset + (pfn << mm.arch.page_shift) + (backed << 20)
        raise KernelCrash(
            "access to memory that is not backed", "sparse_add_one_section", at, "the memmap lies in the range"
        )


def _add_section(mm: Mm, nid: int, pfn: int, altmap: VmemAltmap | None, flags: int) -> None:
    """__add_section(): a section that exists is passed over, as far as the fault goes."""
    if mm.sections.get(pfn) is not None:
        if series(mm).bug.retry_restarts_altmap:
            return
        raise KernelError(
            f"section {pfn // mm.arch.pages_per_section} is there already",
            "EEXIST",
            where="mm/memory_hotplug.c:__add_section",
        )
    sparse_add_one_section(mm, nid, pfn, altmap)
    if flags & MHP_MEMBLOCK_API:
        hotplug_memory_register(mm, nid, pfn)


def remove_range(mm: Mm, start: int, size: int) -> None:
    """remove_memory() behind its checks: the architecture removes the sections, each with its block.

    Without the fault ``bug.partial_remove`` only what one add has added can be removed: EINVAL else.
    """
    whole = any((r.start, r.end) == (start, start + size - 1) for r in holders(mm, start, start + size - 1))
    if not whole and not series(mm).bug.partial_remove:
        raise KernelError(
            "only a whole added range can be removed", "EINVAL", where="mm/memory_hotplug.c:remove_memory"
        )
    mm.arch.arch_remove_memory(mm, start, size, None)


@mirrors(
    "mm/memory_hotplug.c:__remove_section",
    "v4.20 + series",
    "simplified",
    "clear_hwpoisoned_pages() is left out: no page is poisoned",
)
def remove_section(mm: Mm, pfn: int, altmap: VmemAltmap | None) -> None:
    """Remove one section: its memory block, its part of the zone's span, itself, its memmap."""
    size = mm.arch.pages_per_section
    if mm.sections.get(pfn) is None:
        return  # EINVAL, which nobody looks at
    key = page_zone(mm, pfn)
    mm.sections.delete(pfn, pfn + size)
    block_id = pfn // mm.block_pages
    if not mm.sections.intersects(block_id * mm.block_pages, (block_id + 1) * mm.block_pages):
        mm.blocks.pop(block_id, None)
    shrink_zone_span(mm, key, pfn, pfn + size)
    kfree_section_memmap(mm, pfn, size, altmap)


def page_zone(mm: Mm, pfn: int) -> ZoneKey:
    """page_zone(): what the struct page says, initialised or not."""
    return zone_of(mm, read(mm, mm.arch.vmemmap_address(pfn), "__remove_zone").flags, "__remove_zone")


def shrink_zone_span(mm: Mm, key: ZoneKey, start_pfn: int, end_pfn: int) -> None:
    """Take a removed section off the zone's span, on to the next section that is in the zone.

    Source: mm/memory_hotplug.c:shrink_zone_span of v4.20, which goes by valid sections, not by online ones.
    """
    zone = mm.zones.get(key)
    if zone is None or not zone.intersects(start_pfn, end_pfn - start_pfn):
        return
    spans = zone_runs(mm, align_down(zone.start_pfn, mm.arch.pages_per_section), zone.end_pfn, key)
    if not spans:
        mm.change_zone(key, start_pfn=0, spanned=0)
    elif zone.start_pfn == start_pfn:
        first = min(a for a, _ in spans)
        mm.change_zone(key, start_pfn=first, spanned=zone.end_pfn - first)
    elif zone.end_pfn == end_pfn:
        mm.change_zone(key, spanned=max(b for _, b in spans) - zone.start_pfn)
    update_pgdat_span(mm, key[0])


def zone_runs(mm: Mm, start: int, end: int, key: ZoneKey) -> list[tuple[int, int]]:
    """Return the runs of valid sections whose struct pages (of boot memory: whose pages) are in the zone."""
    found = []
    for low, high, _ in mm.sections.items(start, end):
        found += [(a, b) for a, b, page in mm.pages.items(low, high) if (page.nid, page.zone) == key]
        for a, b, content in runs(mm, low, high):
            flags = content.flags if isinstance(content, StructPage) else 0
            if flags and (flags >> NODE_SHIFT & 3, zone_bits(flags)) == key:
                found.append((a, b))
    return found


RANGE = "mm/memory_hotplug.c:online_pages_range"

NR_OFFLINE_AT_ONCE_PAGES = 256  # mm/memory_hotplug.c, v4.20


def online_pages_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> Onlined:
    """Give the pages of a block to the buddy, but for the marked ones; return both numbers.

    Marked pages are looked for page by page in 2017, in 2018 by section after a scan for the first of them, and since then only
    at the start.
    """
    marks = marked_runs(mm, start_pfn, end_pfn) if series(mm).check.online_pages_range else []
    strip, nr_pages = series(mm).online.strip, end_pfn - start_pfn
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
    return Onlined(freed, skipped if series(mm).present.counts_vmemmap else 0)


def _reserved(mm: Mm, pfn: int) -> bool:
    page = read_pfn(mm, pfn, "online_pages_range")
    return bool(page.flags & PG_RESERVED) or not series(mm).online.tests_reserved


def _between(marks: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return [start, end) without the marked runs."""
    pieces, at = [], start
    for a, b in marks:
        pieces.append((at, a))
        at = b
    return [(a, b) for a, b in [*pieces, (at, end)] if a < b]


def _by_section(mm: Mm, marks: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return for each section what lies behind as many pages as are marked in it: they are taken to be its first."""
    size, pieces = mm.arch.pages_per_section, []
    for section in range(start, end, size):
        count = sum(max(min(b, section + size) - max(a, section), 0) for a, b in marks)
        pieces.append((section + count, section + size))
    return pieces


@mirrors("mm/memory_hotplug.c:online_pages_blocks", "v4.20 + series", "complete")
def online_pages_blocks(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> int:
    """Free [start_pfn, end_pfn) in chunks; return how many pages: more than there are when the last reaches over the end.

    Each chunk is as large as get_order() of what is left, up to the largest order; aligned only where
    bug.online_order_unaligned is off.
    """
    orders: dict[int, int] = {}
    misaligned: list[int] = []
    by_page = series(mm).online.strip == "page"
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
    if not series(mm).bug.online_order_unaligned:
        while pfn & ((1 << order) - 1):
            order -= 1
    return order


def online_chunks(mm: Mm, pfn: int, order: int, count: int, key: ZoneKey) -> None:
    """Free *count* adjacent chunks of *order* from *pfn* on, as generic_online_page() does; all of it becomes managed.

    A chunk with a page that has a mapping is bad and stays out, all of it. With CONFIG_DEBUG_VM a misaligned chunk is a BUG:
    raises `KernelCrash`.
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


def require_resource(mm: Mm, start_pfn: int, nr_pages: int) -> None:
    """walk_system_ram_range(): EPERM where no System RAM covers the block, as after an add that failed."""
    start, end = start_pfn << mm.arch.page_shift, (start_pfn + nr_pages << mm.arch.page_shift) - 1
    if not any(r.name.startswith("System RAM") for r in holders(mm, start, end)):
        mm.pages.delete(
            start_pfn, start_pfn + nr_pages
        )  # the struct pages stay initialised, the zone's span stays grown
        mm.pageblocks.delete(start_pfn, start_pfn + nr_pages)
        raise KernelError(f"{start:#x}-{end:#x} is no System RAM", "EPERM", where="mm/memory_hotplug.c:online_pages")


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
            if series(mm).check.do_migrate_range:
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


def only_marked(mm: Mm, start_pfn: int, end_pfn: int) -> bool:
    """Whether every page of the range is marked, in kernels that then skip isolation and migration."""
    return series(mm).offline.skips_vmemmap_block and all(
        page.owner is Owner.VMEMMAP for _, _, page in mm.pages.items(start_pfn, end_pfn)
    )
