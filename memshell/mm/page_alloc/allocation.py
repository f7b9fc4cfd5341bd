"""mm/page_alloc.c: pages are allocated in zonelist order with fallback and pageblock stealing, and freed."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.free_area import MOVABLE, RECLAIMABLE, UNMOVABLE, Chunk, FreeArea
from memshell.mm.pfn import align_down, format_size, order_of
from memshell.mm.state import Mm, ZoneKey

# mm/page_alloc.c:fallbacks
FALLBACKS = {UNMOVABLE: (RECLAIMABLE, MOVABLE), MOVABLE: (RECLAIMABLE, UNMOVABLE), RECLAIMABLE: (UNMOVABLE, MOVABLE)}

HIGHEST_FIRST = tuple(sorted(ZoneType, reverse=True))

# mm/page_alloc.c:sysctl_lowmem_reserve_ratio
LOWMEM_RESERVE_RATIO = {ZoneType.DMA: 256, ZoneType.DMA32: 256, ZoneType.NORMAL: 32, ZoneType.MOVABLE: 0}


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


def node_order(mm: Mm, nid: int) -> list[int]:
    """Return the nodes in the order that an allocation on *nid* tries them: by distance, taken as that of the ids."""
    return sorted({node for node, _ in mm.zones}, key=lambda node: (abs(node - nid), node))


def zonelist(mm: Mm, nid: int, highest: ZoneType) -> list[ZoneKey]:
    """Return the populated zones in the order that an allocation on *nid* tries them.

    The node's own zones from *highest* down, then the other nodes' by distance.
    Source: mm/page_alloc.c:build_zonelists.
    """
    return [
        (node, kind)
        for node in node_order(mm, nid)
        for kind in HIGHEST_FIRST
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


def free_cma_pages(mm: Mm, key: ZoneKey) -> int:
    """Return NR_FREE_CMA_PAGES of one zone."""
    return _pages(mm.free[key].counts(MigrateType.CMA)) if mm.cma else 0


def _pages(counts: list[int]) -> int:
    return sum(count << order for order, count in enumerate(counts))


def pages_above_mark(mm: Mm, key: ZoneKey, highest: ZoneType, *, atomic: bool = False) -> int:
    """Return the free pages that the zone may give: GFP_ATOMIC goes down to three eighths of the min watermark.

    Pages of a CMA area are for movable allocations, which begin in ZONE_MOVABLE.

    Source: mm/page_alloc.c:__zone_watermark_ok.
    """
    zone = mm.zones[key]
    mark = zone.watermark_min
    if atomic:
        mark -= mark // 2  # __GFP_HIGH
        mark -= mark // 4  # and nothing that could wait
    closed = 0 if highest is ZoneType.MOVABLE else free_cma_pages(mm, key)
    return zone.free - closed - mark - lowmem_reserve(mm, key, highest)


def has_pages_above_mark(mm: Mm, nr_pages: int) -> bool:
    """Whether one kernel zone could give *nr_pages* single pages to anybody."""
    kernel = (key for key in mm.zones if key[1] <= ZoneType.NORMAL)
    return any(pages_above_mark(mm, key, ZoneType.NORMAL) >= nr_pages for key in kernel)


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
        if pages_above_mark(mm, key, highest, atomic=atomic) < 1 << order:
            continue
        pfn = rmqueue(mm, key, order, kind)
        if pfn is not None:
            if mm.struct_pages:
                mm.seam.page_taken(mm, pfn, order, key)
            mm.pages.set(pfn, pfn + (1 << order), Page(owner, *key, tag))
            mm.change_zone(key, free=mm.zones[key].free - (1 << order))
            return pfn
    return None


def rmqueue(mm: Mm, key: ZoneKey, order: int, kind: MigrateType) -> int | None:
    """Take a block of *order* off the lists of one zone: the own migratetype first, then by stealing.

    Movable memory comes from the CMA areas while they have more than half of what is free, and before it is stolen.
    Source: mm/page_alloc.c:__rmqueue.
    """
    area = mm.free[key]
    if mm.cma and kind is MOVABLE and free_cma_pages(mm, key) > _pages(area.counts()) // 2:
        pfn = _smallest(area, order, MigrateType.CMA)
        if pfn is not None:
            return pfn
    pfn = _smallest(area, order, kind)
    if pfn is None and mm.cma and kind is MOVABLE:
        pfn = _smallest(area, order, MigrateType.CMA)
    return pfn if pfn is not None else _rmqueue_fallback(mm, key, order, kind)


def _smallest(area: FreeArea, order: int, kind: MigrateType) -> int | None:
    """__rmqueue_smallest(): take a block of one list, split off the smallest that does."""
    for have in range(order, area.max_order + 1):
        pfn = area.first(have, kind)
        if pfn is not None:
            return _expand(area, pfn, have, order, kind, kind)
    return None


def _rmqueue_fallback(mm: Mm, key: ZoneKey, order: int, kind: MigrateType) -> int | None:
    """__rmqueue_fallback(): take of the largest block of another list."""
    area = mm.free[key]
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


def _size(mm: Mm, nr_pages: int) -> str:
    return format_size(nr_pages << mm.arch.page_shift)


Runs = list[tuple[int, int]]


def alloc_bulk(
    mm: Mm,
    nr_blocks: int,
    order: int,
    owner: Owner,
    *,
    nid: int = 0,
    movable: bool = False,
    tag: int = 0,
    nodes: tuple[int, ...] | None = None,
    atomic: bool = False,
) -> Runs:
    """Allocate *nr_blocks* blocks of 2^order pages; return their runs in the order of allocation.

    Zones, watermarks, lists and stealing are those of `alloc_pages`. Raises `OutOfMemory` with everything
    given back.
    """
    runs = alloc_some(mm, nr_blocks, order, owner, nid=nid, movable=movable, tag=tag, nodes=nodes, atomic=atomic)
    got = sum(end - start for start, end in runs) >> order
    if got < nr_blocks:
        for start, end in runs:
            free_range(mm, start, end)
        raise OutOfMemory(
            f"only {_size(mm, got << order)} of {_size(mm, nr_blocks << order)} can be had, in blocks of {1 << order} pages",
            where="mm/page_alloc.c:__alloc_pages",
        )
    return runs


def alloc_some(
    mm: Mm,
    nr_blocks: int,
    order: int,
    owner: Owner,
    *,
    nid: int = 0,
    movable: bool = False,
    tag: int = 0,
    nodes: tuple[int, ...] | None = None,
    atomic: bool = False,
) -> Runs:
    """Allocate up to *nr_blocks* blocks as `alloc_bulk` does, and keep what can be had."""
    highest = ZoneType.MOVABLE if movable else ZoneType.NORMAL
    kind = MigrateType.MOVABLE if movable else MigrateType.UNMOVABLE
    keys = (
        zonelist(mm, nid, highest)
        if nodes is None
        else [k for n in nodes for k in zonelist(mm, n, highest) if k[0] == n]
    )
    runs: Runs = []
    left = nr_blocks
    for key in keys:
        room = pages_above_mark(mm, key, highest, atomic=atomic) >> order
        taken = _take(mm, key, order, kind, min(left, room))
        pages = sum(end - start for start, end in taken)
        for start, end in taken:
            if mm.struct_pages:
                for pfn in range(start, end, 1 << order):
                    mm.seam.page_taken(mm, pfn, order, key)
            mm.pages.set(start, end, Page(owner, *key, tag))
        mm.change_zone(key, free=mm.zones[key].free - pages)
        left -= pages >> order
        runs += taken
    return runs


def _take(mm: Mm, key: ZoneKey, order: int, kind: MigrateType, nr_blocks: int) -> Runs:
    """Take up to *nr_blocks* off the lists of one zone, the smallest that do first, then by stealing."""
    area, runs = mm.free[key], Runs()
    left = nr_blocks
    while left > 0:
        turns = _turns(area, order, left) if mm.cma and kind is MOVABLE else [(kind, left)]
        taken = [run for listed, want in turns for run in _take_from(area, order, listed, want)]
        if not taken:
            pfn = rmqueue(mm, key, order, kind)
            if pfn is None:
                break
            taken = [(pfn, pfn + (1 << order))]
        left -= sum(end - start for start, end in taken) >> order
        runs += taken
    return runs


def _turns(area: FreeArea, order: int, left: int) -> list[tuple[MigrateType, int]]:
    """Return from which lists the next movable allocations of a zone with CMA areas come, and how many from each.

    The rule of `rmqueue`, for many at once: the areas give until they have half of what is free, the others give until
    they have not more than that, and from then on they take turns.
    """
    size, cma = 1 << order, area.counts(MigrateType.CMA)
    listed = {MOVABLE: _blocks(area.counts(MOVABLE), order), MigrateType.CMA: _blocks(cma, order)}
    if not listed[MigrateType.CMA] or not listed[MOVABLE]:
        return [max(listed.items(), key=itemgetter(1))] if any(listed.values()) else []
    lead = 2 * _pages(cma) - _pages(area.counts())
    if lead > size:
        turns = [(MigrateType.CMA, -(-lead // size))]
    elif lead <= -size:
        turns = [(MOVABLE, -lead // size + 1)]
    else:
        pairs = min(left // 2, *listed.values())
        turns = [(MigrateType.CMA, pairs), (MOVABLE, pairs)]
    return [(kind, min(want, left, listed[kind])) for kind, want in turns]


def _blocks(counts: list[int], order: int) -> int:
    """Return how many blocks of *order* the free blocks hold."""
    return sum(count << (have - order) for have, count in enumerate(counts) if have >= order)


def _take_from(area: FreeArea, order: int, kind: MigrateType, nr_blocks: int) -> Iterator[tuple[int, int]]:
    """Take up to *nr_blocks* off one list, in runs."""
    while nr_blocks > 0 and (run := _take_listed(area, order, kind, nr_blocks)) is not None:
        nr_blocks -= (run[1] - run[0]) >> order
        yield run


def _take_listed(area: FreeArea, order: int, kind: MigrateType, nr_blocks: int) -> tuple[int, int] | None:
    """Take as much as is wanted of the block that the next allocation would split; the rest goes back."""
    for have in range(order, area.max_order + 1):
        pfn = area.first(have, kind)
        if pfn is None:
            continue
        area.remove(pfn, have, kind)
        end, stop = pfn + (1 << have), pfn + min(nr_blocks << order, 1 << have)
        at = stop
        while at < end:
            rest = order_of(at, end - at, area.max_order)
            area.add(at, rest, kind)
            at += 1 << rest
        return pfn, stop
    return None


@mirrors("mm/page_alloc.c:__free_pages_core", "v6.12", "complete")
def free_pages_core(mm: Mm, pfn: int, order: int) -> None:
    """Give 2^order pages that the buddy never had to it, and count them as managed."""
    run = mm.pages.get(pfn)
    assert run is not None
    key = (run.nid, run.zone)
    free_range(mm, pfn, pfn + (1 << order))
    mm.change_zone(key, managed=mm.zones[key].managed + (1 << order))
