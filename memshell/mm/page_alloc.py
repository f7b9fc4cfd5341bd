"""mm/page_alloc.c: the buddy lists, allocation in zonelist order with fallback and pageblock stealing, watermarks."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

from memshell.mm import mirrors
from memshell.mm.mmzone import MigrateType, Zone, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.pfn import align_down, align_up, order_of
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, ZoneKey
from memshell.mm.struct_page import taken

UNMOVABLE, MOVABLE, RECLAIMABLE, ISOLATE = (
    MigrateType.UNMOVABLE,
    MigrateType.MOVABLE,
    MigrateType.RECLAIMABLE,
    MigrateType.ISOLATE,
)

# mm/page_alloc.c:fallbacks
FALLBACKS = {UNMOVABLE: (RECLAIMABLE, MOVABLE), MOVABLE: (RECLAIMABLE, UNMOVABLE), RECLAIMABLE: (UNMOVABLE, MOVABLE)}
# mm/page_alloc.c:sysctl_lowmem_reserve_ratio
LOWMEM_RESERVE_RATIO = {ZoneType.DMA: 256, ZoneType.DMA32: 256, ZoneType.NORMAL: 32, ZoneType.MOVABLE: 0}


HEADS = 64  # ranges at the list heads before those without a free block are forgotten


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

    __slots__ = ("_heads", "_single", "_top", "max_order")

    def __init__(self, max_order: int) -> None:
        self.max_order = max_order
        self._heads: list[tuple[int, int]] = []  # ranges whose largest blocks stand at the list heads, the newest last
        self._single: dict[tuple[MigrateType, int], list[int]] = {}
        self._top: dict[MigrateType, RangeMap[bool]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeArea) and list(self.chunks()) == list(other.chunks())

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def copy(self) -> FreeArea:
        """Return an independent copy."""
        new = FreeArea(self.max_order)
        new._single = {key: pfns.copy() for key, pfns in self._single.items() if pfns}
        new._top = {kind: runs.copy() for kind, runs in self._top.items() if len(runs)}
        new._heads = self._heads.copy()
        return new

    def counts(self, migratetype: MigrateType | None = None) -> list[int]:
        """Return nr_free per order: what /proc/buddyinfo prints."""
        counts = [0] * (self.max_order + 1)
        for (kind, order), pfns in self._single.items():
            if migratetype in (None, kind):
                counts[order] += len(pfns)
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
            for pfn in pfns
            if (start is None or pfn >= start) and (end is None or pfn < end)
        ]
        for kind, runs in self._top.items():
            for a, b, _ in runs.items(start, end):
                found += [Chunk(pfn, self.max_order, kind) for pfn in range(align_up(a, step), b, step)]
        return sorted(found)

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield (start, end, order of its blocks) of the free memory, unsorted, runs of largest blocks joined."""
        for (_, order), pfns in self._single.items():
            for pfn in pfns:
                yield pfn, pfn + (1 << order), order
        for runs in self._top.values():
            for a, b, _ in runs.items():
                yield a, b, self.max_order

    def add(self, pfn: int, order: int, migratetype: MigrateType) -> None:
        """Put a block on its list without merging."""
        if order == self.max_order and not pfn & ((1 << order) - 1):
            self._top.setdefault(migratetype, RangeMap()).set(pfn, pfn + (1 << order), value=True)
        else:
            insort(self._single.setdefault((migratetype, order), []), pfn)

    def remove(self, pfn: int, order: int, migratetype: MigrateType) -> bool:
        """Take a block off its list; False when it is not there."""
        pfns = self._single.get((migratetype, order))
        if pfns:
            i = bisect_left(pfns, pfn)
            if i < len(pfns) and pfns[i] == pfn:
                del pfns[i]
                return True
        runs = self._top.get(migratetype)
        if order == self.max_order and runs is not None and runs.covers(pfn, pfn + (1 << order)):
            runs.delete(pfn, pfn + (1 << order))
            return True
        return False

    def first(self, order: int, migratetype: MigrateType) -> int | None:
        """Return the block of exactly *order* that an allocation would take, or None.

        The kernel takes the list head: of the largest blocks the last that `to_head` put there; else the lowest pfn.
        """
        pfns = self._single.get((migratetype, order))
        if pfns:
            return pfns[0]
        runs = self._top.get(migratetype)
        if order != self.max_order or not runs:
            return None
        for start, end in reversed(self._heads):
            inside = list(runs.items(start, end))
            if inside:
                return align_down(inside[-1][1], 1 << order) - (1 << order)
        return next(runs.items())[0]

    def to_head(self, start: int, end: int) -> None:
        """Put the largest blocks of [start, end) at the heads of their lists, the highest pfn first.

        A range that begins where the newest ends makes one with it: the order is the same.
        """
        if self._heads and self._heads[-1][1] == start:
            start = self._heads.pop()[0]
        self._heads.append((start, end))
        if len(self._heads) > HEADS:
            self._heads = [h for h in self._heads if any(runs.intersects(*h) for runs in self._top.values())]

    def free_range(self, start: int, end: int, migratetype: MigrateType) -> None:
        """Free [start, end), merging: the largest aligned blocks at once, the rest one by one."""
        step = 1 << self.max_order
        low, high = align_up(start, step), align_down(end, step)
        if low < high:
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
        for kind in MigrateType:
            if (kind is ISOLATE) != (migratetype is ISOLATE):
                continue
            pfns = self._single.get((kind, order))
            if pfns:
                i = bisect_left(pfns, buddy)
                if i < len(pfns) and pfns[i] == buddy:
                    del pfns[i]
                    return True
        return False

    def take_range(self, start: int, end: int) -> list[tuple[int, int, MigrateType]]:
        """Take all free memory of [start, end) off the lists, splitting blocks that reach over a border.

        Returns the runs (start, end, migratetype) that were taken.
        """
        taken: list[tuple[int, int, MigrateType]] = []
        rest: list[Chunk] = []
        for (kind, order), pfns in self._single.items():
            size = 1 << order
            i, k = bisect_left(pfns, start - size + 1), bisect_left(pfns, end)
            for pfn in pfns[i:k]:
                taken.append((max(pfn, start), min(pfn + size, end), kind))
                rest += self._outside(pfn, pfn + size, start, end, kind)
            del pfns[i:k]
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


def add_zones(mm: Mm, nid: int) -> None:
    """Give node *nid* its zones, empty; which kinds there are is the architecture's."""
    kinds = {kind for kind, _ in mm.arch.zone_limits} | {ZoneType.NORMAL, ZoneType.MOVABLE, ZoneType.DEVICE}
    for kind in sorted(kinds):
        if (nid, kind) not in mm.zones:
            mm.zones[nid, kind] = Zone(nid, kind)
            mm.free[nid, kind] = FreeArea(mm.arch.max_order)


def nr_free_pages(mm: Mm, nid: int | None = None) -> int:
    """Return NR_FREE_PAGES (per-cpu lists counted in) of one node, or of all."""
    return sum(zone.free for (node, _), zone in mm.zones.items() if nid in (None, node))


def free_range(mm: Mm, start_pfn: int, end_pfn: int) -> None:
    """Give [start_pfn, end_pfn) to the buddy of the zone that it lies in; it must belong to one zone.

    The pages go to the lists of their pageblocks' migratetypes.
    """
    run = mm.pages.get(start_pfn)
    assert run is not None, f"pfn {start_pfn:#x} has no struct page that is online"
    key = (run.nid, run.zone)
    for start, end, kind in list(mm.pageblocks.items(start_pfn, end_pfn)):
        mm.free[key].free_range(start, end, kind)
    mm.pages.set(start_pfn, end_pfn, Page(Owner.FREE, *key))
    mm.change_zone(key, free=mm.zones[key].free + end_pfn - start_pfn)


def free_pages(mm: Mm, pfn: int, order: int) -> None:
    """__free_pages(): give 2^order pages back."""
    free_range(mm, pfn, pfn + (1 << order))


def zonelist(mm: Mm, nid: int, highest: ZoneType) -> list[ZoneKey]:
    """Return the populated zones in the order that an allocation on *nid* tries them.

    The node's own zones from *highest* down, then the other nodes' by distance (taken as the difference of the ids).
    Source: mm/page_alloc.c:build_zonelists.
    """
    nodes = sorted({node for node, _ in mm.zones}, key=lambda node: (abs(node - nid), node))
    return [
        (node, kind)
        for node in nodes
        for kind in sorted(ZoneType, reverse=True)
        if kind <= highest and (zone := mm.zones.get((node, kind))) is not None and zone.managed
    ]


def lowmem_reserve(mm: Mm, key: ZoneKey, highest: ZoneType) -> int:
    """Return the pages that the zone keeps from allocations that could have used a higher zone of its node.

    Source: mm/page_alloc.c:setup_per_zone_lowmem_reserve.
    """
    nid, kind = key
    ratio = LOWMEM_RESERVE_RATIO.get(kind, 0)
    if not ratio:
        return 0
    above = sum(z.managed for (n, k), z in mm.zones.items() if n == nid and kind < k <= min(highest, ZoneType.MOVABLE))
    return above // ratio


def zone_watermark_ok(mm: Mm, key: ZoneKey, order: int, highest: ZoneType, *, atomic: bool) -> bool:
    """Whether the zone may give 2^order pages and keep its min watermark. Source: mm/page_alloc.c:__zone_watermark_ok."""
    zone = mm.zones[key]
    mark = zone.watermark_min
    if atomic:
        mark -= mark // 2
    return zone.free - (1 << order) + 1 > mark + lowmem_reserve(mm, key, highest)


@mirrors(
    "mm/page_alloc.c:__alloc_pages",
    "v6.12",
    "simplified",
    "no reclaim, no compaction, no per-cpu lists; of equal blocks the lowest pfn is taken where the kernel takes the list head",
)
def alloc_pages(
    mm: Mm,
    order: int,
    owner: Owner,
    *,
    nid: int = 0,
    movable: bool = False,
    tag: int = 0,
    nodes: tuple[int, ...] | None = None,
    atomic: bool = False,
) -> int | None:
    """Allocate 2^order pages; return the first pfn, or None when no zone that may be used can give them.

    *movable* allocations (GFP_HIGHUSER_MOVABLE) start in ZONE_MOVABLE, others in the highest kernel zone.
    *nodes* restricts the nodes and gives their order.
    """
    highest = ZoneType.MOVABLE if movable else ZoneType.NORMAL
    kind = MOVABLE if movable else UNMOVABLE
    keys = (
        zonelist(mm, nid, highest)
        if nodes is None
        else [k for n in nodes for k in zonelist(mm, n, highest) if k[0] == n]
    )
    for key in keys:
        if not zone_watermark_ok(mm, key, order, highest, atomic=atomic):
            continue
        pfn = rmqueue(mm, key, order, kind)
        if pfn is not None:
            if mm.struct_pages:
                taken(mm, pfn, order, key)
            mm.pages.set(pfn, pfn + (1 << order), Page(owner, *key, tag))
            mm.change_zone(key, free=mm.zones[key].free - (1 << order))
            return pfn
    return None


def rmqueue(mm: Mm, key: ZoneKey, order: int, kind: MigrateType) -> int | None:
    """Take a block of *order* off the lists of one zone: the own migratetype first, then by stealing."""
    area = mm.free[key]
    for have in range(order, area.max_order + 1):
        pfn = area.first(have, kind)
        if pfn is not None:
            return _expand(area, pfn, have, order, kind, kind)
    for have in range(area.max_order, order - 1, -1):
        for other in FALLBACKS[kind]:
            pfn = area.first(have, other)
            if pfn is not None:
                return _steal(mm, key, Chunk(pfn, have, other), order, kind)
    return None


def _expand(area: FreeArea, pfn: int, have: int, order: int, listed: MigrateType, kind: MigrateType) -> int:
    """Take the block and put the upper halves that are not needed on *kind*'s lists."""
    area.remove(pfn, have, listed)
    while have > order:
        have -= 1
        area.add(pfn + (1 << have), have, kind)
    return pfn


def _steal(mm: Mm, key: ZoneKey, chunk: Chunk, order: int, kind: MigrateType) -> int:
    """steal_suitable_fallback(): claim whole pageblocks when the block is that large or half of its pageblock is free."""
    area, size = mm.free[key], 1 << mm.arch.pageblock_order
    pfn, have, other = chunk
    if have >= mm.arch.pageblock_order:
        mm.pageblocks.set(pfn, pfn + (1 << have), kind)
        return _expand(area, pfn, have, order, other, kind)
    start = align_down(pfn, size)
    free = sum(b - a for a, b, page in mm.pages.items(start, start + size) if page.owner is Owner.FREE)
    if free < size // 2:
        return _expand(area, pfn, have, order, other, other)
    for a, b, _ in area.take_range(start, start + size):
        area.free_range(a, b, kind)
    mm.pageblocks.set(start, start + size, kind)
    have = next(o for o in range(have, area.max_order + 1) if area.remove(align_down(pfn, 1 << o), o, kind))
    pfn = align_down(pfn, 1 << have)
    area.add(pfn, have, kind)
    return _expand(area, pfn, have, order, kind, kind)


def kernel_zones(mm: Mm) -> list[Zone]:
    """Return the populated zones below ZONE_MOVABLE."""
    return [zone for (_, kind), zone in mm.zones.items() if kind < ZoneType.MOVABLE and zone.managed]


@mirrors("mm/page_alloc.c:calculate_min_free_kbytes", "v6.12", "complete")
def calculate_min_free_kbytes(mm: Mm, low: int) -> int:
    """Return min_free_kbytes for *low* managed pages of the kernel zones: the square root of 16 times their kB, 128 to 262144."""
    return min(max(isqrt((low << mm.arch.page_shift >> 10) * 16), 128), 262144)


@mirrors("mm/page_alloc.c:setup_per_zone_wmarks", "v6.12", "simplified", "only the min watermark; no watermark boost")
def setup_per_zone_wmarks(mm: Mm, min_free_kbytes: int, low: int) -> None:
    """Spread *min_free_kbytes* over the zones in proportion to their managed pages; ZONE_MOVABLE keeps 32 to 128 pages."""
    pages_min = min_free_kbytes << 10 >> mm.arch.page_shift
    for key, zone in mm.zones.items():
        if key[1] >= ZoneType.MOVABLE:
            mark = min(max(zone.managed // 1024, 32), 128) if key[1] is ZoneType.MOVABLE else 0
        else:
            mark = pages_min * zone.managed // low if low else 0
        if zone.watermark_min != mark:
            mm.zones[key] = zone._replace(watermark_min=mark)


@mirrors("mm/khugepaged.c:set_recommended_min_free_kbytes", "v6.12", "complete")
def set_recommended_min_free_kbytes(mm: Mm, min_free_kbytes: int, low: int, nr_zones: int) -> int:
    """Return min_free_kbytes raised as transparent huge pages want it: 11 pageblocks a zone, at most 5 % of the kernel zones.

    Two pageblocks for each zone below ZONE_MOVABLE, and one for each pair of the three per-cpu migratetypes.
    """
    pages = min((1 << mm.arch.pageblock_order) * nr_zones * (2 + 3 * 3), low // 20)
    return max(min_free_kbytes, pages << mm.arch.page_shift >> 10)


def min_free_kbytes(mm: Mm) -> int:
    """Return what /proc/sys/vm/min_free_kbytes reads."""
    zones = kernel_zones(mm)
    low = sum(zone.managed for zone in zones)
    kilobytes = calculate_min_free_kbytes(mm, low)
    if not mm.feature("thp.raises_min_free_kbytes"):
        return kilobytes
    if mm.trace is not None:  # overwritten at once; only a trace can tell
        setup_per_zone_wmarks(mm, kilobytes, low)
    return set_recommended_min_free_kbytes(mm, kilobytes, low, len(zones))


@mirrors("mm/page_alloc.c:init_per_zone_wmark_min", "v6.12", "complete")
def init_per_zone_wmark_min(mm: Mm) -> None:
    """Recompute the watermarks after the managed pages changed."""
    kilobytes = min_free_kbytes(mm)
    setup_per_zone_wmarks(mm, kilobytes, sum(zone.managed for zone in kernel_zones(mm)))
