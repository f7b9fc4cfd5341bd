"""mm/memory_hotplug.c: __add_pages() and __remove_pages(), which the architectures call; what a range must be."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import align_down, format_size
from memshell.mm.sparse import sparse_add_section
from memshell.mm.state import Mm


def check_hotplug_memory_range(mm: Mm, start: int, size: int) -> None:
    """Raise EINVAL unless the range is one or more whole memory blocks."""
    if not size or start % mm.block_size or size % mm.block_size:
        raise KernelError(
            f"block size {format_size(mm.block_size)}: unaligned hotplug range: start {start:#x}, size {size:#x}",
            "EINVAL",
            where="mm/memory_hotplug.c:check_hotplug_memory_range",
            hint=f"use multiples of {format_size(mm.block_size)}",
        )


def add_pages(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """__add_pages(), for the architectures: add the sections of [pfn, +nr_pages) as the kernel that is modelled does."""
    mm.seam.add_pages(mm, nid, pfn, nr_pages, altmap)


@mirrors("mm/memory_hotplug.c:__add_pages", "v6.12", "complete")
def add_sections(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections of [pfn, +nr_pages). What was added before an error stays (bug.add_pages_no_unwind).

    Raises EINVAL for an altmap that does not fit or a range that is not whole subsections, else what sparse_add_section raises.
    """
    where = "mm/memory_hotplug.c:__add_pages"
    if altmap is not None:
        if altmap.base_pfn != pfn or altmap.offset > nr_pages:
            raise KernelError("memory add fail, invalid altmap", "EINVAL", where=where)
        altmap.alloc = 0
    if (pfn | nr_pages) % mm.arch.pages_per_subsection:
        raise KernelError(f"pfns {pfn:#x}+{nr_pages:#x} are not whole subsections", "EINVAL", where=where)
    end, first = pfn + nr_pages, pfn
    while pfn < end:
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        try:
            sparse_add_section(mm, nid, pfn, step, altmap)
        except KernelError:
            if pfn > first and not mm.features.bug.add_pages_no_unwind:
                remove_pages(mm, first, pfn - first, altmap)
            raise
        pfn += step
    source = "nothing new" if not nr_pages else "the altmap" if altmap is not None else "existing memory"
    mm.event(
        "SectionsAdded", where, f"pfns {first:#x}-{end - 1:#x}, memmap from {source}", start_pfn=first, end_pfn=end
    )


@mirrors("mm/memory_hotplug.c:__remove_pages", "v6.12", "complete")
def remove_pages(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Remove the sections of [pfn, +nr_pages), ascending."""
    end, first = pfn + nr_pages, pfn
    while pfn < end:
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        mm.seam.remove_section(mm, pfn, step, altmap)
        pfn += step
    mm.event(
        "SectionsRemoved",
        "mm/memory_hotplug.c:__remove_pages",
        f"pfns {first:#x}-{end - 1:#x}",
        start_pfn=first,
        end_pfn=end,
    )
