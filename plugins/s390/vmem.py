"""arch/s390/mm/vmem.c: the page tables of the identity mapping and of the vmemmap.

Tables: region-3 ("pud", spans 4T) and segment ("pmd", 2G) tables of 16K each; page tables ("pte", 1M) of a
page, of half a page until v6.6. EDAT1 machines map 1M segments, EDAT2 machines 2G regions; QEMU's TCG has
neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from memshell import (
    GiB,
    MiB,
    Mm,
    OutOfMemory,
    TiB,
    VmemAltmap,
    align_down,
    align_up,
    ensure_table,
    ensure_tables,
    free_leaves,
    free_unused_tables,
    free_vmemmap_leaf,
    mirrors,
    populate_leaves,
    set_early_leaves,
    set_leaf,
    vmemmap_alloc_block_buf,
)

SEGMENT, REGION3, REGION2 = MiB, 2 * GiB, 4 * TiB

CRST_ORDER = 2


def crst_tables(mm: Mm, va: int, *, segment: bool = True, early: bool = False) -> None:
    """Make sure of the region-3 table above *va*, and with *segment* of the segment table.

    Raises `OutOfMemory`.
    """
    ensure_table(mm, "pud", va, REGION2, 0, early=early, order=CRST_ORDER)
    if segment:
        ensure_table(mm, "pmd", va, REGION3, 0, early=early, order=CRST_ORDER)


def page_table(mm: Mm, va: int) -> None:
    """Make sure of the page table above *va*. Raises `OutOfMemory`."""
    ensure_table(mm, "pte", va, SEGMENT, 0, per_page=2 if mm.features.s390.half_page_tables else 1)


def page_tables(mm: Mm, start: int, end: int, *, early: bool = False) -> None:
    """Make sure of the page tables above [start, end). Raises `OutOfMemory`."""
    at = start
    while at < end:
        if early or not mm.features.s390.half_page_tables:
            at = ensure_tables(mm, "pte", at, end, SEGMENT, 0, early=early)
        if at < end:
            page_table(mm, at)
            at += SEGMENT


def free_tables(mm: Mm, start: int, end: int) -> None:
    """Free the tables above [start, end) that are empty now, from the lowest up."""
    for level, span, below in (
        ("pte", SEGMENT, None),
        ("pmd", REGION3, ("pte", SEGMENT)),
        ("pud", REGION2, ("pmd", REGION3)),
    ):
        free_unused_tables(mm, level, start, end, span, below, 0 if level == "pte" else CRST_ORDER)


@mirrors("arch/s390/mm/vmem.c:vmem_add_mapping", "v6.12", "complete")
def vmem_add_mapping(mm: Mm, start: int, size: int, *, edat: int, early: bool = False) -> None:
    """Map [start, +size) bytes of RAM with the largest leaves that the machine has.

    Raises `OutOfMemory`, with nothing mapped then.
    """
    offset, end = mm.arch.page_offset, start + size
    at = start
    try:
        while at < end:
            large = edat >= 2 and at % REGION3 == 0 and at + REGION3 <= end  # EDAT2
            stop = at + REGION3 if large else min(end, align_down(at, REGION3) + REGION3)
            crst_tables(mm, offset + at, segment=not large, early=early)
            if not edat:
                page_tables(mm, offset + at, offset + stop, early=early)
            # EDAT2 maps regions of 2G, EDAT1 segments of 1M, a machine without it pages.
            leaf = REGION3 if large else SEGMENT if edat else mm.arch.page_size
            set_leaf(mm, offset + at, offset + stop, leaf, at >> mm.arch.page_shift, "ram")
            at = stop
    except OutOfMemory:
        vmem_remove_mapping(mm, start, size)
        raise


@mirrors("arch/s390/mm/vmem.c:vmem_map_init", "v6.12", "simplified", "no protection of the kernel image")
def vmem_map_init(mm: Mm, ranges: Iterable[tuple[int, int, int]], *, edat: int) -> None:
    """Map the RAM of boot, pfn ranges, and its memmap; all tables are early."""
    shift, unit = mm.arch.page_shift, SEGMENT if edat else mm.arch.page_size
    for first, last, _ in ranges:
        vmem_add_mapping(mm, first << shift, last - first << shift, edat=edat, early=True)
        start, end = mm.arch.vmemmap_address(first), mm.arch.vmemmap_address(last)
        for va in range(align_down(start, REGION3), end, REGION3):
            crst_tables(mm, va, early=True)
        if not edat:
            page_tables(mm, start, end, early=True)
        set_early_leaves(mm, align_down(start, unit), align_up(end, unit), unit)


@mirrors("arch/s390/mm/vmem.c:vmem_remove_mapping", "v6.12", "complete")
def vmem_remove_mapping(mm: Mm, start: int, size: int) -> None:
    """Unmap [start, +size) bytes of RAM and free the tables that are empty then."""
    low, high = mm.arch.page_offset + start, mm.arch.page_offset + start + size
    mm.leaves.delete(low, high)
    free_tables(mm, low, high)


@mirrors("arch/s390/mm/vmem.c:vmemmap_populate", "v6.12", "complete")
def vmem_vmemmap_populate(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, edat: int) -> None:
    """Map the struct pages at [start, end): EDAT1 with 1M leaves, even if used in part, else with pages.

    A leaf that cannot be had falls back to pages of the same source. Raises `OutOfMemory`, with the range
    unmapped again.
    """
    page, at = mm.arch.page_size, start
    try:
        while at < end:
            base = align_down(at, SEGMENT)
            crst_tables(mm, at)
            if edat and not mm.leaves.intersects(base, base + SEGMENT) and ("pte", base) not in mm.tables:
                _map(mm, base, SEGMENT, altmap)
            leaf = mm.leaves.get(at)
            if leaf is None:
                page_table(mm, at)
                if mm.in_rows:
                    at = populate_leaves(mm, at, min(end, base + SEGMENT), page, 0, altmap)
                if at == base + SEGMENT or at == end:
                    continue
                if not _map(mm, at, page, altmap):
                    raise OutOfMemory(
                        f"no page for the memmap at {at:#x}", where="arch/s390/mm/vmem.c:modify_pte_table"
                    )
            at = base + SEGMENT if leaf is not None and leaf.size == SEGMENT else at + page
    except OutOfMemory:
        vmem_vmemmap_free(mm, start, end, altmap)
        raise


def _map(mm: Mm, va: int, size: int, altmap: VmemAltmap | None) -> bool:
    pfn = vmemmap_alloc_block_buf(mm, size, 0, altmap)
    if pfn is not None:
        set_leaf(mm, va, va + size, size, pfn, "altmap" if altmap else "buddy")
    return pfn is not None


@mirrors(
    "arch/s390/mm/vmem.c:vmemmap_free",
    "v6.12",
    "simplified",
    "a leaf used in part goes when no valid pfn's struct page is left in it (the kernel compares with 0xFD)",
)
def vmem_vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap the struct pages at [start, end), give their pages back, free empty tables."""
    low, high = align_down(start, SEGMENT), align_up(end, SEGMENT)
    at_once = (low, high) == (start, end) and free_leaves(mm, low, high, altmap)
    for a, b, leaf in [] if at_once else list(mm.leaves.items(low, high)):
        # A segment may hold struct pages of neighbours: it is looked at whole.
        first, last = (a, b) if leaf.size == SEGMENT else (max(a, start), min(b, end))
        for va in range(align_down(first, leaf.size), last, leaf.size):
            free_vmemmap_leaf(mm, va, leaf.size, altmap)
    free_tables(mm, start, end)
