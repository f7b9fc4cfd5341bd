"""The features that only the series of 2017 to 2019 has: what its versions do, its check sites, its faults.

Sources: the mails "mm, memory_hotplug: allocate memmap from hotadded memory" of M. Hocko (2017-08-01, RFC v2) and
O. Salvador (2018-11-16 RFC, 2019-01-22 RFC v2, 2019-03-28 PATCH v1), and recordings of the 2018 one. The first value
of a feature is that of 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from memshell.mm import features as upstream
from memshell.mm.bugs import Bugs
from memshell.mm.feature import Feature, feature
from memshell.mm.state import Mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Vmemmap:
    """``vmemmap.*``: the memmap in the range, and its marks."""

    mark: Literal["never", "section", "range"] = feature(
        "when the pages of the memmap are marked: 'never', per 'section', or once per 'range'",
        "section",
        {"rfc-v2-2019": "range"},
    )
    head_count: Literal["none", "increment", "set"] = feature(
        "the head's refcount: 'none', 'increment' per section, or 'set' once to the number of sections",
        "none",
        {"rfc-2018": "increment", "rfc-v2-2019": "set"},
    )
    zeroed: Literal["none", "vmemmap", "all"] = feature(
        "what is zeroed before it is marked: 'none', the 'vmemmap' pages, or the 'all' of the new struct pages",
        "all",
        {"rfc-2018": "none", "rfc-v2-2019": "vmemmap"},
    )
    free: Literal["immediate", "deferred"] = feature(
        "the memmap of a section is freed 'immediate' with it, or 'deferred' until the head's refcount is 0",
        "immediate",
        {"rfc-2018": "deferred"},
    )
    free_order: Literal["backwards", "host0-last", "host1-host0-last"] = feature(
        "order of the deferred frees: 'backwards', 'host0-last' (1..N-1, 0) or 'host1-host0-last' (2..N-1, 1, 0)",
        "backwards",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """``online.*``: online_pages_range()."""

    strip: Literal["page", "section", "prefix"] = feature(
        "how online leaves marked pages out: by 'page', by 'section', or one 'prefix' per block",
        "page",
        {"rfc-2018": "section", "rfc-v2-2019": "prefix"},
    )
    tests_reserved: bool = feature("a piece is onlined only if its first page is PG_reserved (until v5.5)", True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """``present.*``: the present pages of a zone."""

    counts_vmemmap: bool = feature("present pages include the marked pages of the block", False, {"rfc-v2-2019": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline(upstream.Offline):
    """``offline.*``."""

    skips_vmemmap_block: bool = feature(
        "a block of marked pages only is offlined without isolation and migration", False, {"rfc-v2-2019": True}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Altmap(upstream.Altmap):
    """``altmap.*``."""

    reserve: int = feature("what the reserve field of the altmap on the stack holds; the series never sets it", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(upstream.Config):
    """``config.*``."""

    debug_vm: bool = feature(
        "CONFIG_DEBUG_VM: new struct pages are filled with 0xff, pages are checked when they are freed", False
    )
    debug_vm_pgflags: bool = feature(
        "CONFIG_DEBUG_VM_PGFLAGS: testing a flag of a poisoned struct page is a BUG", False
    )


def site(number: str, text: str, name: str = "") -> bool:
    """Declare a check: a site of PageVmemmap() in the series of 2018, by its number in the review of it."""
    return feature(f"site {number}: {text}", True, number=number, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """``check.*``: the sites that ask for the mark; switched off, a site forgets to."""

    free_pagetable: bool = site("1", "x86 free_pagetable(): frames that hold a memmap are not freed")
    powerpc_vmemmap_free: bool = site("2", "powerpc vmemmap_free(): frames that hold a memmap are not freed")
    s390_veto: bool = site("3", "s390 arch_add_memory(): takes MHP_MEMMAP_FROM_RANGE back")
    online_pages_range: bool = site("4", "online_pages_range(): marked pages stay out of the buddy")
    init_single_page_zero: bool = site("5a", "__init_single_page(): a marked struct page is not zeroed")
    init_single_page_count: bool = site("5b", "__init_single_page(): a marked struct page keeps its refcount")
    free_pages_check: bool = site("7", "free_pages_check(): a marked page that is freed is no bad page")
    has_unmovable_pages: bool = site(
        "8", "has_unmovable_pages(): marked pages do not keep a pageblock from being isolated"
    )
    do_migrate_range: bool = site("9", "do_migrate_range(): marked pages are not migrated")
    test_page_isolated_in_pageblock: bool = site(
        "10", "__test_page_isolated_in_pageblock(): marked pages count as isolated", "__test_page_isolated_in_pageblock"
    )
    offline_isolated_pages: bool = site(
        "12", "__offline_isolated_pages(): marked pages are passed over", "__offline_isolated_pages"
    )
    kfree_section_memmap: bool = site(
        "13", "__kfree_section_memmap(): the first marked memmap starts the deferral", "__kfree_section_memmap"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesBugs(Bugs):
    """``bug.*``: the faults of the series, beside those of the kernel."""

    mhp_macro_parentheses: bool = feature(
        "MHP_MEMMAP_FROM_RANGE is 1<<1 without parentheses: the s390 veto clears both flags", True
    )
    nr_sects_uses_sizeof_page: bool = feature(
        "mark_vmemmap_pages() counts full sections by sizeof(struct page), not by PAGE_SIZE/sizeof(struct page)",
        False,
        {"rfc-2018": True, "rfc-v2-2019": False},
    )
    mark_counts_garbage: bool = feature(
        "mark_vmemmap_pages() increments and tests the head's refcount before it is initialised",
        False,
        {"rfc-2018": True, "rfc-v2-2019": False},
    )
    stray_refcount: bool = feature(
        "mark_vmemmap_pages() counts a head even when nothing was taken from the altmap",
        False,
        {"rfc-2018": True, "rfc-v2-2019": False},
    )
    stale_marks: bool = feature(
        "marks outlive the memory: they are not cleared when the memmap is freed", True, {"rfc-v2-2019": False}
    )
    ascending_free: bool = feature(
        "the memmap is freed in ascending order: a frame's struct page is unmapped before it is looked at",
        True,
        {"rfc-2018": False},
    )
    online_order_unaligned: bool = feature(
        "online frees chunks of get_order(rest) pages, aligned or not",
        False,
        {"rfc-2018": True, "patch-v1-2019": False},
    )
    partial_remove: bool = feature("a part of an added range can be removed", True)
    failed_add_stays: bool = feature("an add that fails leaves the sections and blocks that it made", True)
    retry_restarts_altmap: bool = feature(
        "sections that exist already are passed over in silence, and the altmap starts at the base again", True
    )
    count_set_after_failed_add: bool = feature(
        "the head's refcount is set to all sections of the range although the add broke off",
        False,
        {"rfc-v2-2019": True},
    )
    constructor_without_altmap: bool = feature(
        "the constructor that marks the memmap is called without an altmap where the architecture vetoed it",
        False,
        {"rfc-v2-2019": True, "patch-v1-2019": False},
    )
    powerpc_vmemmap_continue: bool = feature(
        "powerpc vmemmap_free() passes over a marked frame before it removes the mapping",
        False,
        {"rfc-2018": True, "rfc-v2-2019": False},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFeatures(upstream.Features):
    """Every feature of a kernel with the series: those of v4.20, and its own."""

    offline: Offline
    altmap: Altmap
    bug: SeriesBugs
    vmemmap: Vmemmap
    online: Online
    present: Present
    config: Config
    check: Checks


# The check sites in their order, and the faults, by the names that a user types.
CHECKS: Mapping[str, Feature] = {
    name: known for name, known in SeriesFeatures.declared().items() if name.startswith("check.")
}

# The sites that decide nothing, by number: they are no switches. Their recordings, D-6-1G-compact and D-11-1G, are as with
# all checks.
REDUNDANT = {
    "6": ("isolate_migratepages_block", "compaction takes what is on the LRU or movable: a marked page is neither"),
    "11": ("test_pages_isolated", "the pageblocks of the memmap are as isolated as the others of the range"),
}


def series(mm: Mm) -> SeriesFeatures:
    """Return the features of a machine that plays the series."""
    features = mm.profile.features
    assert isinstance(features, SeriesFeatures)
    return features
