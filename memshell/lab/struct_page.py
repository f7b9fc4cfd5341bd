"""What a struct page says: its layout by the kernel's BTF, and what /proc/kpageflags makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from memshell.errors import ImageError
from memshell.mm.page import KPF_ANON, KPF_BUDDY, KPF_MMAP, KPF_OFFLINE, KPF_PGTABLE, KPF_SLAB

# fs/proc/page.c:stable_page_flags: the bit of /proc/kpageflags for a flag of struct page.
FLAGS = {
    "PG_locked": 0,
    "PG_error": 1,
    "PG_referenced": 2,
    "PG_uptodate": 3,
    "PG_dirty": 4,
    "PG_lru": 5,
    "PG_active": 6,
    "PG_slab": 7,
    "PG_writeback": 8,
    "PG_reclaim": 9,
    "PG_swapbacked": 14,
    "PG_unevictable": 18,
    "PG_hwpoison": 19,
    "PG_reserved": 32,
    "PG_mlocked": 33,
    "PG_mappedtodisk": 34,
    "PG_private": 35,
    "PG_private_2": 36,
    "PG_owner_priv_1": 37,
    "PG_arch_1": 38,
    "PG_uncached": 39,
}
COMPOUND_HEAD, COMPOUND_TAIL = 1 << 15, 1 << 16
TYPES = {"buddy": KPF_BUDDY, "offline": KPF_OFFLINE, "table": KPF_PGTABLE, "slab": KPF_SLAB}
MASKS = {"buddy": 0x80, "offline": 0x100, "table": 0x200}  # include/linux/page-flags.h before it had an enumeration
TYPED = 1 << 31  # page_type of a page that has one: the top bit is set, and the type's own bit is not
MAPPING_ANON = 1
FREE_ORDER_LIMIT = 32


@dataclass(frozen=True, slots=True)
class StructPage:
    """Offsets in bytes of what is read, bits of the flags, and the page types: a byte (v6.12) or a mask each."""

    size: int
    offsets: Mapping[str, int]
    bits: Mapping[int, int]  # bit in flags -> bit in kpageflags
    head: int  # the bit PG_head
    types: Mapping[str, int]
    by_byte: bool

    def type_of(self, word: int) -> str | None:
        """Return the type that the 32 bits of page_type say, or None: then they are the mapcount."""
        for name, value in self.types.items():
            if (word >> 24 == value) if self.by_byte else (word & (TYPED | value)) == TYPED:
                return name
        return None


def struct_page_of(kernel: Path) -> StructPage:
    """Read the layout from a kernel image.  Raises `ImageError` where it holds no types."""
    from memshell.vmlinux import Image

    image = Image(kernel)
    page, flags, types = image.struct("page"), image.enum("pageflags").values, image.find_enum("pagetype")
    names = ("flags", "compound_head", "mapping", "page_type", "_refcount", "private")
    missing = [name for name in names if name not in page.members and name != "page_type"]
    if missing or page.size % 8:
        raise ImageError(f"struct page of {kernel} has no {', '.join(missing) or 'even size'}")
    offsets = {name: page.members[name if name in page.members else "_mapcount"].offset for name in names}
    bits = {flags[name]: bit for name, bit in FLAGS.items() if name in flags}
    found = {} if types is None else types.values
    by_byte = any(name.startswith("PGTY_") for name in found)
    prefix = "PGTY_" if by_byte else "PG_"
    known = {name: found[prefix + name] for name in TYPES if prefix + name in found} if found else MASKS
    return StructPage(page.size, offsets, bits, flags["PG_head"], known, by_byte)


def runs_of(layout: StructPage, first: int, data: bytes) -> tuple[list[tuple[int, int, int]], list[list[int]]]:
    """Return runs (start, end, kpageflags) of the struct pages in *data*, and free blocks [pfn, order, count]."""
    words, step = memoryview(data).cast("Q"), layout.size // 8
    at = layout.offsets

    def column(name: str) -> list[int]:
        return words[at[name] // 8 :: step].tolist()

    shift = 8 * (at["page_type"] % 8)
    kinds = [value >> shift & 0xFFFFFFFF for value in column("page_type")]
    tails = [value & 1 for value in column("compound_head")]
    anon = [value & MAPPING_ANON for value in column("mapping")]
    private = column("private")
    runs: list[tuple[int, int, int]] = []
    chunks: list[list[int]] = []
    pfn, free_until = first, first
    keys = zip(column("flags"), tails, anon, kinds, strict=True)
    for key, group in groupby(keys):
        count, start = sum(1 for _ in group), pfn
        pfn += count
        flags = page_flags(layout, *key)
        if flags & KPF_BUDDY:
            for head in range(start, pfn):
                order = private[head - first]
                if order < FREE_ORDER_LIMIT:
                    _add_chunk(chunks, head, order)
                    free_until = max(free_until, head + (1 << order))
        _add_free(runs, start, pfn, flags, free_until)
    return runs, chunks


def _add_free(runs: list[tuple[int, int, int]], start: int, end: int, flags: int, free_until: int) -> None:
    """Add a run of pages; those up to *free_until* belong to a free block, whose pages all read as free."""
    cut = min(max(start, free_until), end)
    if start < cut:
        runs.append((start, cut, KPF_BUDDY))
    if cut < end:
        runs.append((cut, end, flags))


def _add_chunk(chunks: list[list[int]], pfn: int, order: int) -> None:
    if chunks and chunks[-1][1] == order and chunks[-1][0] + (chunks[-1][2] << order) == pfn:
        chunks[-1][2] += 1
    else:
        chunks.append([pfn, order, 1])


def page_flags(layout: StructPage, flags: int, tail: int, anon: int, kind: int) -> int:
    """Return what /proc/kpageflags shows for a page of these fields.  Source: fs/proc/page.c:stable_page_flags."""
    found = 0
    for bit, shown in layout.bits.items():
        found |= (flags >> bit & 1) << shown
    typed = layout.type_of(kind)
    if typed is not None:
        return found | TYPES[typed]
    if kind < TYPED:  # _mapcount counts from -1
        found |= KPF_MMAP
    if anon and not tail:
        found |= KPF_ANON
    if tail:
        return found | COMPOUND_TAIL
    return found | COMPOUND_HEAD if flags >> layout.head & 1 else found
