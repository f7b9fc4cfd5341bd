"""arch/powerpc/mm/init_64.c: a vmemmap of mappings of one size, remembered in a list: hash, and radix until v6.5."""

from __future__ import annotations

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import align_down
from memshell.mm.radix_pgtable import altmap_cross_boundary, free_radix_tables, radix_tables
from memshell.mm.sparse_vmemmap import (
    free_vmemmap_pages,
    leaf_pfn,
    set_leaf,
    struct_pages_in_use,
    vmemmap_alloc_block_buf,
)
from memshell.mm.state import Mm
from memshell.mm.vmemmap_rfc import free_marked_unit, marks_memmap

NODE_BYTES = 24  # sizeof(struct vmemmap_backing): list, phys, virt_addr


@mirrors("arch/powerpc/mm/init_64.c:__vmemmap_populate", "v6.12", "complete")
def vmemmap_populate_units(
    mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None, *, unit: int, radix: bool
) -> None:
    """Map [start, end) with mappings of *unit* bytes, but for those that hold a valid struct page already.

    Raises `OutOfMemory`: there is no fallback but from the altmap to the buddy.
    """
    for va in range(align_down(start, unit), end, unit):
        if struct_pages_in_use(mm, va, va + unit):
            continue
        pfn, owner = None, "altmap"
        if altmap is not None and (mm.feature("mhp.restrictions") or not altmap_cross_boundary(mm, altmap, va, unit)):
            pfn = vmemmap_alloc_block_buf(mm, unit, nid, altmap)
        if pfn is None:
            pfn, owner = vmemmap_alloc_block_buf(mm, unit, nid, None), "buddy"
        if pfn is None or not vmemmap_list_alloc(mm, nid):
            raise OutOfMemory(f"no block for the memmap at {va:#x}", where="arch/powerpc/mm/init_64.c:__vmemmap_populate")
        if radix:
            radix_tables(mm, va, nid)
        set_leaf(mm, va, va + unit, unit, pfn, owner)


@mirrors("arch/powerpc/mm/init_64.c:vmemmap_list_alloc", "v6.12", "complete")
def vmemmap_list_alloc(mm: Mm, nid: int) -> bool:
    """Take a node of the list: a freed one, or the next of its page. Pages of nodes never go back. False without memory."""
    for counter in ("vmemmap_list.freed", "vmemmap_list.left"):
        if mm.counters.get(counter):
            mm.counters[counter] -= 1
            return True
    mm.counters["vmemmap_list.left"] = mm.arch.page_size // NODE_BYTES - 1
    return vmemmap_alloc_block_buf(mm, mm.arch.page_size, nid, None) is not None


def vmemmap_list_boot(mm: Mm, units: int) -> None:
    """Say that boot made *units* mappings: what is left of the last page of nodes."""
    mm.counters["vmemmap_list.left"] = -units % (mm.arch.page_size // NODE_BYTES)


@mirrors("arch/powerpc/mm/init_64.c:__vmemmap_free", "v6.12", "complete")
def vmemmap_free_units(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, unit: int, radix: bool) -> None:
    """Unmap the mappings that hold no valid struct page any more; each page goes back to where it came from."""
    for va in range(align_down(start, unit), end, unit):
        leaf = mm.leaves.get(va)
        if marks_memmap(mm):
            if not struct_pages_in_use(mm, va, va + unit) and free_marked_unit(mm, va, unit, leaf) and radix:
                free_radix_tables(mm, va)
            continue
        if leaf is None or struct_pages_in_use(mm, va, va + unit):
            continue
        mm.leaves.delete(va, va + unit)
        pages = unit >> mm.arch.page_shift
        free_vmemmap_pages(mm, leaf_pfn(mm, va, leaf), pages, leaf.owner, altmap if leaf.owner == "altmap" else None)
        mm.counters["vmemmap_list.freed"] = mm.counters.get("vmemmap_list.freed", 0) + 1
        if radix:
            free_radix_tables(mm, va)
