"""include/linux/memremap.h and mm/sparse-vmemmap.c: struct vmem_altmap, the kernel's bump allocator for a memmap."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memshell.mm.pfn import align_up


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
        """Return a copy; the one that a memory block holds is never changed in place."""
        return replace(self)

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

    def free_block(self, nr_pages: int) -> None:
        """vmem_altmap_free(): only the count goes down; neither address nor alignment is looked at."""
        self.alloc -= nr_pages
