"""arch/powerpc/mm/init_64.c: the direct map and the vmemmap of either MMU.

Where the vmemmap has mappings of one size (hash, and radix until v6.5), a list remembers them; since v6.6
radix walks its tables instead (`memshell.mm.radix_pgtable`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import GiB, align_down, align_up
from memshell.mm.pgtable_frag import set_fragments_left
from memshell.mm.radix_pgtable import (
    altmap_cross_boundary,
    free_radix_tables,
    radix_create_section_mapping,
    radix_remove_section_mapping,
    radix_tables,
    radix_vmemmap_free,
    radix_vmemmap_populate,
)
from memshell.mm.sparse_vmemmap import (
    free_vmemmap_pages,
    leaf_pfn,
    set_early_leaves,
    set_leaf,
    struct_pages_in_use,
    vmemmap_alloc_block_buf,
)
from memshell.mm.state import Mm
from memshell.mm.vmemmap_rfc import free_marked_unit, marks_memmap

NODE_BYTES = 24  # sizeof(struct vmemmap_backing): list, phys, virt_addr


class PowerMmu(NamedTuple):
    """How a machine maps memory: the MMU, and bytes of a hash page and of a vmemmap mapping of fixed size."""

    radix: bool
    linear_page: int
    unit: int

    def map_ram(self, mm: Mm, start: int, end: int, nid: int = 0, *, early: bool = False) -> None:
        """Put [start, end) bytes in the direct map: radix with leaves and tables, hash with bolted pages."""
        if self.radix:
            radix_create_section_mapping(mm, start, end, nid, early=early)
        else:
            offset, pfn = mm.arch.page_offset, start >> mm.arch.page_shift
            set_leaf(mm, offset + start, offset + end, self.linear_page, pfn, "ram")

    def unmap_ram(self, mm: Mm, start: int, end: int) -> None:
        """Take [start, end) bytes out of the direct map."""
        if self.radix:
            radix_remove_section_mapping(mm, start, end)
        else:
            mm.leaves.delete(mm.arch.page_offset + start, mm.arch.page_offset + end)

    def map_boot(self, mm: Mm, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Map the RAM of boot, pfn ranges, and its memmap.

        Boot began a page of PMD tables and one of PTE tables. How many fragments are left of them is not
        known: all but one are assumed.
        """
        shift, units = mm.arch.page_shift, 0
        for start, end, _ in ranges:
            self.map_ram(mm, start << shift, end << shift, early=True)
            first = align_down(mm.arch.vmemmap_address(start), self.unit)
            last = align_up(mm.arch.vmemmap_address(end), self.unit)
            for va in range(align_down(first, GiB), last, GiB) if self.radix else ():
                radix_tables(mm, va, 0, early=True)
            set_early_leaves(mm, first, last, self.unit)
            units += (last - first) // self.unit
        mm.counters["vmemmap_list.left"] = -units % (mm.arch.page_size // NODE_BYTES)
        if self.radix and shift == 16:
            set_fragments_left(mm, "pmd", 15)
            set_fragments_left(mm, "pte", 255)

    def populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """vmemmap_populate(): map the struct pages at the addresses [start, end). Raises `OutOfMemory`."""
        if self.radix and mm.feature("powerpc.radix_vmemmap_walk"):
            radix_vmemmap_populate(mm, start, end, nid, altmap)
        else:
            vmemmap_populate_units(mm, start, end, nid, altmap, unit=self.unit, radix=self.radix)

    def free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """vmemmap_free(): a mapping goes with the last valid pfn whose struct page it holds."""
        if self.radix and mm.feature("powerpc.radix_vmemmap_walk"):
            radix_vmemmap_free(mm, start, end, altmap)
        else:
            vmemmap_free_units(mm, start, end, altmap, unit=self.unit, radix=self.radix)


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
            raise OutOfMemory(
                f"no block for the memmap at {va:#x}", where="arch/powerpc/mm/init_64.c:__vmemmap_populate"
            )
        if radix:
            radix_tables(mm, va, nid)
        set_leaf(mm, va, va + unit, unit, pfn, owner)


@mirrors("arch/powerpc/mm/init_64.c:vmemmap_list_alloc", "v6.12", "complete")
def vmemmap_list_alloc(mm: Mm, nid: int) -> bool:
    """Take a node of the list: a freed one, or the next of its page, which never goes back.

    False without memory.
    """
    for counter in ("vmemmap_list.freed", "vmemmap_list.left"):
        if mm.counters.get(counter):
            mm.counters[counter] -= 1
            return True
    mm.counters["vmemmap_list.left"] = mm.arch.page_size // NODE_BYTES - 1
    return vmemmap_alloc_block_buf(mm, mm.arch.page_size, nid, None) is not None


@mirrors("arch/powerpc/mm/init_64.c:__vmemmap_free", "v6.12", "complete")
def vmemmap_free_units(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, unit: int, radix: bool) -> None:
    """Unmap the mappings that hold no valid struct page any more, and give their pages back."""
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
        source = altmap if leaf.owner == "altmap" else None
        free_vmemmap_pages(mm, leaf_pfn(mm, va, leaf), pages, leaf.owner, source)
        mm.counters["vmemmap_list.freed"] = mm.counters.get("vmemmap_list.freed", 0) + 1
        if radix:
            free_radix_tables(mm, va)
