"""x86_64: 4-level or 5-level paging, 4K pages, a direct map of 1G, 2M and 4K leaves, block sizes from 128M to 2G.

Sources: arch/x86/mm/init_64.c, arch/x86/mm/init.c, mm/sparse-vmemmap.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from memshell import (
    Arch,
    BootMemory,
    GiB,
    MiB,
    Mm,
    Option,
    Profile,
    TableLevel,
    UsageError,
    VmemAltmap,
    ZoneType,
    align_down,
    align_up,
    ensure_table,
    hookimpl,
    memparse,
    set_early_leaves,
)

from .init_64 import map_range, x86_arch_add_memory, x86_arch_remove_memory, x86_vmemmap_free, x86_vmemmap_populate
from .setup import FIRST_MIB, PFN_4G, PRESETS, boot_counts, boot_zones, e820

memshell_api = 2

PMD, PUD, P4D = 2 * MiB, GiB, 512 * GiB
LARGE_BLOCKS = 64 * GiB  # MEM_SIZE_FOR_LARGE_BLOCK: from here on memory blocks may be larger than a section

OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("block", "", "memory block size; the kernel's own rule without it"),
    Option("mem", "", "mem= on the command line: the kernel uses RAM below this address only"),
    Option("reserved", "", "RAM that MemTotal does not count: kernel image, memmap, holes; as recorded without it"),
    Option("used", "", "what of MemTotal the booted kernel has in use; as recorded without it"),
    Option("preset", "", "reserved and used of a small kernel: " + ", ".join(PRESETS)),
    Option("la57", "off", "5-level paging", ("on", "off")),
    Option("gbpages", "on", "1G leaves in the direct map", ("on", "off")),
    Option("hypervisor", "on", "the CPU says that it is a guest's", ("on", "off")),
    Option("advice", "", "block size that the firmware's CXL windows advise (v6.17 and later)"),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option(
        "nodes", "1", "NUMA nodes; if given, there can be no others. Node 0 has the memory of boot", limits=(1, 1024)
    ),  # 1 << CONFIG_NODES_SHIFT
)


@dataclass(frozen=True)
class X86(Arch):
    """The x86_64 architecture, configured for one machine."""

    name: str = "x86_64"
    page_shift: int = 12
    section_size_bits: int = 27
    max_physmem_bits: int = 46
    max_order: int = 10
    pageblock_order: int = 9
    pmd_shift: int = 21
    vmemmap_hugepages = True
    blocks_in_rows = True
    hugepage_shifts: tuple[int, ...] = (21, 30)
    vmemmap_base: int = 0xFFFFEA0000000000
    page_offset: int = 0xFFFF888000000000
    zone_limits: tuple[tuple[ZoneType, int], ...] = ((ZoneType.DMA, 4096), (ZoneType.DMA32, PFN_4G))
    options: tuple[Option, ...] = OPTIONS
    cpu_keys: tuple[str, ...] = ("vendor_id", "flags")
    gbpages: bool = True
    hypervisor: bool = True

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """64-bit processors have the flag lm."""
        return "lm" in cpu.get("flags", "").split()

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """Read 5-level paging from the CPU's flags, and leaves of 1G from the line that /proc/meminfo has with them."""
        del config, cmdline, profile
        flags = cpu.get("flags", "").split()
        found = {name: "on" if name in flags else "off" for name in ("la57", "hypervisor")} if flags else {}
        return found | ({} if meminfo is None else {"gbpages": "on" if "DirectMap1G" in meminfo else "off"})

    def shown_cpu(self) -> Mapping[str, str]:
        """Return the flags that `read_options` looks for."""
        flags = {
            "lm": True,
            "pdpe1gb": self.gbpages,
            "hypervisor": self.hypervisor,
            "la57": self.max_physmem_bits == 52,
        }
        return {"vendor_id": "GenuineIntel", "flags": " ".join(flag for flag, there in flags.items() if there)}

    def configure(self, options: Mapping[str, str], profile: Profile) -> X86:
        """Return this architecture with paging, struct page and hypervisor bit as ``use`` has them. Raises `UsageError`."""
        del profile
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(
                f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96; 64 in nearly every kernel"
            )
        new = replace(
            self, struct_page_size=size, gbpages=options["gbpages"] == "on", hypervisor=options["hypervisor"] == "on"
        )
        if options["la57"] == "on":
            return replace(new, max_physmem_bits=52, vmemmap_base=0xFFD4000000000000, page_offset=0xFF11000000000000)
        return new

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, object],
        profile: Profile,
    ) -> X86:
        """Return this architecture with the switches of the recorded CPU, command line and configuration."""
        del state, profile
        cpu = " ".join(qemu_args)
        size = 32 if config.get("CONFIG_PAGE_EXTENSION") == "y" else 16
        gbpages = "nogbpages" not in cmdline and "pdpe1gb=off" not in cpu
        return replace(self, gbpages=gbpages, hypervisor="hypervisor=off" not in cpu, mem_section_size=size)

    def direct_map_counters(self) -> dict[str, int]:
        """Return the leaf sizes that /proc/meminfo counts: 2M, and 1G where there are; hot-added memory has no 4K leaves."""
        return {"DirectMap2M": PMD, "DirectMap1G": PUD} if self.gbpages else {"DirectMap2M": PMD}

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a QEMU q35 guest as it stands after boot: see `setup`."""
        layout = e820(options)
        max_pfn = layout.ranges[-1][1]
        self._need_effect(options, max_pfn, profile)
        block = (
            memparse(options["block"])
            if options["block"]
            else self.memory_block_size_bytes(max_pfn, profile, memparse(options["advice"] or "0"))
        )
        if not 128 * MiB <= block <= 2 * GiB or block & (block - 1):  # MAX_BLOCK_SIZE in arch/x86/mm/init_64.c
            raise UsageError(f"block={options['block']} cannot be", hint="a power of two from 128M to 2G")
        memmap = align_up(layout.ram, 128 * MiB) // 4096 * self.struct_page_size // 4096
        counts = boot_counts(options, layout, memmap, profile.name)
        zones = boot_zones(layout, counts, self.max_order)
        top = layout.ranges[1][1]
        iomem = [
            (0, 0, 0xFFF, "Reserved"),
            (0, 0x1000, 0x9FBFF, "System RAM"),
            (0, 0x9FC00, 0x9FFFF, "Reserved"),
            (0, 0xF0000, 0xFFFFF, "Reserved"),
            (0, 0x100000, (top << 12) - 1, "System RAM"),
            (0, layout.low - (32 << 12), layout.low - 1, "Reserved"),
            (0, 0xFEFFC000, 0xFEFFFFFF, "Reserved"),
            (0, 0xFFFC0000, 0xFFFFFFFF, "Reserved"),
        ]
        if max_pfn > PFN_4G:
            iomem.append((0, PFN_4G << 12, (max_pfn << 12) - 1, "System RAM"))
        nodes = tuple(range(int(options["nodes"])))
        return BootMemory(
            tuple(layout.ranges),
            zones,
            tuple(iomem),
            block,
            nodes=nodes,
            cpu_nodes=nodes,
            nr_memmap_boot_pages=memmap,
            reserved_at_end=max(counts.reserved - counts.below_4g - FIRST_MIB, 0),
        )

    def _need_effect(self, options: Mapping[str, str], max_pfn: int, profile: Profile) -> None:
        """Refuse keys that the kernel has no look at. Raises `UsageError`."""
        given = [
            f"{key}={options[key]}" for key, idle in (("advice", ""), ("hypervisor", "on")) if options[key] != idle
        ]
        if not given:
            return
        problem = f"{given[0]} changes nothing here"
        if options["block"]:
            raise UsageError(problem, hint=f"block={options['block']} says the block size")
        if options["advice"] and not profile.features.x86.block_size_by_advice:
            raise UsageError(problem, hint="kernels ask for the advice since v6.17")
        if max_pfn << self.page_shift < LARGE_BLOCKS:
            raise UsageError(problem, hint="the kernel looks at it from 64G of RAM on; below, blocks have 128M")

    def memory_block_size_bytes(self, max_pfn: int, profile: Profile, advice: int = 0) -> int:
        """probe_memory_block_size(): 128M below 64G; else the largest up to 2G that divides the end of RAM, 2G on bare metal.

        Since v6.17 *advice* (bytes, 0 for none) bounds the size, and makes bare metal look at the end of RAM too.
        """
        end = max_pfn << self.page_shift
        if not profile.features.x86.block_size_by_advice:
            advice = 0
        if end < LARGE_BLOCKS:
            return 128 * MiB
        if not self.hypervisor and not advice:
            return 2 * GiB
        size = min(max(advice or 2 * GiB, 128 * MiB), 2 * GiB)
        while size > 128 * MiB and end % size:
            size >>= 1
        return size

    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Map boot memory: the direct map in the largest leaves, the vmemmap in 2M leaves; all tables are early."""
        size = self.pages_per_section
        for start, end, _ in memory.ram:
            map_range(mm, start << 12, align_up(end << 12, PMD), gbpages=self.gbpages, early=True)
            first, last = self.vmemmap_address(align_down(start, size)), self.vmemmap_address(align_up(end, size))
            for va in range(align_down(first, PUD), last, PUD):
                self.vmemmap_tables(mm, va, 0, early=True)
            set_early_leaves(mm, align_down(first, PMD), align_up(last, PMD), PMD)

    def table_levels(self) -> tuple[TableLevel, ...]:
        """PTE, PMD and PUD tables; these last are freed with 5-level paging only (remove_p4d_table), which is not modelled."""
        return TableLevel("pte", PMD), TableLevel("pmd", PUD), TableLevel("p4d_pud", P4D, stays=True)

    def leaf_sizes(self) -> tuple[int, ...]:
        """Pages, PMDs, and PUDs where the CPU has pdpe1gb."""
        return (self.page_size, PMD, PUD) if self.gbpages else (self.page_size, PMD)

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a vmemmap leaf."""
        ensure_table(mm, "p4d_pud", va, P4D, nid, early=early)
        ensure_table(mm, "pmd", va, PUD, nid, early=early)

    def has_virtio_mem(self, profile: Profile) -> bool:
        """Whether the kernel has the virtio-mem driver."""
        return profile.features.virtio_mem.exists

    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Map the range, then add its sections. An error of add_pages leaves mapping and sections (the kernel does)."""
        x86_arch_add_memory(mm, nid, start, size, altmap, gbpages=self.gbpages)

    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Remove the sections, then unmap the range."""
        x86_arch_remove_memory(mm, start, size, altmap)

    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map with 2M leaves; a range smaller than a section with base pages, never from the altmap."""
        x86_vmemmap_populate(mm, start, end, nid, altmap)

    def dax_vmemmap(self, profile: Profile) -> str:
        """Return "generic" where compound pages of a DAX device share memmap: since v5.18."""
        return "generic" if profile.features.dax.compound_vmemmap else ""

    def vmemmap_pages_freed(self, mm: Mm, nr_pages: int) -> int:
        """Return all of them; free_pagetable() frees a leaf as one page where it takes it for a page table."""
        if mm.features.x86.leaf_by_free_pagetable:
            mm.enter("free_pagetable")
        return 1 if mm.features.bug.x86_memmap_leaf_freed_as_page else nr_pages

    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap [start, end) and free what backed it."""
        x86_vmemmap_free(mm, start, end, altmap)


@hookimpl
def memshell_arches(ctx: object) -> Iterable[Arch]:
    """Offer the architecture ``x86_64``."""
    del ctx
    return [X86()]
