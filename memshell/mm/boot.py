"""Lay out a machine as it stands after boot: zones, pages, free lists, sections, memory blocks, iomem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from memshell.arch import Arch, BootMemory, BootZone
from memshell.drivers.base.memory.blocks import MemoryBlock
from memshell.kernel.dma.contiguous import dma_contiguous_reserve, read_areas
from memshell.mm.huge_memory import hugepage_init
from memshell.mm.hugetlb.boot import hugetlb_init
from memshell.mm.memory_hotplug.memmap_on_memory import ask_policy
from memshell.mm.mm_init.movable import with_zone_movable
from memshell.mm.mm_init.zones import add_zones
from memshell.mm.mmzone import MigrateType, Node, Zone, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.watermarks import init_per_zone_wmark_min
from memshell.mm.params import Params
from memshell.mm.pfn import align_down, align_up
from memshell.mm.ranges import RangeMap
from memshell.mm.sorted_map import SortedMap
from memshell.mm.state import (
    SECTION_EARLY,
    SECTION_HAS_MEM_MAP,
    SECTION_ONLINE,
    SECTION_PRESENT,
    Mm,
    Resource,
    Resources,
    ZoneKey,
)

if TYPE_CHECKING:
    from memshell.mm.profile import Profile
    from memshell.policy import Policy

EARLY_SECTION = SECTION_PRESENT | SECTION_HAS_MEM_MAP | SECTION_ONLINE | SECTION_EARLY


def boot(arch: Arch, profile: Profile, policy: Policy, memory: BootMemory, params: Params) -> Mm:
    """Return the state of a machine that has booted with *memory*.

    Which pages the running kernel holds is not known from the counters: the model puts them at the low end of each zone,
    and free blocks so that every order has as many as *memory* says.
    """
    max_pfn = max(end for _, end, _ in memory.ram)
    mm = Mm(arch, profile, policy, memory.block_size, max_pfn, max_pfn, params=params)
    memory = with_zone_movable(mm, memory)
    mm.resources = Resources(Resource(start, end, name, depth) for depth, start, end, name in memory.iomem)
    for nid in memory.nodes:
        mm.nodes[nid] = Node(nid, has_cpu=nid in memory.cpu_nodes)
        add_zones(mm, nid)
    for zone in memory.zones:
        _boot_zone(mm, zone, memory)
    _boot_nodes(mm)
    _boot_sections(mm, memory)
    if profile.features.vmstat.nr_memmap_pages:
        mm.counters["nr_memmap_pages"] = 0
        mm.counters["nr_memmap_boot_pages"] = memory.nr_memmap_boot_pages
    arch.boot_mappings(mm, replace(memory, ram=_mapped_apart(mm, memory)))
    hugepage_init(mm)
    init_per_zone_wmark_min(mm)
    if memory.blocks:
        read_areas(mm)
    else:
        dma_contiguous_reserve(mm)
        hugetlb_init(mm)
    mm.booting = True
    arch.late_init(mm, memory)
    mm.booting = False
    mm.events.clear()
    return mm


def _boot_zone(mm: Mm, boot: BootZone, memory: BootMemory) -> None:
    key = (boot.nid, boot.type)
    own = own_memmaps(mm, boot, memory)
    ranges = zone_ranges(boot, memory, mm.block_pages, own)
    present = sum(end - start for start, end in ranges)
    holes = max(present - boot.present, 0) if boot.present else 0  # where RAM is known by whole blocks only
    area = mm.free[key]
    nomap = _nomap(boot, memory)
    reserved = max(boot.present - boot.managed - sum(end - start for start, end in own + nomap), 0)
    if boot.type is ZoneType.MOVABLE:  # nothing that cannot move is ever allocated there
        reserved -= _reserve_end(mm, key, ranges, reserved)
    free = place_free_blocks(ranges, _with_pcp(boot.orders, boot.pcp, mm.arch.max_order), mm.arch.max_order)
    for start, end in nomap:
        mm.pages.set(start, end, Page(Owner.RESERVED, *key))
        mm.pageblocks.set(start, end, MigrateType.MOVABLE)
    for start, end in own:
        mm.pages.set(start, end, Page(Owner.MEMMAP_SELF, *key))
        mm.pageblocks.set(start, end, MigrateType.UNMOVABLE)
    _set_owners(mm, key, ranges, free, holes, reserved)
    nr_free = 0
    for a, b, page in list(mm.pages.items(boot.start_pfn, boot.start_pfn + boot.spanned)):
        if page == Page(Owner.FREE, *key):
            nr_free += b - a
            for c, d, kind in list(mm.pageblocks.items(a, b)):
                area.free_range(c, d, kind)
    mm.zones[key] = Zone(
        *key,
        start_pfn=boot.start_pfn,
        spanned=boot.spanned,
        present=boot.present or present,
        managed=boot.managed,
        free=nr_free,
        present_early=boot.present - _added_pages(mm, boot, memory),
        initialized=True,
        pageset=bool(boot.present),
    )


def _set_owners(
    mm: Mm, key: ZoneKey, ranges: list[tuple[int, int]], free: RangeMap[bool], holes: int, reserved: int
) -> None:
    """Say whose the pages of *ranges* are: after *holes* the *reserved* ones, then what is in use; those of *free* are free."""
    movable = key[1] is ZoneType.MOVABLE
    for start, end in ranges:
        for low, b in list(free.gaps(start, end)):
            a = min(b, low + holes)
            holes -= a - low
            cut = min(b, a + reserved)
            reserved -= cut - a
            mm.pages.set(a, cut, Page(Owner.RESERVED, *key))
            mm.pages.set(cut, b, Page(Owner.USER if movable else Owner.KERNEL, *key))
        mm.pageblocks.set(start, end, MigrateType.MOVABLE if movable else MigrateType.UNMOVABLE)
    for start, end, _ in free.items():
        mm.pages.set(start, end, Page(Owner.FREE, *key))
        size = mm.arch.pageblock_nr_pages
        low, high = align_up(start, size), align_down(end, size)
        mm.pageblocks.set(low, max(low, high), MigrateType.MOVABLE)


def _nomap(boot: BootZone, memory: BootMemory) -> list[tuple[int, int]]:
    """Return what of a zone counts as present and is no System RAM."""
    end = boot.start_pfn + boot.spanned
    clipped = [(max(a, boot.start_pfn), min(b, end)) for a, b, nid in memory.nomap if nid == boot.nid]
    return [(a, b) for a, b in clipped if a < b]


def _added_pages(mm: Mm, boot: BootZone, memory: BootMemory) -> int:
    """Return how many pages of a zone came after boot, as far as that was read."""
    added = [block for block in memory.blocks.values() if block.added and block.zone is boot.type]
    return mm.block_pages * sum(block.nid in (None, boot.nid) for block in added)


def _reserve_end(mm: Mm, key: ZoneKey, ranges: list[tuple[int, int]], pages: int) -> int:
    """Cut *pages* off the end of *ranges*: boot took them before there were zones. Return how many they were."""
    left = pages
    while left and ranges:
        start, end = ranges.pop()
        cut = max(end - left, start)
        mm.pages.set(cut, end, Page(Owner.RESERVED, *key))
        mm.pageblocks.set(cut, end, MigrateType.MOVABLE)
        left -= end - cut
        if start < cut:
            ranges.append((start, cut))
    return pages - left


def own_memmaps(mm: Mm, boot: BootZone, memory: BootMemory) -> list[tuple[int, int]]:
    """Return the pages that hold their own block's memmap, as far as the counts of a running machine tell.

    Of ZONE_MOVABLE, all present pages are managed but those (mm/memory_hotplug.c:mhp_init_memmap_on_memory), so they are
    told when every block keeps as many as the policy takes. In other zones they cannot be told from what boot reserved.
    """
    blocks = [n for n, block in memory.blocks.items() if block.zone is boot.type and block.nid in (None, boot.nid)]
    if boot.type is not ZoneType.MOVABLE or not blocks:
        return []
    kept = ask_policy(mm, boot.nid, blocks[0] * mm.block_size, mm.block_size, offered=True).reserve_pages
    if boot.present - boot.managed != kept * len(blocks):
        return []
    return [(n * mm.block_pages, n * mm.block_pages + kept) for n in blocks if kept]


def zone_ranges(
    boot: BootZone, memory: BootMemory, block_pages: int, own: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the pfn ranges of RAM that lie in the zone: of its span, what no block puts elsewhere or keeps (*own*)."""
    low, high = boot.start_pfn, boot.start_pfn + boot.spanned
    ranges: RangeMap[bool] = RangeMap()
    for a, b, nid in memory.ram:
        if nid == boot.nid:
            ranges.set(max(a, low), min(b, high), value=True)
    for number, block in memory.blocks.items():
        if block.offline or block.zone not in (None, boot.type):
            ranges.delete(number * block_pages, (number + 1) * block_pages)
    for a, b in own:
        ranges.delete(a, b)
    return [(a, b) for a, b, _ in ranges.items()]


def _with_pcp(orders: tuple[int, ...], pcp: int, max_order: int) -> list[int]:
    """Count the per-cpu pages as free blocks of the orders that their number has bits for."""
    total = list(orders) + [0] * (max_order + 1 - len(orders))
    total[max_order] += pcp >> max_order
    for order in range(max_order):
        total[order] += pcp >> order & 1
    return total


def place_free_blocks(ranges: list[tuple[int, int]], orders: list[int], max_order: int) -> RangeMap[bool]:
    """Return positions for ``orders[k]`` free blocks of each order k, aligned, and no two that would merge.

    The largest blocks go to the high end; the rest below them, each where its buddy stays in use.
    """
    free: RangeMap[bool] = RangeMap()
    left = RangeMap[bool]()
    for start, end in ranges:
        left.set(start, end, value=True)
    top = 1 << max_order
    want = orders[max_order]
    for start, end in reversed(ranges):
        low, high = align_up(start, top), align_down(end, top)
        take = min(max(high - low, 0) >> max_order, want)
        if take:
            free.set(high - (take << max_order), high, value=True)
            left.delete(high - (take << max_order), high)
            want -= take
    for order in range(max_order - 1, -1, -1):
        for pfn in _find_places(left, order, orders[order]):
            free.set(pfn, pfn + (1 << order), value=True)
            left.delete(pfn, pfn + (1 << order))
    return free


def _find_places(left: RangeMap[bool], order: int, count: int) -> list[int]:
    """Return the *count* highest places for a block of *order* in *left*, or as many as there are; never both buddies."""
    size, found, chosen = 1 << order, list[int](), set[int]()
    for start, end, _ in reversed(list(left.items())):
        for pfn in range(align_down(end, size) - size, start - 1, -size):
            if len(found) >= count:
                return found
            if pfn ^ size not in chosen:
                chosen.add(pfn)
                found.append(pfn)
    return found


def _boot_nodes(mm: Mm) -> None:
    for nid, node in mm.nodes.items():
        zones = [zone for (n, _), zone in mm.zones.items() if n == nid and zone.spanned]
        if not zones:
            continue
        start = min(zone.start_pfn for zone in zones)
        mm.nodes[nid] = Node(
            nid,
            start_pfn=start,
            spanned=max(zone.end_pfn for zone in zones) - start,
            present=sum(zone.present for zone in zones),
            n_memory=True,
            has_cpu=node.has_cpu,
        )


def _boot_sections(mm: Mm, memory: BootMemory) -> None:
    size = mm.arch.pages_per_subsection
    per_root = mm.arch.page_size // mm.arch.mem_section_size
    roots: set[int] = set()
    for start, end, nid in (*memory.ram, *memory.nomap):
        mm.sections.set(align_down(start, size), align_up(end, size), EARLY_SECTION)
        first, last = start // mm.arch.pages_per_section, (end - 1) // mm.arch.pages_per_section
        roots.update(range(first // per_root, last // per_root + 1))
        for block_id in range(start // mm.block_pages, (end - 1) // mm.block_pages + 1):
            read = memory.blocks.get(block_id)
            zone = (
                read.zone if read and (read.mixed or read.zone is not None) else zone_of_boot_block(mm, block_id, nid)
            )
            run = mm.pages.run_at(block_id * mm.block_pages)
            kept = run[1] - run[0] if run and run[2].owner is Owner.MEMMAP_SELF else 0
            block = MemoryBlock(block_id, nid, "online", zone, early=True, nr_vmemmap_pages=kept)
            mm.blocks.setdefault(block_id, block)
    kept = max((block.nr_vmemmap_pages for block in mm.blocks.values()), default=0)  # offline ones do as the others
    for block_id, read in memory.blocks.items():
        first = block_id * mm.block_pages
        if read.offline:
            mm.sections.set(first, first + mm.block_pages, SECTION_PRESENT | SECTION_HAS_MEM_MAP)
            offline = mm.blocks[block_id]._replace(state="offline", zone=None, early=False, nr_vmemmap_pages=kept)
            mm.blocks[block_id] = offline
        elif read.added:
            mm.sections.set(first, first + mm.block_pages, EARLY_SECTION & ~SECTION_EARLY)
            mm.blocks[block_id] = mm.blocks[block_id]._replace(early=False)
    mm.section_roots = SortedMap(dict.fromkeys(roots))


def _mapped_apart(mm: Mm, memory: BootMemory) -> tuple[tuple[int, int, int], ...]:
    """Return the runs of RAM as they were mapped: a block that keeps its memmap was added, and so mapped, alone."""
    size = mm.block_pages
    cuts = {at for n, block in mm.blocks.items() if block.nr_vmemmap_pages for at in (n * size, (n + 1) * size)}
    runs = []
    for start, end, nid in memory.ram:
        inside = sorted(at for at in cuts if start < at < end)
        runs += [(a, b, nid) for a, b in zip([start, *inside], [*inside, end], strict=True)]
    return tuple(runs)


def zone_of_boot_block(mm: Mm, block_id: int, nid: int) -> ZoneType | None:
    """Return the one zone that an early block lies in, or None when it meets several.

    Source: drivers/base/memory.c:early_node_zone_for_memory_block.
    """
    start = block_id * mm.block_pages
    meets = [kind for (n, kind), zone in mm.zones.items() if n == nid and zone.intersects(start, mm.block_pages)]
    return meets[0] if len(meets) == 1 else None
