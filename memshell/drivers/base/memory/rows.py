"""Rows of memory blocks: the state of equal blocks that lie side by side is written at once.

The result is that of a write to each, which is what happens wherever it could be another: the kernel functions that
work on one block's pages are called with the pages of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from memshell.drivers.base.memory.blocks import MemoryBlock, block_start
from memshell.drivers.base.memory.state import ONLINE_TYPES, block_offlined, block_onlined, state_store
from memshell.mm.memory_hotplug.offline import offline_pages
from memshell.mm.memory_hotplug.online import online_pages
from memshell.mm.memory_hotplug.online_policy import zone_for_pfn_range
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.watermarks import init_per_zone_wmark_min
from memshell.mm.ranges import HIGHEST
from memshell.mm.state import Mm, ZoneKey


def state_store_row(mm: Mm, numbers: Sequence[int], at: int, value: str) -> int:
    """Write *value* to the state of the block ``numbers[at]`` and of those that follow, as far as that can be done at once.

    Returns how many blocks were written. Raises what `state_store` does, for the first block.
    """
    first = mm.blocks.get(numbers[at])
    row = _row(mm, first, numbers, at, _end_of_row(mm, first, value)) if first is not None and _in_rows(mm) else []
    if len(row) < 2:
        state_store(mm, numbers[at], value)
        return 1
    if value == "offline":
        _offline(mm, row)
    else:
        _online(mm, row, value)
    return len(row)


def _in_rows(mm: Mm) -> bool:
    """Whether no notifier hears of single blocks, no driver takes their pages, and blocks are whole largest free blocks."""
    heard = mm.memory_notifier or mm.online_page_callback or mm.arch.has_memory_notifier
    unit = max(1 << mm.arch.max_order, mm.arch.pageblock_nr_pages, mm.arch.pages_per_section)
    return mm.in_rows and not heard and not mm.block_pages % unit


def _end_of_row(mm: Mm, first: MemoryBlock, value: str) -> int:
    """Return the pfn that a row may reach to which begins with *first*; its own first pfn where it goes alone."""
    start = block_start(mm, first.id)
    if first.nr_vmemmap_pages and mm.features.bug.altmap_accounting_unlocked:
        return start  # each block says so
    if value == "offline" and first.state == "online" and first.zone is not None:
        return HIGHEST
    if value in ONLINE_TYPES and first.state == "offline" and not mm.features.bug.zone_for_pfn_range_32bit:
        return _end_of_zones(mm, start, first.nid, value)
    return start


def _end_of_zones(mm: Mm, start: int, nid: int, value: str) -> int:
    """Return the next pfn where a zone of the node begins or ends: up to it, all blocks go to the zone of the first.

    That zone grows with each of them, which speaks for it; all others span them all or none. The auto-movable policy
    asks for a ratio, which each block changes.
    """
    if value == "online" and mm.params.online_policy == "auto-movable":
        return start
    borders = [pfn for (n, _), zone in mm.zones.items() if n == nid for pfn in (zone.start_pfn, zone.end_pfn)]
    return min((pfn for pfn in borders if pfn > start), default=HIGHEST)


def _row(mm: Mm, first: MemoryBlock, numbers: Sequence[int], at: int, end: int) -> list[MemoryBlock]:
    """Return the blocks like *first* that follow each other from the place *at* on, before the pfn *end*."""
    row: list[MemoryBlock] = []
    for number in range(first.id, end // mm.block_pages):
        block = mm.blocks.get(number)
        if at == len(numbers) or numbers[at] != number or block is None or _kind(block) != _kind(first):
            break
        if block.zone is not None and not _is_free(mm, block, block.zone):
            break
        row.append(block)
        at += 1
    return row


def _is_free(mm: Mm, block: MemoryBlock, zone: ZoneType) -> bool:
    """Whether all pages but those of the block's own memmap are free: none is migrated, none keeps it from going."""
    start = block_start(mm, block.id)
    low, end = start + block.nr_vmemmap_pages, start + mm.block_pages
    run = mm.pages.run_at(low)
    return run is not None and run[1] >= end and run[2] == Page(Owner.FREE, block.nid, zone)


def _kind(block: MemoryBlock) -> tuple[object, ...]:
    return block.nid, block.state, block.zone, block.group, block.early, block.nr_vmemmap_pages


def _online(mm: Mm, row: list[MemoryBlock], value: str) -> None:
    first, start = row[0], block_start(mm, row[0].id)
    zone = zone_for_pfn_range(mm, value, first.nid, first.group, start, mm.block_pages)
    key = (first.nid, zone)
    online_pages(mm, start, len(row) * mm.block_pages, lambda: key, first.group)
    if first.nr_vmemmap_pages:
        _keep_memmaps(mm, row, key)
    for block in row:
        block_onlined(mm, block, zone)


def _keep_memmaps(mm: Mm, row: list[MemoryBlock], key: ZoneKey) -> None:
    """Take the pages of each block's own memmap from the buddy: mhp_init_memmap_on_memory() never gave them to it."""
    kept, size, zone = row[0].nr_vmemmap_pages, mm.block_pages, mm.zones[key]
    start, end = block_start(mm, row[0].id), block_start(mm, row[-1].id + 1)
    memmap, free = Page(Owner.MEMMAP_SELF, *key), Page(Owner.FREE, *key)
    mm.free[key].take_range(start, end)
    pages: list[tuple[int, int, Page]] = []
    kinds: list[tuple[int, int, MigrateType]] = []
    for at in range(start, end, size):
        mm.free[key].free_range(at + kept, at + size, MigrateType.MOVABLE)
        pages += (at, at + kept, memmap), (at + kept, at + size, free)
        kinds += (at, at + kept, MigrateType.UNMOVABLE), (at + kept, at + size, MigrateType.MOVABLE)
    mm.pages.set_runs(pages)
    mm.pageblocks.set_runs(kinds)
    gone = len(row) * kept
    mm.change_zone(key, managed=zone.managed - gone, free=zone.free - gone)
    init_per_zone_wmark_min(mm)


def _give_up_memmaps(mm: Mm, row: list[MemoryBlock], key: ZoneKey) -> None:
    """Count the pages of each block's own memmap among those that go, though they are on no list."""
    start, pages = block_start(mm, row[0].id), len(row) * mm.block_pages
    mm.pages.set(start, start + pages, Page(Owner.FREE, *key))
    mm.change_zone(key, managed=mm.zones[key].managed + len(row) * row[0].nr_vmemmap_pages)


def _offline(mm: Mm, row: list[MemoryBlock]) -> None:
    first, start = row[0], block_start(mm, row[0].id)
    assert first.zone is not None
    if first.nr_vmemmap_pages:
        _give_up_memmaps(mm, row, (first.nid, first.zone))
    offline_pages(mm, start, len(row) * mm.block_pages, (first.nid, first.zone), first.group, early=first.early)
    for block in row:
        block_offlined(mm, block, first.zone)
