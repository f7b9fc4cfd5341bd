"""What the series does at the seams of the model, instead of `memshell.mm.seam.Upstream`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.page_alloc.offline import offline_isolated_pages
from memshell.mm.seam import Upstream
from memshell.mm.sparse_vmemmap import free_unused_leaf, struct_pages_in_use
from memshell.series import invariants, memory_hotplug, page_alloc, page_isolation
from memshell.series.features import series
from memshell.series.powerpc_init_64 import free_marked_unit
from memshell.series.x86_init_64 import free_pagetable_leaf

if TYPE_CHECKING:
    from memshell.mm.memremap import VmemAltmap
    from memshell.mm.page import Page
    from memshell.mm.state import Mm, ZoneKey


class Series(Upstream):
    """v4.20 with the series: memmap pages are marked, sections and blocks come and go one by one."""

    memmap_from_range = True
    in_rows = False
    marks_memmap = True
    rules = (invariants.removal_is_over, invariants.memmap_frames)

    def place_and_add(self, mm: Mm, nid: int, start: int, size: int, flags: int, group: int | None) -> None:
        """Set the restrictions of the add and call the architecture; there are no memory groups."""
        del flags, group
        mm.placement = mhp_supports_memmap_on_memory(mm, nid, start, size)
        memory_hotplug.add_restricted(mm, nid, start, size, from_range=mm.placement.from_range)

    def veto_from_range(self, mm: Mm) -> None:
        """Take MHP_MEMMAP_FROM_RANGE out of the restrictions of the add that runs."""
        memory_hotplug.veto_from_range(mm)

    def add_pages(self, mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
        """Add section by section, each with its memory block; device memory has no restrictions, and no block."""
        if mm.restrictions is None:
            super().add_pages(mm, nid, pfn, nr_pages, altmap)
        else:
            memory_hotplug.add_pages_restricted(mm, nid, pfn, nr_pages, altmap)

    def remove_section(self, mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
        """Remove a section with its memory block, its part of the zone's span and its memmap."""
        del nr_pages
        memory_hotplug.remove_section(mm, pfn, altmap)

    def remove_blocks(self, mm: Mm, start: int, size: int, *, altmaps: bool) -> None:
        """Let the architecture remove the range; the blocks go with their sections."""
        del altmaps
        memory_hotplug.remove_range(mm, start, size)

    def free_vmemmap_leaf(self, mm: Mm, va: int, size: int, altmap: VmemAltmap | None) -> bool:
        """Free the frames as their own struct pages say: powerpc by its list of mappings, others as x86 does."""
        if altmap is not None:
            return free_unused_leaf(mm, va, size, altmap)
        if mm.arch.name != "powerpc":
            return free_pagetable_leaf(mm, va, size)
        return not struct_pages_in_use(mm, va, va + size) and free_marked_unit(mm, va, size, mm.leaves.get(va))

    def shrink_zone_span(self, mm: Mm, key: ZoneKey, start_pfn: int, end_pfn: int) -> bool:
        """Return False: the span shrinks when the sections are removed (until v5.5)."""
        del mm, key, start_pfn, end_pfn
        return False

    def memmap_initialised(self, mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int) -> None:
        """Initialise the struct pages; a marked one keeps its mark and its count."""
        page_alloc.memmap_init_zone(mm, key, start_pfn, nr_pages)

    def check_resource(self, mm: Mm, start_pfn: int, nr_pages: int) -> None:
        """Raise EPERM where no System RAM covers the block: walk_system_ram_range() finds nothing to online then."""
        memory_hotplug.require_resource(mm, start_pfn, nr_pages)

    def online_pages_range(self, mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> int:
        """Give the pages that are not marked to the buddy."""
        return sum(memory_hotplug.online_pages_range(mm, start_pfn, end_pfn, key))

    def needs_isolation(self, mm: Mm, start_pfn: int, end_pfn: int) -> bool:
        """Whether there is something to isolate: the versions of 2019 pass over a block of marked pages only."""
        return not memory_hotplug.only_marked(mm, start_pfn, end_pfn)

    def scan_movable_pages(self, mm: Mm, start_pfn: int, end_pfn: int) -> None:
        """Find the marked pages that garbage flags make look movable. Raises EINTR or `KernelCrash`."""
        memory_hotplug.scan_marked_pages(mm, start_pfn, end_pfn)

    def offline_isolated_pages(self, mm: Mm, start_pfn: int, end_pfn: int) -> tuple[int, int]:
        """Take isolated pages out; marked ones stay, and leave present only where the version counts them there."""
        unlinked, skipped = page_alloc.offline_isolated_pages(mm, start_pfn, end_pfn)
        offline_isolated_pages(mm, start_pfn, end_pfn)
        return unlinked, unlinked + skipped

    def is_unmovable(self, mm: Mm, page: Page, pfn: int) -> bool:
        """Whether a marked page keeps its pageblock from being isolated: only where the check is off."""
        return page_isolation.unmovable_mark(mm, page, pfn)

    def is_isolated(self, mm: Mm, page: Page) -> bool:
        """Whether a marked page passes the test of the isolated range: while the check is on."""
        return page_isolation.isolated(mm, page)

    def page_taken(self, mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
        """Forget the struct pages that lie in the pages: they are written over."""
        page_alloc.taken(mm, pfn, order, key)

    def counts_as_present(self, mm: Mm) -> bool:
        """Whether marked pages count in the present pages of their zone: in the versions of 2019."""
        return series(mm).present.counts_vmemmap


SERIES = Series()
