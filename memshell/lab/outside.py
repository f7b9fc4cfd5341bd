"""The guest's memory from outside: page tables, struct pages and free lists, read without a word to the guest.

What lies at a physical address comes through QEMU's monitor.  The kernel's own page tables say where the memmap is; the
kernel's BTF says what a struct page looks like.  Nothing in the guest moves, and offline memory is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from memshell.lab.qemu import Qemu, QemuFailed
from memshell.lab.struct_page import StructPage, runs_of
from memshell.mm.page import KPF_NOPAGE

ADDRESS = (1 << 52) - (1 << 12)  # of a page table entry.  Source: arch/x86/include/asm/pgtable_types.h
PRESENT, LEAF = 1, 1 << 7
TABLES = {39: "p4d_pud", 30: "pmd", 21: "pte"}  # the table that an entry of 2^N bytes points to
VMEMMAP, PAGE_OFFSET = 0xFFFFEA0000000000, 0xFFFF888000000000  # 4 levels, nokaslr
CHUNK = 32768  # pages whose flags are 256K of /proc/kpageflags
MOST_PAGES = 4 << 30 >> 12  # struct pages of more memory than this are not read one by one


@dataclass(slots=True)
class Mapping:
    """What maps a range of addresses: leaves [address, count, bytes, pfn], and tables {level: [[address, pfn]]}."""

    leaves: list[list[int]] = field(default_factory=list)
    tables: dict[str, list[list[int]]] = field(default_factory=lambda: {name: [] for name in TABLES.values()})

    def add_leaf(self, va: int, size: int, pfn: int) -> None:
        """Add a leaf; one that goes on where the last ended makes it longer."""
        if self.leaves:
            last = self.leaves[-1]
            follows = last[0] + last[1] * size == va and last[3] + (last[1] * size >> 12) == pfn
            if last[2] == size and follows:
                last[1] += 1
                return
        self.leaves.append([va, 1, size, pfn])

    def to_json(self) -> dict[str, Any]:
        """Return it as a recording has it."""
        return {"leaves": self.leaves, "tables": self.tables}


@dataclass(slots=True)
class Outside:
    """Reads the memory of an x86_64 guest with 4-level paging.  *absent* is what its kpageflags shows of offline memory."""

    qemu: Qemu
    layout: StructPage
    absent: int | None = None

    def read(self, address: int, size: int) -> bytes:
        """Return *size* bytes at a physical address."""
        path = self.qemu.folder / "memory"
        self.qemu.command("pmemsave", val=address, size=size, filename=str(path))
        try:
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    def root(self) -> int:
        """Return the physical address of the kernel's top page table."""
        text = self.qemu.command("human-monitor-command", **{"command-line": "info registers"})
        found = re.search(r"CR3=([0-9a-f]+)", text)
        if found is None:
            raise QemuFailed("QEMU does not tell CR3")
        return int(found[1], 16) & ADDRESS

    def mapping(self, start: int, end: int) -> Mapping:
        """Return what maps the virtual addresses [start, end)."""
        found = Mapping()
        self._walk(found, self.root(), 39, start & ~((1 << 48) - 1), (start, end))
        return found

    def _walk(self, found: Mapping, table: int, shift: int, base: int, wanted: tuple[int, int]) -> None:
        data = memoryview(self.read(table, 4096)).cast("Q")
        first = max(0, wanted[0] - base) >> shift
        last = min(511, (wanted[1] - 1 - base) >> shift)
        for i in range(first, last + 1):
            entry, va = data[i], base + (i << shift)
            if not entry & PRESENT:
                continue
            if shift == 12 or entry & LEAF:
                found.add_leaf(va, 1 << shift, (entry & ADDRESS & ~((1 << shift) - 1)) >> 12)
            else:
                found.tables[TABLES[shift]].append([va, (entry & ADDRESS) >> 12])
                self._walk(found, entry & ADDRESS, shift - 9, va, wanted)

    def memmap(self, start_pfn: int, end_pfn: int) -> Iterator[tuple[int, bytes]]:
        """Yield the struct pages of [start_pfn, end_pfn) that are mapped, as (first pfn, bytes)."""
        size = self.layout.size
        low, high = VMEMMAP + start_pfn * size, VMEMMAP + end_pfn * size
        for va, count, leaf, pfn in self.mapping(low, high).leaves:
            first, last = max(va, low), min(va + count * leaf, high)
            yield (first - VMEMMAP) // size, self.read((pfn << 12) + first - va, last - first)

    def pages(self, ranges: list[tuple[int, int]], online: list[tuple[int, int]]) -> dict[str, Any]:
        """Return what a recorded step has of the pages in *ranges*: flags, free blocks, page tables, the memmap's place.

        Struct pages count where memory is *online*; elsewhere /proc/kpageflags shows none.
        """
        step: dict[str, Any] = {"pfn_ranges": [list(one) for one in ranges]}
        flags: list[list[int]] = []
        buddy, tables = [], []
        for start, end in ranges:
            runs, chunks = self._runs(start, end, online)
            flags += runs
            free = sum(count << order for _, order, count in chunks)
            buddy.append({"range": [start, end], "chunks": chunks, "free_pages": free})
            size = self.layout.size
            direct = self.mapping(PAGE_OFFSET + (start << 12), PAGE_OFFSET + (end << 12))
            vmemmap = self.mapping(VMEMMAP + start * size, VMEMMAP + end * size)
            tables.append({"range": [start, end], "direct_map": direct.to_json(), "vmemmap": vmemmap.to_json()})
        step |= {"kpageflags_runs": flags, "buddy": buddy, "page_tables": tables}
        return step | backing(tables, ranges)

    def _absent(self, pfn: int) -> int:
        """Return what kpageflags shows at *pfn*, which is offline: kernels differ, so the guest is asked, once."""
        if self.absent is None:
            data = self.qemu.guest.packed(f"pages /proc/kpageflags {pfn // CHUNK} 1")
            at = pfn % CHUNK * 8
            self.absent = int.from_bytes(data[at : at + 8], "little") if len(data) > at else KPF_NOPAGE
        return self.absent

    def _runs(self, start: int, end: int, online: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
        runs: list[list[int]] = []
        chunks: list[list[int]] = []
        at = start
        inside = [(max(a, start), min(b, end)) for a, b in online if a < end and b > start]
        for low, high in inside if end - start <= MOST_PAGES else ():
            if at < low:
                add_run(runs, at, low, self._absent(at))
            for first, data in self.memmap(low, high):
                found, free = runs_of(self.layout, first, data)
                for a, b, value in found:
                    add_run(runs, a, b, value)
                chunks += free
            at = high
        if at < end and end - start <= MOST_PAGES:
            add_run(runs, at, end, self._absent(at))
        return runs, chunks


def add_run(runs: list[list[int]], start: int, end: int, value: int) -> None:
    """Append [start, count, value]; a run that goes on with the same value makes the last one longer."""
    if runs and runs[-1][0] + runs[-1][1] == start and runs[-1][2] == value:
        runs[-1][1] += end - start
    else:
        runs.append([start, end - start, value])


def backing(tables: list[dict[str, Any]], ranges: list[tuple[int, int]]) -> dict[str, int]:
    """Return how many pages back the memmap of *ranges*, and how many of them lie inside *ranges*."""
    total = inside = 0
    for entry in tables:
        for _, count, size, pfn in entry["vmemmap"]["leaves"]:
            total += count * (size >> 12)
            inside += count * (size >> 12) if any(a <= pfn < b for a, b in ranges) else 0
    return {"vmemmap_pages": total, "vmemmap_pages_inside_ranges": inside}
