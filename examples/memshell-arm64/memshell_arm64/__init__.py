"""arm64: pages of 4K, 16K or 64K, sections of 128M (512M with 64K pages), a memory block is one section.

Sources: arch/arm64/mm/init.c, include/asm/memory.h, sparsemem.h, pgtable-hwdef.h. There is no recording of an
arm64 machine yet: what a booted kernel has reserved and in use is not known, and has to be given (used=).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from memshell import (
    Arch,
    ArchDefaults,
    BootMemory,
    BootZone,
    Context,
    GiB,
    Mm,
    Option,
    Profile,
    UsageError,
    VmemAltmap,
    ZoneType,
    hookimpl,
    memparse,
)
from memshell_arm64 import mmu

memshell_api = 2

VA_BITS = 48
RAM_START = GiB  # QEMU's virt machine: hw/arm/virt.c, VIRT_MEM
PAGE_OFFSET = (1 << 64) - (1 << VA_BITS)

OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("page", "4K", "page size", ("4K", "16K", "64K")),
    Option("rodata", "full", "full: the direct map is in pages; on: in blocks", ("full", "on")),
    Option("block", "", "memory block size: the section's, nothing else"),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option("used", "0", "what the booted kernel has in use besides the memmap"),
    Option("nodes", "1", "NUMA nodes; node 0 has the memory of boot", limits=(1, 4)),
)
# page size: page shift, SECTION_SIZE_BITS, MAX_PAGE_ORDER
PAGES = {"4K": (12, 27, 10), "16K": (14, 27, 11), "64K": (16, 29, 13)}
IMAGE = ArchDefaults(
    page_size=(4096, "arch/arm64/Kconfig: 4K by default, 16K and 64K are possible"),
    page_size_is_fixed=False,
    section_size_bits=(27, "arch/arm64/include/asm/sparsemem.h; 29 with pages of 64K"),
    max_order={1 << shift: order for shift, _, order in PAGES.values()},
    max_order_source="arch/arm64/Kconfig",
    huge_page_shift=(21, "HPAGE_SHIFT of arch/arm64/include/asm/page-def.h with pages of 4K"),
    block_size="a section (arch/arm64)",
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
    vmemmap_base: int = 0
    page_offset: int = PAGE_OFFSET - RAM_START
    machines: tuple[str, ...] = ("aarch64",)
    options: tuple[Option, ...] = OPTIONS
    image_defaults: ArchDefaults = IMAGE
    blocks: bool = False  # the direct map may be in blocks: not where can_set_direct_map()

    def configure(self, options: Mapping[str, str], profile: Profile) -> Arm64:
        """Apply the options of ``use``: a table has 2^(page_shift - 3) entries, a pageblock is a PMD."""
        del profile
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96")
        shift, section, order = PAGES[options["page"]]
        # VMEMMAP_START of v5.15 to v6.8, with room for struct pages of 64 bytes; RAM is at PHYS_OFFSET.
        start = (1 << 64) - (1 << (VA_BITS - (shift - 6)))
        return replace(
            self,
            page_shift=shift,
            section_size_bits=section,
            max_order=order,
            pageblock_order=shift - 3,
            pmd_shift=2 * shift - 3,
            struct_page_size=size,
            vmemmap_base=start - (RAM_START >> shift) * size,
            zone_limits=((ZoneType.DMA, 4 * GiB >> shift),),
            blocks=options["rodata"] == "on",
        )

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a QEMU virt guest as it stands after boot, with nothing reserved but the memmap."""
        del profile
        ram, section = memparse(options["ram"]), 1 << self.section_size_bits
        if ram % section or not ram:
            raise UsageError(f"ram={options['ram']} cannot be", hint=f"whole sections of {section >> 20}M")
        if options["block"] and memparse(options["block"]) != section:
            hint = f"a block is one section: {section >> 20}M"
            raise UsageError(f"block={options['block']} cannot be", hint=hint)
        first, last = RAM_START >> self.page_shift, (RAM_START + ram) >> self.page_shift
        memmap = (last - first) * self.struct_page_size >> self.page_shift
        zones = self.boot_zones(first, last, memmap, memparse(options["used"]) >> self.page_shift)
        nodes = tuple(range(int(options["nodes"])))
        return BootMemory(
            ((first, last, 0),),
            zones,
            ((0, RAM_START, RAM_START + ram - 1, "System RAM"),),
            section,
            nodes=nodes,
            cpu_nodes=nodes,
            nr_memmap_boot_pages=memmap,
        )

    def boot_zones(self, first: int, last: int, reserved: int, used: int) -> tuple[BootZone, ...]:
        """Return ZONE_DMA below 4G and ZONE_NORMAL above; what is reserved and used lies in the highest."""
        limit = self.zone_limits[0][1]
        zones = []
        for kind, low, high in ((ZoneType.DMA, first, min(last, limit)), (ZoneType.NORMAL, limit, last)):
            if low >= high:
                continue
            managed = high - low - (reserved if high == last else 0)
            free = managed - (used if high == last else 0)
            if free <= 0:
                raise UsageError("nothing would be free", hint="less used=, or more ram=")
            orders = (*(free >> order & 1 for order in range(self.max_order)), free >> self.max_order)
            zones.append(BootZone(0, kind, low, high - low, high - low, managed, orders))
        return tuple(zones)

    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Map boot memory; all tables are early."""
        for first, last, _ in memory.ram:
            start, end = first << self.page_shift, last << self.page_shift
            mmu.create_mapping(mm, start, end, blocks=self.blocks, early=True)
            mmu.early_vmemmap(mm, first, last)

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a PMD entry of the vmemmap."""
        mmu.make_tables(mm, va, nid, "pmd", early=early)

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
        """Boot memory cannot be offlined: EPERM."""
        mmu.prevent_bootmem_remove(mm, action, start_pfn, nr_pages)

    def mhp_range(self) -> tuple[int, int]:
        """arch_get_mappable_range(): the linear map, half of the kernel's addresses, from PHYS_OFFSET on."""
        return RAM_START, RAM_START + (1 << (VA_BITS - 1)) - 1


@hookimpl
def memshell_arches(ctx: Context) -> Iterable[Arch]:
    """Offer arm64."""
    del ctx
    return [Arm64()]
