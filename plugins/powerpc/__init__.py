"""powerpc (book3s64, pseries): radix or hash MMU, pages of 64K or 4K, sections of 16M, memory as LMBs.

One vmemmap leaf holds the struct pages of several memory blocks: whoever is added first pays for it, whoever
goes last gives it back. Sources: arch/powerpc/mm/init_64.c, book3s64/radix_pgtable.c, book3s64/hash_utils.c,
include/asm/pgtable.h.
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
    OutOfMemory,
    Profile,
    TableLevel,
    UsageError,
    VmemAltmap,
    ZoneType,
    add_pages,
    hookimpl,
    memparse,
    remove_pages,
)

from .dlpar import COMMANDS
from .hotplug_memory import DLPAR
from .mmu import PowerMmu
from .radix_pgtable import P4D, PMD, PUD, radix_populate_compound_pages, radix_tables

memshell_api = 2

OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("block", "256M", "LMB and memory block size; auto: derived from ram, as without LMBs"),
    Option("max", "", "the partition's largest memory; without it LMBs never run out"),
    Option(
        "hypervisor",
        "qemu",
        "whose partition: qemu keeps the LMBs of boot, phyp (PowerVM) takes them too",
        ("qemu", "phyp"),
    ),
    Option("page", "64K", "page size", ("64K", "4K")),
    Option("mmu", "radix", "the MMU", ("radix", "hash")),
    Option("large_pages", "on", "hash: 16M pages, for the kernel's maps too; QEMU's TCG: off", ("on", "off")),
    Option("vmemmap", "", "bytes of a vmemmap mapping of fixed size (hash; radix until v6.5, 64K in v4.20)"),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option("used", "", "what the booted kernel has in use; as recorded without it"),
    Option(
        "nodes", "1", "NUMA nodes; if given, there can be no others. Node 0 has the memory of boot", limits=(1, 256)
    ),  # 1 << CONFIG_NODES_SHIFT
)
# Pages reserved (memmap apart) and in use at boot, of 64K and of 4K: recordings of 6.12 with 2 GiB.
BOOT_PAGES = {
    ("radix", 16): (918, 595),
    ("radix", 12): (16222, 6342),
    ("hash", 16): (661, 605),
    ("hash", 12): (12315, 6270),
}


@dataclass(frozen=True)
class Powerpc(Arch):
    """The powerpc architecture, configured for one machine."""

    name: str = "powerpc"
    machines: tuple[str, ...] = ("ppc64le", "ppc64")
    page_shift: int = 16
    section_size_bits: int = 24
    max_physmem_bits: int = 51
    max_order: int = 8
    pageblock_order: int = 5
    pmd_shift: int = 21
    hugepage_shifts: tuple[int, ...] = (21, 30)
    vmemmap_base: int = 0xC00C000000000000
    page_offset: int = 0xC000000000000000
    hotplug_driver: str = "driver"
    callers: tuple[Caller, ...] = (DLPAR,)
    options: tuple[Option, ...] = OPTIONS
    cpu_keys: tuple[str, ...] = ("cpu", "machine", "MMU")
    unit: int = 0  # bytes of a vmemmap mapping, where it is not the MMU's
    radix: bool = True
    large_pages: bool = True
    maximum: int = 0  # bytes of memory that the partition can have, 0 where nobody says
    phyp: bool = False

    @property
    def mmu(self) -> PowerMmu:
        """How this machine maps memory. Hash without 16M pages maps everything with base pages."""
        linear = 16 * MiB if self.large_pages else self.page_size
        return PowerMmu(self.radix, linear, self.unit or (2 * MiB if self.radix else linear))

    def configure(self, options: Mapping[str, str], profile: Profile) -> Powerpc:
        """Return this architecture with page size, MMU and struct page as ``use`` has them. Raises `UsageError`."""
        del profile
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(
                f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96; 64 in nearly every kernel"
            )
        new = self.built(options["page"] == "64K", options["mmu"] == "radix", options["large_pages"] == "on", size)
        unit = memparse(options["vmemmap"]) if options["vmemmap"] else 0
        if unit and (unit & (unit - 1) or not new.page_size <= unit <= 16 * MiB):
            raise UsageError(f"vmemmap={options['vmemmap']} cannot be", hint="a power of two from a page to 16M")
        maximum, ram = memparse(options["max"] or "0"), memparse(options["ram"])
        if maximum and maximum < ram:
            raise UsageError(
                f"max={options['max']} is less than ram={options['ram']}", hint="the memory of boot is part of it"
            )
        return replace(new, unit=unit, maximum=maximum, phyp=options["hypervisor"] == "phyp")

    def built(self, large: bool, radix: bool, large_pages: bool, struct_page: int = 64) -> Powerpc:
        """Return this architecture with the constants of one kernel build and MMU.

        Source: book3s64/hugetlbpage.c for the pageblock.
        """
        # MAX_PAGE_ORDER (ARCH_FORCE_MAX_ORDER): 8 with pages of 64K, which is a section of 16M; 12 with pages of 4K.
        shift, top = (16, 8) if large else (12, 12)
        # hpage_shift: the first of 16M, 1M, 2M that the MMU has. A pageblock is as large, but no larger than the largest order.
        huge = 21 if radix else 24 if large_pages else 0
        order = min(huge - shift, top) if huge else top
        return replace(
            self,
            page_shift=shift,
            max_order=top,
            pageblock_order=order,
            hugepage_shifts=(21, 30) if radix else (24, 34) if large_pages else (),
            radix=radix,
            large_pages=large_pages,
            struct_page_size=struct_page,
        )

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, Any],
        profile: Profile,
    ) -> Powerpc:
        """Read the page size from the configuration, the MMU from /proc/meminfo (DirectMap: radix)."""
        del cmdline, qemu_args, profile
        meminfo = state.get("meminfo_kb", {})
        new = self.built("CONFIG_PPC_64K_PAGES" in config, "DirectMap2M" in meminfo, "HugePages_Total" in meminfo)
        return replace(new, mem_section_size=32 if "CONFIG_PAGE_EXTENSION" in config else 16)

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """A processor called POWER, or the line that only book3s has."""
        return "POWER" in cpu.get("cpu", "").upper() or "MMU" in cpu

    def shown_cpu(self) -> Mapping[str, str]:
        """Return the processor, and its MMU."""
        machine, mmu = "CHRP IBM pSeries (emulated by qemu)", "Radix" if self.radix else "Hash"
        return {"cpu": "POWER9 (architected), altivec supported", "machine": machine, "MMU": mmu}

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """Read the MMU where /proc/cpuinfo says it, or from the lines that /proc/meminfo has with radix alone."""
        del config, cmdline, profile
        found = {}
        if meminfo is not None:
            found["mmu"] = "radix" if "DirectMap2M" in meminfo else "hash"
            found["large_pages"] = "on" if "HugePages_Total" in meminfo else "off"
        if cpu.get("MMU", "").lower() in ("radix", "hash"):
            found["mmu"] = cpu["MMU"].lower()
        return found

    def direct_map_counters(self) -> dict[str, int]:
        """Return the leaf sizes that /proc/meminfo counts: of the radix MMU only."""
        return {"DirectMap2M": 2 * MiB, "DirectMap1G": GiB} if self.radix else {}

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a QEMU pseries guest as it stands after boot."""
        ram = memparse(options["ram"])
        block = memory_block_size(ram) if options["block"] == "auto" else memparse(options["block"])
        if block < 16 * MiB or block & (block - 1) or ram % block or ram < 512 * MiB:
            raise UsageError(
                f"ram={options['ram']} block={options['block']} cannot be",
                hint="512M or more, whole blocks of a power of two from 16M",
            )
        if self.radix and not self.large_pages:
            raise UsageError("large_pages=off changes nothing with the radix MMU", hint="it is for mmu=hash")
        if self.radix and self.unit and profile.features.powerpc.radix_vmemmap_walk:
            hint = "since v6.6 the radix MMU maps the vmemmap as large as it fits"
            raise UsageError(f"vmemmap={options['vmemmap']} changes nothing with the radix MMU here", hint=hint)
        present = ram >> self.page_shift
        fixed, used = BOOT_PAGES["radix" if self.radix else "hash", self.page_shift]
        memmap = present * self.struct_page_size >> self.page_shift
        # At 4K, 4 GiB reserve 772 pages more than 2 GiB.
        managed = present - memmap - fixed - 193 * (ram - 2 * GiB) // (512 * MiB << max(self.page_shift - 12, 0))
        free = managed - (memparse(options["used"]) >> self.page_shift if options["used"] else used)
        if free <= 0:
            raise UsageError("nothing would be free", hint="less used=, or more ram=")
        orders = (*(free >> order & 1 for order in range(self.max_order)), free >> self.max_order)
        nodes = tuple(range(int(options["nodes"])))
        return BootMemory(
            ((0, present, 0),),
            (BootZone(0, ZoneType.NORMAL, 0, present, present, managed, orders),),
            ((0, 0, ram - 1, "System RAM"),),
            block,
            nodes=nodes,
            cpu_nodes=nodes,
            nr_memmap_boot_pages=-(-ram // (16 * MiB)) * self.section_memmap_pages,
        )

    @property
    def section_memmap_pages(self) -> int:
        """Pages that the memmap of a section counts as."""
        return -(-self.pages_per_section * self.struct_page_size // self.page_size)

    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Map boot memory and its memmap."""
        self.mmu.map_boot(mm, memory.ram)

    def table_levels(self) -> tuple[TableLevel, ...]:
        """The radix tree below its root; a hash table has no levels."""
        radix = TableLevel("pte", PMD), TableLevel("pmd", PUD), TableLevel("pud", P4D)
        return radix if self.radix else ()

    def leaf_sizes(self) -> tuple[int, ...]:
        """Radix: pages, 2M, 1G; hash: what the linear mapping is bolted with. The vmemmap's fixed size comes to these."""
        own = (self.page_size, PMD, PUD) if self.radix else (self.mmu.linear_page,)
        return tuple(sorted({*own, self.mmu.unit}))

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a vmemmap leaf."""
        radix_tables(mm, va, nid, early=early)

    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Map the range, then add its sections; when these fail the mapping goes again.

        Raises EFAULT when there is no memory for the mapping, else what the sections raise.
        """
        try:
            self.mmu.map_ram(mm, start, start + size, nid)
        except OutOfMemory as error:
            raise KernelError(str(error), "EFAULT", where="arch/powerpc/mm/mem.c:arch_create_linear_mapping") from error
        try:
            add_pages(mm, nid, start >> self.page_shift, size >> self.page_shift, altmap)
        except KernelError:
            self.mmu.unmap_ram(mm, start, start + size)
            raise
        mm.max_pfn = max(mm.max_pfn, (start + size) >> self.page_shift)

    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Remove the sections, then unmap the range."""
        remove_pages(mm, start >> self.page_shift, size >> self.page_shift, altmap)
        self.mmu.unmap_ram(mm, start, start + size)

    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map the struct pages as this MMU and kernel do."""
        self.mmu.populate(mm, start, end, nid, altmap)

    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap [start, end): a mapping goes with the last valid pfn whose struct page it holds."""
        self.mmu.free(mm, start, end, altmap)

    def vmemmap_pte_table(self, mm: Mm, va: int, nid: int) -> None:
        """Make sure of the PTE table of *va* and the tables above it; one is a fragment of a page."""
        radix_tables(mm, va, nid, pte=True)

    def vmemmap_populate_compound_pages(self, mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
        """Map the struct pages of a DAX device page by page, as the radix MMU does."""
        radix_populate_compound_pages(mm, pfn, start, end, nid)

    def dax_vmemmap(self, profile: Profile) -> str:
        """Return "radix" where compound pages share memmap: since the radix MMU walks its tables, v6.6."""
        return "radix" if self.radix and profile.features.powerpc.radix_vmemmap_walk else ""

    def has_memmap_on_memory(self, profile: Profile) -> bool:
        """Whether the kernel is built with CONFIG_MHP_MEMMAP_ON_MEMORY: on powerpc since v6.6."""
        return profile.features.memmap_on_memory.powerpc

    def supports_memmap_on_memory(self, vmemmap_size: int, profile: Profile) -> str | None:
        """Return None, or the reason against it: radix only, and with 4K pages the memmap of a block must be whole PMDs."""
        if not self.radix:
            return "arch: radix only"
        return super().supports_memmap_on_memory(vmemmap_size, profile) if self.page_shift == 12 else None


def memory_block_size(ram: int) -> int:
    """probe_memory_block_size() without LMBs: 1G, quartered until it divides the memory or is 16M."""
    size = GiB
    while size > 16 * MiB and ram % size:
        size >>= 2
    return size


@hookimpl
def memshell_arches(ctx: object) -> Iterable[Arch]:
    """Offer the architecture ``powerpc``."""
    del ctx
    return [Powerpc()]


@hookimpl
def memshell_commands(ctx: object) -> Iterable[Command]:
    """Offer the command ``dlpar``."""
    del ctx
    return COMMANDS
