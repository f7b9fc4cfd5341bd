"""mm/page_alloc.c: struct free_area, the lists of free blocks of one zone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

from memshell.mm.mmzone import MigrateType
from memshell.mm.pfn import align_down, align_up, order_of
from memshell.mm.ranges import RangeMap
from memshell.mm.sorted_map import SortedMap

UNMOVABLE, MOVABLE, RECLAIMABLE, ISOLATE = (
    MigrateType.UNMOVABLE,
    MigrateType.MOVABLE,
    MigrateType.RECLAIMABLE,
    MigrateType.ISOLATE,
)

APART = (ISOLATE, MigrateType.CMA)  # their blocks merge with their own only
MERGEABLE = tuple(kind for kind in MigrateType if kind not in APART)
HEADS = 64  # ranges at the list heads before those without a free block are forgotten; then twice what was left


class Chunk(NamedTuple):
    """One free block: its first pfn, its order and the list that it stands on."""

    pfn: int
    order: int
    migratetype: MigrateType


class FreeArea:
    """The free lists of one zone, exact.

    Blocks below the largest order are kept singly; aligned blocks of the largest order as runs, so that a
    terabyte of free memory costs as much as a gigabyte. A block that is not aligned to its size (broken kernels
    make them) is kept singly whatever its order.
    """

    __slots__ = ("_heads", "_most_heads", "_shared", "_single", "_top", "max_order")

    def __init__(self, max_order: int) -> None:
        self.max_order = max_order
        self._most_heads = HEADS
        self._heads: list[tuple[int, int]] = []  # ranges whose largest blocks stand at the list heads, the newest last
        self._single: dict[tuple[MigrateType, int], SortedMap[int, int]] = {}  # pfn -> how often it is on the list
        self._top: dict[MigrateType, RangeMap[bool]] = {}
        self._shared = False  # a copy has the same lists, until one of both writes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeArea) and list(self.chunks()) == list(other.chunks())

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def copy(self) -> FreeArea:
        """Return an independent copy."""
        new = FreeArea(self.max_order)
        new._heads, new._single, new._top = self._heads, self._single, self._top
        new._most_heads = self._most_heads
        self._shared = new._shared = True
        return new

    def _own(self) -> None:
        """Take copies of the lists before a change, where another area has them too."""
        if self._shared:
            self._single = {key: pfns.copy() for key, pfns in self._single.items() if pfns}
            self._top = {kind: runs.copy() for kind, runs in self._top.items() if runs}
            self._heads, self._shared = self._heads.copy(), False

    def counts(self, migratetype: MigrateType | None = None) -> list[int]:
        """Return nr_free per order: what /proc/buddyinfo prints."""
        counts = [0] * (self.max_order + 1)
        for (kind, order), pfns in self._single.items():
            if migratetype in (None, kind):
                counts[order] += sum(pfns.values())
        for kind, runs in self._top.items():
            if migratetype in (None, kind):
                counts[-1] += sum(end - start for start, end, _ in runs.items()) >> self.max_order
        return counts

    def chunks(self, start: int | None = None, end: int | None = None) -> list[Chunk]:
        """Return the blocks that begin in [start, end), by pfn. Costs one step per block: for looking, not for the model."""
        step = 1 << self.max_order
        found = [
            Chunk(pfn, order, kind)
            for (kind, order), pfns in self._single.items()
            for pfn, times in pfns.items()
            if (start is None or pfn >= start) and (end is None or pfn < end)
            for _ in range(times)
        ]
        for kind, runs in self._top.items():
            for a, b, _ in runs.items(start, end):
                found += [Chunk(pfn, self.max_order, kind) for pfn in range(align_up(a, step), b, step)]
        return sorted(found)

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield (start, end, order of its blocks) of the free memory, unsorted, runs of largest blocks joined."""
        for (_, order), pfns in self._single.items():
            for pfn, times in pfns.items():
                yield from repeat((pfn, pfn + (1 << order), order), times)
        for runs in self._top.values():
            for a, b, _ in runs.items():
                yield a, b, self.max_order

    def add(self, pfn: int, order: int, migratetype: MigrateType) -> None:
        """Put a block on its list without merging."""
        self._own()
        if order == self.max_order and not pfn & ((1 << order) - 1):
            self._top.setdefault(migratetype, RangeMap()).set(pfn, pfn + (1 << order), value=True)
            return
        pfns = self._single.get((migratetype, order))
        if pfns is None:
            pfns = self._single[migratetype, order] = SortedMap()
        pfns[pfn] = pfns.get(pfn, 0) + 1

    def remove(self, pfn: int, order: int, migratetype: MigrateType) -> bool:
        """Take a block off its list; False when it is not there."""
        if self._remove_single(pfn, order, migratetype):
            return True
        runs = self._top.get(migratetype)
        if order == self.max_order and runs is not None and runs.covers(pfn, pfn + (1 << order)):
            self._own()
            self._top[migratetype].delete(pfn, pfn + (1 << order))
            return True
        return False

    def _remove_single(self, pfn: int, order: int, migratetype: MigrateType) -> bool:
        pfns = self._single.get((migratetype, order))
        times = pfns.get(pfn) if pfns is not None else None
        if times is None:
            return False
        self._own()
        if times > 1:
            self._single[migratetype, order][pfn] = times - 1
        else:
            del self._single[migratetype, order][pfn]
        return True

    def first(self, order: int, migratetype: MigrateType) -> int | None:
        """Return the block of exactly *order* that an allocation would take, or None.

        The kernel takes the list head: of the largest blocks the last that `to_head` put there; else the lowest pfn.
        """
        pfns = self._single.get((migratetype, order))
        if pfns:
            return next(iter(pfns))
        runs = self._top.get(migratetype)
        if order != self.max_order or not runs:
            return None
        for start, end in reversed(self._heads):
            for low, high, _ in runs.items_reversed(start, end):
                pfn = align_down(high, 1 << order) - (1 << order)
                if pfn >= low:  # else the range holds but a part of that block
                    return pfn
        return next(runs.items())[0]

    def to_head(self, start: int, end: int) -> None:
        """Put the largest blocks of [start, end) at the heads of their lists, the highest pfn first.

        A range that begins where the newest ends makes one with it: the order is the same.
        """
        self._own()
        if self._heads and self._heads[-1][1] == start:
            start = self._heads.pop()[0]
        self._heads.append((start, end))
        if len(self._heads) > self._most_heads:
            self._heads = [h for h in self._heads if any(runs.intersects(*h) for runs in self._top.values())]
            self._most_heads = max(HEADS, 2 * len(self._heads))

    def free_range(self, start: int, end: int, migratetype: MigrateType) -> None:
        """Free [start, end), merging: the largest aligned blocks at once, the rest one by one."""
        step = 1 << self.max_order
        low, high = align_up(start, step), align_down(end, step)
        if low < high:
            self._own()
            self._top.setdefault(migratetype, RangeMap()).set(low, high, value=True)
        else:
            low = high = end
        for a, b in ((start, low), (high, end)):
            pfn = a
            while pfn < b:
                order = order_of(pfn, b - pfn, self.max_order)
                self.free_one_page(pfn, order, migratetype)
                pfn += 1 << order

    def free_one_page(self, pfn: int, order: int, migratetype: MigrateType) -> None:
        """__free_one_page(): put a block on its list, merging with its buddy while that is free.

        Source: mm/page_alloc.c:__free_one_page. A block of pageblock size or more does not merge with one of a
        migratetype that must stay apart (isolated).
        """
        while order < self.max_order:
            buddy = pfn ^ (1 << order)
            if not self._take_buddy(buddy, order, migratetype):
                break
            pfn &= buddy
            order += 1
        self.add(pfn, order, migratetype)

    def _take_buddy(self, buddy: int, order: int, migratetype: MigrateType) -> bool:
        kinds = (migratetype,) if migratetype in APART else MERGEABLE
        return any(self._remove_single(buddy, order, kind) for kind in kinds)

    def take_range(self, start: int, end: int) -> list[tuple[int, int, MigrateType]]:
        """Take all free memory of [start, end) off the lists, splitting blocks that reach over a border.

        Returns the runs (start, end, migratetype) that were taken.
        """
        self._own()
        taken: list[tuple[int, int, MigrateType]] = []
        rest: list[Chunk] = []
        for (kind, order), pfns in self._single.items():
            size = 1 << order
            for pfn in pfns.between(start - size + 1, end):
                for _ in range(pfns.pop(pfn)):
                    taken.append((max(pfn, start), min(pfn + size, end), kind))
                    rest += self._outside(pfn, pfn + size, start, end, kind)
        step = 1 << self.max_order
        for kind, runs in self._top.items():
            low, high = align_down(start, step), align_up(end, step)
            for a, b, _ in list(runs.items(low, high)):
                if a < end and b > start:
                    taken.append((max(a, start), min(b, end), kind))
                    runs.delete(a, b)
                    rest += self._outside(a, b, start, end, kind)
        for chunk in rest:
            self.add(*chunk)
        return sorted(taken)

    def _outside(self, a: int, b: int, start: int, end: int, kind: MigrateType) -> Iterator[Chunk]:
        for low, high in ((a, min(b, start)), (max(a, end), b)):
            pfn = low
            while pfn < high:
                order = order_of(pfn, high - pfn, self.max_order)
                yield Chunk(pfn, order, kind)
                pfn += 1 << order
