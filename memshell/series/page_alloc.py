"""mm/page_alloc.c and include/linux/mm.h with the series: what becomes of marked pages that are initialised and freed."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from memshell.errors import KernelCrash
from memshell.mm import mirrors
from memshell.mm.fault import page_fault
from memshell.mm.mmzone import MigrateType
from memshell.mm.page import Owner, Page
from memshell.mm.state import Mm, ZoneKey
from memshell.series.features import series
from memshell.series.struct_page import (
    PG_RESERVED,
    StructPage,
    filled,
    in_zone,
    kept,
    marked_runs,
    read,
    read_pfn,
    runs,
    update,
    write,
    write_run,
    zone_bits,
    zone_of,
)


@mirrors("mm/page_alloc.c:memmap_init_zone", "v4.20 + series", "complete")
def memmap_init_zone(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int) -> None:
    """Initialise the struct pages of a block: a marked one is neither zeroed nor does it lose its count.

    All of them are reserved then. Raises `KernelCrash` for a struct page that is not mapped.
    """
    for a, b, content in list(runs(mm, start_pfn, start_pfn + nr_pages)):
        if series(mm).config.debug_vm_pgflags and content == filled(0xFF):
            raise KernelCrash(
                "kernel BUG at include/linux/page-flags.h:304!", "__init_single_page", None, "PagePoisoned(page)"
            )
        mark = isinstance(content, StructPage) and content.vmemmap
        update(mm, a, b, "__init_single_page", partial(init_single_page, mm, key, mark=mark))
    for a, b in marked_runs(mm, start_pfn, start_pfn + nr_pages):
        mm.pages.set(a, b, Page(Owner.VMEMMAP, *key))


def init_single_page(mm: Mm, key: ZoneKey, page: StructPage, *, mark: bool) -> StructPage:
    """__init_single_page() and SetPageReserved() for one struct page."""
    if not mark or not series(mm).check.init_single_page_zero:
        return StructPage(in_zone(0, key) | PG_RESERVED, 0, 1, 0, -1)
    # The head's count says how many sections still have their memmap in the range: without the check it is lost here.
    count = page.refcount if series(mm).check.init_single_page_count else 1
    return page._replace(flags=in_zone(page.flags, key) | PG_RESERVED, refcount=count, mapcount=-1)


def free_chunks(mm: Mm, pfn: int, order: int, count: int, key: ZoneKey) -> None:
    """__free_one_page() for *count* adjacent chunks, on the free lists where they lie, aligned or not."""
    end, area = pfn + (count << order), mm.free[key]
    if pfn & ((1 << order) - 1) and series(mm).config.debug_vm:
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


def offline_isolated_pages(mm: Mm, start_pfn: int, end_pfn: int) -> Onlined:
    """__offline_isolated_pages(): reserve the free pages, keep the marked ones; return how many of either.

    The marked ones are 0 where the version does not count them as present. Without the check the first of them is a
    BUG_ON(page_count(page)): raises `KernelCrash`.
    """
    skipped = 0
    for a, b, page in list(mm.pages.items(start_pfn, end_pfn)):
        if page.owner is Owner.VMEMMAP:
            if not series(mm).check.offline_isolated_pages:
                raise KernelCrash(
                    "kernel BUG at mm/page_alloc.c:8192!",
                    "__offline_isolated_pages",
                    None,
                    f"page_count of pfn {a:#x} is not 0",
                )
            skipped += b - a
        else:
            update(mm, a, b, "__offline_isolated_pages", lambda p: p._replace(flags=p.flags | PG_RESERVED, refcount=0))
    return Onlined(end_pfn - start_pfn - skipped, skipped if series(mm).present.counts_vmemmap else 0)


class Onlined(NamedTuple):
    """What online_pages_range() did: pages given to the buddy, and marked pages that count as present."""

    freed: int
    skipped: int


@mirrors("include/linux/mm.h:free_reserved_page", "v4.20", "complete")
def free_reserved_pages(mm: Mm, pfn: int, nr_pages: int) -> None:
    """Give reserved pages to the buddy one by one and count them as managed.

    With CONFIG_DEBUG_VM a page with a mapping is a bad page, and dropped. Else the pageblock of a section
    that is gone is looked up through a NULL pointer: raises `KernelCrash`.
    """
    page = read_pfn(mm, pfn, "free_pagetable")
    if series(mm).config.debug_vm and page.mapping:
        bad_page(mm, pfn, nr_pages, "non-NULL mapping")
        key = zone_of(mm, page.flags, "adjust_managed_page_count")
        mm.change_zone(key, managed=mm.zones[key].managed + nr_pages)
        return
    if mm.sections.get(pfn) is None:
        write_run(mm, pfn, pfn + 1, page._replace(flags=page.flags & ~PG_RESERVED, refcount=0))
        raise page_fault(0, "free_unref_page_prepare", f"the section of pfn {pfn:#x} is gone, and its pageblock flags")
    key = zone_of(mm, page.flags, "free_unref_page_commit")
    write_run(mm, pfn, pfn + nr_pages, page._replace(flags=page.flags & ~PG_RESERVED, refcount=0))
    mm.pages.set(pfn, pfn + nr_pages, Page(Owner.FREE, *key))
    mm.free[key].free_range(pfn, pfn + nr_pages, mm.pageblocks.get(pfn) or 0)  # type: ignore[arg-type]
    mm.change_zone(key, managed=mm.zones[key].managed + nr_pages, free=mm.zones[key].free + nr_pages)
    mm.event(
        "FramesFreed",
        "include/linux/mm.h:free_reserved_page",
        f"{nr_pages} frames from pfn {pfn:#x}, about to be unplugged, are in the buddy",
        pfn=pfn,
        pages=nr_pages,
    )


def bad_page(mm: Mm, pfn: int, nr_pages: int, why: str) -> None:
    """bad_page(): complain about *nr_pages* pages from *pfn* on; the kernel prints 60 a minute."""
    mm.event(
        "BadPageState",
        "mm/page_alloc.c:bad_page",
        f"BUG: Bad page state, pfn {pfn:#x}: {why} ({nr_pages} pages)",
        pfn=pfn,
        pages=nr_pages,
        why=why,
    )


HOT_PAGE = "pcp_hot_page"  # counter: the page at the head of the per-cpu list, which the next process gets

PAGES = "mm/page_alloc.c"


@mirrors(
    "include/linux/mm.h:put_page",
    "v4.20 + series",
    "simplified",
    "only what becomes of a page whose last reference goes",
)
def put_page(mm: Mm, pfn: int) -> None:
    """Drop a reference to a page; the last one frees it, marked or not.

    Order-0 pages are checked when they are freed only with CONFIG_DEBUG_VM. Raises `KernelCrash`.
    """
    page = read_pfn(mm, pfn, "put_page")
    va, state = mm.arch.vmemmap_address(pfn), mm.pages.get(pfn)
    write(mm, va, page._replace(refcount=page.refcount - 1))
    if page.refcount != 1 or state is None:
        return
    passes = page.vmemmap and series(mm).check.free_pages_check
    if series(mm).config.debug_vm and page.mapping and not passes:
        bad_page(mm, pfn, 1, "non-NULL mapping")
        return
    key = (state.nid, state.zone)
    write(mm, va, page._replace(flags=page.flags & ~PG_RESERVED, refcount=0))
    mm.pages.set(pfn, pfn + 1, Page(Owner.FREE, *key))
    mm.free[key].free_one_page(pfn, 0, MigrateType.MOVABLE)
    mm.change_zone(key, free=mm.zones[key].free + 1)
    mm.counters[HOT_PAGE] = pfn
    mm.event(
        "PageFreed", f"{PAGES}:free_unref_page", f"pfn {pfn:#x} ({state.owner.value}) goes to the per-cpu list", pfn=pfn
    )


def taken(mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
    """2^order pages leave the free list and are zeroed by who takes them: a memmap that lies in them is lost.

    Raises `KernelCrash` when the first page's own struct page was lost so: list_del() goes through its
    pointers.
    """
    if kept(mm, pfn):
        page = read(mm, mm.arch.vmemmap_address(pfn), "get_page_from_freelist")
        if zone_bits(page.flags) != key[1] or page.flags == filled(0xFD).flags:
            raise page_fault(8, "get_page_from_freelist", f"the struct page of pfn {pfn:#x} was overwritten")
    mm.struct_pages.delete(pfn << mm.arch.page_shift, (pfn + (1 << order)) << mm.arch.page_shift)
