"""What the struct pages of hot-added memory hold, as runs keyed by the physical address that they lie at.

Only kernels that mark memmap pages read a struct page before it is initialised, so only their profiles keep
this. Keyed by physical address, content outlives the mapping (stale marks), and two memmaps that map the same
frame share it. What was never written reads as zero: a fresh DIMM of a virtual machine. Flags are laid out as
on x86_64 under v4.20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from memshell.errors import KernelCrash, UsageError
from memshell.mm.fault import page_fault
from memshell.mm.records import often_replaced
from memshell.mm.state import Mm, ZoneKey

PG_LOCKED, PG_LRU, PG_RESERVED = 1 << 0, 1 << 4, 1 << 12

ZONE_SHIFT, NODE_SHIFT = 59, 62

PG_MASK = (1 << ZONE_SHIFT) - 1

VMEMMAP_PAGE = 0xFFFFFFFFFFFFFFFC  # ~PAGE_MAPPING_FLAGS: not anonymous, not movable, not KSM

REFCOUNT_OFFSET = 52  # of _refcount in struct page; recorded: a fault at head + 0x34


@often_replaced
class StructPage(NamedTuple):
    """One struct page.

    *link*: since 2019 the head's ->private (marked pages of the range) and a tail's ->freelist (the head).
    """

    flags: int = 0
    mapping: int = 0
    refcount: int = 0
    link: int = 0
    mapcount: int = 0  # _mapcount: -1 when nobody maps the page, 0 in zeroed memory

    @property
    def vmemmap(self) -> bool:
        """PageVmemmap(): reserved, and the mapping is the mark."""
        return bool(self.flags & PG_RESERVED) and self.mapping == VMEMMAP_PAGE


class Garbage(NamedTuple):
    """Random content: every struct page differs, and is the same at every look."""

    seed: int

    def at(self, physical: int) -> StructPage:
        """Return the struct page at *physical*."""
        words = []
        for word in range(3):
            value = (self.seed * 0x9E3779B97F4A7C15 + physical * 8 + word + 0x9E3779B97F4A7C15) & (1 << 64) - 1
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
                value = ((value ^ value >> shift) * factor) & (1 << 64) - 1
            words.append(value)
        return StructPage(words[0], words[1], signed32(words[2]))


Content = StructPage | Garbage

ZERO = StructPage()


def signed32(value: int) -> int:
    """Return the low 32 bits of *value* as the kernel reads an atomic_t."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def filled(byte: int) -> StructPage:
    """Return a struct page whose every byte is *byte*: 0xff is PAGE_POISON_PATTERN, 0xfd PAGE_INUSE."""
    word = byte * 0x0101010101010101
    return StructPage(word, word, signed32(word), word, signed32(word))


def in_zone(flags: int, key: ZoneKey) -> int:
    """set_page_links(): return *flags* with the node and the zone of *key*."""
    return flags & PG_MASK | key[1] << ZONE_SHIFT | (key[0] & 3) << NODE_SHIFT


def zone_bits(flags: int) -> int:
    """page_zonenum(): return the zone number in *flags*."""
    return flags >> ZONE_SHIFT & 7


def zone_of(mm: Mm, flags: int, function: str) -> ZoneKey:
    """page_zone(): the zone that *flags* name, initialised or not; zero is the node's first zone.

    Raises `KernelCrash` for garbage that names a node or a zone that is not there.
    """
    nid, number = flags >> NODE_SHIFT & 3, zone_bits(flags)
    kinds = sorted(kind for node, kind in mm.zones if node == nid)
    kind = next((kind for kind in kinds if kind == number), kinds[0] if kinds and not number else None)
    if kind is None:
        raise KernelCrash(
            "unable to handle kernel paging request", function, None, f"no zone {number} on node {nid}: garbage"
        )
    return nid, kind


def physical(mm: Mm, va: int) -> int | None:
    """Return the physical address behind the vmemmap address *va*, or None where nothing is mapped.

    Boot memory's own memmap has no known frames; its addresses stand for themselves.
    """
    leaf = mm.leaves.get(va)
    return None if leaf is None else va + (leaf.shift << mm.arch.page_shift)


def read(mm: Mm, va: int, function: str, offset: int = 0) -> StructPage:
    """Return the struct page at the virtual address *va*; what nobody wrote reads as zero.

    *function* is who reads it, *offset* the byte in it that is read first: the crash names both. Raises `KernelCrash` when
    nothing is mapped there.
    """
    at = physical(mm, va)
    if at is None:
        raise page_fault(va + offset, function, "the struct page is not mapped")
    content = mm.struct_pages.get(at)
    return content.at(at) if isinstance(content, Garbage) else content or ZERO


def read_pfn(mm: Mm, pfn: int, function: str) -> StructPage:
    """Return the struct page of *pfn*; *function* reads its flags."""
    return read(mm, mm.arch.vmemmap_address(pfn), function)


def write(mm: Mm, va: int, page: StructPage) -> None:
    """Set the struct page at *va*, which is mapped."""
    at = physical(mm, va)
    assert at is not None
    mm.struct_pages.set(at, at + mm.arch.struct_page_size, page)


def runs(mm: Mm, start_pfn: int, end_pfn: int) -> Iterator[tuple[int, int, Content | None]]:
    """Yield (start_pfn, end_pfn, content) of the struct pages of [start_pfn, end_pfn); content is None where none is mapped."""
    size, base = mm.arch.struct_page_size, mm.arch.vmemmap_base
    low, high = base + start_pfn * size, base + end_pfn * size
    at = low
    for a, b, leaf in mm.leaves.items(low, high):
        if at < a:
            yield (at - base) // size, (a - base) // size, None
        shift = leaf.shift << mm.arch.page_shift
        here = a + shift
        for c, d, content in mm.struct_pages.items(a + shift, b + shift):
            if here < c:
                yield (here - shift - base) // size, (c - shift - base) // size, ZERO
            yield (c - shift - base) // size, (d - shift - base) // size, content
            here = d
        if here < b + shift:
            yield (here - shift - base) // size, (b - base) // size, ZERO
        at = b
    if at < high:
        yield (at - base) // size, end_pfn, None


def write_run(mm: Mm, start_pfn: int, end_pfn: int, content: Content) -> None:
    """Set the struct pages of [start_pfn, end_pfn), as far as they are mapped."""
    low, high = mm.arch.vmemmap_address(start_pfn), mm.arch.vmemmap_address(end_pfn)
    for a, b, leaf in list(mm.leaves.items(low, high)):
        shift = leaf.shift << mm.arch.page_shift
        mm.struct_pages.set(a + shift, b + shift, content)


def update(mm: Mm, start_pfn: int, end_pfn: int, function: str, change: Callable[[StructPage], StructPage]) -> None:
    """Write *change* of each struct page of [start_pfn, end_pfn) in its place; *function* is who touches them.

    Raises `KernelCrash` at the first that is not mapped; those before it are written.
    """
    for a, b, content in list(runs(mm, start_pfn, end_pfn)):
        if content is None:
            raise page_fault(mm.arch.vmemmap_address(a), function, "the struct page is not mapped")
        write_run(mm, a, b, change(any_of(content)))


def any_of(content: Content) -> StructPage:
    """Return one struct page for a run of them: the one that all hold, or of random ones one with every flag that any has."""
    return content if isinstance(content, StructPage) else filled(0xFF)


def marked_runs(mm: Mm, start_pfn: int, end_pfn: int) -> list[tuple[int, int]]:
    """Return the runs of [start_pfn, end_pfn) that PageVmemmap() is true for, joined where they touch."""
    joined: list[tuple[int, int]] = []
    for a, b, content in runs(mm, start_pfn, end_pfn):
        if isinstance(content, StructPage) and content.vmemmap:
            if joined and joined[-1][1] == a:
                joined[-1] = (joined[-1][0], b)
            else:
                joined.append((a, b))
    return joined


def initial_content(mm: Mm) -> Content | None:
    """Return what new struct pages are filled with; None: they hold what the frames held.

    The parameter ``memmap_content``: ``stale``, ``zero``, ``poison`` (0xff), ``random:SEED``, ``byte:N``; the
    series' own kernel poisons them when CONFIG_DEBUG_VM is on. ``count:N`` is about the first struct page
    alone.
    """
    kind, _, number = mm.params.memmap_content.partition(":")
    if kind in ("stale", "count"):
        from memshell.series.features import series

        return filled(0xFF) if series(mm).config.debug_vm else None
    if kind == "random":
        return Garbage(int(number or "0", 0))
    known = {"zero": 0, "poison": 0xFF}
    if kind not in known and kind != "byte":
        raise UsageError(f"memmap_content={kind} cannot be", hint="stale, zero, poison, random:SEED, byte:N or count:N")
    return filled(int(number, 0) if kind == "byte" else known[kind])


def initial_count(mm: Mm) -> int | None:
    """Return the refcount that the first struct page of an add has under ``memmap_content=count:N``."""
    kind, _, number = mm.params.memmap_content.partition(":")
    return int(number, 0) if kind == "count" else None


def forget(mm: Mm, start: int, size: int) -> None:
    """The DIMM at the physical addresses [start, start+size) is gone, with what it held."""
    mm.struct_pages.delete(start, start + size)


def kept(mm: Mm, pfn: int) -> bool:
    """Whether the content of *pfn*'s struct page is kept: not for memory of boot."""
    leaf = mm.leaves.get(mm.arch.vmemmap_address(pfn))
    return leaf is None or leaf.owner != "early"
