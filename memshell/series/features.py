"""The series of 2017 to 2019 that put the memmap into the hot-added range.

Its features, its check sites, its faults.

Three tables, each "name -> (one line of text, value in released kernels)", and the four published versions as
changes against the oldest released kernel. Sources: the mails "mm, memory_hotplug: allocate memmap from
hotadded memory" of M. Hocko (2017-08-01, RFC v2) and O. Salvador (2018-11-16 RFC, 2019-01-22 RFC v2,
2019-03-28 PATCH v1), and recordings of the 2018 one.
"""

from __future__ import annotations

from typing import Any

BEHAVIOUR: dict[str, tuple[str, Any]] = {
    "mhp.from_range": ("add_memory_resource() sets MHP_MEMMAP_FROM_RANGE: one vmem_altmap for the whole add", False),
    "vmemmap.mark": ("when the pages of the memmap are marked: 'never', per 'section', or once per 'range'", "never"),
    "vmemmap.head_count": (
        "the head's refcount: 'none', 'increment' per section, or 'set' once to the number of sections",
        "none",
    ),
    "vmemmap.zeroed": (
        ("what is zeroed before it is marked: 'none', the 'vmemmap' pages, or the 'all' of the new struct pages"),
        "none",
    ),
    "vmemmap.free": (
        "the memmap of a section is freed 'immediate' with it, or 'deferred' until the head's refcount is 0",
        "immediate",
    ),
    "vmemmap.free_order": (
        ("order of the deferred frees: 'backwards', 'host0-last' (1..N-1, 0) or 'host1-host0-last' (2..N-1, 1, 0)"),
        "backwards",
    ),
    "online.strip": (
        "how online leaves marked pages out: by 'page', by 'section', or one 'prefix' per block",
        "prefix",
    ),
    "online.tests_reserved": ("a piece is onlined only if its first page is PG_reserved (until v5.5)", False),
    "present.counts_vmemmap": ("present pages include the marked pages of the block", False),
    "offline.skips_vmemmap_block": ("a block of marked pages only is offlined without isolation and migration", False),
    "altmap.reserve": ("what the reserve field of the altmap on the stack holds; the series never sets it", 0),
    "config.debug_vm": (
        "CONFIG_DEBUG_VM: new struct pages are filled with 0xff, pages are checked when they are freed",
        False,
    ),
    "config.debug_vm_pgflags": ("CONFIG_DEBUG_VM_PGFLAGS: testing a flag of a poisoned struct page is a BUG", False),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "vmemmap.mark": ("never", "section", "range"),
    "vmemmap.head_count": ("none", "increment", "set"),
    "vmemmap.zeroed": ("none", "vmemmap", "all"),
    "vmemmap.free": ("immediate", "deferred"),
    "vmemmap.free_order": ("backwards", "host0-last", "host1-host0-last"),
    "online.strip": ("page", "section", "prefix"),
}

# The PageVmemmap() sites of the 2018 series, by their number in the review of the series.
CHECKS: dict[str, tuple[str, str]] = {
    "check.free_pagetable": ("1", "x86 free_pagetable(): frames that hold a memmap are not freed"),
    "check.powerpc_vmemmap_free": ("2", "powerpc vmemmap_free(): frames that hold a memmap are not freed"),
    "check.s390_veto": ("3", "s390 arch_add_memory(): takes MHP_MEMMAP_FROM_RANGE back"),
    "check.online_pages_range": ("4", "online_pages_range(): marked pages stay out of the buddy"),
    "check.init_single_page_zero": ("5a", "__init_single_page(): a marked struct page is not zeroed"),
    "check.init_single_page_count": ("5b", "__init_single_page(): a marked struct page keeps its refcount"),
    "check.isolate_migratepages_block": ("6", "isolate_migratepages_block(): compaction passes over marked pages"),
    "check.free_pages_check": ("7", "free_pages_check(): a marked page that is freed is no bad page"),
    "check.has_unmovable_pages": (
        "8",
        "has_unmovable_pages(): marked pages do not keep a pageblock from being isolated",
    ),
    "check.do_migrate_range": ("9", "do_migrate_range(): marked pages are not migrated"),
    "check.__test_page_isolated_in_pageblock": (
        "10",
        "__test_page_isolated_in_pageblock(): marked pages count as isolated",
    ),
    "check.test_pages_isolated": ("11", "test_pages_isolated(): marked pages are passed one by one"),
    "check.__offline_isolated_pages": ("12", "__offline_isolated_pages(): marked pages are passed over"),
    "check.__kfree_section_memmap": ("13", "__kfree_section_memmap(): the first marked memmap starts the deferral"),
}

BUGS: dict[str, str] = {
    "bug.mhp_macro_parentheses": ("MHP_MEMMAP_FROM_RANGE is 1<<1 without parentheses: the s390 veto clears both flags"),
    "bug.nr_sects_uses_sizeof_page": (
        "mark_vmemmap_pages() counts full sections by sizeof(struct page), not by PAGE_SIZE/sizeof(struct page)"
    ),
    "bug.mark_counts_garbage": (
        "mark_vmemmap_pages() increments and tests the head's refcount before it is initialised"
    ),
    "bug.stray_refcount": "mark_vmemmap_pages() counts a head even when nothing was taken from the altmap",
    "bug.stale_marks": "marks outlive the memory: they are not cleared when the memmap is freed",
    "bug.ascending_free": (
        "the memmap is freed in ascending order: a frame's struct page is unmapped before it is looked at"
    ),
    "bug.online_order_unaligned": "online frees chunks of get_order(rest) pages, aligned or not",
    "bug.partial_remove": "a part of an added range can be removed",
    "bug.failed_add_stays": "an add that fails leaves the sections and blocks that it made",
    "bug.retry_restarts_altmap": (
        "sections that exist already are passed over in silence, and the altmap starts at the base again"
    ),
    "bug.count_set_after_failed_add": (
        "the head's refcount is set to all sections of the range although the add broke off"
    ),
    "bug.constructor_without_altmap": (
        "the constructor that marks the memmap is called without an altmap where the architecture vetoed it"
    ),
    "bug.powerpc_vmemmap_continue": ("powerpc vmemmap_free() passes over a marked frame before it removes the mapping"),
    "bug.x86_fills_partly_removed_leaf": (
        "x86 fills the removed part of a 1G leaf of the direct map with 0xFD (until v5.13)"
    ),
}

# Faults of v5.15 that lie in code which v4.20 did not have, or that are above under another name.
_NOT_YET = (
    "bug.altmap_accounting_unlocked",
    "bug.altmap_free_any",
    "bug.arm64_subsection_leaf",
    "bug.error_path_frees_altmap_to_buddy",
    "bug.force_asks_arch",
    "bug.nr_memmap_pages_counts_altmap",
    "bug.ppc_altmap_cross_boundary",
    "bug.ppc_premapped_waste",
    "bug.x86_partly_removed_leaf_is_table",
)

_BASE: dict[str, Any] = {  # v4.20 with "create struct mhp_restrictions" against v5.15
    "memmap_on_memory.exists": False,
    "mhp.driver_managed": False,
    "mhp.memory_groups": False,
    "powerpc.altmap_cross_boundary": False,
    "s390.removes_memory": False,
    "mhp.from_range": True,
    "online.tests_reserved": True,
    "memmap_on_memory.caller_checks": False,
    "thp.raises_min_free_kbytes": False,
    "bug.offline_counts_page_offline": False,
    "bug.mhp_macro_parentheses": True,
    "bug.partial_remove": True,
    "bug.failed_add_stays": True,
    "bug.retry_restarts_altmap": True,
    "bug.x86_fills_partly_removed_leaf": True,
    **dict.fromkeys(CHECKS, True),
    **dict.fromkeys(_NOT_YET, False),
}

SERIES_PROFILES: dict[str, dict[str, Any]] = {
    "rfc-2017": {
        **_BASE,
        "vmemmap.mark": "section",
        "vmemmap.zeroed": "all",
        "online.strip": "page",
        "bug.stale_marks": True,
        "bug.ascending_free": True,
    },
    "rfc-2018": {
        **_BASE,
        "vmemmap.mark": "section",
        "vmemmap.head_count": "increment",
        "vmemmap.free": "deferred",
        "online.strip": "section",
        "bug.nr_sects_uses_sizeof_page": True,
        "bug.mark_counts_garbage": True,
        "bug.stray_refcount": True,
        "bug.stale_marks": True,
        "bug.online_order_unaligned": True,
        "bug.powerpc_vmemmap_continue": True,
    },
    "rfc-v2-2019": {
        **_BASE,
        "vmemmap.mark": "range",
        "vmemmap.head_count": "set",
        "vmemmap.zeroed": "vmemmap",
        "vmemmap.free": "deferred",
        "present.counts_vmemmap": True,
        "offline.skips_vmemmap_block": True,
        "bug.online_order_unaligned": True,
        "bug.count_set_after_failed_add": True,
        "bug.constructor_without_altmap": True,
    },
    "patch-v1-2019": {
        **_BASE,
        "vmemmap.mark": "range",
        "vmemmap.head_count": "set",
        "vmemmap.zeroed": "vmemmap",
        "vmemmap.free": "deferred",
        "present.counts_vmemmap": True,
        "offline.skips_vmemmap_block": True,
        "bug.count_set_after_failed_add": True,
    },
}


def released_features() -> dict[str, tuple[str, Any]]:
    """Return every feature of this file with its text and its value in released kernels.

    No marks, no checks, no faults.
    """
    return {
        **BEHAVIOUR,
        **{name: (f"site {number}: {text}", True) for name, (number, text) in CHECKS.items()},
        **{name: (text, False) for name, text in BUGS.items()},
    }
