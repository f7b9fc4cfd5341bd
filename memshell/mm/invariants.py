"""What must hold after every step, whatever was done and whatever failed.

Each rule yields sentences about what is wrong. They cost as many steps as there are runs, blocks and free
blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from operator import itemgetter
from typing import Any

from memshell.drivers.base.memory.blocks import block_start
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.ranges import RangeMap
from memshell.mm.state import SECTION_ONLINE, Leaf, Mm, ZoneKey

Rule = Callable[[Mm], Iterator[str]]
Spans = list[tuple[int, int]]
NOT_MANAGED = frozenset({Owner.RESERVED, Owner.MEMMAP_SELF, Owner.VMEMMAP, Owner.OFFLINE, Owner.BALLOON, Owner.DEVICE})


def violations(mm: Mm) -> list[str]:
    """Return what is wrong with the state; nothing, when all is well."""
    return [sentence for rule in rules(mm) for sentence in rule(mm)]


def excused(mm: Mm) -> list[str]:
    """Return what is wrong with the state because the kernel that is modelled has a bug: the rules know of it."""
    found = []
    for key, zone in mm.zones.items():
        if zone.taken_twice:
            found.append(f"{_name(key)}: managed lacks {zone.taken_twice} pages (bug.offline_counts_page_offline)")
    for number in _not_covered(mm, mm.leaves, mm.block_size, mm.arch.page_offset):
        bug = mm.unmapped.get(number * mm.block_size)
        if bug is not None:
            found.append(f"memory{number} has lost its direct map ({bug})")
    return found


def rules(mm: Mm) -> tuple[Rule, ...]:
    """Return the rules for the kernel that is modelled."""
    return (*RULES, *mm.seam.rules)


def _name(key: ZoneKey) -> str:
    return f"node {key[0]} {key[1].label}"


def zone_sums(mm: Mm) -> Iterator[str]:
    """present, managed and free of a zone are the sums of its pages."""
    sums: dict[ZoneKey, Counter[str]] = {}
    for page, pages in _pages_of_a_kind(mm).items():
        if page.owner is Owner.DEVICE:
            continue
        counts = sums.setdefault((page.nid, page.zone), Counter())
        if page.owner is Owner.VMEMMAP and not mm.seam.counts_as_present(mm):
            continue
        counts["present"] += pages
        counts["managed"] += 0 if page.owner in NOT_MANAGED else pages
        counts["free"] += pages if page.owner is Owner.FREE else 0
    for key, zone in mm.zones.items():
        counts = sums.pop(key, Counter())
        for what, kept in (("present", 0), ("managed", zone.taken_twice), ("free", 0)):
            value = getattr(zone, what)
            if value + kept != counts[what]:
                yield f"{_name(key)}: {what} is {value}, its pages are {counts[what]}"
    for key in sums:
        yield f"{_name(key)} has pages and does not exist"


def _pages_of_a_kind(mm: Mm) -> dict[Page, int]:
    found: dict[Page, int] = {}
    for start, end, page in mm.pages.items():
        found[page] = found.get(page, 0) + end - start
    return found


def zone_spans(mm: Mm) -> Iterator[str]:
    """Every page lies in the span of its zone; an empty span is an empty zone."""
    for start, end, page in mm.pages.items():
        zone = mm.zones.get((page.nid, page.zone))
        if zone is not None and not zone.start_pfn <= start < end <= zone.end_pfn:
            yield f"pages {start:#x}-{end:#x} are outside of the span of {_name((page.nid, page.zone))}"
    for key, zone in mm.zones.items():
        managed = zone.managed + zone.taken_twice
        if key[1] is not ZoneType.DEVICE and not zone.spanned >= zone.present >= managed >= zone.free >= 0:
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
    free: dict[ZoneKey, Spans] = {}
    for start, end, page in mm.pages.items():
        if page.owner is Owner.FREE:
            key = (page.nid, page.zone)
            spans = free[key] if key in free else free.setdefault(key, [])
            if spans and spans[-1][1] == start:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
    borders = {border for area in mm.cma for border in area}  # blocks on both sides of one never merge
    for key, area in mm.free.items():
        listed: Spans = []
        small: set[tuple[int, int]] = set()
        for start, end, order in sorted(area.runs()):
            if listed and listed[-1][1] == start:
                listed[-1] = listed[-1][0], end
            elif _join(listed, start, end):
                yield f"{_name(key)}: pages of {start:#x}-{end:#x} are on the free lists twice"
            if start & ((1 << order) - 1):
                yield f"{_name(key)}: the free block {start:#x} is not aligned to its order {order}"
            if order < area.max_order:
                if (start ^ (1 << order), order) in small and start not in borders:
                    yield f"{_name(key)}: the free block {start:#x} of order {order} is not merged with its buddy"
                small.add((start, order))
        if listed != free.get(key, []):
            yield from _compare_free(key, free.get(key, []), listed)


def _join(spans: Spans, start: int, end: int) -> bool:
    """Append [start, end), which begins no lower than the last span, to rising spans; return whether they overlap."""
    if not spans or spans[-1][1] < start:
        spans.append((start, end))
        return False
    first, last = spans[-1]
    spans[-1] = first, max(last, end)
    return start < last


def _compare_free(key: ZoneKey, free: Spans, listed: Spans) -> Iterator[str]:
    for spans, others, what in (
        (free, listed, "is free and on no list"),
        (listed, free, "is on a free list and not free"),
    ):
        there: RangeMap[bool] = RangeMap()
        for start, end in others:
            there.set(start, end, value=True)
        for start, end in spans:
            for a, b in there.gaps(start, end):
                yield f"{_name(key)}: {a:#x}-{b:#x} {what}"


def memmap_backing(mm: Mm) -> Iterator[str]:
    """A page that backs struct pages is not free, and every memmap page backs something, once."""
    backed: Spans = []
    leaves = [(leaf_pfn(mm, a, leaf), leaf_pfn(mm, b, leaf), a, leaf) for a, b, leaf in vmemmap_leaves(mm)]
    for start, end, a, leaf in sorted(leaves):
        if _join(backed, start, end):
            yield f"pages {start:#x}-{end:#x} back two pieces of the memmap"
        expected = (Owner.MEMMAP,) if leaf.owner == "buddy" else (Owner.MEMMAP_SELF, Owner.VMEMMAP, Owner.DEVICE)
        for p, q, page in mm.pages.items(start, end):
            if page.owner not in expected:
                yield f"pages {p:#x}-{q:#x} hold the memmap at {a:#x} and are {page.owner.value}"
        if leaf.owner == "buddy" and not mm.pages.covers(start, end):
            yield f"pages {start:#x}-{end:#x} hold the memmap at {a:#x} and are not online"
    for start, end, page in mm.pages.items():
        if page.owner is Owner.MEMMAP:
            at = bisect_right(backed, start, key=itemgetter(0)) - 1
            if at < 0 or backed[at][1] < end:
                yield f"pages {start:#x}-{end:#x} are memmap and back nothing"


def blocks_mapped(mm: Mm) -> Iterator[str]:
    """The direct map covers every block that was added.

    Sections without a block are what an add left that failed in its middle: the kernel only unmaps them.
    """
    for number in _not_covered(mm, mm.leaves, mm.block_size, mm.arch.page_offset):
        if not mm.unmapped.intersects(number * mm.block_size, (number + 1) * mm.block_size):
            yield f"memory{number} is not in the direct map"


def _not_covered(mm: Mm, there: RangeMap[Any], size: int, base: int = 0) -> Iterator[int]:
    """Yield the added blocks that are not all *there*, each *size* long, from *base* on. Neighbours are asked for at once."""
    added = [number for number, block in mm.blocks.items() if not block.early]
    cuts = [at for at in range(1, len(added)) if added[at] != added[at - 1] + 1]
    for low, high in pairwise([0, *cuts, len(added)]) if added else ():
        first, last = added[low], added[high - 1] + 1
        if not there.covers(base + first * size, base + last * size):
            for number in range(first, last):
                if not there.covers(base + number * size, base + (number + 1) * size):
                    yield number


def memmap_mapped(mm: Mm) -> Iterator[str]:
    """The struct pages of all valid pfns are mapped, and nothing but struct pages of valid pfns is."""
    for start, end, _ in mm.sections.items():
        low, high = mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)
        if not mm.leaves.covers(low, high):
            yield f"the struct pages of {start:#x}-{end:#x} are not mapped"
    size = mm.arch.struct_page_size
    base = mm.arch.vmemmap_base
    for a, b, leaf in vmemmap_leaves(mm):
        whole = mm.sections.covers((a - base) // size, -(-(b - base) // size))
        for va in range(a, b, leaf.size) if not whole else ():
            if not mm.sections.intersects((va - base) // size, -(-(va + leaf.size - base) // size)):
                yield f"the leaf at {va:#x} maps struct pages of no valid pfn"
                break


def vmemmap_leaves(mm: Mm) -> Iterator[tuple[int, int, Leaf]]:
    """Yield the leaves of the vmemmap that were not there at boot; those of the direct map are "ram"."""
    for a, b, leaf in mm.leaves.items():
        if leaf.owner in ("buddy", "altmap", "leaked"):
            yield a, b, leaf


def page_tables(mm: Mm) -> Iterator[str]:
    """The page behind every table that came from the buddy is a page table, and no two tables share one."""
    seen: RangeMap[bool] = RangeMap()
    for level, start, end, run in mm.tables.all_runs():
        first, last = run.pfns(start, end) or (0, 0)
        for pfn, owner in _others(mm, first, last, Owner.PAGETABLE):
            yield f"pfn {pfn:#x} is the {level} table at {run.address(start, pfn):#x} and is {owner}"
        twice = next(seen.items(first, last), None) if run.owner == "buddy" else None
        if twice:
            yield f"pfn {twice[0]:#x} is two tables, one of them {level} at {run.address(start, twice[0]):#x}"
        seen.set(first, last, value=True)


def _others(mm: Mm, first: int, last: int, owner: Owner) -> Iterator[tuple[int, str]]:
    """Yield the runs of pages of [first, last) that are not *owner*'s: a pfn, and what it is."""
    for pfn, _ in mm.pages.gaps(first, last):
        yield pfn, "not online"
    for pfn, _, page in mm.pages.items(first, last):
        if page.owner is not owner:
            yield pfn, page.owner.value


def altmap_counts(mm: Mm) -> Iterator[str]:
    """The pages that an altmap says it gave are those that leaves map."""
    leaves = ((leaf_pfn(mm, a, x), leaf_pfn(mm, b, x)) for a, b, x in vmemmap_leaves(mm) if x.owner == "altmap")
    mapped = _by_block(mm, leaves)
    for number, block in mm.blocks.items():
        if block.altmap is not None and block.altmap.alloc != mapped.get(number, 0):
            yield f"memory{number}: its altmap gave {block.altmap.alloc} pages, leaves map {mapped.get(number, 0)}"


def _by_block(mm: Mm, spans: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return how many pages of each block lie in *spans*."""
    size = mm.block_pages
    found: dict[int, int] = {}
    for start, end in spans:
        at, number = start, start // size
        if end <= (number + 1) * size:
            found[number] = found.get(number, 0) + end - start
            continue
        while at < end:
            stop = min(end, (number + 1) * size)
            found[number] = found.get(number, 0) + stop - at
            at, number = stop, number + 1
    return found


def blocks_and_pages(mm: Mm) -> Iterator[str]:
    """An online block is online page by page in its zone, its sections too; an offline one has no page."""
    kinds: dict[ZoneKey, Spans] = {}
    for start, end, page in mm.pages.items():
        kinds.setdefault((page.nid, page.zone), []).append((start, end))
    pages = {key: _by_block(mm, spans) for key, spans in kinds.items()}
    total: Counter[int] = Counter()
    for counts in pages.values():
        total.update(counts)
    devices = Counter[int]()
    for (_, kind), counts in pages.items():
        if kind is ZoneType.DEVICE:
            devices.update(counts)
    for number, block in mm.blocks.items():
        here = total[number] - (devices[number] if block.early else 0)  # a device may lie in a hole between boot memory
        if block.state == "offline":
            if here:
                yield f"memory{number} is offline and has pages"
            if any(
                bits & SECTION_ONLINE
                for _, _, bits in mm.sections.items(block_start(mm, number), block_start(mm, number + 1))
            ):
                yield f"memory{number} is offline and has an online section"
        elif not block.early or block.zone is not None:
            own = None if block.zone is None else pages.get((block.nid, block.zone), {}).get(number)
            if not own or own < here:
                label = block.zone.label if block.zone is not None else "no zone"
                yield f"memory{number} is online in node {block.nid} {label} and has pages of others"
            if not block.early and here < mm.block_pages:
                yield f"memory{number} is online and has holes"
    for number in _not_covered(mm, mm.sections, mm.block_pages):
        yield f"memory{number} has pfns without a section"


def groups_and_blocks(mm: Mm) -> Iterator[str]:
    """A memory group's present pages are those of its online blocks, and it knows how many blocks it has."""
    members: Counter[int] = Counter()
    kernel: Counter[int] = Counter()
    movable: Counter[int] = Counter()
    for number, block in mm.blocks.items():
        if block.group is None:
            continue
        if block.group not in mm.groups:
            yield f"memory{number} is in group {block.group}, which does not exist"
            continue
        members[block.group] += 1
        if block.state == "online":
            (movable if block.zone is ZoneType.MOVABLE else kernel)[block.group] += mm.block_pages
    for gid, group in mm.groups.items():
        if (group.present_kernel, group.present_movable) != (kernel[gid], movable[gid]):
            yield (
                f"group {gid}: {group.present_kernel} kernel and {group.present_movable} movable pages, "
                f"its blocks have {kernel[gid]} and {movable[gid]}"
            )
        if group.nr_blocks != members[gid]:
            yield f"group {gid} says that it has {group.nr_blocks} blocks, and has {members[gid]}"


def huge_pages(mm: Mm) -> Iterator[str]:
    """The huge pages of the pools are whole and online, and free pages of a pool are of one."""
    for start, end, order in mm.hugetlb.items():
        if start % (1 << order) or end % (1 << order):
            yield f"huge pages {start:#x}-{end:#x} of order {order} are not whole"
        for a, b, page in mm.pages.items(start, end):
            if page.owner not in (Owner.HUGETLB, Owner.USER, Owner.PINNED):
                yield f"pages {a:#x}-{b:#x} are of a huge page and are {page.owner.value}"
            elif a % (1 << order) or b % (1 << order):
                yield f"a huge page at {a:#x}-{b:#x} is used in part"
        if not mm.pages.covers(start, end):
            yield f"huge pages {start:#x}-{end:#x} are not all online"
    for a, b, page in mm.pages.items():
        if page.owner is Owner.HUGETLB and not mm.hugetlb.covers(a, b):
            yield f"pages {a:#x}-{b:#x} are of a pool and of no huge page"


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
    for number in _not_covered(mm, ram, mm.block_size):
        yield f"memory{number} is in no System RAM resource"


def memory_has_blocks(mm: Mm) -> Iterator[str]:
    """What is online has a memory block: page by page, section by section.

    System RAM without blocks can be: the kernel does not take a range out of iomem that lies in several resources.
    """
    pages: Spans = []
    for start, end, page in mm.pages.items():
        if page.owner is not Owner.DEVICE:
            _join(pages, start, end)
    sections: Spans = []
    for start, end, bits in mm.sections.items():
        if bits & SECTION_ONLINE:
            _join(sections, start, end)
    for spans, what in ((pages, "pages"), (sections, "online sections")):
        for number in _without_blocks(mm, spans):
            yield f"there are {what} of memory{number}, and no such block"


def _without_blocks(mm: Mm, spans: Spans) -> Iterator[int]:
    """Yield the first block that is missing for each of the *spans* of pfns."""
    size = mm.block_pages
    for start, end in spans:
        first, last = start // size, -(-end // size)
        there = mm.blocks.between(first, last)
        if len(there) < last - first:
            known = set(there)
            yield next(number for number in range(first, last) if number not in known)


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
    huge_pages,
    resources,
    memory_has_blocks,
)
