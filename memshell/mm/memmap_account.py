"""mm/sparse.c and mm/sparse-vmemmap.c: nr_memmap_pages and nr_memmap_boot_pages (since v6.11)."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.compound_vmemmap import RESERVED_PAGES, vmemmap_can_optimize
from memshell.mm.memremap import VmemAltmap
from memshell.mm.state import Mm


@mirrors("mm/sparse.c:section_nr_vmemmap_pages", "v7.2", "complete")
def section_nr_vmemmap_pages(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> int:
    """Return how many pages the memmap of [pfn, +nr_pages) counts as; of a shared one, the real ones."""
    full = -(-nr_pages * mm.arch.struct_page_size // mm.arch.page_size)
    if not vmemmap_can_optimize(mm, altmap) or mm.feature("bug.nr_memmap_pages_ignores_dedup"):
        return full
    assert mm.pgmap is not None
    compound = 1 << mm.pgmap.vmemmap_shift
    if compound < mm.arch.pages_per_section:
        return RESERVED_PAGES * nr_pages // compound
    return 0 if pfn % compound else RESERVED_PAGES


def account_populated(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Count the memmap that section_activate() got for [pfn, +nr_pages)."""
    boot = mm.booting and mm.feature("bug.nr_memmap_pages_by_system_state")
    _add(mm, "nr_memmap_boot_pages" if boot else "nr_memmap_pages", section_nr_vmemmap_pages(mm, pfn, nr_pages, altmap))


def account_removed(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None, *, early: bool) -> None:
    """Take off what section_deactivate() frees; boot memory counts in nr_memmap_boot_pages."""
    if early and mm.feature("bug.nr_memmap_pages_by_system_state"):
        return
    _add(
        mm, "nr_memmap_boot_pages" if early else "nr_memmap_pages", -section_nr_vmemmap_pages(mm, pfn, nr_pages, altmap)
    )


def _add(mm: Mm, counter: str, pages: int) -> None:
    if mm.feature("vmstat.nr_memmap_pages") and mm.feature("bug.nr_memmap_pages_counts_altmap"):
        mm.counters[counter] = mm.counters.get(counter, 0) + pages
