"""The seams at which the series of 2017 to 2019 differs from the released kernels.

`Upstream` is what released kernels do there; `memshell.series.strategy` is the other implementation. A profile names
the one that it is played with, and the model asks `Mm.seam` without knowing which it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.memory_hotplug.add import add_sections
from memshell.mm.memory_hotplug.add import place_and_add as _place_and_add
from memshell.mm.memory_hotplug.offline import offline_isolated_range
from memshell.mm.memory_hotplug.online import free_online_range
from memshell.mm.memory_hotplug.remove import remove_blocks as _remove_blocks
from memshell.mm.memory_hotplug.zone import shrink_zone_span
from memshell.mm.sparse import sparse_remove_section
from memshell.mm.sparse_vmemmap import free_unused_leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.mm.page import Page
    from memshell.mm.state import Mm, ZoneKey


class Upstream:
    """Released kernels: nothing is marked, and the content of struct pages decides nothing."""

    memmap_from_range = False  # one vmem_altmap can hold the memmap of a whole add: MHP_MEMMAP_FROM_RANGE
    in_rows = True  # equal steps that lie side by side, as sections of one add, may be taken at once
    marks_memmap = False  # pages of a memmap are marked in their own struct pages, whose content is kept
    rules: tuple[Callable[[Mm], Iterator[str]], ...] = ()  # invariants beside those of `memshell.mm.invariants`

    # --- add and remove ---

    # Choose where the memmap goes, and add sections and blocks: the middle of add_memory_resource().
    place_and_add = staticmethod(_place_and_add)

    def veto_from_range(self, mm: Mm) -> None:
        """An architecture says that it cannot take the memmap from the added range."""

    # __add_pages(): add the sections of [pfn, +nr_pages).
    add_pages = staticmethod(add_sections)

    # Remove [pfn, +nr_pages), which lies in one section.
    remove_section = staticmethod(sparse_remove_section)

    # Remove the memory blocks of [start, start+size) bytes with their sections: the middle of try_remove_memory().
    remove_blocks = staticmethod(_remove_blocks)

    # Unmap the vmemmap leaf of *size* bytes at *va* and free what backed it; return whether it went.
    free_vmemmap_leaf = staticmethod(free_unused_leaf)

    def shrink_zone_span(self, mm: Mm, key: ZoneKey, start_pfn: int, end_pfn: int) -> bool:
        """Take a range that goes offline off an edge of its zone's span; return whether that is done now (since v5.6)."""
        shrink_zone_span(mm, key, start_pfn, end_pfn)
        return True

    # --- online and offline ---

    def memmap_initialised(self, mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int) -> None:
        """memmap_init_range() has run over [start_pfn, +nr_pages)."""

    def check_resource(self, mm: Mm, start_pfn: int, nr_pages: int) -> None:
        """online_pages() is about to give pages to the buddy: a resource may have to cover them."""

    # Give [start_pfn, end_pfn) to the buddy; return how many pages are present now.
    online_pages_range = staticmethod(free_online_range)

    def needs_isolation(self, mm: Mm, start_pfn: int, end_pfn: int) -> bool:
        """Whether offline_pages() has to isolate and migrate [start_pfn, end_pfn)."""
        del mm, start_pfn, end_pfn
        return True

    def scan_movable_pages(self, mm: Mm, start_pfn: int, end_pfn: int) -> None:
        """The scan for movable pages goes over [start_pfn, end_pfn)."""

    # Take isolated pages out; return how many managed and how many present pages go with them.
    offline_isolated_pages = staticmethod(offline_isolated_range)

    def is_unmovable(self, mm: Mm, page: Page, pfn: int) -> bool:
        """Whether the marked *page* at *pfn* keeps its pageblock from being isolated."""
        del mm, page, pfn
        return False

    def is_isolated(self, mm: Mm, page: Page) -> bool:
        """Whether *page*, which is neither free nor PageOffline, passes the test of the isolated range."""
        del mm, page
        return False

    # --- the buddy ---

    def page_taken(self, mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
        """2^order pages leave the free lists of zone *key* and are written to."""

    def counts_as_present(self, mm: Mm) -> bool:
        """Whether marked pages count in the present pages of their zone."""
        del mm
        return False


UPSTREAM = Upstream()
