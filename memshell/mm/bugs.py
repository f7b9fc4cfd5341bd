"""The bugs of released kernels in where a memmap goes and how it is counted, each a switch of its own.

`docs/bugs.md` has the same table with a scenario for each. The sources are the texts of the commits that
fixed them; "read in" means that nobody fixed it so far and the kernel's own text shows it.
"""

from dataclasses import dataclass

from memshell.mm.feature import feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Bugs:
    """``bug.*``: their numbers are those of docs/bugs.md."""

    error_path_frees_altmap_to_buddy: bool = feature(
        "when block devices cannot be made, the memmap in the block is freed as if the buddy had given "
        'it (fixed in 6.1.72 and 6.7: "mm/memory_hotplug: fix error handling in add_memory_resource()"; '
        'again since 6.8, fixed in 6.12.97: "mm/memory_hotplug: fix incorrect altmap passing in error '
        'path")',
        False,
        {
            "v5.13": True,
            "v6.1": False,
            "v6.2": True,
            "v6.7": False,
            "v6.8": True,
            "v6.12": False,
            "v6.13": True,
            "v7.1": False,
        },
        number="B1, B2",
    )
    memory_block_reference_leak: bool = feature(
        "removing a block with an altmap leaks a reference: its struct memory_block is never freed "
        '(v6.8; fixed in 6.12.92: "mm/memory_hotplug: fix memory block reference leak on remove")',
        False,
        {"v6.8": True, "v6.12": False, "v6.13": True, "v7.0": False},
        number="B3",
    )
    altmap_accounting_unlocked: bool = feature(
        "online and offline of a block with an altmap change zone and pages outside of mem_hotplug_lock "
        '(fixed in 6.1.72 and 6.7: "mm/memory_hotplug: add missing mem_hotplug_lock")',
        False,
        {"v5.13": True, "v6.1": False, "v6.2": True, "v6.7": False},
        number="B4",
    )
    altmap_set_before_registration: bool = feature(
        "a block whose device cannot be registered is released with its altmap still set: WARN_ON "
        '(v6.6; fixed in 6.12.95: "drivers/base/memory: set mem->altmap after successful device '
        'registration")',
        False,
        {"v6.6": True, "v6.12": False, "v6.13": True, "v7.1": False},
        number="B5",
    )
    memmap_mode_read_as_bool: bool = feature(
        "on big-endian machines the parameter memmap_on_memory reads N while it is Y (v6.6; fixed in "
        '6.6.13: "mm/memory_hotplug: fix memmap_on_memory sysfs value retrieval")',
        False,
        {"v6.6": True, "v6.8": False},
        number="B6",
    )
    nr_memmap_pages_by_system_state: bool = feature(
        "the memmap of what is added while the kernel boots counts in nr_memmap_boot_pages, and is "
        "taken off nr_memmap_pages; that of removed boot memory is never taken off (v6.11 to 6.14; "
        'fixed in 6.12.46: "mm: fix accounting of memmap pages")',
        False,
        {"v6.11": True, "v6.12": False, "v6.13": True, "v6.15": False},
        number="B7",
    )
    nr_memmap_pages_underflow: bool = feature(
        "a section whose memmap could not be had is taken off nr_memmap_pages, which it was never added "
        'to (v6.11; fixed in 6.12.101: "mm/sparse-vmemmap: fix vmemmap accounting underflow")',
        False,
        {"v6.11": True, "v6.12": False, "v6.13": True, "v7.1": False},
        number="B8",
    )
    nr_memmap_pages_ignores_dedup: bool = feature(
        "a DAX device whose compound pages share their tail pages' memmap counts at full size in "
        'nr_memmap_pages (v6.11; fixed in 6.12.101: "mm/sparse-vmemmap: fix DAX vmemmap accounting with '
        'optimization")',
        False,
        {"v6.11": True, "v6.12": False, "v6.13": True, "v7.1": False},
        number="B9",
    )
    zone_for_pfn_range_32bit: bool = feature(
        "zone_for_pfn_range() takes the pfn as 32 bits: memory at 16T and above is onlined to the zone "
        "that the rest of the number meets (5.14.0 to 5.14.5; fixed in 5.14.6, and so in every profile)",
        False,
        number="B12",
    )
    ppc_altmap_cross_boundary: bool = feature(
        "powerpc: the mapping that ends with the altmap's last page is not taken from it (v5.3; fixed in 6.4.10 and 6.1.45)",
        False,
        {"v5.3": True, "v6.1": False, "v6.2": True, "v6.5": False},
        number="B13",
    )
    ppc_unaligned_pmd_leaf: bool = feature(
        "powerpc radix: without an altmap a vmemmap leaf can begin in its middle (v6.6; fixed in 6.12.28)",
        False,
        {"v6.6": True, "v6.12": False, "v6.13": True, "v6.15": False},
        number="B14",
    )
    ppc_compound_addr_pfn: bool = feature(
        "powerpc radix: while a DAX device's memmap is mapped, the pfn goes on by vmemmap pages instead "
        "of by the pfns that they describe: hardly any are shared (v6.6; fixed in 6.12.110: "
        '"powerpc/mm: fix wrong addr_pfn tracking in compound vmemmap population")',
        False,
        {"v6.6": True, "v6.12": False, "v6.13": True, "v7.2": False},
        number="B15",
    )
    arm64_subsection_leaf: bool = feature(
        "arm64: subsections get a whole leaf, and removing one frees its neighbours' memmap (fixed in 6.1.132 and "
        '6.12.20: "arm64: mm: Populate vmemmap at the page level if not section aligned")',
        False,
        {"v5.3": True, "v6.1": False, "v6.2": True, "v6.12": False},
        number="B16",
    )
    offline_counts_page_offline: bool = feature(
        "offlining a block takes its PageOffline pages off managed once more, unless their driver adds "
        "them first (v5.8 to v6.10)",
        False,
        {"v5.8": True, "v6.11": False},
        number="B18",
    )
    x86_fills_partly_removed_leaf: bool = feature(
        "x86: the removed part of a 1G leaf of the direct map is filled with 0xFD, and the leaf stays (until v5.13)",
        True,
        {"v5.14": False},
        number="B24",
    )
    x86_memmap_leaf_freed_as_page: bool = feature(
        "x86: of the 512 pages that a vmemmap leaf took from the buddy one comes back, the others are lost "
        '(v6.19 and 6.18.7: "x86/mm: use pagetable_free()"; fixed in 7.1: "x86/mm: fix freeing of PMD-sized vmemmap pages")',
        False,
        {"v6.18": True, "v7.1": False},
        number="B25",
    )
    add_pages_no_unwind: bool = feature(
        "__add_pages() keeps the sections before the one that failed, and x86 their direct map: the "
        "memmap is lost, a retry is EEXIST (not fixed; read in 6.1, 6.12 and 6.18)",
        True,
        number="L1",
    )
    x86_partly_removed_leaf_is_table: bool = feature(
        "x86: a 1G leaf of the direct map that is removed in part is read as a table of PMDs, not split "
        "(v5.14 and later; not fixed)",
        False,
        {"v5.14": True},
        number="L2",
    )
    ppc_premapped_waste: bool = feature(
        "powerpc radix: a block keeps pages for its memmap although an earlier leaf holds that memmap "
        "already (not fixed)",
        False,
        {"v5.13": True},
        number="L3",
    )
    force_asks_arch: bool = feature(
        "memmap_on_memory=force pads to pageblocks, and arch_supports_memmap_on_memory() still refuses "
        "a memmap that is not whole PMDs (v6.6 and later; not fixed). Off: base pages from the altmap",
        False,
        {"v5.13": True},
        number="L4",
    )
    memmap_off_node: bool = feature(
        "the memmap of a node without memory comes from another node (not fixed). Off: its own node or ENOMEM",
        True,
        number="L5",
    )
    section_roots_stay: bool = feature(
        "a page of section roots is never freed, also when its last section goes (not fixed)", True, number="L6"
    )
    nr_memmap_pages_counts_altmap: bool = feature(
        "nr_memmap_pages counts pages of altmaps too, and each section rounded up (v6.11 and later; not "
        "fixed). Off: the pages that were taken from the buddy",
        False,
        {"v6.11": True},
        number="L7",
    )
    offline_retries_forever: bool = feature(
        "offline of a page that cannot be migrated retries until a signal: EINTR (not fixed). Off: it "
        "gives up with EBUSY",
        True,
        number="L8",
    )
    altmap_free_any: bool = feature(
        "x86 and s390: removing memory with an altmap counts every vmemmap leaf as the altmap's, "
        "wherever it came from (not fixed)",
        False,
        {"v5.10": True},
        number="L9",
    )
    x86_phys_init_without_table: bool = feature(
        "x86: a page table of the direct map that GFP_ATOMIC cannot have is used all the same: NULL pointer "
        "dereference in phys_pmd_init() (not fixed; the patch is x86/mm: Handle alloc failure in "
        "phys_*_init(), 2025). Off: ENOMEM",
        True,
        number="L10",
    )
    arm64_offline_splits_leaf: bool = feature(
        "arm64: a block whose memmap lies in it never goes offline, EPERM: what is offlined begins behind the memmap, and "
        "its struct pages inside of a 2M leaf of the vmemmap. So does no block in a 1G leaf of the direct map (v7.1, not "
        'fixed: commit 95a58852b0e5 "arm64/mm: Reject memory removal that splits a kernel leaf mapping")',
        False,
        {"v7.1": True},
        number="L11",
    )
    offline_finds_slab_too_late: bool = feature(
        "slab pages have no reference (slab: allocate frozen pages, v6.14), so isolation passes over those that are no compound "
        "pages; a block with no other page of the kernel is then tried until a signal: EINTR, and an ACPI eject hangs (recorded "
        "on 6.17 and 6.18, seen on 7.2; not fixed). Off: EBUSY at once, as before",
        False,
        {"v6.14": True},
        number="L12",
    )
