"""arch/x86/mm/init_64.c: the direct map and the vmemmap of x86_64, and how their tables come and go."""

from __future__ import annotations

from functools import partial

from memshell import (
    AltmapRow,
    GiB,
    KernelError,
    MiB,
    Mm,
    OutOfMemory,
    VmemAltmap,
    add_pages,
    align_down,
    align_up,
    ensure_table,
    filled,
    free_leaves,
    free_unused_tables,
    free_vmemmap_leaf,
    mirrors,
    page_fault,
    remove_pages,
    set_leaf,
    vmemmap_populate_basepages,
    vmemmap_populate_hugepages,
)

from .init import init_memory_mapping

PMD, PUD, P4D = 2 * MiB, GiB, 512 * GiB
PAGE_INUSE = 0xFD


def map_range(mm: Mm, start: int, end: int, *, gbpages: bool, early: bool = False) -> None:
    """split_mem_range() and phys_pud_init(): 1G leaves for aligned GiB inside the range, else 2M; tables GFP_ATOMIC."""
    at, offset = start, mm.arch.page_offset
    while at < end:
        va = offset + at
        leaf = PUD if gbpages and at % PUD == 0 and at + PUD <= end else PMD
        stop = align_down(end, PUD) if leaf == PUD else min(end, align_down(at, PUD) + PUD)
        for base in range(align_down(va, P4D), offset + stop, P4D):
            direct_map_table(mm, "p4d_pud", max(base, va), P4D, early=early)
        if leaf == PMD:
            direct_map_table(mm, "pmd", va, PUD, early=early)
        for a, b in list(mm.leaves.gaps(va, offset + stop)):
            set_leaf(mm, a, b, leaf, (a - offset) >> 12, "ram")
        at = stop


def direct_map_table(mm: Mm, level: str, va: int, span: int, *, early: bool) -> None:
    """alloc_low_page(): make sure of a table of the direct map, GFP_ATOMIC.

    Nobody looks whether there is one: the caller reads the entry of *va* in a table at address 0, and `KernelCrash` is
    raised (bug.x86_phys_init_without_table). Without the bug: raises `OutOfMemory`.
    """
    try:
        ensure_table(mm, level, va, span, 0, early=early, atomic=True)
    except OutOfMemory as error:
        reader, entry = ("phys_pmd_init", PMD) if level == "pmd" else ("phys_pud_init", PUD)
        if mm.features.bug.x86_phys_init_without_table:
            raise page_fault(va % span // entry * 8, reader, str(error)) from error
        raise OutOfMemory(error.message, where=f"arch/x86/mm/init_64.c:{reader}") from error


@mirrors("arch/x86/mm/init_64.c:kernel_physical_mapping_init", "v6.12", "complete")
def kernel_physical_mapping_init(mm: Mm, start: int, end: int, *, gbpages: bool) -> None:
    """Fill the page tables of the direct map."""
    map_range(mm, start, end, gbpages=gbpages)


@mirrors("arch/x86/mm/init_64.c:arch_add_memory", "v6.12", "complete")
def x86_arch_add_memory(mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None, *, gbpages: bool) -> None:
    """Direct map first, in 1G leaves where *gbpages* allows; then the sections."""
    if isinstance(altmap, AltmapRow):  # no leaf of the direct map reaches from one block to the next
        gbpages = gbpages and not (altmap.nr_pages << 12) % PUD
    fill = partial(kernel_physical_mapping_init, gbpages=gbpages)
    init_memory_mapping(mm, start, start + size, gbpages=gbpages, fill=fill)
    try:
        x86_add_pages(mm, nid, start >> 12, size >> 12, altmap)
    except KernelError:
        if not mm.features.bug.add_pages_no_unwind:
            remove_pagetable(mm, mm.arch.page_offset + start, mm.arch.page_offset + start + size)
        raise


@mirrors("arch/x86/mm/init_64.c:add_pages", "v6.12", "complete")
def x86_add_pages(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections and raise max_pfn; an error is a WARN_ON_ONCE and is passed on."""
    try:
        add_pages(mm, nid, pfn, nr_pages, altmap)
    except KernelError as error:
        mm.event("Warning", "arch/x86/mm/init_64.c:add_pages", f"WARNING at add_pages: {error}", errno=error.errno)
        raise
    finally:
        mm.max_pfn = max(mm.max_pfn, pfn + nr_pages)


@mirrors("arch/x86/mm/init_64.c:vmemmap_populate", "v6.12", "complete")
def x86_vmemmap_populate(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Choose leaves or base pages, then copy the top level to all page tables."""
    arch = mm.arch
    if end - start < arch.pages_per_section * arch.struct_page_size:
        vmemmap_populate_basepages(mm, start, end, nid, None)
    elif altmap is not None and (start | end) % PMD and not mm.features.bug.force_asks_arch:
        vmemmap_populate_basepages(mm, start, end, nid, altmap)
    else:
        vmemmap_populate_hugepages(mm, start, end, nid, altmap)
    mm.enter("sync_global_pgds")


@mirrors("arch/x86/mm/init_64.c:arch_remove_memory", "v6.12", "complete")
def x86_arch_remove_memory(mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
    """Sections first, then the direct map."""
    remove_pages(mm, start >> 12, size >> 12, altmap)
    remove_pagetable(mm, mm.arch.page_offset + start, mm.arch.page_offset + start + size)


@mirrors("arch/x86/mm/init_64.c:vmemmap_free", "v6.12", "complete")
def x86_vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """vmemmap_free(): unmap the struct pages at [start, end), give their pages back, then the tables that are empty."""
    remove_pagetable(mm, start, end, altmap, vmemmap=True)


@mirrors(
    "arch/x86/mm/init_64.c:remove_pagetable",
    "v6.12",
    "simplified",
    "a leaf that is used in part goes when no valid pfn's struct page is left in it (the kernel compares with 0xFD)",
)
def remove_pagetable(mm: Mm, start: int, end: int, altmap: VmemAltmap | None = None, *, vmemmap: bool = False) -> None:
    """Remove the leaves of [start, end) and the tables that are empty then; vmemmap pages go back to where they came from."""
    # A leaf of the vmemmap may hold struct pages of neighbours: it is looked at whole.
    low, high = (align_down(start, PMD), align_up(end, PMD)) if vmemmap else (start, end)
    at_once = vmemmap and free_leaves(mm, low, high, altmap)
    for a, b, leaf in [] if at_once else list(mm.leaves.items(low, high)):
        if not vmemmap and leaf.size == PUD and mm.features.bug.x86_fills_partly_removed_leaf:
            remove_gigantic_leaves(mm, a, b)
            continue
        if not vmemmap and leaf.size == PUD and mm.features.bug.x86_partly_removed_leaf_is_table:
            remove_pud_table(mm, a, b)
            continue
        if not vmemmap:
            mm.leaves.delete(a, b)
            continue
        for va in range(a, b, leaf.size):
            free_vmemmap_leaf(mm, va, leaf.size, altmap)
    freed = free_unused_tables(mm, "pte", low, high, PMD) if vmemmap else 0
    freed += free_unused_tables(mm, "pmd", low, high, PUD, ("pte", PMD) if vmemmap else None)
    for _ in range(freed):
        mm.enter("free_pagetable")


@mirrors(
    "arch/x86/mm/init_64.c:remove_pud_table",
    "v6.12",
    "simplified",
    "what the first page of the GiB holds is taken as zeros",
)
def remove_pud_table(mm: Mm, start: int, end: int) -> None:
    """Clear whole 1G leaves of the direct map; of a part, read the GiB's first page as the table that it is not.

    No entry is found there, and what is left of the GiB loses its mapping with the table, whose page is freed: raises
    `KernelCrash` where that page's struct page has gone already.
    """
    for base in range(align_down(start, PUD), end, PUD):
        pfn = base - mm.arch.page_offset >> 12
        if (base < start or base + PUD > end) and mm.sections.get(pfn) is None:
            why = "a 1G leaf is removed in part, and its first page has no struct page"
            raise page_fault(mm.arch.vmemmap_address(pfn), "free_pagetable", why)
        mm.leaves.delete(base, base + PUD)
        if base < start or base + PUD > end:
            at, where = base - mm.arch.page_offset, "arch/x86/mm/init_64.c:free_pmd_table"
            mm.unmapped.set(at, at + PUD, "bug.x86_partly_removed_leaf_is_table")
            mm.event("DirectMapLost", where, f"{at:#x}-{at + PUD - 1:#x} is mapped no more", start=at, end=at + PUD)


def remove_gigantic_leaves(mm: Mm, start: int, end: int) -> None:
    """Clear whole 1G leaves of the direct map; of a part, only overwrite what it maps (v5.13 stopped that)."""
    for base in range(align_down(start, PUD), end, PUD):
        a, b = max(base, start), min(base + PUD, end)
        if b - a < PUD and not fill_partly_removed_leaf(mm, a - mm.arch.page_offset, b - mm.arch.page_offset, PUD):
            continue
        mm.leaves.delete(base, base + PUD)


def fill_partly_removed_leaf(mm: Mm, start: int, end: int, leaf_size: int) -> bool:
    """Fill [start, end) bytes of physical memory with PAGE_INUSE (0xFD), whatever they hold; return whether the leaf is full.

    Source: arch/x86/mm/init_64.c:remove_pud_table of v4.20.
    """
    inuse = filled(PAGE_INUSE)
    mm.struct_pages.set(start, end, inuse)
    mm.event(
        "MemoryOverwritten",
        "arch/x86/mm/init_64.c:remove_pud_table",
        f"{start:#x}-{end - 1:#x} filled with 0xFD",
        start=start,
        end=end,
    )
    base = align_down(start, leaf_size)
    run = mm.struct_pages.run_at(base)
    return run is not None and run[1] >= base + leaf_size and run[2] == inuse
