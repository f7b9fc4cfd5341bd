"""arch/powerpc/mm/init_64.c: the direct map and the vmemmap of either MMU.

Where the vmemmap has mappings of one size (hash, and radix until v6.5), a list remembers them; since v6.6
radix walks its tables instead (`memshell_plugins.powerpc.radix_pgtable`).
"""

from __future__ import annotations

from collections.abc import Iterator

from memshell import (
    Mm,
    OutOfMemory,
    Owner,
    VmemAltmap,
    align_down,
    free_vmemmap_leaf,
    mirrors,
    set_leaf,
    struct_pages_in_use,
    vmemmap_alloc_block_buf,
)

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
        if altmap is not None and (
            not mm.features.powerpc.altmap_cross_boundary or not altmap_cross_boundary(mm, altmap, va, unit)
        ):
            pfn = vmemmap_alloc_block_buf(mm, unit, nid, altmap)
        if pfn is None:
            pfn, owner = vmemmap_alloc_block_buf(mm, unit, nid, None), "buddy"
        if pfn is None or not vmemmap_list_alloc(mm, nid):
            if pfn is not None:  # without a node in the list it could never be freed: it goes at once
                set_leaf(mm, va, va + unit, unit, pfn, owner)
                free_vmemmap_leaf(mm, va, unit, altmap if owner == "altmap" else None)
            raise OutOfMemory(
                f"no block for the memmap at {va:#x}", where="arch/powerpc/mm/init_64.c:__vmemmap_populate"
            )
        if radix:
            mm.arch.vmemmap_tables(mm, va, nid)
        set_leaf(mm, va, va + unit, unit, pfn, owner)


@mirrors("arch/powerpc/mm/init_64.c:vmemmap_list_alloc", "v6.12", "complete")
def vmemmap_list_alloc(mm: Mm, nid: int) -> bool:
    """Take a node of the list: a freed one, or the next of its page, which never goes back; return whether there was one."""
    for counter in ("vmemmap_list.freed", "vmemmap_list.left"):
        if mm.counters.get(counter):
            mm.counters[counter] -= 1
            return True
    pfn = vmemmap_alloc_block_buf(mm, mm.arch.page_size, nid, None)
    page = None if pfn is None else mm.pages.get(pfn)
    if pfn is None or page is None:
        return False
    mm.pages.set(pfn, pfn + 1, page._replace(owner=Owner.KERNEL))  # it holds the list, and no struct page
    mm.counters["vmemmap_list.left"] = mm.arch.page_size // NODE_BYTES - 1
    return True


@mirrors("arch/powerpc/mm/init_64.c:__vmemmap_free", "v6.12", "complete")
def vmemmap_free_units(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, unit: int) -> Iterator[int]:
    """Unmap the mappings that hold no valid struct page any more, and give their pages back; yield where they were."""
    for va in range(align_down(start, unit), end, unit):
        leaf = mm.leaves.get(va)
        source = altmap if leaf is not None and leaf.owner == "altmap" else None
        if not free_vmemmap_leaf(mm, va, unit, source):
            continue
        mm.counters["vmemmap_list.freed"] = mm.counters.get("vmemmap_list.freed", 0) + 1
        yield va


@mirrors("arch/powerpc/mm/init_64.c:altmap_cross_boundary", "v6.12", "complete")
def altmap_cross_boundary(mm: Mm, altmap: VmemAltmap, va: int, size: int) -> bool:
    """Whether the struct pages in *size* bytes at *va* describe anything outside of the altmap's own range.

    Until v6.4.10 and 6.1.45 the pfn behind the last was compared (bug.ppc_altmap_cross_boundary).
    """
    pfn = (va - mm.arch.vmemmap_base) // mm.arch.struct_page_size
    last = pfn + size // mm.arch.struct_page_size - (0 if mm.features.bug.ppc_altmap_cross_boundary else 1)
    return last > altmap.end_pfn or pfn < altmap.base_pfn
