"""riscv64: Sv39, Sv48 and Sv57, 4K pages, sections and memory blocks of 128M; memory hotplug exists since v6.11.

Sources, of v6.12: arch/riscv/mm/init.c, include/asm/pgtable.h, pgtable-64.h, sparsemem.h, Documentation/arch/riscv/vm-layout.rst.
No riscv64 machine was recorded: what a booted kernel has reserved besides its memmap, and in use, has to be given (used=).
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
    align_down,
    align_up,
    ensure_table,
    free_unused_tables,
    free_vmemmap_pages,
    hookimpl,
    leaf_pfn,
    memparse,
    mirrors,
    remove_pages,
    set_early_leaves,
    set_leaf,
    vmemmap_populate_hugepages,
)

memshell_api = 2

RAM_START = 2 * GiB  # QEMU, hw/riscv/virt.c: VIRT_DRAM
PFN_4G = 4 * GiB >> 12
PMD, PUD, P4D = 2 * MiB, GiB, 512 * GiB
# Levels of tables, the lowest first: (name, bytes that one table spans).
LEVELS = (("pte", PMD), ("pmd", PUD), ("pud", P4D), ("p4d", 256 * TiB))


@dataclass(frozen=True)
class Mode:
    """One SATP mode: how many of LEVELS lie below the PGD, and where the kernel has its maps."""

    levels: int
    vmemmap: int
    page_offset: int
    page_end: int  # KASAN_SHADOW_START


MODES = {
    "sv57": Mode(4, 0xFF1C000000000000, 0xFF60000000000000, 0xFFDF000000000000),
    "sv48": Mode(3, 0xFFFF8D8000000000, 0xFFFFAF8000000000, 0xFFFFEF8000000000),
    "sv39": Mode(2, 0xFFFFFFC500000000, 0xFFFFFFD600000000, 0xFFFFFFF700000000),
}
OPTIONS = (
    Option("ram", "2G", "memory at boot"),
    Option("mmu", "sv57", "the SATP mode: what the processor can, at most", tuple(MODES)),
    Option("struct_page", "64", "sizeof(struct page) in bytes"),
    Option("used", "0", "what the booted kernel has in use besides the memmap"),
    Option("nodes", "1", "NUMA nodes; node 0 has the memory of boot", limits=(1, 4)),  # 1 << NODES_SHIFT
)
IMAGE = ArchDefaults(
    page_size=(4096, "arch/riscv/include/asm/page.h"),
    page_size_is_fixed=True,
    section_size_bits=(27, "arch/riscv/include/asm/sparsemem.h"),
    max_order={4096: 10},
    max_order_source="include/linux/mmzone.h",
    huge_page_shift=(21, "HPAGE_SHIFT of arch/riscv/include/asm/page.h"),
    block_size="a section (drivers/base/memory.c)",
    pt_regs=("epc", "badaddr"),
)


@dataclass(frozen=True)
class Riscv64(Arch):
    """The riscv64 architecture, configured for one machine."""

    name: str = "riscv64"
    page_shift: int = 12
    section_size_bits: int = 27
    max_physmem_bits: int = 56
    max_order: int = 10
    pageblock_order: int = 9
    pmd_shift: int = 21
    vmemmap_base: int = MODES["sv57"].vmemmap - (RAM_START >> 12) * 64
    page_offset: int = MODES["sv57"].page_offset - RAM_START
    zone_limits: tuple[tuple[ZoneType, int], ...] = ((ZoneType.DMA32, PFN_4G),)
    hugepage_shifts: tuple[int, ...] = (21, 30)
    options: tuple[Option, ...] = OPTIONS
    image_defaults: ArchDefaults = IMAGE
    cpu_keys: tuple[str, ...] = ("isa", "mmu")
    since: str = "v6.11"  # "riscv: mm: Add memory hotplugging support"
    mmu: str = "sv57"

    # --- which machine ---

    def configure(self, options: Mapping[str, str], profile: Profile) -> Riscv64:
        """Apply the options of ``use``."""
        del profile
        size = memparse(options["struct_page"])
        if size % 8 or not 56 <= size <= 96:
            raise UsageError(f"struct_page={size} cannot be", hint="a multiple of 8 from 56 to 96")
        return self.built(options["mmu"], size)

    def built(self, mmu: str, struct_page: int = 64) -> Riscv64:
        """Return this architecture in one SATP mode. RAM begins at RAM_START, and so do both maps."""
        mode = MODES[mmu]
        return replace(
            self,
            mmu=mmu,
            struct_page_size=struct_page,
            vmemmap_base=mode.vmemmap - (RAM_START >> 12) * struct_page,
            page_offset=mode.page_offset - RAM_START,
        )

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, object],
        profile: Profile,
    ) -> Riscv64:
        """Read the mode from the boot parameters; without them it is the processor's largest, taken as Sv57."""
        del qemu_args, state, profile
        words = cmdline.split()
        size = 32 if config.get("CONFIG_PAGE_EXTENSION") == "y" else 16
        mmu = "sv39" if "no4lvl" in words else "sv48" if "no5lvl" in words else "sv57"
        return replace(self.built(mmu), mem_section_size=size)

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """The instruction set is a 64-bit RISC-V one."""
        return cpu.get("isa", "").startswith("rv64")

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """/proc/cpuinfo has the mode that is used."""
        del meminfo, config, cmdline, profile
        return {"mmu": cpu["mmu"]} if "mmu" in cpu else {}

    # --- at boot ---

    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return a QEMU virt guest as it stands after boot, with nothing reserved but the memmap."""
        del profile
        ram, block = memparse(options["ram"]), 1 << self.section_size_bits
        if ram % block or not ram:
            raise UsageError(f"ram={options['ram']} cannot be", hint="whole sections of 128M")
        first, last = RAM_START >> 12, RAM_START + ram >> 12
        memmap = (last - first) * self.struct_page_size >> 12
        nodes = tuple(range(int(options["nodes"])))
        return BootMemory(
            ((first, last, 0),),
            self.boot_zones(first, last, memmap, memparse(options["used"]) >> 12),
            ((0, RAM_START, RAM_START + ram - 1, "System RAM"),),
            block,
            nodes=nodes,
            cpu_nodes=nodes,
            nr_memmap_boot_pages=memmap,
        )

    def boot_zones(self, first: int, last: int, reserved: int, used: int) -> tuple[BootZone, ...]:
        """Return ZONE_DMA32 below 4G and ZONE_NORMAL above; what is reserved and used lies in the highest."""
        zones = []
        for kind, low, high in ((ZoneType.DMA32, first, min(last, PFN_4G)), (ZoneType.NORMAL, PFN_4G, last)):
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
            create_linear_mapping_range(mm, first << 12, last << 12, early=True)
            low, high = align_down(self.vmemmap_address(first), PMD), align_up(self.vmemmap_address(last), PMD)
            for va in range(low, high, PMD):
                make_tables(mm, va, "pmd", 0, early=True)
            set_early_leaves(mm, low, high, PMD)

    def table_levels(self) -> tuple[TableLevel, ...]:
        """The levels that the mode has below the PGD."""
        return tuple(TableLevel(*level) for level in LEVELS[: MODES[self.mmu].levels])

    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the tables above a PMD entry of the vmemmap."""
        make_tables(mm, va, "pmd", nid, early=early)

    # --- adding and removing ---

    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Map the range, then add its sections."""
        add_memory(mm, nid, start, size, altmap)

    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """Remove the sections, then unmap the range."""
        remove_memory(mm, start, size, altmap)

    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """Map the struct pages at the addresses [start, end)."""
        vmemmap_populate(mm, start, end, nid, altmap)

    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """Unmap the struct pages at the addresses [start, end)."""
        vmemmap_free(mm, start, end, altmap)

    def mhp_range(self) -> tuple[int, int]:
        """arch_get_mappable_range(): the linear map."""
        mode = MODES[self.mmu]
        return RAM_START, RAM_START + mode.page_end - mode.page_offset - 1


def tables(mm: Mm) -> tuple[tuple[str, int], ...]:
    """Return the levels of tables of this machine, the lowest first; the PGD lies above the last."""
    riscv = mm.arch
    assert isinstance(riscv, Riscv64)
    return LEVELS[: MODES[riscv.mmu].levels]


def make_tables(mm: Mm, va: int, lowest: str, nid: int, *, early: bool = False) -> None:
    """Make sure of the tables above *va*, from the top down to the level *lowest*. Raises `OutOfMemory`.

    Those below the PGD are there since boot for all of the direct map and the vmemmap, so that no page table of a process
    has to follow (arch/riscv/mm/init.c:preallocate_pgd_pages_range).
    """
    for at, (level, span) in enumerate(reversed(tables(mm))):
        ensure_table(mm, level, va, span, nid, early=early or not at)
        if level == lowest:
            return


def free_tables(mm: Mm, start: int, end: int) -> None:
    """Free the tables above the addresses [start, end) that are empty now, from the lowest level up; never those of boot."""
    below: tuple[str, int] | None = None
    for level, span in tables(mm):
        free_unused_tables(mm, level, start, end, span, below)
        below = level, span


def best_map_size(mm: Mm, at: int, left: int) -> tuple[int, str]:
    """Return the largest leaf for *left* bytes at the physical address *at*, and the level of the table that holds it."""
    sizes = ((P4D, "p4d"), (PUD, "pud"), (PMD, "pmd"))
    va, known = mm.arch.page_offset + at, {level for level, _ in tables(mm)}
    fits = ((n, level) for n, level in sizes if level in known and not at % n and not va % n and n <= left)
    return next(fits, (mm.arch.page_size, "pte"))


@mirrors("arch/riscv/mm/init.c:create_linear_mapping_range", "v6.12", "simplified", "debug_pagealloc is off")
def create_linear_mapping_range(mm: Mm, start: int, end: int, *, early: bool = False) -> None:
    """Put [start, end) bytes in the direct map, in the largest leaves that fit; whole PMDs."""
    at, offset = start, mm.arch.page_offset
    while at < end:
        size, level = best_map_size(mm, at, end - at)
        make_tables(mm, offset + at, level, 0, early=early)
        set_leaf(mm, offset + at, offset + at + size, size, at >> 12, "ram")
        at += size


@mirrors("arch/riscv/mm/init.c:remove_linear_mapping", "v6.12", "complete")
def remove_linear_mapping(mm: Mm, start: int, size: int) -> None:
    """Take the range out of the direct map: a leaf of which only a part was to go goes whole."""
    low, high = mm.arch.page_offset + start, mm.arch.page_offset + start + size
    for a, b, leaf in list(mm.leaves.items(low, high)):
        first, last = align_down(a, leaf.size), align_up(b, leaf.size)
        if first < low or last > high:
            at, end = first - mm.arch.page_offset, last - mm.arch.page_offset
            what = f"{at:#x}-{end - 1:#x} is mapped no more"
            mm.event("DirectMapLost", "arch/riscv/mm/init.c:remove_pud_mapping", what, start=at, end=end)
        mm.leaves.delete(first, last)
    free_tables(mm, low, high)


@mirrors(
    "arch/riscv/mm/init.c:arch_add_memory", "v6.12", "simplified", "no page for a table of the direct map is a BUG()"
)
def add_memory(mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
    """Map the range, then add its sections; when that fails the mapping goes again."""
    try:
        create_linear_mapping_range(mm, start, start + size)
        add_pages(mm, nid, start >> 12, size >> 12, altmap)
    except KernelError:
        remove_linear_mapping(mm, start, size)
        raise
    mm.max_pfn = max(mm.max_pfn, start + size >> 12)


@mirrors("arch/riscv/mm/init.c:arch_remove_memory", "v6.12", "complete")
def remove_memory(mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
    """Remove the sections, then unmap the range."""
    remove_pages(mm, start >> 12, size >> 12, altmap)
    remove_linear_mapping(mm, start, size)


@mirrors("arch/riscv/mm/init.c:vmemmap_populate", "v6.12", "complete")
def vmemmap_populate(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map with PMD leaves, parts of a section too."""
    vmemmap_populate_hugepages(mm, start, end, nid, altmap)


@mirrors("arch/riscv/mm/init.c:vmemmap_free", "v6.12", "complete")
def vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
    """Unmap [start, end) and free what backed it: leaves whole, whoever else has struct pages in them."""
    for a, b, leaf in list(mm.leaves.items(start, end)):
        for va in range(align_down(a, leaf.size), b, leaf.size):
            mm.leaves.delete(va, va + leaf.size)
            free_vmemmap_pages(mm, leaf_pfn(mm, va, leaf), leaf.size >> 12, leaf.owner, altmap)
    free_tables(mm, start, end)


@hookimpl
def memshell_arches(ctx: Context) -> Iterable[Arch]:
    """Offer riscv64."""
    del ctx
    return [Riscv64()]
