"""What released kernels do differently from each other, each a feature with its value from which version on.

The model never asks which version it plays: it asks for a feature (``mm.features.memmap_on_memory.force``).
Every feature can be switched alone. Sources stand beside each value; "read in" names the kernel text.
"""

from dataclasses import dataclass
from typing import Literal

from memshell.mm.bugs import Bugs
from memshell.mm.feature import Named, feature


@dataclass(frozen=True, slots=True, kw_only=True)
class MemmapOnMemory:
    """``memmap_on_memory.*``: where the memmap may go."""

    exists: bool = feature("the parameter memory_hotplug.memmap_on_memory (v5.13)", False, {"v5.13": True})
    force: bool = feature("the parameter knows 'force' (pads the memmap to a pageblock)", False, {"v6.6": True})
    predicate: Literal["pmd", "pageblock"] = feature(
        "what mhp_supports_memmap_on_memory() tests: 'pmd' (memmap is whole PMDs, one block per add) or 'pageblock'",
        "pmd",
        {"v6.6": "pageblock"},
    )
    needs_hvo_off: bool = feature(
        "refused while hugetlb_free_vmemmap is on (v5.14, v5.15)", False, {"v5.14": True, "v6.1": False}
    )
    single_block: bool = feature(
        "the add must be exactly one memory block (until commit 6b8f0798b85a, v6.8, made one altmap per block)",
        True,
        {"v6.8": False},
    )
    caller_checks: bool = feature(
        "the driver asks mhp_supports_memmap_on_memory() first; the core refuses instead of falling back (until v6.5)",
        False,
        {"v5.13": True, "v6.6": False},
    )
    s390: bool = feature("s390 can put the memmap on the memory (since v6.9)", False, {"v6.9": True})
    powerpc: bool = feature("powerpc with the radix MMU can (since v6.6)", False, {"v6.6": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mhp:
    """``mhp.*``: who adds memory, and how."""

    driver_managed: bool = feature("add_memory_driver_managed() exists (v5.8)", False, {"v5.8": True})
    block_chooses_zone: bool = feature(
        "memory_block_online() chooses the zone; before, online_pages() did (v5.13)", False, {"v5.13": True}
    )
    memory_groups: bool = feature("drivers put their memory into groups (v5.15)", False, {"v5.15": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Altmap:
    """``altmap.*``: the allocator in front of a memory block."""

    whole_block: bool = feature(
        "altmap.free is the whole block, not the memmap's pages (until v6.5)", True, {"v6.6": False}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hotplug:
    """``hotplug.*``: what the notifiers are told."""

    prepare_online: bool = feature(
        "MEM_PREPARE_ONLINE and MEM_FINISH_OFFLINE exist (v6.9 to v6.18)", False, {"v6.9": True, "v6.19": False}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemmapInit:
    """``memmap_init.*``: new struct pages."""

    page_offline: bool = feature(
        "memmap_init_range() marks hot-added pages PageOffline, not PG_reserved (v6.11)", False, {"v6.11": True}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemmapSelf:
    """``memmap_self.*``: the pages of a block that hold its own memmap."""

    reserved: bool = feature("the memmap pages in a block are PG_reserved too (until v6.10)", True, {"v6.11": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """``offline.*``: offline_pages()."""

    dissolve: str = feature(
        "the function that dissolves free huge pages of a range",
        "dissolve_free_huge_pages",
        {"v6.12": "dissolve_free_hugetlb_folios"},
    )
    zone_of_block: bool = feature(
        "a block knows its zone, and one of several is refused before offline_pages() (v5.18)", False, {"v5.18": True}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pageblock:
    """``pageblock.*``: the flags of a pageblock."""

    isolate_bit: bool = feature(
        "isolation is a bit of its own, the pageblock keeps its type (v6.17)", False, {"v6.17": True}
    )
    flag_bits: int = feature("NR_PAGEBLOCK_BITS: bits of flags for each pageblock", 4, {"v6.17": 8})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """``sparse.*``: sections."""

    usage_rcu: bool = feature("struct mem_section_usage has an rcu_head (v6.8, 6.6.15, 6.1.76)", False, {"v6.1": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolate:
    """``isolate.*``: pageblocks that are isolated, and back."""

    undo_to_head: bool = feature(
        "undone isolation puts blocks of four pageblocks or more on the list heads: memory just onlined is used first (v6.10)",
        False,
        {"v6.10": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpageflags:
    """``kpageflags.*``: what /proc/kpageflags shows."""

    absent: int = feature(
        "what /proc/kpageflags shows for a pfn that is not online: NOPAGE (recorded on v6.12), or no flag (on v6.16)",
        1 << 20,
        {"v6.16": 0},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Acpi:
    """``acpi.*``: DIMMs."""

    retries_failed: bool = feature(
        "plugging a DIMM also retries those whose add failed (recorded on v6.12 and v7.2, not on v6.1)",
        False,
        {"v6.12": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dax:
    """``dax.*``: device memory."""

    compound_vmemmap: bool = feature(
        "compound pages of a DAX device share the memmap of their tail pages (v5.18; powerpc radix v6.6)",
        False,
        {"v5.18": True},
    )
    memmap_on_memory: bool = feature(
        "a dax device has the attribute memmap_on_memory, and kmem passes MHP_MEMMAP_ON_MEMORY with it (v6.8)",
        False,
        {"v6.8": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HvBalloon:
    """``hv_balloon.*``: Hyper-V."""

    chunk_is_block: bool = feature(
        "memory is hot-added by memory blocks of any size; before, by 128M, which larger blocks refuse (v6.10)",
        False,
        {"v6.10": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hugetlb:
    """``hugetlb.*``: pools of huge pages."""

    movable_gigantic_pages: bool = feature(
        "the sysctl vm.movable_gigantic_pages lets gigantic pages lie in ZONE_MOVABLE (v7.0)", False, {"v7.0": True}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memremap:
    """``memremap.*``: device memory with struct pages."""

    subsections: bool = feature(
        "devices are mapped by subsections of 2M; before, by whole sections, one device in each (v5.3)",
        False,
        {"v5.3": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtioMem:
    """``virtio_mem.*``: the virtio-mem driver. Which architectures have it stands with them."""

    exists: bool = feature("the driver is there, on x86_64 (v5.8)", False, {"v5.8": True})
    big_blocks: bool = feature(
        "big-block mode, for device blocks larger than memory blocks (v5.11)", False, {"v5.11": True}
    )
    by_zone: bool = feature("blocks of ZONE_MOVABLE and of kernel zones are told apart (v5.14)", False, {"v5.14": True})
    subblock_is_pageblock: bool = feature(
        "a subblock is a pageblock at least; before, the largest order (commit 6e263fff1de4, v5.19)",
        False,
        {"v5.19": True},
    )
    retries_removal: bool = feature(
        "blocks without any plugged part whose removal failed are tried again (v6.6)", False, {"v6.6": True}
    )
    arm64: bool = feature("arm64 has the driver (v5.17)", False, {"v5.17": True})
    s390: bool = feature("s390 has the driver (v6.13)", False, {"v6.13": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vmstat:
    """``vmstat.*``: counters."""

    nr_memmap_pages: bool = feature(
        "/proc/vmstat has nr_memmap_pages and nr_memmap_boot_pages (v6.11)", False, {"v6.11": True}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``config.*``: how the kernel was built. A kernel's own configuration decides, where there is one."""

    memory_hotplug: bool = feature("CONFIG_MEMORY_HOTPLUG: memory can be added", True)
    memory_hotremove: bool = feature("CONFIG_MEMORY_HOTREMOVE: memory can be offlined and removed", True)
    mhp_memmap_on_memory: bool = feature(
        "CONFIG_MHP_MEMMAP_ON_MEMORY: the parameter memory_hotplug.memmap_on_memory (where the architecture has it)",
        True,
    )
    zone_device: bool = feature("CONFIG_ZONE_DEVICE: device memory can have struct pages", True)
    hugetlb_page: bool = feature("CONFIG_HUGETLB_PAGE: pools of huge pages, hugepages= on the command line", True)
    cma: bool = feature("CONFIG_CMA: cma= on the command line", True)

    transparent_hugepage: bool = feature(
        "CONFIG_TRANSPARENT_HUGEPAGE: khugepaged raises min_free_kbytes (not with PREEMPT_RT, not in the recorded v4.20)",
        False,
        {"v5.10": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class X86:
    """``x86.*``."""

    block_size_by_advice: bool = feature(
        "the block size follows advice (CFMWS) and is halved until it divides the end of RAM, on bare metal too (v6.17)",
        False,
        {"v6.17": True},
    )
    leaf_by_free_pagetable: bool = feature(
        "a vmemmap leaf is freed by free_pagetable(), as a page table is (until v7.0)", True, {"v7.1": False}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64:
    """``arm64.*``."""

    rodata_noalias: bool = feature(
        "rodata=on has the direct map in pages, as rodata=full had, and rodata=noalias is what on was (v6.18)",
        False,
        {"v6.18": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Powerpc:
    """``powerpc.*``."""

    radix_vmemmap_walk: bool = feature(
        "radix builds the vmemmap by walking its tables: 2M leaves where one fits, else pages; before, 2M always (v6.6)",
        False,
        {"v6.6": True},
    )
    altmap_cross_boundary: bool = feature(
        "an altmap backs only mappings that describe nothing but its own range (commit 9ef34630a461, v5.3)",
        False,
        {"v5.3": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S390:
    """``s390.*``."""

    removes_memory: bool = feature("arch_remove_memory() works; before it was EBUSY (v5.3)", False, {"v5.3": True})
    section_size_bits: int = feature(
        "SECTION_SIZE_BITS (commit e3a6970b7daf, v6.13; recorded: 28 on v6.12, 27 on v7.2)", 28, {"v6.13": 27}
    )
    mappable: Literal["vmemmap", "memory"] = feature(
        "what can be mapped ends where the vmemmap begins ('vmemmap'), or with the memory, at 512G at least ('memory': v6.10)",
        "vmemmap",
        {"v6.10": "memory"},
    )
    half_page_tables: bool = feature("two page tables of the kernel's own mapping share a page", True, {"v6.12": False})
    standby: Literal["added", "config"] = feature(
        "standby memory is 'added' at boot, offline, or must be configured first ('config': firmware/memory/memoryN, v6.19)",
        "added",
        {"v6.19": "config"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Features(Named):
    """Every feature of a released kernel."""

    memmap_on_memory: MemmapOnMemory
    mhp: Mhp
    altmap: Altmap
    hotplug: Hotplug
    memmap_init: MemmapInit
    memmap_self: MemmapSelf
    offline: Offline
    pageblock: Pageblock
    sparse: Sparse
    isolate: Isolate
    node_notifier: bool = feature(
        "NODE_ADDING_FIRST_MEMORY and its kin replace status_change_nid (v6.17)", False, {"v6.17": True}
    )
    kpageflags: Kpageflags
    acpi: Acpi
    dax: Dax
    hugetlb: Hugetlb
    hv_balloon: HvBalloon
    memremap: Memremap
    virtio_mem: VirtioMem
    vmstat: Vmstat
    config: Config
    x86: X86
    arm64: Arm64
    powerpc: Powerpc
    s390: S390
    bug: Bugs
