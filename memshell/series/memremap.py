"""include/linux/memremap.h with the series: the altmap of a whole add, and the marks on its pages.

Source: "[RFC PATCH 3/4] mm, memory_hotplug: allocate memmap from the added memory range for sparse-vmemmap",
O. Salvador, 2018-11-16.
"""

from __future__ import annotations

from dataclasses import dataclass

from memshell.errors import KernelCrash
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.state import Mm
from memshell.series.features import series
from memshell.series.struct_page import (
    PG_RESERVED,
    REFCOUNT_OFFSET,
    VMEMMAP_PAGE,
    ZERO,
    StructPage,
    read,
    update,
    write,
    write_run,
)

MARK = "include/linux/memremap.h:mark_vmemmap_pages"


@dataclass(slots=True)
class RangeAltmap(VmemAltmap):
    """The vmem_altmap of one whole add; *nr_sects* counts the sections that are full of memmap already."""

    nr_sects: int = 0
    marks: int = 0  # calls of mark_vmemmap_pages() so far


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
    if not nr and not series(mm).bug.stray_refcount:
        return
    size = memmap_bytes(mm)
    head = (mm.arch.vmemmap_address(pfn) & ~(size - 1)) - size * altmap.nr_sects
    if series(mm).vmemmap.head_count == "increment":
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
    fresh = not altmap.marks and not series(mm).bug.mark_counts_garbage
    count = 1 if fresh else page.refcount + 1
    write(mm, head, page._replace(refcount=count))
    # A section holds the memmaps of PAGE_SIZE / sizeof(struct page) sections. The series compares with sizeof(struct page):
    # both are 64 with pages of 4K, and only there.
    full = (
        mm.arch.struct_page_size
        if series(mm).bug.nr_sects_uses_sizeof_page
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


def begin_altmap(mm: Mm, pfn: int, nr_pages: int) -> RangeAltmap:
    """Return the altmap of an add of [pfn, +nr_pages): all of it may become memmap."""
    return RangeAltmap(pfn, pfn + nr_pages - 1, nr_pages, reserve=series(mm).altmap.reserve)


def clear_marks(mm: Mm, pfn: int, nr_pages: int) -> None:
    """ClearPageVmemmap() on every page; the first two versions of the series never do it."""
    if not series(mm).bug.stale_marks:
        write_run(mm, pfn, pfn + nr_pages, ZERO)
