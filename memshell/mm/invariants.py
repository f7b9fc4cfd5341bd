"""What must hold after every step, whatever was done and whatever failed.

Each rule yields sentences about what is wrong. They cost as many steps as there are runs, blocks and free
blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from memshell.drivers.base.memory.blocks import block_start
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.ranges import RangeMap
from memshell.mm.state import SECTION_ONLINE, Leaf, Mm, ZoneKey

Rule = Callable[[Mm], Iterator[str]]
NOT_MANAGED = frozenset({Owner.RESERVED, Owner.MEMMAP_SELF, Owner.VMEMMAP, Owner.OFFLINE, Owner.DEVICE})


def violations(mm: Mm) -> list[str]:
    """Return what is wrong with the state; nothing, when all is well."""
    return [sentence for rule in rules(mm) for sentence in rule(mm)]


def rules(mm: Mm) -> tuple[Rule, ...]:
    """Return the rules for the kernel that is modelled."""
    return (*RULES, *mm.seam.rules)


def _name(key: ZoneKey) -> str:
    return f"node {key[0]} {key[1].label}"


def zone_sums(mm: Mm) -> Iterator[str]:
    """present, managed and free of a zone are the sums of its pages."""
    sums: dict[ZoneKey, Counter[str]] = {}
    for start, end, page in mm.pages.items():
        if page.owner is Owner.DEVICE:
            continue
        counts = sums.setdefault((page.nid, page.zone), Counter())
        if page.owner is Owner.VMEMMAP and not mm.seam.counts_as_present(mm):
            continue
        counts["present"] += end - start
        counts["managed"] += 0 if page.owner in NOT_MANAGED else end - start
        counts["free"] += end - start if page.owner is Owner.FREE else 0
    for key, zone in mm.zones.items():
        counts = sums.pop(key, Counter())
        for what in ("present", "managed", "free"):
            value = getattr(zone, what)
            if value != counts[what]:
                yield f"{_name(key)}: {what} is {value}, its pages are {counts[what]}"
    for key in sums:
        yield f"{_name(key)} has pages and does not exist"


def zone_spans(mm: Mm) -> Iterator[str]:
    """Every page lies in the span of its zone; an empty span is an empty zone."""
    for start, end, page in mm.pages.items():
        zone = mm.zones.get((page.nid, page.zone))
        if zone is not None and not zone.start_pfn <= start < end <= zone.end_pfn:
            yield f"pages {start:#x}-{end:#x} are outside of the span of {_name((page.nid, page.zone))}"
    for key, zone in mm.zones.items():
        if key[1] is not ZoneType.DEVICE and not zone.spanned >= zone.present >= zone.managed >= zone.free >= 0:
            counts = f"{zone.spanned} spanned, {zone.present} present, {zone.managed} managed, {zone.free} free"
            yield f"{_name(key)}: {counts}"


def node_sums(mm: Mm) -> Iterator[str]:
    """A node's present pages and span are those of its zones."""
    for nid, node in mm.nodes.items():
        zones = [zone for (n, _), zone in mm.zones.items() if n == nid]
        present = sum(zone.present for zone in zones)
        spans = [zone for zone in zones if zone.spanned]
        start = min((zone.start_pfn for zone in spans), default=0)
        end = max((zone.end_pfn for zone in spans), default=0)
        if node.present != present:
            yield f"node {nid}: present is {node.present}, its zones have {present}"
        if node.spanned != end - start or (node.spanned and node.start_pfn != start):
            own = f"{node.start_pfn:#x}+{node.spanned:#x}"
            yield f"node {nid}: spans {own}, its zones {start:#x}+{end - start:#x}"


def free_lists(mm: Mm) -> Iterator[str]:
    """The free lists hold exactly the free pages, once, and no two blocks that should have merged."""
    for key, area in mm.free.items():
        listed: RangeMap[bool] = RangeMap()
        small: set[tuple[int, int]] = set()
        for start, end, order in sorted(area.runs()):
            if listed.intersects(start, end):
                yield f"{_name(key)}: pages of {start:#x}-{end:#x} are on the free lists twice"
            listed.set(start, end, value=True)
            if start % (1 << order):
                yield f"{_name(key)}: the free block {start:#x} is not aligned to its order {order}"
            if order < area.max_order and (start ^ (1 << order), order) in small:
                yield f"{_name(key)}: the free block {start:#x} of order {order} is not merged with its buddy"
            small.add((start, order))
        yield from _compare_free(mm, key, listed)


def _compare_free(mm: Mm, key: ZoneKey, listed: RangeMap[bool]) -> Iterator[str]:
    free: RangeMap[bool] = RangeMap()
    for start, end, page in mm.pages.items():
        if page.owner is Owner.FREE and (page.nid, page.zone) == key:
            free.set(start, end, value=True)
    for start, end, _ in free.items():
        for a, b in listed.gaps(start, end):
            yield f"{_name(key)}: {a:#x}-{b:#x} is free and on no list"
    for start, end, _ in listed.items():
        for a, b in free.gaps(start, end):
            yield f"{_name(key)}: {a:#x}-{b:#x} is on a free list and not free"


def memmap_backing(mm: Mm) -> Iterator[str]:
    """A page that backs struct pages is not free, and every memmap page backs something, once."""
    backed: RangeMap[bool] = RangeMap()
    for a, b, leaf in vmemmap_leaves(mm):
        start, end = leaf_pfn(mm, a, leaf), leaf_pfn(mm, b, leaf)
        if backed.intersects(start, end):
            yield f"pages {start:#x}-{end:#x} back two pieces of the memmap"
        backed.set(start, end, value=True)
        expected = (Owner.MEMMAP,) if leaf.owner == "buddy" else (Owner.MEMMAP_SELF, Owner.VMEMMAP, Owner.DEVICE)
        for p, q, page in mm.pages.items(start, end):
            if page.owner not in expected:
                yield f"pages {p:#x}-{q:#x} hold the memmap at {a:#x} and are {page.owner.value}"
        if leaf.owner == "buddy" and not mm.pages.covers(start, end):
            yield f"pages {start:#x}-{end:#x} hold the memmap at {a:#x} and are not online"
    for start, end, page in mm.pages.items():
        if page.owner is Owner.MEMMAP and not backed.covers(start, end):
            yield f"pages {start:#x}-{end:#x} are memmap and back nothing"


def blocks_mapped(mm: Mm) -> Iterator[str]:
    """The direct map covers every block that was added.

    Sections without a block are what an add left that failed in its middle: the kernel only unmaps them.
    """
    base = mm.arch.page_offset
    for number, block in mm.blocks.items():
        low = base + number * mm.block_size
        if not block.early and not mm.leaves.covers(low, low + mm.block_size):
            yield f"memory{number} is not in the direct map"


def memmap_mapped(mm: Mm) -> Iterator[str]:
    """The struct pages of all valid pfns are mapped, and nothing but struct pages of valid pfns is."""
    for start, end, _ in mm.sections.items():
        low, high = mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)
        if not mm.leaves.covers(low, high):
            yield f"the struct pages of {start:#x}-{end:#x} are not mapped"
    size = mm.arch.struct_page_size
    for a, b, leaf in vmemmap_leaves(mm):
        for va in range(a, b, leaf.size):
            first, last = ((va - mm.arch.vmemmap_base) // size, -(-(va + leaf.size - mm.arch.vmemmap_base) // size))
            if not mm.sections.intersects(first, last):
                yield f"the leaf at {va:#x} maps struct pages of no valid pfn"
                break


def vmemmap_leaves(mm: Mm) -> Iterator[tuple[int, int, Leaf]]:
    """Yield the leaves of the vmemmap that were not there at boot; those of the direct map are "ram"."""
    for a, b, leaf in mm.leaves.items():
        if leaf.owner in ("buddy", "altmap", "leaked"):
            yield a, b, leaf


def page_tables(mm: Mm) -> Iterator[str]:
    """The page behind every table that came from the buddy is a page table, and no two tables share one."""
    seen: set[int] = set()
    for (level, address), table in mm.tables.items():
        if table.owner not in ("buddy", "half", "fragment"):
            continue
        page = mm.pages.get(table.pfn)
        if page is None or page.owner is not Owner.PAGETABLE:
            owner = page.owner.value if page else "not online"
            yield f"pfn {table.pfn:#x} is the {level} table at {address:#x} and is {owner}"
        if table.owner == "buddy" and table.pfn in seen:
            yield f"pfn {table.pfn:#x} is two tables, one of them {level} at {address:#x}"
        seen.add(table.pfn)


def altmap_counts(mm: Mm) -> Iterator[str]:
    """The pages that an altmap says it gave are those that leaves map."""
    mapped: Counter[int] = Counter()
    for a, b, leaf in vmemmap_leaves(mm):
        if leaf.owner == "altmap":
            start, end = leaf_pfn(mm, a, leaf), leaf_pfn(mm, b, leaf)
            for at in range(start // mm.block_pages, (end - 1) // mm.block_pages + 1):
                mapped[at] += min(end, (at + 1) * mm.block_pages) - max(start, at * mm.block_pages)
    for number, block in mm.blocks.items():
        if block.altmap is not None and block.altmap.alloc != mapped[number]:
            yield f"memory{number}: its altmap gave {block.altmap.alloc} pages, leaves map {mapped[number]}"


def blocks_and_pages(mm: Mm) -> Iterator[str]:
    """An online block is online page by page in its zone, its sections too; an offline one has no page."""
    for number, block in mm.blocks.items():
        start, end = block_start(mm, number), block_start(mm, number + 1)
        if block.state == "offline":
            if mm.pages.intersects(start, end):
                yield f"memory{number} is offline and has pages"
            if any(bits & SECTION_ONLINE for _, _, bits in mm.sections.items(start, end)):
                yield f"memory{number} is offline and has an online section"
        elif not block.early or block.zone is not None:
            zones = {(page.nid, page.zone) for _, _, page in mm.pages.items(start, end)}
            if zones != {(block.nid, block.zone)}:
                own = block.zone.label if block.zone else "no zone"
                yield f"memory{number} is online in node {block.nid} {own} and has pages of others"
            if not block.early and not mm.pages.covers(start, end):
                yield f"memory{number} is online and has holes"
        if not block.early and not mm.sections.covers(start, end):
            yield f"memory{number} has pfns without a section"


def groups_and_blocks(mm: Mm) -> Iterator[str]:
    """A memory group's present pages are those of its online blocks."""
    kernel: Counter[int] = Counter()
    movable: Counter[int] = Counter()
    for number, block in mm.blocks.items():
        if block.group is None:
            continue
        if block.group not in mm.groups:
            yield f"memory{number} is in group {block.group}, which does not exist"
        elif block.state == "online":
            (movable if block.zone is ZoneType.MOVABLE else kernel)[block.group] += mm.block_pages
    for gid, group in mm.groups.items():
        if (group.present_kernel, group.present_movable) != (kernel[gid], movable[gid]):
            yield (
                f"group {gid}: {group.present_kernel} kernel and {group.present_movable} movable pages, "
                f"its blocks have {kernel[gid]} and {movable[gid]}"
            )


def resources(mm: Mm) -> Iterator[str]:
    """The resources of one depth lie side by side, and every block that was added is in one that is RAM."""
    last: dict[int, int] = {}
    ram: RangeMap[bool] = RangeMap()
    for resource in mm.resources:
        if resource.start <= last.get(resource.depth, -1):
            yield f"iomem: {resource.name} at {resource.start:#x} overlaps the one before it"
        last[resource.depth] = resource.end
        if resource.name.startswith("System RAM"):
            ram.set(resource.start, resource.end + 1, value=True)
    for number, block in mm.blocks.items():
        if not block.early and not ram.covers(number * mm.block_size, (number + 1) * mm.block_size):
            yield f"memory{number} is in no System RAM resource"


RULES: tuple[Rule, ...] = (
    zone_sums,
    zone_spans,
    node_sums,
    free_lists,
    memmap_backing,
    memmap_mapped,
    blocks_mapped,
    page_tables,
    altmap_counts,
    blocks_and_pages,
    groups_and_blocks,
    resources,
)
