"""arch/powerpc/mm/book3s64/pgtable.c: the direct map and the vmemmap go to the MMU that the machine has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from memshell import GiB, Mm, VmemAltmap, align_down, align_up, set_early_leaves, set_fragments_left, set_leaf

from .init_64 import NODE_BYTES, vmemmap_free_units, vmemmap_populate_units
from .radix_pgtable import (
    free_radix_tables,
    radix_create_section_mapping,
    radix_remove_section_mapping,
    radix_tables,
    radix_vmemmap_free,
    radix_vmemmap_populate,
)


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
        if self.radix and mm.features.powerpc.radix_vmemmap_walk:
            radix_vmemmap_populate(mm, start, end, nid, altmap)
        else:
            vmemmap_populate_units(mm, start, end, nid, altmap, unit=self.unit, radix=self.radix)

    def free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """vmemmap_free(): a mapping goes with the last valid pfn whose struct page it holds."""
        if self.radix and mm.features.powerpc.radix_vmemmap_walk:
            radix_vmemmap_free(mm, start, end, altmap)
        else:
            for va in vmemmap_free_units(mm, start, end, altmap, unit=self.unit):
                if self.radix:
                    free_radix_tables(mm, va, va + self.unit)
