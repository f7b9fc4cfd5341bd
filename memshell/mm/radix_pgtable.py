"""arch/powerpc/mm/book3s64/radix_pgtable.c: the radix MMU's page tables, the direct map and the vmemmap.

A PUD table is a slab object; PMD tables (4K) and PTE tables (256 bytes) are fragments of 64K pages, whole
pages where pages are 4K.
"""

from __future__ import annotations

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import GiB, MiB, align_down
from memshell.mm.sparse_vmemmap import (
    ensure_table,
    free_empty_table,
    free_vmemmap_pages,
    leaf_pfn,
    set_leaf,
    struct_pages_in_use,
    vmemmap_alloc_block_buf,
)
from memshell.mm.state import Mm

PMD, PUD, P4D = 2 * MiB, GiB, 512 * GiB
HERE = "arch/powerpc/mm/book3s64/radix_pgtable.c"


def radix_tables(mm: Mm, va: int, nid: int, *, early: bool = False, pte: bool = False) -> None:
    """Make sure of the tables above *va*: PUD and PMD table, with *pte* the PTE table too.

    Raises `OutOfMemory`.
    """
    large = mm.arch.page_shift == 16
    ensure_table(mm, "pud", va, P4D, nid, early=early, per_page=0)
    ensure_table(mm, "pmd", va, PUD, nid, early=early, per_page=16 if large else 1)
    if pte:
        ensure_table(mm, "pte", va, PMD, nid, early=early, per_page=256 if large else 1)


def free_radix_tables(mm: Mm, va: int) -> None:
    """Free the tables above *va* that are empty now, from the lowest up."""
    free_empty_table(mm, "pte", va, PMD)
    free_empty_table(mm, "pmd", va, PUD, ("pte", PMD))
    free_empty_table(mm, "pud", va, P4D, ("pmd", PUD))


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
    for va in range(align_down(low, PUD), high, PUD):
        free_radix_tables(mm, va)


@mirrors("arch/powerpc/mm/init_64.c:altmap_cross_boundary", "v6.12", "complete")
def altmap_cross_boundary(mm: Mm, altmap: VmemAltmap, va: int, size: int) -> bool:
    """Whether the struct pages in *size* bytes at *va* describe anything outside of the altmap's own range.

    Until v6.4.10 and 6.1.45 the pfn behind the last was compared (bug.ppc_altmap_cross_boundary).
    """
    pfn = (va - mm.arch.vmemmap_base) // mm.arch.struct_page_size
    last = pfn + size // mm.arch.struct_page_size - (0 if mm.feature("bug.ppc_altmap_cross_boundary") else 1)
    return last > altmap.end_pfn or pfn < altmap.base_pfn


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
    if va % PMD and (altmap is not None or not mm.feature("bug.ppc_unaligned_pmd_leaf")):
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
        raise OutOfMemory(f"no page for the memmap at {va:#x}", where=f"{HERE}:radix__vmemmap_pte_populate")
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
        if leaf is not None and not struct_pages_in_use(mm, base, at):
            mm.leaves.delete(base, at)
            pages = size >> mm.arch.page_shift
            free_vmemmap_pages(
                mm, leaf_pfn(mm, base, leaf), pages, leaf.owner, altmap if leaf.owner == "altmap" else None
            )
            free_radix_tables(mm, base)
