"""mm/memremap.c and include/linux/memremap.h: struct vmem_altmap, and device memory with struct pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.zone import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memshell.mm.mm_init.zones import add_zones, memmap_init_zone_device
from memshell.mm.mmzone import MigrateType, Node, ZoneType
from memshell.mm.pfn import align_down, align_up, format_size
from memshell.mm.state import Mm, Resource


class Altmap(NamedTuple):
    """struct vmem_altmap as a memory block keeps it: `VmemAltmap` once nothing is taken from it any more."""

    base_pfn: int
    end_pfn: int
    free: int
    reserve: int
    align: int
    alloc: int
    inaccessible: bool

    def copy(self) -> VmemAltmap:
        """Return one to work with."""
        return VmemAltmap(*self)

    def moved(self, nr_pages: int) -> Altmap:
        """Return the same of a block *nr_pages* behind."""
        return Altmap(self.base_pfn + nr_pages, self.end_pfn + nr_pages, *self[2:])


@dataclass(slots=True)
class VmemAltmap:
    """struct vmem_altmap: pages of a device (or a memory block) set aside for its own memmap. All in pages."""

    base_pfn: int
    end_pfn: int  # the last pfn
    free: int
    reserve: int = 0
    align: int = 0
    alloc: int = 0
    inaccessible: bool = False

    @property
    def offset(self) -> int:
        """vmem_altmap_offset(): how many pages from base_pfn on are not the owner's to use."""
        return self.reserve + self.free

    def copy(self) -> VmemAltmap:
        """Return a copy."""
        return replace(self)

    def of_block(self, pfn: int) -> Altmap:
        """Return what the memory block keeps whose first pfn is *pfn*."""
        del pfn
        return Altmap(self.base_pfn, self.end_pfn, self.free, self.reserve, self.align, self.alloc, self.inaccessible)

    def parts(self, pfn: int, end_pfn: int) -> list[tuple[int, int]]:
        """Return [pfn, end_pfn) in pieces of which each has an altmap of its own."""
        return [(pfn, end_pfn)]

    def row(self, count: int) -> VmemAltmap:
        """Return the altmaps of *count* blocks that are like this one's, of which this is the first."""
        if count == 1:
            return self
        return AltmapRow(*self.of_block(self.base_pfn)._replace(alloc=self.alloc * count), count=count)

    def alloc_block(self, nr_pages: int) -> int | None:
        """altmap_alloc_block_buf(): return the first pfn of *nr_pages* naturally aligned pages, or None when they do not fit.

        Source: mm/sparse-vmemmap.c:altmap_alloc_block_buf. What alignment costs is lost until the altmap goes.

        >>> a = VmemAltmap(base_pfn=0x100000, end_pfn=0x107fff, free=512); hex(a.alloc_block(512)), a.alloc_block(1)
        ('0x100000', None)
        """
        next_pfn = self.base_pfn + self.reserve + self.alloc + self.align
        pad = align_up(next_pfn, nr_pages & -nr_pages) - next_pfn
        if nr_pages + pad > max(0, self.free - (self.alloc + self.align)):
            return None
        self.alloc += nr_pages
        self.align += pad
        return next_pfn + pad

    def alloc_blocks(self, nr_pages: int, nr_blocks: int) -> list[tuple[int, int]]:
        """Take up to *nr_blocks* blocks as `alloc_block` does; return their runs: no gap follows the first, it is aligned."""
        first = self.alloc_block(nr_pages) if nr_blocks else None
        if first is None:
            return []
        more = min(nr_blocks - 1, max(0, self.free - self.alloc - self.align) // nr_pages)
        self.alloc += more * nr_pages
        return [(first, first + (1 + more) * nr_pages)]

    def free_block(self, nr_pages: int) -> None:
        """vmem_altmap_free(): only the count goes down; neither address nor alignment is looked at."""
        self.alloc -= nr_pages


@dataclass(slots=True)
class AltmapRow(VmemAltmap):
    """The altmaps of *count* equal blocks that lie side by side, used alike: all but *alloc* is said of the first."""

    count: int = 1

    @property
    def nr_pages(self) -> int:
        """Pages of one block."""
        return self.end_pfn - self.base_pfn + 1

    def alloc_blocks(self, nr_pages: int, nr_blocks: int) -> list[tuple[int, int]]:
        """Take *nr_blocks* blocks, as many of each altmap as of the first."""
        first = self.of_block(self.base_pfn).copy()
        runs = first.alloc_blocks(nr_pages, nr_blocks // self.count)
        self.alloc, self.align = first.alloc * self.count, first.align
        return [(a + n, b + n) for n in range(0, self.count * self.nr_pages, self.nr_pages) for a, b in runs]

    def of_block(self, pfn: int) -> Altmap:
        """Return what the memory block keeps whose first pfn is *pfn*."""
        end_pfn, alloc = self.end_pfn + pfn - self.base_pfn, self.alloc // self.count
        return Altmap(pfn, end_pfn, self.free, self.reserve, self.align, alloc, self.inaccessible)

    def parts(self, pfn: int, end_pfn: int) -> list[tuple[int, int]]:
        """Return [pfn, end_pfn) in pieces of which each has an altmap of its own."""
        return [(at, at + self.nr_pages) for at in range(pfn, end_pfn, self.nr_pages)]


PAGEMAP_RANGE = "mm/memremap.c:pagemap_range"


@dataclass(frozen=True, slots=True)
class Pagemap:
    """struct dev_pagemap of one range; *altmap* where its memmap is on the device. Bytes."""

    start: int
    size: int
    nid: int
    altmap: VmemAltmap | None = None
    vmemmap_shift: int = 0  # order of the device's compound pages
    regions: tuple[Resource, ...] = ()  # what binding it put into iomem


def refuse_conflicts(mm: Mm, start: int, end: int) -> None:
    """Raise ENXIO where [start, end) meets System RAM, ENOMEM where another device is mapped.

    Until v5.3 a device was mapped by whole sections, and a second one in a section refused.
    """
    where = PAGEMAP_RANGE
    if any(r.name.startswith("System RAM") and r.start < end and r.end >= start for r in mm.resources):
        raise KernelError(f"{start:#x}-{end - 1:#x} meets System RAM", "ENXIO", where=where)
    unit = 1 if mm.features.memremap.subsections else 1 << mm.arch.section_size_bits
    low, high = align_down(start, unit), align_up(end, unit)
    for pagemap in mm.pagemaps.values():
        if pagemap.start < end and pagemap.start + pagemap.size > start:
            raise KernelError(f"{start:#x}-{end - 1:#x} is mapped already", "ENOMEM", where=where)
        if pagemap.start < high and pagemap.start + pagemap.size > low:
            text = f"conflicting mapping in the same section: {pagemap.start:#x} is there"
            raise KernelError(text, "ENOMEM", where="kernel/memremap.c:devm_memremap_pages")


@mirrors("mm/memremap.c:memremap_pages", "v6.12", "complete")
def memremap_pages(
    mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None = None, vmemmap_shift: int = 0
) -> None:
    """Give device memory struct pages in ZONE_DEVICE; its span grows, present and managed do not.

    With *vmemmap_shift*, in compound pages of that order, as device-dax does.

    Raises ENXIO where it meets System RAM, ENOMEM where another device is mapped, EINVAL when it is not whole subsections
    or outside of what can be mapped.
    """
    mm.profile.need_built(mm.features.config.zone_device, "ZONE_DEVICE")
    end = start + size
    if nid not in mm.nodes:  # every possible node has its zones, with or without memory (v5.18)
        if nid not in mm.arch.possible_nodes:
            raise KernelError(f"node {nid} is not possible", "EINVAL", where=PAGEMAP_RANGE)
        mm.nodes[nid] = Node(nid, online=False)
        add_zones(mm, nid)
    refuse_conflicts(mm, start, end)
    low, high = mm.arch.mhp_range()
    if not low <= start <= end - 1 <= high:
        raise KernelError(
            f"{start:#x}-{end - 1:#x} is outside of {low:#x}-{high:#x}",
            "EINVAL",
            where="mm/memory_hotplug.c:mhp_range_allowed",
        )
    mm.pgmap = pagemap = Pagemap(start, size, nid, altmap, vmemmap_shift)
    try:
        mm.arch.arch_add_memory(mm, nid, start, size, altmap)
    finally:
        mm.pgmap = None
    pfn, nr_pages, key = start >> mm.arch.page_shift, size >> mm.arch.page_shift, (nid, ZoneType.DEVICE)
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.MOVABLE)
    memmap_init_zone_device(mm, pfn, nr_pages, nid)
    mm.pagemaps[start] = pagemap
    mm.event("DeviceMapped", PAGEMAP_RANGE, f"{start:#x}-{end - 1:#x} ({format_size(size)})", start=start, size=size)


@mirrors("mm/memremap.c:memunmap_pages", "v6.12", "complete")
def memunmap_pages(mm: Mm, start: int) -> None:
    """Take the struct pages of the device memory at *start* away; the zone's span stays. Raises EINVAL when nothing is mapped."""
    pagemap = mm.pagemaps.get(start)
    if pagemap is None:
        raise KernelError(f"no device memory is mapped at {start:#x}", "EINVAL", where="mm/memremap.c:memunmap_pages")
    pfn, nr_pages = start >> mm.arch.page_shift, pagemap.size >> mm.arch.page_shift
    remove_pfn_range_from_zone(mm, (pagemap.nid, ZoneType.DEVICE), pfn, nr_pages)
    altmap = pagemap.altmap.copy() if pagemap.altmap else None
    mm.pgmap = pagemap
    mm.arch.arch_remove_memory(mm, start, pagemap.size, altmap)
    mm.pgmap = None
    mm.pages.delete(pfn, pfn + nr_pages)
    mm.pageblocks.delete(pfn, pfn + nr_pages)
    del mm.pagemaps[start]
    if altmap is not None and altmap.alloc:
        mm.event("Warning", "mm/memremap.c:pageunmap_range", "failed to free all reserved pages", alloc=altmap.alloc)
