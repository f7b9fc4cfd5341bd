"""arm64: pages of 4K, 16K or 64K, sections of 128M (512M with 64K pages), a memory block is one section.

Boot memory can never be offlined. Sources: arch/arm64/mm/init.c, mmu.c, include/asm/memory.h, sparsemem.h,
pgtable-hwdef.h; the machine is QEMU's virt with EDK2 and ACPI, as recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memshell import (
    Arch,
    ArchDefaults,
    BootMemory,
    BootZone,
    GiB,
    KiB,
    MiB,
    Mm,
    Option,
    Profile,
    TableLevel,
    UsageError,
    VmemAltmap,
    ZoneType,
    hookimpl,
    memparse,
)

from . import mmu

memshell_api = 2

VA_BITS = 48
RAM_START = GiB  # QEMU, hw/arm/virt.c: VIRT_MEM
FLASH = (64 * MiB, 128 * MiB)  # the variable store; EDK2 reports it, and the kernel takes it as memory (NOMAP)
# What EDK2 keeps for its runtime services and ACPI tables, in bytes below the end of RAM: recorded with 2G, 4G and 8G.
FIRMWARE = ((0x3BC0000, 0x38D0000), (0x400000, 0x20000))
# Recorded on Debian's 6.12 cloud kernel (pages of 4K): memory reserved besides the memmap and what is listed above, and
# in use, of 2G and of each GiB more. With 4G 2 MiB less are reserved than this says, with 8G it is right.
RESERVED, RESERVED_PER_GIB = (11889 - 1744) * 4 * KiB, 756 * 4 * KiB
USED, USED_PER_GIB = 4110 * 4 * KiB, 109 * 4 * KiB
SWIOTLB = 64 * MiB  # of ZONE_DMA, where there is memory above it
USED_BELOW = 384 * 4 * KiB  # of ZONE_DMA, where there is memory above it

OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("page", "4K", "page size", ("4K", "16K", "64K")),
    Option(
        "direct_map",
        "pages",
        "pages: rodata=full (since v6.18: on), the kernel's default; blocks: rodata=noalias, or a CPU with BBML2",
        ("pages", "blocks"),
    ),
    Option("block", "", "memory block size: the section's, nothing else"),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option("used", "", "what the booted kernel has in use; as recorded with pages of 4K without it"),
    Option(
        "nodes", "1", "NUMA nodes; if given, there can be no others. Node 0 has the memory of boot", limits=(1, 16)
    ),  # 1 << CONFIG_NODES_SHIFT
)
# Page size: page shift, SECTION_SIZE_BITS, MAX_PAGE_ORDER.
PAGES = {"4K": (12, 27, 10), "16K": (14, 27, 11), "64K": (16, 29, 13)}
# PMD (the default), contiguous PMDs, contiguous PTEs, and with pages of 4K a PUD: arch/arm64/mm/hugetlbpage.c.
HUGE = {12: (21, 25, 16, 30), 14: (25, 30, 21), 16: (29, 34, 21)}
IMAGE = ArchDefaults(
    page_size=(4096, "arch/arm64/Kconfig: 4K by default, 16K and 64K are possible"),
    page_size_is_fixed=False,
    section_size_bits=(27, "arch/arm64/include/asm/sparsemem.h"),
    max_order={1 << shift: order for shift, _, order in PAGES.values()},
    max_order_source="arch/arm64/Kconfig",
    huge_page_shift=(21, "PMD_SHIFT, arch/arm64/include/asm/pgtable-hwdef.h"),
    block_size="a section (drivers/base/memory.c)",
    by_page_size={1 << shift: (section, HUGE[shift][0]) for shift, section, _ in PAGES.values()},
    pt_regs=("pstate",),
)


@dataclass(frozen=True)
class Arm64(Arch):
    """The arm64 architecture, configured for one machine."""

    name: str = "arm64"
    page_shift: int = 12
    section_size_bits: int = 27
    max_physmem_bits: int = 48
    max_order: int = 10
    pageblock_order: int = 9
    pmd_shift: int = 21
    vmemmap_base: int = (1 << 64) - (1 << (VA_BITS - 6))
    page_offset: int = (1 << 64) - (1 << VA_BITS)  # the flash lies in the first GiB, so memstart_addr is 0
    zone_limits: tuple[tuple[ZoneType, int], ...] = ((ZoneType.DMA, 1 << 20), (ZoneType.DMA32, 1 << 20))
    hugepage_shifts: tuple[int, ...] = HUGE[12]
    boot_words: tuple[str, ...] = ("rodata", "kfence.sample_interval")
    dimm_floor: int | None = RAM_START
    machines: tuple[str, ...] = ("aarch64",)
    options: tuple[Option, ...] = OPTIONS
    image_defaults: ArchDefaults = IMAGE
    cpu_keys: tuple[str, ...] = ("CPU implementer",)
    blocks: bool = False  # the direct map may be in blocks: not where force_pte_mapping()

    def configure(self, options: Mapping[str, str], profile: Profile) -> Arm64:
        """Apply the options of ``use``."""
        del profile
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96")
        return replace(self.built(options["page"], size), blocks=options["direct_map"] == "blocks")

    def built(self, page: str, struct_page: int = 64) -> Arm64:
        """Return this architecture with pages of *page*: a table has a page of entries, a pageblock is a PMD.

        The vmemmap begins as in v5.15 to v6.8, with room for struct pages of 64 bytes; later it ends 1G below the end of
        the addresses, and nothing else changes.
        """
        shift, section, order = PAGES[page]
        limit = 4 * GiB >> shift
        return replace(
            self,
            page_shift=shift,
            section_size_bits=section,
            max_order=order,
            pageblock_order=shift - 3,
            pmd_shift=2 * shift - 3,
            struct_page_size=struct_page,
            vmemmap_base=(1 << 64) - (1 << (VA_BITS - (shift - 6))),
            zone_limits=((ZoneType.DMA, limit), (ZoneType.DMA32, limit)),
            hugepage_shifts=HUGE[shift],
        )

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, object],
        profile: Profile,
    ) -> Arm64:
        """Read the page size from the configuration, and what the direct map is made of from the command line."""
        del qemu_args, state
        page = next((size for size in PAGES if f"CONFIG_PAGE_SIZE_{size}B" in config), "4K")
        page = next((size for size in PAGES if f"CONFIG_ARM64_{size}_PAGES" in config), page)
        sections = 32 if config.get("CONFIG_PAGE_EXTENSION") == "y" else 16
        pages = mmu.force_pte_mapping(config, cmdline, profile)
        return replace(self.built(page), blocks=not pages, mem_section_size=sections)

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """The line that only arm64 has (and 32-bit arm, which has no memory hotplug)."""
        return "CPU implementer" in cpu

    def shown_cpu(self) -> Mapping[str, str]:
        """Return the line that tells the architecture, of an Arm core."""
        return {"CPU implementer": "0x41"}

    def shown_words(self, profile: Profile) -> Sequence[str]:
        """Say rodata=off where the direct map may be in blocks: else it is in pages."""
        del profile
        return ("rodata=off",) if self.blocks else ()

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """Read from the boot parameters what the direct map is made of."""
        del cpu, meminfo
        return {"direct_map": "pages" if mmu.force_pte_mapping(config, cmdline, profile) else "blocks"}

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a guest of QEMU's virt machine with EDK2 and ACPI as it stands after boot."""
        del profile
        ram, section = memparse(options["ram"]), 1 << self.section_size_bits
        if ram % section or ram < 512 * MiB:
            hint = f"512M or more, whole sections of {section >> 20}M"
            raise UsageError(f"ram={options['ram']} cannot be", hint=hint)
        if options["block"] and memparse(options["block"]) != section:
            hint = f"a block is one section: {section >> 20}M"
            raise UsageError(f"block={options['block']} cannot be", hint=hint)
        end = RAM_START + ram
        nomap = (FLASH, *((end - a, end - b) for a, b in FIRMWARE))
        system_ram = (
            (RAM_START, end - FIRMWARE[0][0]),
            *((end - FIRMWARE[i][1], end - FIRMWARE[i + 1][0]) for i in range(len(FIRMWARE) - 1)),
            (end - FIRMWARE[-1][1], end),
        )
        lines = [(0, a, b - 1, "System RAM") for a, b in system_ram] + [(0, a, b - 1, "reserved") for a, b in nomap]
        nodes = tuple(range(int(options["nodes"])))
        sections = -(-FLASH[1] // section) - FLASH[0] // section + ram // section
        memmap = sections * self.pages_per_section * self.struct_page_size >> self.page_shift
        used = memparse(options["used"]) if options["used"] else None
        return BootMemory(
            tuple((a >> self.page_shift, b >> self.page_shift, 0) for a, b in system_ram),
            self.boot_zones(ram, memmap, used),
            tuple(sorted(lines, key=lambda line: line[1])),
            section,
            nodes=nodes,
            cpu_nodes=nodes,
            nr_memmap_boot_pages=memmap,
            nomap=tuple((a >> self.page_shift, b >> self.page_shift, 0) for a, b in nomap),
        )

    def boot_zones(self, ram: int, memmap: int, used: int | None) -> tuple[BootZone, ...]:
        """Return ZONE_DMA below 4G and ZONE_NORMAL above; the memmap and most of what is reserved lie in the highest."""
        more = (ram - 2 * GiB) / GiB
        kept = int(RESERVED + max(more, 0) * RESERVED_PER_GIB) + (memmap << self.page_shift)
        kept += sum(a - b for a, b in FIRMWARE)
        taken = int(USED + max(more, 0) * USED_PER_GIB) if used is None else used
        flash, end, limit = FLASH[1] - FLASH[0], RAM_START + ram, 4 * GiB
        if end <= limit:
            return (self._zone(ZoneType.DMA, FLASH[0], end, ram + flash, flash + kept, taken),)
        low = limit - RAM_START + flash
        return (
            self._zone(ZoneType.DMA, FLASH[0], limit, low, flash + SWIOTLB, USED_BELOW),
            self._zone(ZoneType.NORMAL, limit, end, end - limit, kept, taken),
        )

    def _zone(self, kind: ZoneType, start: int, end: int, present: int, kept: int, used: int) -> BootZone:
        """Return a zone of [start, end) bytes, of which *kept* are reserved and *used* in use."""
        shift = self.page_shift
        managed = present - kept >> shift
        free = managed - (used >> shift)
        if free <= 0:
            raise UsageError("nothing would be free", hint="less used=, or more ram=")
        orders = (*(free >> order & 1 for order in range(self.max_order)), free >> self.max_order)
        return BootZone(0, kind, start >> shift, end - start >> shift, present >> shift, managed, orders)

    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Map boot memory, and the struct pages of its sections; all tables are early."""
        for first, last, _ in memory.ram:
            start, end = first << self.page_shift, last << self.page_shift
            mmu.create_mapping(mm, start, end, blocks=self.blocks, early=True)
        for first, last, _ in (*memory.ram, *memory.nomap):
            mmu.early_vmemmap(mm, first, last)

    def table_levels(self) -> tuple[TableLevel, ...]:
        """With pages of 64K there is no PUD level."""
        return super().table_levels()[: 2 if self.page_shift == 16 else 3]

    def leaf_sizes(self) -> tuple[int, ...]:
        """Pages, PMDs, contiguous PMDs, and with pages of 4K PUDs."""
        pmd = 1 << self.pmd_shift
        sizes = (self.page_size, pmd, pmd << mmu.CONT_PMD_SHIFT[self.page_shift])
        return (*sizes, GiB) if self.page_shift == 12 else sizes

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a PMD entry of the vmemmap."""
        mmu.make_tables(mm, va, nid, "pmd", early=early)

    def has_virtio_mem(self, profile: Profile) -> bool:
        """Whether the kernel has the virtio-mem driver."""
        return profile.features.virtio_mem.arm64

    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Map the range, then add its sections."""
        mmu.add_memory(mm, nid, start, size, altmap, blocks=self.blocks)

    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Remove the sections, then unmap the range."""
        mmu.remove_memory(mm, start, size, altmap)

    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map the struct pages at the addresses [start, end)."""
        mmu.vmemmap_populate(mm, start, end, nid, altmap)

    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap the struct pages at the addresses [start, end)."""
        mmu.vmemmap_free(mm, start, end, altmap)

    def memory_notify(self, mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
        """Boot memory cannot be offlined, nor (since v7.1) what begins or ends inside of a leaf: EPERM."""
        mmu.prevent_memory_remove(mm, action, start_pfn, nr_pages)

    def mhp_range(self) -> tuple[int, int]:
        """arch_get_mappable_range(): the linear map, half of the kernel's addresses."""
        return 0, (1 << (VA_BITS - 1)) - 1


@hookimpl
def memshell_arches(ctx: object) -> Iterable[Arch]:
    """Offer arm64."""
    del ctx
    return [Arm64()]
