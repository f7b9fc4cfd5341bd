"""The memmap in the hot-added range, as the series of 2017 to 2019 marks it and frees it.

Source: "[RFC PATCH 3/4] mm, memory_hotplug: allocate memmap from the added memory range for sparse-vmemmap",
O. Salvador, 2018-11-16, with its parts in include/linux/memremap.h, mm/sparse.c and arch/x86/mm/init_64.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memshell.errors import KernelCrash
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc import free_range
from memshell.mm.pfn import align_down
from memshell.mm.sparse_vmemmap import leaf_pfn
from memshell.mm.state import Leaf, Mm
from memshell.mm.struct_page import (
    PG_RESERVED,
    REFCOUNT_OFFSET,
    VMEMMAP_PAGE,
    ZERO,
    StructPage,
    filled,
    page_fault,
    read,
    read_pfn,
    update,
    write,
    write_run,
    zone_of,
)

MARK = "include/linux/memremap.h:mark_vmemmap_pages"
LEAKED = "leaked"  # owner of a mapping that nothing remembers
KFREE = "mm/sparse.c:__kfree_section_memmap"


@dataclass(slots=True)
class RangeAltmap(VmemAltmap):
    """The vmem_altmap of one whole add; *nr_sects* counts the sections that are full of memmap already."""

    nr_sects: int = 0
    marks: int = 0  # calls of mark_vmemmap_pages() so far


def marks_memmap(mm: Mm) -> bool:
    """Whether this kernel marks the pages of a memmap in the range."""
    return bool(mm.feature("vmemmap.mark") != "never")


def memmap_bytes(mm: Mm) -> int:
    """Return the bytes of struct pages of one section."""
    return mm.arch.pages_per_section * mm.arch.struct_page_size


@mirrors(MARK, "v4.20 + series", "complete")
def mark_vmemmap_pages(mm: Mm, altmap: RangeAltmap) -> None:
    """Mark the pages that the altmap gave to one section's memmap, and count the section in the head.

    The head is found by rounding the address down to a section's memmap, less those that are full already.
    Raises `KernelCrash` where that is nobody's struct page.
    """
    pfn, nr = altmap.base_pfn + altmap.reserve, altmap.alloc
    if not nr and not mm.feature("bug.stray_refcount"):
        return
    size = memmap_bytes(mm)
    head = (mm.arch.vmemmap_address(pfn) & ~(size - 1)) - size * altmap.nr_sects
    if mm.feature("vmemmap.head_count") == "increment":
        try:
            _count_head(mm, altmap, head)
        except KernelCrash:
            _marked(mm, altmap, head, None)
            raise
    update(mm, pfn, pfn + nr, "mark_vmemmap_pages", lambda page: marked(page, refcount=1))
    altmap.alloc = 0
    altmap.base_pfn += nr + altmap.reserve
    altmap.free -= nr
    _marked(mm, altmap, head, read(mm, head, "mark_vmemmap_pages").refcount, pfn, nr)


def _marked(mm: Mm, altmap: RangeAltmap, head: int, refcount: int | None, pfn: int = 0, nr: int = 0) -> None:
    pfn, nr = (pfn, nr) if nr else (altmap.base_pfn + altmap.reserve, altmap.alloc)
    mm.event(
        "VmemmapMarked",
        MARK,
        f"{nr} pages from pfn {pfn:#x}, head {head:#x} count {refcount} nr_sects {altmap.nr_sects}",
        k=altmap.marks,
        pfn=pfn,
        head=head,
        refcount=refcount,
        nr_sects=altmap.nr_sects,
        nr=nr,
        free=altmap.free,
    )
    altmap.marks += 1


def marked(page: StructPage, refcount: int, link: int | None = None) -> StructPage:
    """SetPageVmemmap() and init_page_count(): all other bits stay as they are."""
    link = page.link if link is None else link
    return StructPage(page.flags | PG_RESERVED, VMEMMAP_PAGE, refcount, link, page.mapcount)


def _count_head(mm: Mm, altmap: RangeAltmap, head: int) -> None:
    page = read(mm, head, "mark_vmemmap_pages", REFCOUNT_OFFSET)
    fresh = not altmap.marks and not mm.feature("bug.mark_counts_garbage")
    count = 1 if fresh else page.refcount + 1
    write(mm, head, page._replace(refcount=count))
    full = (
        mm.arch.struct_page_size
        if mm.feature("bug.nr_sects_uses_sizeof_page")
        else mm.arch.page_size // mm.arch.struct_page_size
    )
    if count % full == 0:
        altmap.nr_sects += 1
    mm.note(
        f"head {head:#x}: refcount {page.refcount} + 1; {count} mod {full} = {count % full}, nr_sects {altmap.nr_sects}"
    )


@mirrors(
    "include/linux/memremap.h:mark_vmemmap_range",
    "v5.0 + series",
    "simplified",
    "the constructor of January 2019 and the loop of March 2019 are one function",
)
def mark_vmemmap_range(mm: Mm, altmap: RangeAltmap, nr_pages: int) -> None:
    """Zero and mark all pages of the memmap at once; the head holds the number of sections and of pages."""
    pfn, nr = altmap.base_pfn, altmap.alloc
    if not nr:
        return
    head = mm.arch.vmemmap_address(pfn)
    update(mm, pfn, pfn + nr, "mark_vmemmap_pages", lambda _page: marked(ZERO, refcount=1, link=head))
    count = nr_pages // mm.arch.pages_per_section
    write(mm, head, marked(ZERO, count, link=nr))
    mm.event(
        "VmemmapMarked",
        MARK,
        f"{nr} pages from pfn {pfn:#x}, head {head:#x} count {count}",
        k=0,
        pfn=pfn,
        head=head,
        refcount=count,
        nr_sects=0,
        nr=nr,
        free=altmap.free - nr,
    )


@mirrors(KFREE, "v4.20 + series", "complete")
def kfree_section_memmap(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Free the memmap of one section, or only count it off in the head of the range that holds it.

    The first section whose first struct page is marked is the head's; from then on every section counts,
    until 0.
    """
    start = mm.arch.vmemmap_address(pfn)
    end = start + nr_pages * mm.arch.struct_page_size
    first = read(mm, start, "__kfree_section_memmap")
    if mm.feature("vmemmap.free") == "deferred" and mm.feature("check.__kfree_section_memmap"):
        if first.vmemmap and mm.vmemmap_head is None:
            mm.vmemmap_head = start
        if mm.vmemmap_head is not None:
            _put_head(mm, mm.vmemmap_head, end)
            return
    _vmemmap_free(mm, start, end, altmap, direct=True)


def _put_head(mm: Mm, head: int, end: int) -> None:
    page = read(mm, head, "__kfree_section_memmap", REFCOUNT_OFFSET)
    left = page.refcount - 1
    write(mm, head, page._replace(refcount=left))
    mm.event(
        "HeadPut",
        KFREE,
        f"head {head:#x} count {page.refcount} -> {left}",
        head=head,
        before=page.refcount,
        after=left,
        what="deferred" if left else "free",
    )
    if not left:
        free_vmemmap_range(mm, head, end)
        mm.vmemmap_head = None


def _vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, direct: bool) -> None:
    mm.event("VmemmapFreed", KFREE, f"[{start:#x}, {end:#x})", start=start, end=end, direct=direct)
    mm.arch.vmemmap_free(mm, start, end, altmap)


@mirrors("mm/sparse.c:free_vmemmap_range", "v4.20 + series", "complete")
def free_vmemmap_range(mm: Mm, limit: int, end: int) -> None:
    """Free the memmap [limit, end) section by section, from the end down (or in the order that is tried)."""
    size = memmap_bytes(mm)
    backwards = list(range(end - size, limit - 1, -size))
    for start in _in_order(mm, backwards):
        _vmemmap_free(mm, start, start + size, None, direct=False)


def _in_order(mm: Mm, backwards: list[int]) -> Iterable[int]:
    upwards = backwards[::-1]
    if mm.feature("bug.ascending_free"):
        return upwards
    order = mm.feature("vmemmap.free_order")
    hosts = {"host0-last": 1, "host1-host0-last": 2}.get(order, len(upwards))
    return upwards[hosts:] + upwards[:hosts][::-1]


@mirrors(
    "arch/x86/mm/init_64.c:free_pagetable",
    "v4.20 + series",
    "simplified",
    "no SECTION_INFO pages: early memmaps are never freed here",
)
def free_pagetable(mm: Mm, pfn: int, nr_pages: int, owner: str) -> None:
    """Free the frames behind a vmemmap leaf: not those that are marked, they go with the memory.

    Reads the first frame's struct page, so that must still be mapped. Raises `KernelCrash`.
    """
    page = read_pfn(mm, pfn, "free_pagetable")
    if page.vmemmap and mm.feature("check.free_pagetable"):
        clear_marks(mm, pfn, nr_pages)
    elif owner == "buddy":
        free_range(mm, pfn, pfn + nr_pages)
    elif page.flags & PG_RESERVED:
        free_reserved_pages(mm, pfn, nr_pages)
    else:
        mm.event(
            "FramesLeaked",
            "arch/x86/mm/init_64.c:free_pagetable",
            f"pfn {pfn:#x}: refcount {page.refcount} does not drop to 0",
            pfn=pfn,
            pages=nr_pages,
        )


@mirrors("arch/powerpc/mm/init_64.c:vmemmap_free", "v4.20 + series", "complete")
def free_marked_unit(mm: Mm, va: int, unit: int, leaf: Leaf | None) -> bool:
    """Free one mapping that holds no valid struct page.

    The list entry goes first, then the frames, then the mapping.

    The series passes over marked frames with ``continue``: the mapping stays, without its list entry. Returns
    whether it went.
    """
    where = "arch/powerpc/mm/init_64.c:vmemmap_list_free"
    if leaf is None or leaf.owner == LEAKED:
        mm.event("Warning", where, f"WARN_ON: no entry for {va:#x}", address=va)
        return False
    pfn, pages = leaf_pfn(mm, va, leaf), unit >> mm.arch.page_shift
    page = read_pfn(mm, pfn, "vmemmap_free")
    if page.vmemmap and mm.feature("check.powerpc_vmemmap_free"):
        clear_marks(mm, pfn, pages)
        if mm.feature("bug.powerpc_vmemmap_continue"):
            mm.leaves.set(va, va + unit, Leaf(leaf.size, leaf.shift, LEAKED))
            mm.event(
                "MappingLeaked",
                "arch/powerpc/mm/init_64.c:vmemmap_free",
                f"{va:#x} stays mapped to pfn {pfn:#x}",
                address=va,
                pfn=pfn,
            )
            return False
    elif leaf.owner == "buddy":
        free_range(mm, pfn, pfn + pages)
    elif page.flags & PG_RESERVED:
        free_reserved_pages(mm, pfn, pages)
    mm.leaves.delete(va, va + unit)
    return True


def clear_marks(mm: Mm, pfn: int, nr_pages: int) -> None:
    """ClearPageVmemmap() on every page; the first two versions of the series never do it."""
    if not mm.feature("bug.stale_marks"):
        write_run(mm, pfn, pfn + nr_pages, ZERO)


@mirrors("include/linux/mm.h:free_reserved_page", "v4.20", "complete")
def free_reserved_pages(mm: Mm, pfn: int, nr_pages: int) -> None:
    """Give reserved pages to the buddy one by one and count them as managed.

    With CONFIG_DEBUG_VM a page with a mapping is a bad page, and dropped. Else the pageblock of a section
    that is gone is looked up through a NULL pointer: raises `KernelCrash`.
    """
    page = read_pfn(mm, pfn, "free_pagetable")
    if mm.feature("config.debug_vm") and page.mapping:
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


def fill_partly_removed_leaf(mm: Mm, start: int, end: int, leaf_size: int) -> bool:
    """Fill the physical range [start, end) bytes with PAGE_INUSE (0xFD), whatever it holds.

    Return whether the whole leaf is full of it.

    Source: arch/x86/mm/init_64.c:remove_pud_table of v4.20.
    """
    inuse = filled(0xFD)
    mm.struct_pages.set(start, end, inuse)
    mm.event(
        "MemoryOverwritten",
        "arch/x86/mm/init_64.c:remove_pud_table",
        f"{start:#x}-{end - 1:#x} filled with 0xFD",
        start=start,
        end=end,
    )
    base = align_down(start, leaf_size)
    run = mm.struct_pages.run_at(base)
    return run is not None and run[1] >= base + leaf_size and run[2] == inuse


def begin_altmap(mm: Mm, pfn: int, nr_pages: int) -> RangeAltmap:
    """Return the altmap of an add of [pfn, +nr_pages): all of it may become memmap."""
    return RangeAltmap(pfn, pfn + nr_pages - 1, nr_pages, reserve=mm.feature("altmap.reserve"))
