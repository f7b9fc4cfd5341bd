"""mm/sparse.c: sections and subsections appear and go, each with its memmap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import KernelError, OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_pages, free_pages
from memshell.mm.pfn import align_down, align_up
from memshell.mm.sparse_vmemmap import (
    RESERVED_PAGES,
    free_leaves,
    freed_alike,
    populate_leaves,
    populate_section_memmap,
    table_span,
    vmemmap_can_optimize,
)
from memshell.mm.state import SECTION_EARLY, SECTION_HAS_MEM_MAP, SECTION_ONLINE, SECTION_PRESENT, Mm

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.mm.profile import Profile


def mem_section_usage_size(arch: Arch, profile: Profile) -> int:
    """mem_section_usage_size(): bytes of the slab object that a hot-added section takes, before the slab rounds them up.

    An rcu_head (since v6.8, 6.6.15 and 6.1.76), a bit for each subsection, the pageblock flags; bitmaps in whole longs.
    """
    subsections = arch.pages_per_section // arch.pages_per_subsection
    flags: int = (arch.pages_per_section >> arch.pageblock_order) * profile.features.pageblock.flag_bits
    return (16 if profile.features.sparse.usage_rcu else 0) + 8 * (-(-subsections // 64) + -(-flags // 64))


def pfn_valid(mm: Mm, pfn: int) -> bool:
    """Whether *pfn* has a struct page."""
    return mm.sections.get(pfn) is not None


@mirrors("mm/sparse.c:sparse_index_init", "v6.12", "complete")
def sparse_index_init(mm: Mm, section_nr: int, nid: int) -> None:
    """Make sure that the root page of *section_nr* exists. Raises `OutOfMemory`."""
    root = section_nr // sections_per_root(mm)
    if root in mm.section_roots:
        return
    pfn = None if mm.fault("sparse_index_init") else alloc_pages(mm, 0, Owner.SLAB, nid=nid)
    if pfn is None:
        raise OutOfMemory(f"no page for section root {root}", where="mm/sparse.c:sparse_index_alloc")
    mm.section_roots[root] = pfn


def sections_per_root(mm: Mm) -> int:
    """SECTIONS_PER_ROOT: how many struct mem_section are in a page."""
    return mm.arch.page_size // mm.arch.mem_section_size


def drop_empty_root(mm: Mm, pfn: int) -> None:
    """Free the root page of the section of *pfn* when it has no section left (bug.section_roots_stay off)."""
    if mm.features.bug.section_roots_stay:
        return
    span = sections_per_root(mm) * mm.arch.pages_per_section
    root = pfn // span
    page = mm.section_roots.get(root)
    if page is not None and not mm.sections.intersects(root * span, (root + 1) * span):
        del mm.section_roots[root]
        free_pages(mm, page, 0)


@mirrors(
    "mm/sparse.c:sparse_add_section", "v6.12", "simplified", "mem_section_usage comes from slab, which is not modelled"
)
def sparse_add_section(mm: Mm, nid: int, start_pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add [start_pfn, +nr_pages), which lies in one section, with its memmap.

    Raises EEXIST for a subsection that is there, ENOMEM for a memmap that cannot be had. Source: also section_activate.
    """
    section_nr = start_pfn // mm.arch.pages_per_section
    end_pfn = start_pfn + nr_pages
    sparse_index_init(mm, section_nr, nid)
    if mm.fault("section_usage"):
        drop_empty_root(mm, start_pfn)
        raise OutOfMemory(f"no memory for the usage of section {section_nr}", where="mm/sparse.c:section_activate")
    if mm.sections.intersects(start_pfn, end_pfn):
        raise KernelError(f"section {section_nr} is there already", "EEXIST", where="mm/sparse.c:fill_subsection_map")
    first = align_down(start_pfn, mm.arch.pages_per_section)
    early = any(bits & SECTION_EARLY for _, _, bits in mm.sections.items(first, first + mm.arch.pages_per_section))
    bits = SECTION_PRESENT | SECTION_HAS_MEM_MAP | (SECTION_EARLY if early else 0)
    # A section of boot keeps its memmap while a part of it is gone: the part that comes back finds it.
    if not (early and nr_pages < mm.arch.pages_per_section):
        try:
            populate_section_memmap(mm, start_pfn, nr_pages, nid, altmap)
        except KernelError:
            mm.sections.set(start_pfn, end_pfn, bits)  # its subsections are marked before the memmap is tried
            section_deactivate(mm, start_pfn, nr_pages, altmap, populated=False)
            raise
        account_populated(mm, start_pfn, nr_pages, altmap)
    mm.sections.set(start_pfn, end_pfn, bits)


def sparse_add_sections(mm: Mm, nid: int, start_pfn: int, end_pfn: int, altmap: VmemAltmap | None) -> int:
    """Add whole sections from *start_pfn* on as `sparse_add_section` does, as many as can be had at once.

    Returns the pfn behind the last: *start_pfn* where the next section has to come alone.
    """
    pfn = start_pfn
    gap = next(mm.sections.gaps(pfn, end_pfn), None) if _in_rows(mm, pfn, altmap) else None
    if gap is None or gap[0] != pfn:
        return pfn
    size = mm.arch.pages_per_section
    while (stop := align_down(min(gap[1], end_of_tables(mm, pfn)), size)) > pfn:
        start = mm.arch.vmemmap_address(pfn)
        try:
            sparse_index_init(mm, pfn // size, nid)
            mm.arch.vmemmap_tables(mm, start, nid)
        except OutOfMemory:
            break
        reached = populate_leaves(mm, start, mm.arch.vmemmap_address(stop), 1 << mm.arch.pmd_shift, nid, altmap)
        done = align_down(pfn + (reached - start) // mm.arch.struct_page_size, size)
        account_populated(mm, pfn, done - pfn, altmap)
        mm.sections.set(pfn, done, SECTION_PRESENT | SECTION_HAS_MEM_MAP)
        pfn = done
        if done < stop:
            break
    return pfn


def blocks_in_rows(mm: Mm, pfn: int, end_pfn: int) -> bool:
    """Whether blocks with altmaps of their own may come and go at once, all of [pfn, end_pfn)."""
    whole = not end_pfn % mm.arch.pages_per_section and not mm.block_pages % mm.arch.pages_per_section
    return whole and mm.arch.blocks_in_rows and mm.pgmap is None and _in_rows(mm, pfn, None)


def _in_rows(mm: Mm, pfn: int, altmap: VmemAltmap | None) -> bool:
    """Whether sections from *pfn* on may come and go at once: the memmap of each is whole leaves that no other shares."""
    memmap, leaf = mm.arch.pages_per_section * mm.arch.struct_page_size, 1 << mm.arch.pmd_shift
    whole = not pfn % mm.arch.pages_per_section and not (memmap | mm.arch.vmemmap_address(pfn)) % leaf
    return whole and mm.arch.vmemmap_hugepages and mm.in_rows and not vmemmap_can_optimize(mm, altmap)


def end_of_tables(mm: Mm, pfn: int) -> int:
    """Return the pfn up to which sections need the root, and their memmap the page tables, that those of *pfn* do."""
    root = sections_per_root(mm) * mm.arch.pages_per_section
    span = table_span(mm)
    border = align_down(mm.arch.vmemmap_address(pfn), span) + span
    return min(align_down(pfn, root) + root, (border - mm.arch.vmemmap_base) // mm.arch.struct_page_size)


@mirrors("mm/sparse.c:section_deactivate", "v6.12", "complete")
def section_deactivate(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None, *, populated: bool = True) -> None:
    """Forget [pfn, +nr_pages) of one section: the subsections first, then their memmap. What is not there is a WARN.

    *populated* is false where section_activate() could not get the memmap, which is not counted then.
    """
    if not mm.sections.covers(pfn, pfn + nr_pages):
        section = pfn // mm.arch.pages_per_section
        mm.event(
            "Warning",
            "mm/sparse.c:section_deactivate",
            f"WARNING: section {section} is deactivated already",
            section=section,
        )
        return
    bits = mm.sections.get(pfn) or 0
    mm.sections.delete(pfn, pfn + nr_pages)
    drop_empty_root(mm, pfn)
    early, size = bool(bits & SECTION_EARLY), mm.arch.pages_per_section
    first = align_down(pfn, size)
    counted = populated or mm.features.bug.nr_memmap_pages_underflow
    if counted and not (early and mm.sections.intersects(first, first + size)):
        account_removed(mm, pfn, nr_pages, altmap, early=early)
    if not early:
        start = mm.arch.vmemmap_address(pfn)
        mm.arch.vmemmap_free(mm, start, start + nr_pages * mm.arch.struct_page_size, altmap)


@mirrors("mm/sparse.c:sparse_remove_section", "v6.12", "complete")
def sparse_remove_section(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Remove [pfn, +nr_pages), which lies in one section."""
    section_deactivate(mm, pfn, nr_pages, altmap)


def sparse_remove_sections(mm: Mm, pfn: int, end_pfn: int, altmap: VmemAltmap | None) -> int:
    """Remove whole sections from *pfn* on as `sparse_remove_section` does, as many as can go at once.

    Neither the root nor the tables of one become empty: the last above each goes alone. Returns the pfn behind those
    that went.
    """
    run = mm.sections.run_at(pfn) if _in_rows(mm, pfn, altmap) else None
    if run is None or run[2] & SECTION_EARLY:
        return pfn
    size = mm.arch.pages_per_section
    stop = align_down(min(run[1], end_pfn, end_of_tables(mm, pfn)), size) - size
    start, end = mm.arch.vmemmap_address(pfn), mm.arch.vmemmap_address(stop)
    if stop <= pfn or not mm.leaves.covers(start, end + 1) or mm.tables.intersects("pte", start, end):
        return pfn
    leaves = list(mm.leaves.items(start, end))
    if any(m.size != 1 << mm.arch.pmd_shift for _, _, m in leaves) or not freed_alike(mm, leaves, altmap):
        return pfn
    mm.sections.delete(pfn, stop)
    account_removed(mm, pfn, stop - pfn, altmap, early=False)
    free_leaves(mm, start, end, altmap)
    return stop


def _set_online(mm: Mm, start_pfn: int, end_pfn: int, *, online: bool) -> None:
    size = mm.arch.pages_per_section
    for start, end, bits in list(mm.sections.items(align_down(start_pfn, size), align_up(end_pfn, size))):
        mm.sections.set(start, end, bits | SECTION_ONLINE if online else bits & ~SECTION_ONLINE)


@mirrors("mm/sparse.c:online_mem_sections", "v6.12", "complete")
def online_mem_sections(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Mark every section that [start_pfn, end_pfn) touches online."""
    _set_online(mm, start_pfn, end_pfn, online=True)


@mirrors("mm/sparse.c:offline_mem_sections", "v6.12", "complete")
def offline_mem_sections(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Mark every section that [start_pfn, end_pfn) touches offline."""
    _set_online(mm, start_pfn, end_pfn, online=False)


@mirrors("mm/sparse.c:section_nr_vmemmap_pages", "v7.2", "complete")
def section_nr_vmemmap_pages(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> int:
    """Return how many pages the memmap of [pfn, +nr_pages) counts as; of a shared one, the real ones."""
    full = -(-nr_pages * mm.arch.struct_page_size // mm.arch.page_size)
    if not vmemmap_can_optimize(mm, altmap) or mm.features.bug.nr_memmap_pages_ignores_dedup:
        return full
    assert mm.pgmap is not None
    # Real are the page with the head and that with the first tails; a section inside of a compound page has neither.
    compound = 1 << mm.pgmap.vmemmap_shift
    if compound < mm.arch.pages_per_section:
        return RESERVED_PAGES * nr_pages // compound
    return 0 if pfn % compound else RESERVED_PAGES


def account_populated(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Count the memmap that section_activate() got for [pfn, +nr_pages)."""
    # Until 6.12.45 and v6.14 SYSTEM_BOOTING chooses the counter, and the memmap of boot is never taken off it;
    # since 6.12.46 and v6.17 the section does (both read).
    boot = mm.booting and mm.features.bug.nr_memmap_pages_by_system_state
    _add(mm, "nr_memmap_boot_pages" if boot else "nr_memmap_pages", section_nr_vmemmap_pages(mm, pfn, nr_pages, altmap))


def account_removed(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None, *, early: bool) -> None:
    """Take off what section_deactivate() frees; boot memory counts in nr_memmap_boot_pages."""
    if early and mm.features.bug.nr_memmap_pages_by_system_state:
        return
    _add(
        mm, "nr_memmap_boot_pages" if early else "nr_memmap_pages", -section_nr_vmemmap_pages(mm, pfn, nr_pages, altmap)
    )


def _add(mm: Mm, counter: str, pages: int) -> None:
    if mm.features.vmstat.nr_memmap_pages and mm.features.bug.nr_memmap_pages_counts_altmap:
        mm.counters[counter] = mm.counters.get(counter, 0) + pages
