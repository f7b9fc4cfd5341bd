"""The bugs of released kernels in where a memmap goes and how it is counted, each a switch of its own.

`docs/bugs.md` has the same table with a scenario for each. The sources are the texts of the commits that
fixed them; "read in" means that nobody fixed it so far and the kernel's own text shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

OFF = {"v5.15": False}
ALWAYS = {"v5.15": True}


class Bug(NamedTuple):
    """One bug: its id in docs/bugs.md, one line of text, and from which profile on it is there or gone."""

    id: str
    text: str
    values: Mapping[str, bool]


BUGS: dict[str, Bug] = {
    "bug.error_path_frees_altmap_to_buddy": Bug(
        "B1, B2",
        "when block devices cannot be made, the memmap in the block is freed as if the buddy had given "
        'it (fixed in 6.1.72 and 6.7: "mm/memory_hotplug: fix error handling in add_memory_resource()"; '
        'again since 6.8, fixed in 6.12.97: "mm/memory_hotplug: fix incorrect altmap passing in error '
        'path")',
        {"v5.15": True, "v6.1": False, "v6.6": True, "v6.12": False, "v6.18": True, "v7.2": False},
    ),
    "bug.memory_block_reference_leak": Bug(
        "B3",
        "removing a block with an altmap leaks a reference: its struct memory_block is never freed "
        '(v6.8; fixed in 6.12.92: "mm/memory_hotplug: fix memory block reference leak on remove")',
        {**OFF, "v6.18": True, "v7.2": False},
    ),
    "bug.altmap_accounting_unlocked": Bug(
        "B4",
        "online and offline of a block with an altmap change zone and pages outside of mem_hotplug_lock "
        '(fixed in 6.1.72 and 6.7: "mm/memory_hotplug: add missing mem_hotplug_lock")',
        {"v5.15": True, "v6.1": False, "v6.6": True, "v6.12": False},
    ),
    "bug.altmap_set_before_registration": Bug(
        "B5",
        "a block whose device cannot be registered is released with its altmap still set: WARN_ON "
        '(v6.6; fixed in 6.12.95: "drivers/base/memory: set mem->altmap after successful device '
        'registration")',
        {**OFF, "v6.6": True, "v6.12": False, "v6.18": True, "v7.2": False},
    ),
    "bug.memmap_mode_read_as_bool": Bug(
        "B6",
        "on big-endian machines the parameter memmap_on_memory reads N while it is Y (v6.6; fixed in "
        '6.6.13: "mm/memory_hotplug: fix memmap_on_memory sysfs value retrieval")',
        {**OFF, "v6.6": True, "v6.12": False},
    ),
    "bug.nr_memmap_pages_by_system_state": Bug(
        "B7",
        "the memmap of what is added while the kernel boots counts in nr_memmap_boot_pages, and is "
        "taken off nr_memmap_pages; that of removed boot memory is never taken off (v6.11 to 6.14; "
        'fixed in 6.12.46: "mm: fix accounting of memmap pages")',
        OFF,
    ),
    "bug.nr_memmap_pages_underflow": Bug(
        "B8",
        "a section whose memmap could not be had is taken off nr_memmap_pages, which it was never added "
        'to (v6.11; fixed in 6.12.101: "mm/sparse-vmemmap: fix vmemmap accounting underflow")',
        {**OFF, "v6.18": True, "v7.2": False},
    ),
    "bug.nr_memmap_pages_ignores_dedup": Bug(
        "B9",
        "a DAX device whose compound pages share their tail pages' memmap counts at full size in "
        'nr_memmap_pages (v6.11; fixed in 6.12.101: "mm/sparse-vmemmap: fix DAX vmemmap accounting with '
        'optimization")',
        {**OFF, "v6.18": True, "v7.2": False},
    ),
    "bug.zone_for_pfn_range_32bit": Bug(
        "B12",
        "zone_for_pfn_range() takes the pfn as 32 bits: memory at 16T and above is onlined to the zone "
        "that the rest of the number meets (5.14.0 to 5.14.5; fixed in 5.14.6, and so in every profile)",
        OFF,
    ),
    "bug.ppc_altmap_cross_boundary": Bug(
        "B13",
        "powerpc: the mapping that ends with the altmap's last page is not taken from it (fixed in 6.4.10 and 6.1.45)",
        {"v5.15": True, "v6.1": False},
    ),
    "bug.ppc_unaligned_pmd_leaf": Bug(
        "B14",
        "powerpc radix: without an altmap a vmemmap leaf can begin in its middle (v6.6; fixed in 6.12.28)",
        {**OFF, "v6.6": True, "v6.12": False},
    ),
    "bug.ppc_compound_addr_pfn": Bug(
        "B15",
        "powerpc radix: while a DAX device's memmap is mapped, the pfn goes on by vmemmap pages instead "
        "of by the pfns that they describe: hardly any are shared (v6.6; fixed in 6.12.110: "
        '"powerpc/mm: fix wrong addr_pfn tracking in compound vmemmap population")',
        {**OFF, "v6.6": True, "v6.12": False, "v6.18": True, "v7.2": False},
    ),
    "bug.arm64_subsection_leaf": Bug(
        "B16",
        "arm64: subsections get a whole leaf, and removing one frees its neighbours' memmap; only an "
        'arm64 plugin asks (fixed in 6.1.132 and 6.12.20: "arm64: mm: Populate '
        'vmemmap at the page level if not section aligned")',
        {"v5.15": True, "v6.1": False, "v6.6": True, "v6.12": False},
    ),
    "bug.offline_counts_page_offline": Bug(
        "B18",
        "offlining a block takes its PageOffline pages off managed once more, unless their driver adds "
        "them first (until v6.10)",
        {"v5.15": True, "v6.12": False},
    ),
    "bug.add_pages_no_unwind": Bug(
        "L1",
        "__add_pages() keeps the sections before the one that failed, and x86 their direct map: the "
        "memmap is lost, a retry is EEXIST (not fixed; read in 6.1, 6.12 and 6.18)",
        ALWAYS,
    ),
    "bug.x86_partly_removed_leaf_is_table": Bug(
        "L2",
        "x86: a 1G leaf of the direct map that is removed in part is read as a table of PMDs, not split "
        "(v5.14 and later; not fixed)",
        ALWAYS,
    ),
    "bug.ppc_premapped_waste": Bug(
        "L3",
        "powerpc radix: a block keeps pages for its memmap although an earlier leaf holds that memmap "
        "already (not fixed)",
        ALWAYS,
    ),
    "bug.force_asks_arch": Bug(
        "L4",
        "memmap_on_memory=force pads to pageblocks, and arch_supports_memmap_on_memory() still refuses "
        "a memmap that is not whole PMDs (v6.6 and later; not fixed). Off: base pages from the altmap",
        ALWAYS,
    ),
    "bug.memmap_off_node": Bug(
        "L5",
        "the memmap of a node without memory comes from another node (not fixed). Off: its own node or ENOMEM",
        ALWAYS,
    ),
    "bug.section_roots_stay": Bug(
        "L6", "a page of section roots is never freed, also when its last section goes (not fixed)", ALWAYS
    ),
    "bug.nr_memmap_pages_counts_altmap": Bug(
        "L7",
        "nr_memmap_pages counts pages of altmaps too, and each section rounded up (v6.11 and later; not "
        "fixed). Off: the pages that were taken from the buddy",
        ALWAYS,
    ),
    "bug.offline_retries_forever": Bug(
        "L8",
        "offline of a page that cannot be migrated retries until a signal: EINTR (not fixed). Off: it "
        "gives up with EBUSY",
        ALWAYS,
    ),
    "bug.altmap_free_any": Bug(
        "L9",
        "x86 and s390: removing memory with an altmap counts every vmemmap leaf as the altmap's, "
        "wherever it came from (not fixed)",
        ALWAYS,
    ),
    "bug.x86_phys_init_without_table": Bug(
        "L10",
        "x86: a page table of the direct map that GFP_ATOMIC cannot have is used all the same: NULL pointer "
        "dereference in phys_pmd_init() (not fixed; the patch is x86/mm: Handle alloc failure in "
        "phys_*_init(), 2025). Off: ENOMEM",
        ALWAYS,
    ),
}
