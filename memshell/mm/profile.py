"""A kernel's behaviour as named features; a version is a name for one set of values.

The model never asks which version it plays: it asks for a feature. Every feature can be switched alone.
Sources stand beside each value; "read in" names the kernel text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, NamedTuple

from memshell.errors import UsageError
from memshell.mm.profile_bugs import BUGS
from memshell.mm.seam import UPSTREAM, Upstream
from memshell.series.features import CHOICES, SERIES_PROFILES, released_features
from memshell.series.strategy import SERIES

# Released kernels, oldest first. A value given for one holds for the later ones until another is given.
RELEASES = ("v5.15", "v6.1", "v6.6", "v6.12", "v6.18", "v7.2")


class Feature(NamedTuple):
    """One behaviour: what it is, and its value from which release on."""

    text: str
    values: Mapping[str, Any]
    choices: tuple[str, ...] = ()  # what a text may be; empty: anything


@dataclass(frozen=True, slots=True)
class Profile:
    """A kernel: a name and the value of every feature."""

    name: str
    features: Mapping[str, Any]
    seam: Upstream = UPSTREAM

    def with_feature(self, name: str, value: Any) -> Profile:
        """Return this profile with one feature changed. Raises `UsageError` for a name that does not exist."""
        if name not in self.features:
            raise unknown("feature", name, self.features)
        return replace(self, features={**self.features, name: value})


def unknown(what: str, name: str, known: Mapping[str, Any]) -> UsageError:
    """Return the error for a name that is not among the known ones, with the nearest right spelling."""
    near = get_close_matches(name, list(known), 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return UsageError(f"unknown {what} {name!r}", hint=hint)


FEATURES: dict[str, Feature] = {
    # Where the memmap may go
    "memmap_on_memory.force": Feature(
        "the parameter knows 'force' (pads the memmap to a pageblock)", {"v5.15": False, "v6.6": True}
    ),
    "memmap_on_memory.predicate": Feature(
        "what mhp_supports_memmap_on_memory() tests: 'pmd' (memmap is whole PMDs, one block per add) or 'pageblock'",
        {"v5.15": "pmd", "v6.6": "pageblock"},
    ),
    "memmap_on_memory.needs_hvo_off": Feature(
        "refused while hugetlb_free_vmemmap is on (v5.14, v5.15)", {"v5.15": True, "v6.1": False}
    ),
    "memmap_on_memory.single_block": Feature(
        "the add must be exactly one memory block (until commit 6b8f0798b85a, v6.8, made one altmap per block)",
        {"v5.15": True, "v6.12": False},
    ),
    "memmap_on_memory.caller_checks": Feature(
        "the driver asks mhp_supports_memmap_on_memory() first; the core refuses instead of falling back (until v6.5)",
        {"v5.15": True, "v6.6": False},
    ),
    "memmap_on_memory.s390": Feature(
        "s390 can put the memmap on the memory (since v6.9)", {"v5.15": False, "v6.12": True}
    ),
    "memmap_on_memory.powerpc": Feature("powerpc with the radix MMU can (since v6.6)", {"v5.15": False, "v6.6": True}),
    "memmap_on_memory.exists": Feature("the parameter memory_hotplug.memmap_on_memory (v5.13)", {"v5.15": True}),
    "mhp.driver_managed": Feature("add_memory_driver_managed() exists (v5.8)", {"v5.15": True}),
    "mhp.memory_groups": Feature("drivers put their memory into groups (v5.15)", {"v5.15": True}),
    "altmap.whole_block": Feature(
        "altmap.free is the whole block, not the memmap's pages (until v6.5)", {"v5.15": True, "v6.6": False}
    ),
    "hotplug.prepare_online": Feature(
        "MEM_PREPARE_ONLINE and MEM_FINISH_OFFLINE exist (v6.9)", {"v5.15": False, "v6.12": True}
    ),
    # Pages while they are onlined
    "memmap_init.page_offline": Feature(
        "memmap_init_range() marks hot-added pages PageOffline, not PG_reserved (v6.11)",
        {"v5.15": False, "v6.12": True},
    ),
    "memmap_self.reserved": Feature(
        "the memmap pages in a block are PG_reserved too (until v6.10)", {"v5.15": True, "v6.12": False}
    ),
    "offline.dissolve": Feature(
        "the function that dissolves free huge pages of a range",
        {"v5.15": "dissolve_free_huge_pages", "v6.12": "dissolve_free_hugetlb_folios"},
    ),
    "pageblock.isolate_bit": Feature(
        "isolation is a bit of its own, the pageblock keeps its type (v6.17)", {"v5.15": False, "v6.18": True}
    ),
    "pageblock.flag_bits": Feature("NR_PAGEBLOCK_BITS: bits of flags for each pageblock", {"v5.15": 4, "v6.18": 8}),
    "sparse.usage_rcu": Feature(
        "struct mem_section_usage has an rcu_head (v6.8, 6.6.15, 6.1.76)", {"v5.15": False, "v6.1": True}
    ),
    "isolate.undo_to_head": Feature(
        "undone isolation puts blocks of four pageblocks or more on the list heads: memory just onlined is used first (v6.10)",
        {"v5.15": False, "v6.12": True},
    ),
    "node_notifier": Feature(
        "NODE_ADDING_FIRST_MEMORY and its kin replace status_change_nid (v6.17)", {"v5.15": False, "v6.18": True}
    ),
    "kpageflags.absent": Feature(
        "what /proc/kpageflags shows for a pfn that is not online: NOPAGE, or no flag at all (v7.2, recorded)",
        {"v5.15": 1 << 20, "v7.2": 0},
    ),
    "acpi.retries_failed": Feature(
        "plugging a DIMM also retries those whose add failed (recorded on v6.12 and v7.2, not on v6.1)",
        {"v5.15": False, "v6.12": True},
    ),
    "dax.compound_vmemmap": Feature(
        "compound pages of a DAX device share the memmap of their tail pages (v5.18; powerpc radix v6.6)",
        {"v5.15": False, "v6.1": True},
    ),
    "dax.memmap_on_memory": Feature(
        "a dax device has the attribute memmap_on_memory, and kmem passes MHP_MEMMAP_ON_MEMORY with it (v6.8)",
        {"v5.15": False, "v6.12": True},
    ),
    "hugetlb.movable_gigantic_pages": Feature(
        "the sysctl vm.movable_gigantic_pages lets gigantic pages lie in ZONE_MOVABLE (v7.0)",
        {"v5.15": False, "v7.2": True},
    ),
    # Counters
    "vmstat.nr_memmap_pages": Feature(
        "/proc/vmstat has nr_memmap_pages and nr_memmap_boot_pages (v6.11)", {"v5.15": False, "v6.12": True}
    ),
    "thp.raises_min_free_kbytes": Feature("khugepaged raises min_free_kbytes", {"v5.15": True}),
    # x86
    "x86.block_size_by_advice": Feature(
        "the block size follows advice (CFMWS) and is halved until it divides the end of RAM, on bare metal too (v6.17)",
        {"v5.15": False, "v6.18": True},
    ),
    # powerpc
    "powerpc.radix_vmemmap_walk": Feature(
        "radix builds the vmemmap by walking its tables: 2M leaves where one fits, else pages; before, 2M always (v6.6)",
        {"v5.15": False, "v6.6": True},
    ),
    "powerpc.altmap_cross_boundary": Feature(
        "an altmap backs only mappings that describe nothing but its own range (v4.20 did not ask)", {"v5.15": True}
    ),
    # s390
    "s390.removes_memory": Feature("arch_remove_memory() works; before it was EBUSY (v5.3)", {"v5.15": True}),
    "s390.section_size_bits": Feature("SECTION_SIZE_BITS", {"v5.15": 28, "v7.2": 27}),
    "s390.mappable": Feature(
        "what can be mapped ends where the vmemmap begins ('vmemmap'), or with the memory, at 512G at least ('memory': v6.10)",
        {"v5.15": "vmemmap", "v6.12": "memory"},
        ("vmemmap", "memory"),
    ),
    "s390.half_page_tables": Feature(
        "two page tables of the kernel's own mapping share a page", {"v5.15": True, "v6.12": False}
    ),
    "s390.standby": Feature(
        "standby memory is 'added' at boot, offline, or must be configured first ('config': firmware/memory/memoryN/config)",
        {"v5.15": "added", "v7.2": "config"},
    ),
    **{name: Feature(bug.text, bug.values) for name, bug in BUGS.items()},
    **{
        name: Feature(text, {RELEASES[0]: value}, CHOICES.get(name, ()))
        for name, (text, value) in released_features().items()
    },
}


def _build() -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    features: dict[str, Any] = {}
    for release in RELEASES:
        features = {**features, **{name: f.values[release] for name, f in FEATURES.items() if release in f.values}}
        profiles[release] = Profile(release, features)
    for name, changes in SERIES_PROFILES.items():
        profiles[name] = Profile(name, {**profiles[RELEASES[0]].features, **changes}, SERIES)
    return profiles


PROFILES = _build()


def profile_of_release(release: str) -> str | None:
    """Return the newest released profile that is not newer than *release* (``6.12.107+deb13``); None where all are newer.

    >>> profile_of_release("6.14.3")  ->  "v6.12"
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    version = tuple(map(int, match.groups())) if match else ()
    return next((name for name in reversed(RELEASES) if tuple(map(int, name[1:].split("."))) <= version), None)


def find_profile(name: str) -> Profile:
    """Return the profile *name* (``v6.12`` or ``6.12``). Raises `UsageError` with the nearest right name."""
    found = PROFILES.get(name) or PROFILES.get(f"v{name}")
    if found is None:
        raise unknown("profile", name, PROFILES)
    return found
