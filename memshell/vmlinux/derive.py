"""The constants of the memory model, each read from where a kernel image holds it, or said not to be there.

What each can be read from, and what only looks like it, was checked on seven Debian kernels (6.1 and 6.12,
three architectures). The alignment of ELF segments, for one, is not the page size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memshell.errors import ImageError
from memshell.vmlinux.defaults import DEFAULTS, ArchDefaults
from memshell.vmlinux.image import Image
from memshell.vmlinux.kconfig import SHOWN, Config
from memshell.vmlinux.layout import Struct
from memshell.vmlinux.symbols import Symbol

_SUBSECTION_SHIFT = 21  # include/linux/mmzone.h, on every architecture
_PAGE_SIZES = {1 << shift for shift in range(12, 19)}
_ABSENT = "not in the file"
SYMBOLS = (
    "_stext", "linux_banner", "mem_section", "node_data", "vmemmap", "vmemmap_base", "page_offset_base",
    "pageblock_order", "memory_block_size", "add_memory_resource", "online_pages", "offline_pages",
    "try_remove_memory",
)  # fmt: skip
"""The symbols that are shown when none are asked for."""
NEEDED = (
    "linux_banner", "_stext", "vdso_data_store", "empty_zero_page", "node_data", "__per_cpu_offset",
    "memory_block_size", "pageblock_order",
)  # fmt: skip
"""The symbols that facts are read from."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A value and where it comes from; *read* is False when it is an architecture's default or unknown."""

    value: int | str | None
    how: str
    read: bool


class Deriver:
    """Works out the facts of one image, with the *config* that belongs to it if there is one."""

    def __init__(self, image: Image, config: Config | None) -> None:
        self._image = image
        self._config = config
        self._arch: ArchDefaults | None = DEFAULTS.get(image.arch[0] or "")
        self._symbols: dict[str, Symbol | None] = image.find_symbols(NEEDED)

    def all(self) -> dict[str, Fact]:
        """Every fact by name: sizes in bytes, the rest counts, orders and bits."""
        page_size = self.page_size()
        orders = self.max_order(page_size)
        size = page_size.value if isinstance(page_size.value, int) else None
        facts = {
            "release": _given(*self._image.release),
            "sizeof_struct_page": self.sizeof_struct_page(),
            "page_size": page_size,
            "section_size_bits": self.section_size_bits(size),
            "max_order": orders,
            "pageblock_order": self.pageblock_order(size, orders),
            "sections_per_root": self.sections_per_root(page_size),
            "memory_block_size": self.memory_block_size(),
            "max_nr_zones": self._bound("pglist_data", "node_zones"),
            "max_numnodes": self._entries("node_data", "MAX_NUMNODES"),
            "nr_cpus": self._entries("__per_cpu_offset", "NR_CPUS"),
            "page_flags": self._enumerator("pageflags", "__NR_PAGEFLAGS"),
            "migrate_types": self._enumerator("migratetype", "MIGRATE_TYPES"),
        }
        return facts | dict(self.config_facts())

    def sizeof_struct_page(self) -> Fact:
        """What one page costs, in bytes; ImageError when the number cannot be one."""
        page = self._image.find_struct("page", everywhere=False)
        if page is None:
            # Every Debian kernel that was measured has 64; 56, 72, 80 and 96 exist (include/linux/mm.h).
            return Fact(64, f"{_ABSENT}; 64 with MEMCG on, the usual case (include/linux/mm_types.h)", read=False)
        check_page(page, self._image.path)
        return Fact(page.size, page.how, read=True)

    def page_size(self) -> Fact:
        """PAGE_SIZE in bytes."""
        found = next(self._page_sizes(), None)
        if found is not None:
            return found
        if self._arch is None:
            return Fact(None, _ABSENT, read=False)
        value, source = self._arch.page_size
        word = "every kernel of this architecture has" if self._arch.page_size_is_fixed else "the default is"
        return Fact(value, f"{_ABSENT}; {word} {value} ({source})", read=False)

    def _page_sizes(self) -> Iterator[Fact]:
        enum = self._image.find_enum("page_size_enum", everywhere=False)
        if enum is not None and enum.values.get("__PAGE_SIZE") in _PAGE_SIZES:
            yield Fact(enum.values["__PAGE_SIZE"], f"enum page_size_enum, {enum.how}", read=True)
        fixed = self._arch.page_size[0] if self._arch and self._arch.page_size_is_fixed else None
        # On s390x empty_zero_page is a pointer; on x86 vdso_data_store is not a page.
        names = {"x86_64": ("empty_zero_page",), "s390x": ("vdso_data_store",)}
        for name in names.get(self._image.arch[0] or "", ("vdso_data_store", "empty_zero_page")):
            symbol = self._symbols.get(name)
            if symbol is not None and symbol.size in ({fixed} if fixed else _PAGE_SIZES):
                yield Fact(symbol.size, f"size of symbol {name}", read=True)
        yield from self._page_size_of_config()

    def _page_size_of_config(self) -> Iterator[Fact]:
        for name, size in (("PPC_64K_PAGES", 65536), ("PPC_4K_PAGES", 4096)):
            if self._config is not None and self._config.get(name) == "y":
                yield Fact(size, f"CONFIG_{name} in {self._config.how}", read=True)

    def section_size_bits(self, page_size: int | None) -> Fact:
        """SECTION_SIZE_BITS: no image holds it, but the length of subsection_map bounds it."""
        usage = self._image.find_struct("mem_section_usage", everywhere=False)
        longs = usage.members["subsection_map"].count if usage and "subsection_map" in usage.members else None
        if longs is not None and longs > 1 and longs & (longs - 1) == 0:
            bits = _SUBSECTION_SHIFT + 6 + longs.bit_length() - 1
            return (
                Fact(bits, f"subsection_map has {longs} longs of one bit for each 2 MiB, {usage.how}", read=True)
                if usage
                else _NONE
            )
        if self._arch is None:
            return _NONE
        value, source = self._arch.section_bits(page_size), self._arch.section_size_bits[1]
        if longs == 1 and value > _SUBSECTION_SHIFT + 6:
            why = f"{_ABSENT}; subsection_map has 1 long, so at most 27, where {source} had {value} up to 6.12"
            return Fact(None, why, read=False)
        bound = "; subsection_map has 1 long, which agrees" if longs == 1 else ""
        return Fact(value, f"{_ABSENT}; {value} for this architecture ({source}){bound}", read=False)

    def max_order(self, page_size: Fact) -> Fact:
        """The largest buddy order: the bound of zone.free_area less one (MAX_PAGE_ORDER since 6.8)."""
        bound = self._bound("zone", "free_area")
        if isinstance(bound.value, int) and bound.value > 0:
            return Fact(bound.value - 1, f"zone.free_area has {bound.value} entries, {bound.how}", read=True)
        order = self._arch.max_order.get(page_size.value) if self._arch and isinstance(page_size.value, int) else None
        if self._arch is None or order is None:
            return _NONE
        return Fact(
            order, f"{_ABSENT}; the default with this page size is {order} ({self._arch.max_order_source})", read=False
        )

    def pageblock_order(self, page_size: int | None, max_order: Fact) -> Fact:
        """The order of a pageblock: the huge page's or the largest (include/linux/pageblock-flags.h)."""
        symbol = self._symbols.get("pageblock_order")
        value = self._image.value_at(symbol) if symbol else None
        if value:
            return Fact(value, "initial value of pageblock_order", read=True)
        if self._arch is None or page_size is None or not isinstance(max_order.value, int):
            return _NONE
        shift, source = self._arch.huge_shift(page_size), self._arch.huge_page_shift[1]
        order = shift - page_size.bit_length() + 1
        when = "; the kernel sets it at boot" if symbol else ""
        how = f"{_ABSENT}{when}; with HUGETLB_PAGE min({order}, max_order {max_order.value}) ({source})"
        return Fact(min(order, max_order.value), how, read=False)

    def sections_per_root(self, page_size: Fact) -> Fact:
        """SECTIONS_PER_ROOT: how many mem_section fit in a page (SPARSEMEM_EXTREME)."""
        section = self._image.find_struct("mem_section", everywhere=False)
        if section is None or not section.size or not isinstance(page_size.value, int):
            return _NONE
        sizes = f"{page_size.value} / {section.size}"
        how = f"page_size / sizeof(struct mem_section) = {sizes}, with SPARSEMEM_EXTREME"
        return Fact(page_size.value // section.size, how, read=page_size.read)

    def memory_block_size(self) -> Fact:
        """The size of a memory block in bytes; the running kernel may choose another."""
        symbol = self._symbols.get("memory_block_size")
        value = self._image.value_at(symbol) if symbol else None
        if value:
            return Fact(value, "initial value of memory_block_size; the kernel may change it at boot", read=True)
        return Fact(None, f"{_ABSENT}; {self._arch.block_size}" if self._arch else _ABSENT, read=False)

    def _bound(self, struct: str, member: str) -> Fact:
        found = self._image.find_struct(struct, everywhere=False)
        count = found.members[member].count if found and member in found.members else None
        return Fact(count, found.how, read=True) if found and count is not None else _NONE

    def _entries(self, name: str, constant: str) -> Fact:
        symbol = self._symbols.get(name)
        if symbol is None or symbol.size < 8:
            return _NONE
        return Fact(symbol.size // 8, f"{constant}: size of symbol {name} / 8", read=True)

    def _enumerator(self, enum: str, name: str) -> Fact:
        found = self._image.find_enum(enum, everywhere=False)
        value = found.values.get(name) if found else None
        return Fact(value, f"{name} of enum {enum}, {found.how}", read=True) if found and value is not None else _NONE

    def config_facts(self) -> Iterator[tuple[str, Fact]]:
        """The options that change memory hotplug, when a configuration is at hand."""
        for name in SHOWN if self._config else ():
            value = self._config.get(name) if self._config else None
            if self._config and value is not None:
                yield f"config.{name}", Fact(value, self._config.how, read=True)


def check_page(page: Struct, path: str) -> None:
    """Refuse a ``struct page`` that no kernel could have: ImageError.

    It is a multiple of 8 bytes, and aligned to 16 at most (``_struct_page_alignment`` in
    include/linux/mm_types.h), so less than that is left after its last member.
    """
    end = max((member.offset + member.size for member in page.members.values()), default=0)
    if page.size % 8 or not page.members or page.size - end >= 16:
        message = f"{path}: a struct page of {page.size} bytes whose members end at {end} cannot be"
        raise ImageError(message, hint="the type information is corrupt")


def _given(value: str | None, how: str) -> Fact:
    return Fact(value, how, read=value is not None)


_NONE = Fact(None, _ABSENT, read=False)
