"""mm/sparse-vmemmap.c, radix_pgtable.c: the memmap of a DAX device whose compound pages share a part of it.

Of a compound page two pages of memmap are real: the one with the head, and the first of tail pages only; all
others map that second one. A page that is shared is a leaf with the owner "shared".
"""

from __future__ import annotations

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import align_down
from memshell.mm.sparse_vmemmap import ensure_table, set_leaf, vmemmap_alloc_block_buf
from memshell.mm.state import Leaf, Mm

RESERVED_PAGES = 2  # VMEMMAP_RESERVE_NR: the pages of the head and of the first tails
HERE = "mm/sparse-vmemmap.c"


@mirrors("mm/sparse-vmemmap.c:__populate_section_memmap", "v6.12", "complete")
def populate_section_memmap(mm: Mm, pfn: int, nr_pages: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages of *nr_pages* pages (whole subsections) from *pfn* on."""
    start = mm.arch.vmemmap_address(pfn)
    end = start + nr_pages * mm.arch.struct_page_size
    if vmemmap_can_optimize(mm, altmap):
        populate_compound_pages(mm, pfn, start, end, nid)
    else:
        mm.arch.vmemmap_populate(mm, start, end, nid, altmap)


@mirrors("include/linux/mm.h:vmemmap_can_optimize", "v6.12", "complete")
def vmemmap_can_optimize(mm: Mm, altmap: VmemAltmap | None) -> bool:
    """Whether the mapped device shares memmap: compound pages of more than two pages of it; no altmap."""
    if mm.pgmap is None or not mm.pgmap.vmemmap_shift or altmap is not None or not mm.arch.dax_vmemmap(mm.profile):
        return False
    size = mm.arch.struct_page_size
    return not size & (size - 1) and (size << mm.pgmap.vmemmap_shift) // mm.arch.page_size > RESERVED_PAGES


def populate_compound_pages(mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
    """Map the struct pages at [start, end), those from *pfn* on, as the architecture does."""
    populate = (
        radix_populate_compound_pages if mm.arch.dax_vmemmap(mm.profile) == "radix" else vmemmap_populate_compound_pages
    )
    populate(mm, pfn, start, end, nid)


@mirrors("mm/sparse-vmemmap.c:vmemmap_populate_compound_pages", "v6.12", "complete")
def vmemmap_populate_compound_pages(mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
    """Map head and first tail of each compound page; a section that lies inside of one has tails only."""
    assert mm.pgmap is not None
    page, compound = mm.arch.page_size, 1 << mm.pgmap.vmemmap_shift
    offset = pfn - (mm.pgmap.start >> mm.arch.page_shift)
    if offset % compound and compound > mm.arch.pages_per_subsection:
        _share(mm, start, end, nid)
        return
    size = min(end - start, compound * mm.arch.struct_page_size)
    for at in range(start, end, size):
        for va in range(at, at + RESERVED_PAGES * page, page):
            _real(mm, va, nid)
        _share(mm, at + RESERVED_PAGES * page, at + size, nid)


def _tables(mm: Mm, va: int, nid: int) -> None:
    mm.arch.vmemmap_tables(mm, va, nid)
    span = 1 << mm.arch.pmd_shift
    fragments = mm.arch.dax_vmemmap(mm.profile) == "radix" and mm.arch.page_shift == 16  # 64K
    ensure_table(mm, "pte", va, span, nid, per_page=256 if fragments else 1)


def _real(mm: Mm, va: int, nid: int) -> None:
    """vmemmap_populate_address(): map one page of its own, unless one is there. Raises `OutOfMemory`."""
    _tables(mm, va, nid)
    if mm.leaves.get(va) is not None:
        return
    pfn = vmemmap_alloc_block_buf(mm, mm.arch.page_size, nid, None)
    if pfn is None:
        raise OutOfMemory(f"no page for the memmap at {va:#x}", where=f"{HERE}:vmemmap_populate_address")
    set_leaf(mm, va, va + mm.arch.page_size, mm.arch.page_size, pfn, "buddy")


def _share(mm: Mm, start: int, end: int, nid: int) -> None:
    for va in range(align_down(start, 1 << mm.arch.pmd_shift), end, 1 << mm.arch.pmd_shift):
        _tables(mm, max(va, start), nid)
    if start < end:
        mm.leaves.set(start, end, Leaf(mm.arch.page_size, 0, "shared"))


@mirrors("arch/powerpc/mm/book3s64/radix_pgtable.c:vmemmap_populate_compound_pages", "v6.12", "complete")
def radix_populate_compound_pages(mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
    """Map page by page: the head and the first tail where a compound page begins, else the tail that it has.

    Until 6.12.110 the pfn went on by one a page (bug.ppc_compound_addr_pfn).
    """
    assert mm.pgmap is not None
    page, pmd, size = mm.arch.page_size, 1 << mm.arch.pmd_shift, mm.arch.struct_page_size
    at = align_down(start, page)
    while at < end:
        leaf = mm.leaves.get(at)
        if not mm.feature("bug.ppc_compound_addr_pfn"):
            pfn = (at - mm.arch.vmemmap_base) // size
        offset = pfn % (1 << mm.pgmap.vmemmap_shift)
        step = 1
        if leaf is not None and leaf.size == pmd:
            step = (align_down(at, pmd) + pmd - at) // page
            pfn += (pmd >> mm.arch.page_shift) - step  # the kernel adds a whole leaf
        elif leaf is None and not offset:
            _real(mm, at, nid)
            _real(mm, at + page, nid)
            step = RESERVED_PAGES
        elif leaf is None:
            _map_tail(mm, at, align_down(at - offset * size + page, page), nid)
        at += step * page
        pfn += step


def _map_tail(mm: Mm, va: int, tail: int, nid: int) -> None:
    """vmemmap_compound_tail_page(): share the page at *tail*, which is made where it is missing."""
    known = mm.leaves.get(tail)
    if known is not None and known.size > mm.arch.page_size:
        _real(mm, va, nid)
        return
    if known is None:
        _real(mm, tail - mm.arch.page_size, nid)
        _real(mm, tail, nid)
    if mm.leaves.get(va) is None:
        _share(mm, va, va + mm.arch.page_size, nid)
