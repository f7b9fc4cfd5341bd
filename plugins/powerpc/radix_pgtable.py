"""arch/powerpc/mm/book3s64/radix_pgtable.c: the radix MMU's page tables, the direct map and the vmemmap.

A PUD table is a slab object; PMD tables (4K) and PTE tables (256 bytes) are fragments of 64K pages, whole
pages where pages are 4K.
"""

from __future__ import annotations

from memshell import (
    GiB,
    Leaf,
    MiB,
    Mm,
    OutOfMemory,
    VmemAltmap,
    align_down,
    ensure_table,
    free_unused_tables,
    free_vmemmap_leaf,
    mirrors,
    set_leaf,
    vmemmap_alloc_block_buf,
)

from .init_64 import altmap_cross_boundary

PMD, PUD, P4D = 2 * MiB, GiB, 512 * GiB


def radix_tables(mm: Mm, va: int, nid: int, *, early: bool = False, pte: bool = False) -> None:
    """Make sure of the tables above *va*: PUD and PMD table, with *pte* the PTE table too.

    Raises `OutOfMemory`.
    """
    large = mm.arch.page_shift == 16
    ensure_table(mm, "pud", va, P4D, nid, early=early, per_page=0)
    ensure_table(mm, "pmd", va, PUD, nid, early=early, per_page=16 if large else 1)
    if pte:
        ensure_table(mm, "pte", va, PMD, nid, early=early, per_page=256 if large else 1)


def free_radix_tables(mm: Mm, start: int, end: int) -> None:
    """Free the tables above [start, end) that are empty now, from the lowest up."""
    free_unused_tables(mm, "pte", start, end, PMD)
    free_unused_tables(mm, "pmd", start, end, PUD, ("pte", PMD))
    free_unused_tables(mm, "pud", start, end, P4D, ("pmd", PUD))


@mirrors(
    "arch/powerpc/mm/book3s64/radix_pgtable.c:radix__create_section_mapping",
    "v6.12",
    "simplified",
    "no 64K or 4K leaves: ranges are whole 2M",
)
def radix_create_section_mapping(mm: Mm, start: int, end: int, nid: int, *, early: bool = False) -> None:
    """Map [start, end) bytes of RAM: 1G leaves where aligned and a memory block is that large, else 2M.

    Raises `OutOfMemory`.
    """
    at, offset = start, mm.arch.page_offset
    while at < end:
        huge = mm.block_size >= PUD and at % PUD == 0 and at + PUD <= end
        stop = at + PUD if huge else min(end, align_down(at, PUD) + PUD)
        if huge:
            ensure_table(mm, "pud", offset + at, P4D, nid, early=early, per_page=0)
        else:
            radix_tables(mm, offset + at, nid, early=early)
        set_leaf(mm, offset + at, offset + stop, PUD if huge else PMD, at >> mm.arch.page_shift, "ram")
        at = stop


@mirrors("arch/powerpc/mm/book3s64/radix_pgtable.c:radix__remove_section_mapping", "v6.12", "complete")
def radix_remove_section_mapping(mm: Mm, start: int, end: int) -> None:
    """Unmap [start, end) bytes of RAM, and free the tables that are empty then."""
    low, high = mm.arch.page_offset + start, mm.arch.page_offset + end
    mm.leaves.delete(low, high)
    free_radix_tables(mm, low, high)


@mirrors("arch/powerpc/mm/book3s64/radix_pgtable.c:radix__vmemmap_populate", "v6.12", "complete")
def radix_vmemmap_populate(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map [start, end) with 2M leaves where they lie inside of the altmap, else with pages (v6.6)."""
    at = align_down(start, mm.arch.page_size)
    while at < end:
        base = align_down(at, PMD)
        radix_tables(mm, at, nid)
        leaf = mm.leaves.get(at)
        if leaf is None and ("pte", base) not in mm.tables and _may_be_leaf(mm, at, altmap):
            pfn = vmemmap_alloc_block_buf(mm, PMD, nid, altmap)
            if pfn is not None:
                set_leaf(mm, base, base + PMD, PMD, pfn, "altmap" if altmap else "buddy")
                leaf = mm.leaves.get(at)
        if leaf is not None and leaf.size == PMD:
            at = base + PMD
            continue
        radix_vmemmap_pte_populate(mm, at, nid, altmap)
        at += mm.arch.page_size


def _may_be_leaf(mm: Mm, va: int, altmap: VmemAltmap | None) -> bool:
    # Before v6.12.28 a leaf could begin in its middle when there was no altmap (bug.ppc_unaligned_pmd_leaf).
    if va % PMD and (altmap is not None or not mm.features.bug.ppc_unaligned_pmd_leaf):
        return False
    return altmap is None or not altmap_cross_boundary(mm, altmap, va, PMD)


@mirrors("arch/powerpc/mm/book3s64/radix_pgtable.c:radix__vmemmap_pte_populate", "v6.12", "complete")
def radix_vmemmap_pte_populate(mm: Mm, va: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map one page, from the altmap if it describes only the altmap's range; a full altmap falls back."""
    size = mm.arch.page_size
    radix_tables(mm, va, nid, pte=True)
    if mm.leaves.get(va) is not None:
        return
    pfn, owner = None, "altmap"
    if altmap is not None and not altmap_cross_boundary(mm, altmap, va, size):
        pfn = vmemmap_alloc_block_buf(mm, size, nid, altmap)
    if pfn is None:
        pfn, owner = vmemmap_alloc_block_buf(mm, size, nid, None), "buddy"
    if pfn is None:
        raise OutOfMemory(
            f"no page for the memmap at {va:#x}",
            where="arch/powerpc/mm/book3s64/radix_pgtable.c:radix__vmemmap_pte_populate",
        )
    set_leaf(mm, va, va + size, size, pfn, owner)


@mirrors("arch/powerpc/mm/book3s64/radix_pgtable.c:radix__vmemmap_free", "v6.12", "complete")
def radix_vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap the leaves and pages at [start, end) that hold no valid struct page any more, then empty tables.

    A page goes back to the altmap only when it came from there.
    """
    at = start
    while at < end:
        leaf = mm.leaves.get(at)
        size = leaf.size if leaf else mm.arch.page_size
        base = align_down(at, size)
        at = base + size
        source = altmap if leaf is not None and leaf.owner == "altmap" else None
        free_vmemmap_leaf(mm, base, size, source)
        free_radix_tables(mm, base, base + size)  # also where an add that fails has not come to the leaf


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
        if not mm.features.bug.ppc_compound_addr_pfn:
            pfn = (at - mm.arch.vmemmap_base) // size
        offset = pfn % (1 << mm.pgmap.vmemmap_shift)
        step = 1
        if leaf is not None and leaf.size == pmd:
            step = (align_down(at, pmd) + pmd - at) // page
            pfn += (pmd >> mm.arch.page_shift) - step  # the kernel adds a whole leaf
        elif leaf is None and not offset:
            radix_vmemmap_pte_populate(mm, at, nid, None)
            radix_vmemmap_pte_populate(mm, at + page, nid, None)
            step = 2  # the page of the head and that of the first tails
        elif leaf is None:
            _map_tail(mm, at, align_down(at - offset * size + page, page), nid)
        at += step * page
        pfn += step


def _map_tail(mm: Mm, va: int, tail: int, nid: int) -> None:
    """vmemmap_compound_tail_page(): share the page at *tail*, which is made where it is missing."""
    known = mm.leaves.get(tail)
    if known is not None and known.size > mm.arch.page_size:
        radix_vmemmap_pte_populate(mm, va, nid, None)
        return
    if known is None:
        radix_vmemmap_pte_populate(mm, tail - mm.arch.page_size, nid, None)
        radix_vmemmap_pte_populate(mm, tail, nid, None)
    if mm.leaves.get(va) is None:
        radix_tables(mm, va, nid, pte=True)
        mm.leaves.set(va, va + mm.arch.page_size, Leaf(mm.arch.page_size, 0, "shared"))
