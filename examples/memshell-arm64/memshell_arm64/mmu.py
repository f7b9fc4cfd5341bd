"""arch/arm64/mm/mmu.c: the direct map and the vmemmap of arm64, and how their page tables come and go.

A table has PAGE_SIZE / 8 entries. With 48 bits of virtual address, pages of 4K and 16K have PUD, PMD and PTE
tables below the PGD; with 64K pages there is no PUD level.
"""

from __future__ import annotations

from memshell import (
    KernelError,
    Mm,
    VmemAltmap,
    add_pages,
    align_down,
    align_up,
    ensure_table,
    free_empty_table,
    free_vmemmap_pages,
    leaf_pfn,
    mirrors,
    remove_pages,
    set_early_leaves,
    set_leaf,
    struct_pages_in_use,
    vmemmap_populate_basepages,
    vmemmap_populate_hugepages,
)


def levels(mm: Mm) -> tuple[tuple[str, int], ...]:
    """Return the levels of tables, the lowest first: (name, bytes that one table spans)."""
    shift, bits = mm.arch.pmd_shift, mm.arch.page_shift - 3
    names = ("pte", "pmd") if mm.arch.page_shift == 16 else ("pte", "pmd", "pud")
    return tuple((name, 1 << (shift + at * bits)) for at, name in enumerate(names))


def make_tables(mm: Mm, va: int, nid: int, lowest: str, *, early: bool = False) -> None:
    """Make sure of the tables above *va*, from the top down to the level *lowest*. Raises `OutOfMemory`."""
    for level, span in reversed(levels(mm)):
        ensure_table(mm, level, va, span, nid, early=early)
        if level == lowest:
            return


@mirrors("arch/arm64/mm/mmu.c:free_empty_tables", "v6.12", "complete")
def free_empty_tables(mm: Mm, start: int, end: int) -> None:
    """Free the tables above [start, end) in which nothing hangs any more, from the lowest up."""
    below: tuple[str, int] | None = None
    for level, span in levels(mm):
        for va in range(align_down(start, span), end, span):
            free_empty_table(mm, level, va, span, below)
        below = level, span


def create_mapping(mm: Mm, start: int, end: int, *, blocks: bool, early: bool = False) -> None:
    """Put [start, end) bytes in the direct map: pages, or with *blocks* PUDs (4K pages only) and PMDs."""
    arch, pmd = mm.arch, 1 << mm.arch.pmd_shift
    pud = pmd << (arch.page_shift - 3)
    at = start
    while at < end:
        va = arch.page_offset + at
        if blocks and arch.page_shift == 12 and at % pud == 0 and at + pud <= end:
            size, lowest = pud, "pud"
        elif blocks and at % pmd == 0 and at + pmd <= end:
            size, lowest = pmd, "pmd"
        else:
            size, lowest = arch.page_size, "pte"
        stop = min(end, at + max(size, pmd))
        make_tables(mm, va, 0, lowest, early=early)
        set_leaf(mm, va, arch.page_offset + stop, size, at >> arch.page_shift, "ram")
        at = stop


def remove_mapping(mm: Mm, start: int, end: int) -> None:
    """Take [start, end) bytes out of the direct map, and free the tables that are empty then."""
    low, high = mm.arch.page_offset + start, mm.arch.page_offset + end
    mm.leaves.delete(low, high)
    free_empty_tables(mm, low, high)


def early_vmemmap(mm: Mm, first: int, last: int) -> None:
    """Map the struct pages of the boot memory [first, last), in pfns."""
    arch, pmd = mm.arch, 1 << mm.arch.pmd_shift
    leaf, lowest = (pmd, "pmd") if arch.page_shift == 12 else (arch.page_size, "pte")
    low, high = align_down(arch.vmemmap_address(first), leaf), align_up(arch.vmemmap_address(last), leaf)
    for va in range(align_down(low, pmd), high, pmd):
        make_tables(mm, va, 0, lowest, early=True)
    set_early_leaves(mm, low, high, leaf)


@mirrors(
    "arch/arm64/mm/mmu.c:arch_add_memory", "v6.12", "simplified", "no page for a table of the direct map is ENOMEM here"
)
def add_memory(mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None, *, blocks: bool) -> None:
    """Map the range, then add its sections; when these fail the mapping goes, the first of them may stay."""
    shift = mm.arch.page_shift
    create_mapping(mm, start, start + size, blocks=blocks)
    try:
        add_pages(mm, nid, start >> shift, size >> shift, altmap)
    except KernelError:
        remove_mapping(mm, start, start + size)
        raise
    mm.max_pfn = max(mm.max_pfn, (start + size) >> shift)


@mirrors("arch/arm64/mm/mmu.c:arch_remove_memory", "v6.12", "complete")
def remove_memory(mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
    """Remove the sections, then unmap the range."""
    remove_pages(mm, start >> mm.arch.page_shift, size >> mm.arch.page_shift, altmap)
    remove_mapping(mm, start, start + size)


@mirrors("arch/arm64/mm/mmu.c:vmemmap_populate", "v6.12", "complete")
def vmemmap_populate(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map whole sections with PMD leaves where pages are 4K, all else with pages, from the altmap too.

    Until 6.1.131 and 6.12.19 parts of a section got a leaf as well (bug.arm64_subsection_leaf).
    """
    whole = end - start >= mm.arch.pages_per_section * mm.arch.struct_page_size
    if mm.arch.page_shift != 12 or not (whole or mm.features.bug.arm64_subsection_leaf):
        vmemmap_populate_basepages(mm, start, end, nid, altmap)
    else:
        vmemmap_populate_hugepages(mm, start, end, nid, altmap)


@mirrors(
    "arch/arm64/mm/mmu.c:vmemmap_free",
    "v6.12",
    "simplified",
    "a leaf that a neighbour uses stays, unless bug.arm64_subsection_leaf; 64 bytes a page leave no other",
)
def vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap [start, end), give the pages back to where they came from, free empty tables."""
    for a, b, leaf in list(mm.leaves.items(start, end)):
        for va in range(align_down(a, leaf.size), b, leaf.size):
            if struct_pages_in_use(mm, va, va + leaf.size) and not mm.features.bug.arm64_subsection_leaf:
                continue
            mm.leaves.delete(va, va + leaf.size)
            free_vmemmap_pages(mm, leaf_pfn(mm, va, leaf), leaf.size >> mm.arch.page_shift, leaf.owner, altmap)
    free_empty_tables(mm, start, end)


@mirrors("arch/arm64/mm/mmu.c:prevent_bootmem_remove_notifier", "v6.12", "complete")
def prevent_bootmem_remove(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Veto that boot memory goes offline. Raises EPERM."""
    if action != "MEM_GOING_OFFLINE":
        return
    for number in range(start_pfn // mm.block_pages, (start_pfn + nr_pages - 1) // mm.block_pages + 1):
        if mm.blocks[number].early:
            where = "arch/arm64/mm/mmu.c:prevent_bootmem_remove_notifier"
            raise KernelError(f"memory{number} is boot memory", "EPERM", where=where)
