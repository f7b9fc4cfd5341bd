"""arch/arm64/mm/mmu.c: the direct map and the vmemmap of arm64, and how their page tables come and go.

A table has PAGE_SIZE / 8 entries. With 48 bits of virtual address, pages of 4K and 16K have PUD, PMD and PTE
tables below the PGD; with 64K pages there is no PUD level.
"""

from __future__ import annotations

from collections.abc import Mapping

from memshell import (
    KernelError,
    Mm,
    Profile,
    VmemAltmap,
    add_pages,
    align_down,
    align_up,
    ensure_table,
    ensure_tables,
    free_unused_tables,
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

CONT_PMD_SHIFT = {12: 4, 14: 5, 16: 5}  # by page shift: pgtable-hwdef.h, and CONFIG_ARM64_CONT_PMD_SHIFT


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
        free_unused_tables(mm, level, start, end, span, below)
        below = level, span


def force_pte_mapping(config: Mapping[str, str], cmdline: str, profile: Profile) -> bool:
    """Whether the direct map is in pages: force_pte_mapping(), until v6.17 can_set_direct_map().

    rodata=full is the default, which v6.18 calls on; and KFENCE, if it may be switched on later, needs pages. A CPU with
    BBML2 and a realm's guest cannot be told here.
    """
    words = dict(word.partition("=")[::2] for word in cmdline.split())
    full = "on" if profile.features.arm64.rodata_noalias else "full"
    interval = words.get("kfence.sample_interval", config.get("CONFIG_KFENCE_SAMPLE_INTERVAL", "0"))
    late_kfence = "CONFIG_KFENCE" in config and interval == "0"
    return words.get("rodata", full) == full or late_kfence


def leaf_sizes(mm: Mm) -> tuple[tuple[int, str], ...]:
    """Return the sizes of the direct map's blocks, and the level of the tables that they stand in.

    PUDs only with pages of 4K. PMDs that the contiguous bit joins are one leaf here: they cannot be split one by one.
    """
    bits = mm.arch.page_shift - 3
    pmd, cont = 1 << mm.arch.pmd_shift, 1 << CONT_PMD_SHIFT[mm.arch.page_shift]
    sizes = ((pmd * cont, "pmd"), (pmd, "pmd"))
    return ((pmd << bits, "pud"), *sizes) if mm.arch.page_shift == 12 else sizes


def create_mapping(mm: Mm, start: int, end: int, *, blocks: bool, early: bool = False) -> None:
    """Put [start, end) bytes in the direct map: in pages, or with *blocks* in the largest leaves that fit."""
    arch, pmd, pmd_table = mm.arch, 1 << mm.arch.pmd_shift, levels(mm)[1][1]
    sizes = leaf_sizes(mm) if blocks else ()
    at = start
    while at < end:
        va = arch.page_offset + at
        size, lowest = next(((n, level) for n, level in sizes if at % n == 0 and at + n <= end), (0, "pte"))
        stop = at + size
        make_tables(mm, va, 0, lowest, early=early)
        if not size:  # as far as the next PMD table
            border = align_down(at, pmd_table) + pmd_table
            stop = (
                ensure_tables(mm, lowest, va, arch.page_offset + min(end, border), pmd, 0, early=early)
                - arch.page_offset
            )
        set_leaf(mm, va, arch.page_offset + stop, size or arch.page_size, at >> arch.page_shift, "ram")
        at = stop


@mirrors("arch/arm64/mm/mmu.c:__remove_pgd_mapping", "v7.3", "complete")
def remove_mapping(mm: Mm, start: int, end: int) -> None:
    """Take [start, end) bytes out of the direct map, and free the tables that are empty then.

    A 1G leaf goes whole, also when only a part of it was to go (fixed in v7.1: such a part cannot be offlined).
    """
    low, high = mm.arch.page_offset + start, mm.arch.page_offset + end
    for _, _, leaf in list(mm.leaves.items(low, high)):
        if leaf_sizes(mm)[0] != (leaf.size, "pud"):
            continue
        for a, b in ((align_down(low, leaf.size), low), (high, align_up(high, leaf.size))):
            lose_mapping(mm, a, b)
    mm.leaves.delete(low, high)
    free_empty_tables(mm, low, high)


def lose_mapping(mm: Mm, low: int, high: int) -> None:
    """Unmap what is left of a leaf of the direct map at the addresses [low, high): nobody asked for it."""
    if not mm.leaves.intersects(low, high):
        return
    start, end = low - mm.arch.page_offset, high - mm.arch.page_offset
    mm.leaves.delete(low, high)
    where = "arch/arm64/mm/mmu.c:unmap_hotplug_pud_range"
    mm.event("DirectMapLost", where, f"{start:#x}-{end - 1:#x} is mapped no more", start=start, end=end)


def early_vmemmap(mm: Mm, first: int, last: int) -> None:
    """Map the struct pages of the sections that boot memory [first, last), in pfns, lies in."""
    arch, pmd, size = mm.arch, 1 << mm.arch.pmd_shift, mm.arch.pages_per_section
    leaf, lowest = (pmd, "pmd") if arch.page_shift == 12 else (arch.page_size, "pte")
    low = align_down(arch.vmemmap_address(align_down(first, size)), leaf)
    high = align_up(arch.vmemmap_address(align_up(last, size)), leaf)
    for va in range(align_down(low, pmd), high, pmd):
        make_tables(mm, va, 0, lowest, early=True)
    set_early_leaves(mm, low, high, leaf)


@mirrors(
    "arch/arm64/mm/mmu.c:arch_add_memory", "v6.12", "simplified", "no page for a table of the direct map is ENOMEM here"
)
def add_memory(mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None, *, blocks: bool) -> None:
    """Map the range, then add its sections; when that fails the mapping goes, the first sections may stay."""
    shift = mm.arch.page_shift
    try:
        create_mapping(mm, start, start + size, blocks=blocks)
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


@mirrors("arch/arm64/mm/mmu.c:prevent_memory_remove_notifier", "v7.3", "complete")
def prevent_memory_remove(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Veto that boot memory goes offline, and (bug.arm64_offline_splits_leaf) a part of a leaf. Raises EPERM.

    Until v7.0 it was prevent_bootmem_remove_notifier().
    """
    if action != "MEM_GOING_OFFLINE":
        return
    where = "arch/arm64/mm/mmu.c:prevent_memory_remove_notifier"
    for number in range(start_pfn // mm.block_pages, (start_pfn + nr_pages - 1) // mm.block_pages + 1):
        if mm.blocks[number].early:
            raise KernelError(f"memory{number} is boot memory", "EPERM", where=where)
    if mm.features.bug.arm64_offline_splits_leaf and not can_unmap_without_split(mm, start_pfn, nr_pages):
        start, end = start_pfn << mm.arch.page_shift, start_pfn + nr_pages << mm.arch.page_shift
        what = "linear map" if splits_linear_map(mm, start_pfn, start_pfn + nr_pages) else "vmemmap"
        raise KernelError(f"{start:#x}-{end - 1:#x} splits a leaf entry in the {what}", "EPERM", where=where)


@mirrors("arch/arm64/mm/mmu.c:can_unmap_without_split", "v7.3", "complete")
def can_unmap_without_split(mm: Mm, start_pfn: int, nr_pages: int) -> bool:
    """Whether no leaf of the direct map or of the vmemmap lies across an edge of the range."""
    edges = (start_pfn, start_pfn + nr_pages)
    vmemmap = any(addr_splits_kernel_leaf(mm, mm.arch.vmemmap_address(pfn)) for pfn in edges)
    return not splits_linear_map(mm, *edges) and not vmemmap


def splits_linear_map(mm: Mm, *edges: int) -> bool:
    """Whether one of these pfns lies inside of a leaf of the direct map."""
    return any(addr_splits_kernel_leaf(mm, mm.arch.page_offset + (pfn << mm.arch.page_shift)) for pfn in edges)


@mirrors("arch/arm64/mm/mmu.c:addr_splits_kernel_leaf", "v7.3", "complete")
def addr_splits_kernel_leaf(mm: Mm, va: int) -> bool:
    """Whether a leaf that is mapped begins before the address *va* and ends behind it."""
    leaf = mm.leaves.get(va)
    return leaf is not None and va % leaf.size != 0
