"""s390x: 4K pages, 1M segments with EDAT, blocks of 256M (128M since v6.13), standby memory, two kernel zones.

Sources: arch/s390/mm/init.c, arch/s390/mm/vmem.c, drivers/s390/char/sclp_cmd.c and sclp_mem.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from memshell import (
    Arch,
    BootMemory,
    BootZone,
    Caller,
    Command,
    GiB,
    KernelError,
    MiB,
    Mm,
    Option,
    Profile,
    TableLevel,
    TiB,
    UsageError,
    VmemAltmap,
    ZoneType,
    add_pages,
    hookimpl,
    memparse,
    remove_pages,
)

from .callers import SCLP
from .commands import COMMANDS
from .sclp_cmd import insert_increments, sclp_add_standby_memory, sclp_mem_notifier
from .sclp_mem import firmware_store, sclp_mems
from .vmem import (
    crst_tables,
    vmem_add_mapping,
    vmem_map_init,
    vmem_remove_mapping,
    vmem_vmemmap_free,
    vmem_vmemmap_populate,
)

memshell_api = 2

SEGMENT, REGION3, REGION2 = MiB, 2 * GiB, 4 * TiB
MAX_DCSS = 512 * GiB  # arch/s390/mm/extmem.c: what can always be mapped
DMA_PFN = REGION3 >> 12

OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("standby", "0", "standby memory above it"),
    Option("block", "", "storage increment; a memory block is that large, and a section at least"),
    Option("edat", "2", "1: maps segments of 1M, 2: regions of 2G too; QEMU's TCG: off", ("off", "1", "2")),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option("used", "", "what the booted kernel has in use; as recorded without it"),
)


@dataclass(frozen=True)
class S390(Arch):
    """The s390 architecture, configured for one machine."""

    name: str = "s390"
    big_endian: bool = True
    callers: tuple[Caller, ...] = (SCLP,)
    machines: tuple[str, ...] = ("s390x",)
    page_shift: int = 12
    section_size_bits: int = 28
    max_physmem_bits: int = 46
    max_order: int = 10
    pageblock_order: int = 8
    pmd_shift: int = 20
    hugepage_shifts: tuple[int, ...] = (20, 31)
    hugepage_migration: bool = False
    vmemmap_base: int = 0x0000037200000000
    page_offset: int = 0
    zone_limits: tuple[tuple[ZoneType, int], ...] = ((ZoneType.DMA, DMA_PFN),)
    possible_nodes: tuple[int, ...] = (0,)
    hotplug_driver: str = "driver"
    options: tuple[Option, ...] = OPTIONS
    cpu_keys: tuple[str, ...] = ("vendor_id", "features")
    edat: int = 2
    max_mappable: int = MAX_DCSS

    def configure(self, options: Mapping[str, str], profile: Profile) -> S390:
        """Return this architecture with EDAT, struct page and standby memory as ``use`` has them. Raises `UsageError`."""
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(
                f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96; 64 in nearly every kernel"
            )
        # Until v6.9 the start of the vmemmap ends what can be mapped; since v6.10 memory and standby memory do, from 512 GiB on.
        end = max(memparse(options["ram"]) + memparse(options["standby"]), MAX_DCSS)
        edat = 0 if options["edat"] == "off" else int(options["edat"])
        return replace(
            self,
            edat=edat,
            hugepage_shifts=self.hugepage_shifts[:edat],
            struct_page_size=size,
            section_size_bits=profile.features.s390.section_size_bits,
            max_mappable=self.vmemmap_base if profile.features.s390.mappable == "vmemmap" else end,
        )

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, Any],
        profile: Profile,
    ) -> S390:
        """Read EDAT from the lines that /proc/meminfo has."""
        del cmdline, qemu_args
        meminfo = state.get("meminfo_kb", {})
        edat = 2 if "DirectMap2G" in meminfo else 1 if "DirectMap1M" in meminfo else 0
        return replace(
            self,
            edat=edat,
            hugepage_shifts=self.hugepage_shifts[:edat],
            section_size_bits=profile.features.s390.section_size_bits,
            mem_section_size=32 if "CONFIG_PAGE_EXTENSION" in config else 16,
        )

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """The vendor says it."""
        return "IBM/S390" in cpu.get("vendor_id", "")

    def shown_cpu(self) -> Mapping[str, str]:
        """Return the vendor."""
        return {"vendor_id": "IBM/S390"}

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """Read EDAT from the lines that /proc/meminfo has with it."""
        del cpu, config, cmdline, profile
        if meminfo is None:
            return {}
        return {"edat": "2" if "DirectMap2G" in meminfo else "1" if "DirectMap1M" in meminfo else "off"}

    def direct_map_counters(self) -> dict[str, int]:
        """Return the leaf sizes that /proc/meminfo counts: those that the machine's EDAT allows."""
        names = (("DirectMap4k", 4096), ("DirectMap1M", SEGMENT), ("DirectMap2G", REGION3))
        return dict(names[: self.edat + 1])

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a guest as it stands after boot.

        Reserved and used pages follow the recordings of QEMU guests of 2 and 4 GiB under Debian's 6.12: the
        memmap, and 5,743 pages and 914 a GiB (page tables of a machine without EDAT among them); above 2 GiB,
        5,535 of them stay below.
        """
        del profile
        ram, block = (memparse(options["ram"]), max(1 << self.section_size_bits, memparse(options["block"] or "0")))
        standby = memparse(options["standby"])
        wanted = memparse(options["block"] or "1M")
        if wanted < MiB or wanted & (wanted - 1):
            raise UsageError(f"block={options['block']} cannot be", hint="a power of two from 1M on")
        if block & (block - 1) or ram % block or standby % MiB or ram < block:
            raise UsageError(
                f"ram={options['ram']} cannot be", hint=f"whole blocks of {block >> 20}M, and standby in whole MiB"
            )
        used = memparse(options["used"]) >> 12 if options["used"] else 5200
        memmap = ram // 4096 * self.struct_page_size // 4096
        if used >= (ram >> 12) - memmap - 5743 - 914 * ram // GiB:
            raise UsageError("nothing would be free", hint="less used=, or more ram=")
        zones = _boot_zones(ram >> 12, memmap + 5743 + 914 * ram // GiB, used, self.max_order)
        return BootMemory(
            ((0, ram >> 12, 0),),
            zones,
            ((0, 0, ram - 1, "System RAM"),),
            block,
            nr_memmap_boot_pages=memmap,
            standby=((ram, ram + standby),) if standby else (),
        )

    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Map boot memory; all tables are early."""
        vmem_map_init(mm, memory.ram, edat=self.edat)

    def late_init(self, mm: Mm, memory: BootMemory) -> None:
        """sclp_detect_standby_memory(): the initcall that adds standby memory."""
        if memory.standby:
            for first, last, _ in memory.ram:
                insert_increments(mm, first << 12, last << 12, standby=False)
        for start, end in memory.standby:
            insert_increments(mm, start, end, standby=True)
        sclp_add_standby_memory(mm, edat1=bool(self.edat))

    def table_levels(self) -> tuple[TableLevel, ...]:
        """Page tables, segment tables and region-3 tables."""
        return TableLevel("pte", SEGMENT), TableLevel("pmd", REGION3), TableLevel("pud", REGION2)

    def leaf_sizes(self) -> tuple[int, ...]:
        """Pages, with EDAT1 segments, with EDAT2 regions of 2G."""
        return (self.page_size, SEGMENT, REGION3)[: self.edat + 1]

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a vmemmap leaf."""
        del nid
        crst_tables(mm, va, early=early)

    def firmware_memory(self, mm: Mm) -> Mapping[int, tuple[bool, bool]] | None:
        """Return the blocks in /sys/firmware/memory, since standby memory is configured by hand."""
        return sclp_mems(mm)

    def firmware_store(self, mm: Mm, block_id: int, name: str, value: bool) -> None:
        """Write to a file of a block in /sys/firmware/memory."""
        firmware_store(mm, block_id, name, value)

    def has_virtio_mem(self, profile: Profile) -> bool:
        """Whether the kernel has the virtio-mem driver."""
        return profile.features.virtio_mem.s390

    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Map the range, then add its sections; when these fail the mapping goes again.

        Raises EINVAL for an altmap before v6.9, else what the sections raise.
        """
        if altmap is not None and not mm.features.memmap_on_memory.s390:
            raise KernelError("altmap is not supported", "EINVAL", where="arch/s390/mm/init.c:arch_add_memory")
        mm.seam.veto_from_range(mm)
        vmem_add_mapping(mm, start, size, edat=self.edat)
        try:
            add_pages(mm, nid, start >> 12, size >> 12, altmap)
        except KernelError:
            vmem_remove_mapping(mm, start, size)
            raise
        mm.max_pfn = max(mm.max_pfn, (start + size) >> 12)

    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Remove the sections, then unmap the range. EBUSY until v5.3: s390 could not."""
        if not mm.features.s390.removes_memory:
            raise KernelError("s390 cannot remove memory", "EBUSY", where="arch/s390/mm/init.c:arch_remove_memory")
        remove_pages(mm, start >> 12, size >> 12, altmap)
        vmem_remove_mapping(mm, start, size)

    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map the struct pages with segments or pages.

        An altmap was ignored while s390 had none (until v6.8).
        """
        del nid
        altmap = altmap if mm.features.memmap_on_memory.s390 else None
        vmem_vmemmap_populate(mm, start, end, altmap, edat=self.edat)

    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap [start, end) and free what backed it."""
        vmem_vmemmap_free(mm, start, end, altmap)

    def has_memmap_on_memory(self, profile: Profile) -> bool:
        """Whether the kernel is built with CONFIG_MHP_MEMMAP_ON_MEMORY: on s390 since v6.9."""
        return profile.features.memmap_on_memory.s390

    def memory_notify(self, mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
        """Assign storage before it is used, unassign it after; veto a block that is partly standby."""
        sclp_mem_notifier(mm, action, start_pfn, nr_pages)

    def mhp_range(self) -> tuple[int, int]:
        """What the identity mapping can hold: memory and standby memory, 512 GiB at least; up to the vmemmap before v6.10."""
        return 0, self.max_mappable - 1


def _boot_zones(pages: int, reserved: int, used: int, top: int) -> tuple[BootZone, ...]:
    """Spread the reserved and used pages of boot: all but 5,535 and 16 lie where the highest memory is."""
    low = min(pages, DMA_PFN)
    if pages <= DMA_PFN:
        return (_zone(ZoneType.DMA, 0, low, reserved, used, top),)
    return _zone(ZoneType.DMA, 0, low, 5535, 16, top), _zone(
        ZoneType.NORMAL, low, pages - low, reserved - 5535, used, top
    )


def _zone(kind: ZoneType, start: int, present: int, reserved: int, used: int, top: int) -> BootZone:
    managed = present - min(present, reserved)
    free = managed - min(managed, used)
    return BootZone(
        0, kind, start, present, present, managed, (*(free >> order & 1 for order in range(top)), free >> top)
    )


@hookimpl
def memshell_arches(ctx: object) -> Iterable[Arch]:
    """Offer the architecture ``s390``."""
    del ctx
    return [S390()]


@hookimpl
def memshell_commands(ctx: object) -> Iterable[Command]:
    """Offer the commands ``configure`` and ``deconfigure``."""
    del ctx
    return COMMANDS
