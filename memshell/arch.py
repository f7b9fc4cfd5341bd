"""The architecture seam: what an arch plugin hands to the model once per machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from memshell.errors import CommandError, UsageError
from memshell.mm.mmzone import ZoneType
from memshell.mm.pgtable import ensure_table
from memshell.mm.sparse_vmemmap import vmemmap_populate_compound_pages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memshell.drivers.callers import Caller
    from memshell.mm.memremap import VmemAltmap
    from memshell.mm.profile import Profile
    from memshell.mm.state import Mm
    from memshell.vmlinux.defaults import ArchDefaults


@dataclass(frozen=True, slots=True)
class BootZone:
    """What one zone holds after boot. Pfns and pages; *orders* are its free blocks (/proc/buddyinfo), *pcp* the per-cpu lists."""

    nid: int
    type: ZoneType
    start_pfn: int
    spanned: int
    present: int
    managed: int
    orders: tuple[int, ...]
    pcp: int = 0


@dataclass(frozen=True, slots=True)
class BootBlock:
    """What sysfs shows of a memory block: its one zone, where it is online in one, and its node, where that was read.

    *added*: it is online and came after boot. *mixed*: it is online and in no one zone.
    """

    offline: bool
    zone: ZoneType | None = None
    nid: int | None = None
    added: bool = False
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class BootMemory:
    """A machine as it stands after boot: read from a real one, or made by `Arch.boot_memory`.

    *ram*: (first pfn, pfn behind the last, nid) of what is "System RAM", rising. *iomem*: (depth, start, end inclusive, name).
    *nomap*: likewise of what is present, reserved and no System RAM, as firmware's memory is (MEMBLOCK_NOMAP).
    """

    ram: tuple[tuple[int, int, int], ...]
    zones: tuple[BootZone, ...]
    iomem: tuple[tuple[int, int, int, str], ...]
    block_size: int
    nodes: tuple[int, ...] = (0,)
    cpu_nodes: tuple[int, ...] = (0,)
    nr_memmap_boot_pages: int = 0
    reserved_at_end: int = 0  # pages that boot took from the end of the RAM: the memmap, and what else is not managed
    standby: tuple[tuple[int, int], ...] = ()  # bytes [start, end) of s390 storage that is there but not assigned
    blocks: Mapping[int, BootBlock] = field(default_factory=dict)  # by id, where they were read
    nomap: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One key of ``use ARCH key=value``: one of *choices*, or a whole number within *limits*, or anything."""

    name: str
    default: str
    text: str
    choices: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None  # the lowest and the highest

    def check(self, value: str) -> None:
        """Raise `UsageError` for a value that cannot be."""
        if self.choices and value not in self.choices:
            raise UsageError(
                f"{self.name}={value} cannot be", hint=f"{self.name} is one of {', '.join(filter(None, self.choices))}"
            )
        if self.limits is not None:
            low, high = self.limits
            if not (value.isascii() and value.isdecimal() and low <= int(value) <= high):
                raise UsageError(f"{self.name}={value} cannot be", hint=f"a whole number from {low} to {high}")


class TableLevel(NamedTuple):
    """One level of page tables: what `ensure_table` calls it, and the bytes that one table spans.

    *stays*: the kernel never frees one of these tables, once it is made.
    """

    name: str
    span: int
    stays: bool = False


@dataclass(frozen=True)
class Arch(ABC):
    """An architecture: its constants, and the few functions that the kernel keeps under arch/.

    Shifts and orders are powers of two; ``max_order`` is the largest order itself (MAX_PAGE_ORDER). Methods take the
    working state and change it; they raise `memshell.errors.KernelError` where the kernel returns an errno.
    """

    name: str
    page_shift: int
    section_size_bits: int
    max_physmem_bits: int
    max_order: int
    pageblock_order: int
    pmd_shift: int
    vmemmap_base: int
    page_offset: int  # where the direct map begins
    struct_page_size: int = 64
    mem_section_size: int = 16  # sizeof(struct mem_section); 32 with CONFIG_PAGE_EXTENSION
    zone_limits: tuple[tuple[ZoneType, int], ...] = ()  # (zone, first pfn above it); what is above all is ZONE_NORMAL

    # vmemmap_populate() of whole sections, whose memmap is whole PMDs, is vmemmap_populate_hugepages(); vmemmap_free()
    # takes the leaves away and the tables that are empty then.
    vmemmap_hugepages: ClassVar[bool] = False
    # arch_add_memory() and arch_remove_memory() of blocks side by side, given an altmap for each (`AltmapRow`), is that of each.
    blocks_in_rows: ClassVar[bool] = False
    hugepage_shifts: tuple[int, ...] = ()  # of the sizes of huge pages, the default one first; none: no hugetlb
    boot_words: tuple[str, ...] = ()  # words of the kernel's command line that `read_options` reads
    hugepage_migration: bool = True  # CONFIG_ARCH_ENABLE_HUGEPAGE_MIGRATION
    possible_nodes: tuple[int, ...] = (0, 1, 2, 3)
    hotplug_driver: str = "acpi"  # who adds memory when nobody is named: acpi, driver, dlpar, sclp
    dimm_floor: int | None = None  # bytes: no DIMM is put below; None: where ZONE_DMA32 ends
    options: tuple[Option, ...] = ()
    big_endian: bool = False
    since: str = ""  # the first release that has memory hotplug on it, such as "v6.11"; without it, all
    faults: tuple[tuple[str, str], ...] = ()  # fault points of its own: what `mm.fault` asks for, and what happens
    callers: tuple[Caller, ...] = ()  # who adds memory on this architecture alone
    machines: tuple[str, ...] = ()  # what `uname -m` gives on it, when that is not the name
    image_defaults: ArchDefaults | None = None  # facts that no kernel image of it holds
    cpu_keys: tuple[str, ...] = ()  # lines of /proc/cpuinfo that tell it, and how it maps memory

    def is_machine(self, machine: str | None) -> bool:
        """Whether *machine*, its own name or what `uname -m` gives, is of this architecture."""
        return machine in (self.name, *self.machines)

    def is_cpu(self, cpu: Mapping[str, str]) -> bool:
        """Whether /proc/cpuinfo is of this architecture: *cpu* has the first line of each of all `cpu_keys`."""
        del cpu
        return False

    def read_options(
        self,
        cpu: Mapping[str, str],
        meminfo: Mapping[str, int] | None,
        config: Mapping[str, str],
        cmdline: str,
        profile: Profile,
    ) -> Mapping[str, str]:
        """Return the keys of ``use`` that a captured machine answers, besides ram, page and struct_page.

        *meminfo* is /proc/meminfo, None where it was not readable; *config* and *cmdline* have what concerns memory.
        """
        del cpu, meminfo, config, cmdline, profile
        return {}

    def shown_cpu(self) -> Mapping[str, str]:
        """Return the lines of /proc/cpuinfo from which `is_cpu` and `read_options` would read this machine."""
        return {}

    def shown_words(self, profile: Profile) -> Sequence[str]:
        """Return the words of the kernel's command line from which `read_options` would read this machine."""
        del profile
        return ()

    def has_option(self, name: str) -> bool:
        """Whether ``use`` takes the key *name* for this architecture."""
        return any(option.name == name for option in self.options)

    @property
    def page_size(self) -> int:
        """PAGE_SIZE in bytes."""
        return 1 << self.page_shift

    @property
    def pages_per_section(self) -> int:
        """PAGES_PER_SECTION: the pages of one section."""
        return 1 << (self.section_size_bits - self.page_shift)

    @property
    def pages_per_subsection(self) -> int:
        """PAGES_PER_SUBSECTION: 2 MiB on every architecture."""
        return 1 << (21 - self.page_shift)

    @property
    def pageblock_nr_pages(self) -> int:
        """pageblock_nr_pages: the pages of one pageblock."""
        return 1 << self.pageblock_order

    def __init_subclass__(cls, **arguments: object) -> None:
        """Take the word of a class for its own functions only: one that brings others has to give it again."""
        super().__init_subclass__(**arguments)
        own = cls.__dict__
        if "vmemmap_hugepages" not in own and own.keys() & {"vmemmap_populate", "vmemmap_free", "vmemmap_tables"}:
            cls.vmemmap_hugepages = False
        if "blocks_in_rows" not in own and own.keys() & {"arch_add_memory", "arch_remove_memory"}:
            cls.blocks_in_rows = False

    def vmemmap_address(self, pfn: int) -> int:
        """Return the virtual address of the struct page of *pfn*."""
        return self.vmemmap_base + pfn * self.struct_page_size

    def kernel_zone_of(self, pfn: int) -> ZoneType:
        """Return the zone that boot memory at *pfn* belongs to."""
        return next((kind for kind, limit in self.zone_limits if pfn < limit), ZoneType.NORMAL)

    @abstractmethod
    def configure(self, options: Mapping[str, str], profile: Profile) -> Arch:
        """Return this architecture with the options of ``use`` applied (page size, MMU, ...). Raises `UsageError`."""

    def with_constants(self, constants: Mapping[str, int]) -> Self:
        """Return this architecture with *constants* of a real kernel, by attribute, in the place of its own.

        A pageblock is no larger than the largest order. Raises `CommandError` for what no kernel can have.
        """
        new = replace(self, **constants)  # type: ignore[arg-type]  # every constant is an int
        bits, size, order = new.section_size_bits, new.mem_section_size, new.max_order
        if not 21 <= bits < new.max_physmem_bits or size & (size - 1) or not 8 <= size <= new.page_size:
            raise CommandError(f"struct mem_section of {size} bytes for sections of 2^{bits} bytes cannot be")
        if order + new.page_shift > bits or constants.get("pageblock_order", 0) > order:
            # include/linux/mmzone.h has an #error for the first
            pages, sections = f"{new.page_size >> 10}K", f"{1 << bits >> 20}M"
            raise CommandError(
                f"blocks of order {order} with pages of {pages} in sections of {sections} cannot be",
                hint="a block is no larger than a section, a pageblock no larger than a block: is page= right?",
            )
        return replace(new, pageblock_order=min(new.pageblock_order, order))

    def from_recording(
        self,
        config: Mapping[str, str],
        cmdline: str,
        qemu_args: tuple[str, ...],
        state: Mapping[str, Any],
        profile: Profile,
    ) -> Arch:
        """Return this architecture as the recorded machine had it. *state* is the recorded state after boot."""
        del config, cmdline, qemu_args, state, profile
        return self

    def direct_map_counters(self) -> dict[str, int]:
        """Return the DirectMap lines of /proc/meminfo that follow from leaves: name -> leaf size in bytes."""
        return {}

    @abstractmethod
    def boot_memory(self, options: Mapping[str, str], profile: Profile) -> BootMemory:
        """Return what a machine with these options holds after boot."""

    @abstractmethod
    def boot_mappings(self, mm: Mm, memory: BootMemory) -> None:
        """Put the early direct map and vmemmap of *memory* in place."""

    def late_init(self, mm: Mm, memory: BootMemory) -> None:
        """What the architecture's initcalls do about memory once everything else of the boot state stands."""

    @abstractmethod
    def vmemmap_tables(self, mm: Mm, va: int, nid: int, *, early: bool = False) -> None:
        """Make sure of the page tables above the PMD entry of the vmemmap address *va*."""

    @abstractmethod
    def arch_add_memory(self, mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """arch_add_memory(): map [start, start+size) bytes and add its sections."""

    @abstractmethod
    def arch_remove_memory(self, mm: Mm, start: int, size: int, altmap: VmemAltmap | None) -> None:
        """arch_remove_memory(): remove the sections of [start, start+size) bytes and unmap it."""

    @abstractmethod
    def vmemmap_populate(self, mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
        """vmemmap_populate(): map the struct pages at the addresses [start, end). ENOMEM as that architecture gives up."""

    @abstractmethod
    def vmemmap_free(self, mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> None:
        """vmemmap_free(): unmap [start, end) and give the backing pages back to where they came from."""

    def has_memmap_on_memory(self, profile: Profile) -> bool:
        """Whether this architecture's kernel is built with CONFIG_MHP_MEMMAP_ON_MEMORY."""
        del profile
        return True

    def firmware_memory(self, mm: Mm) -> Mapping[int, tuple[bool, bool]] | None:
        """What /sys/firmware/memory lists: block -> (is it configured, is its memmap on it). None where there is no folder."""
        del mm
        return None

    def firmware_store(self, mm: Mm, block_id: int, name: str, value: bool) -> None:
        """Write to /sys/firmware/memory/memoryN/NAME. Raises `UsageError` where there is none."""
        del value
        text = f"{self.name} with kernel {mm.profile.name} has no /sys/firmware/memory/memory{block_id}/{name}"
        raise UsageError(text, hint="s390 has it since v6.19")

    def has_virtio_mem(self, profile: Profile) -> bool:
        """Whether the virtio-mem driver can be built for this architecture (drivers/virtio/Kconfig)."""
        del profile
        return False

    def supports_memmap_on_memory(self, vmemmap_size: int, profile: Profile) -> str | None:
        """arch_supports_memmap_on_memory(): None, or the reason against it. Generic: the memmap of a block is whole PMDs."""
        if vmemmap_size % (1 << self.pmd_shift) and profile.features.bug.force_asks_arch:
            return f"arch: vmemmap_size {vmemmap_size} not PMD({1 << self.pmd_shift}) aligned"
        return None

    def dax_vmemmap(self, profile: Profile) -> str:
        """How compound pages of a DAX device share memmap: "generic", "radix" (powerpc's own) or "" (not at all)."""
        del profile
        return ""

    def vmemmap_pages_freed(self, mm: Mm, nr_pages: int) -> int:
        """Return how many of the *nr_pages* that a vmemmap leaf took from the buddy go back with it: all of them."""
        del mm
        return nr_pages

    def vmemmap_pte_table(self, mm: Mm, va: int, nid: int) -> None:
        """Make sure of the PTE table of the vmemmap address *va*, with the tables above it. Raises `OutOfMemory`."""
        self.vmemmap_tables(mm, va, nid)
        ensure_table(mm, "pte", va, 1 << self.pmd_shift, nid)

    def vmemmap_populate_compound_pages(self, mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
        """Map the struct pages at [start, end), those from *pfn* on, of a DAX device whose compound pages share them."""
        vmemmap_populate_compound_pages(mm, pfn, start, end, nid)

    def memory_notify(self, mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
        """The architecture's own memory notifier, if it has one. Raises `KernelError` to veto."""

    @property
    def has_memory_notifier(self) -> bool:
        """Whether the architecture has a memory notifier of its own."""
        return type(self).memory_notify is not Arch.memory_notify

    def table_levels(self) -> tuple[TableLevel, ...]:
        """Return the levels of page tables below the top one, the lowest first; nothing for an MMU without page tables.

        By default a table is a page of 8-byte entries, and there are three levels below the top.
        """
        bits = self.page_shift - 3
        return tuple(TableLevel(name, 1 << self.pmd_shift + at * bits) for at, name in enumerate(("pte", "pmd", "pud")))

    def leaf_sizes(self) -> tuple[int, ...]:
        """Return how many bytes one leaf can map, rising: a page, and by default what an entry of each table spans."""
        return self.page_size, *(level.span for level in self.table_levels()[:-1])

    def mhp_range(self) -> tuple[int, int]:
        """arch_get_mappable_range(): the first and the last byte that can be hot-added."""
        return 0, (1 << self.max_physmem_bits) - 1
