"""The states of a machine as data for the page: the first one whole, then what each step changed, in rows of equal runs.

A run is [start, length, value], a row of them [start, length, value, count, stride]: 8192 blocks that each keep their
first pages are two rows. Values are numbers of a table that stands beside; -1 is nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from memshell.mm.page import KPAGEFLAGS, KPF_HUGE, KPF_OFFLINE, KPF_RESERVED, Owner
from memshell.mm.pfn import align_down, align_up
from memshell.mm.ranges import HIGHEST
from memshell.pictures.kinds import Piece, pieces
from memshell.views.memory_map import block_zones
from memshell.views.pages import PFN_TYPES, flag_names

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.page import Page
    from memshell.mm.ranges import RangeMap
    from memshell.mm.state import Mm

Row = list[int]
V = TypeVar("V")


class Scene(NamedTuple):
    """A step: its command, how it ended (ok, or an errno), what was said about that, the state, and the reasons."""

    n: int
    command: str
    outcome: str
    message: str
    mm: Mm
    lines: tuple[str, ...] = ()


class Table:
    """Values that get numbers as they come."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.rows: list[dict[str, Any]] = []

    def number(self, key: Hashable, row: dict[str, Any]) -> int:
        """Return the number of *key*; *row* is what the page reads of it."""
        if key not in self.numbers:
            self.numbers[key] = len(self.rows)
            self.rows.append(row)
        return self.numbers[key]


def track(name: str, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return one machine's history for the page."""
    last = scenes[-1].mm
    kinds, blocks = Table(), Table()
    steps: list[dict[str, Any]] = []
    before: Mm | None = None
    for scene in scenes:
        steps.append(_step(scene, before, kinds, blocks))
        before = scene.mm
    return {
        "name": name,
        "arch": last.arch.name,
        "kernel": last.profile.name,
        "policy": last.policy.name,
        "pageSize": last.arch.page_size,
        "blockPages": last.block_pages,
        "pageblock": last.arch.pageblock_nr_pages,
        "section": last.arch.pages_per_section,
        "structPage": last.arch.struct_page_size,
        "kinds": kinds.rows,
        "blockKinds": blocks.rows,
        "steps": steps,
    }


def _step(scene: Scene, before: Mm | None, kinds: Table, blocks: Table) -> dict[str, Any]:
    mm = scene.mm
    changed = [(0, _end(mm))] if before is None else _changed(before, mm)
    return {
        "n": scene.n,
        "command": scene.command,
        "outcome": scene.outcome,
        "message": scene.message,
        "policy": mm.policy.name,
        "pages": rows(_page_changes(before, mm, changed, kinds)),
        "blocks": rows(_block_changes(before, mm, blocks)),
        "zones": _zones(mm),
        "lines": list(scene.lines),
    }


def _end(mm: Mm) -> int:
    """Return the first page frame behind all memory, at the end of a block."""
    last = next((end for _, end, _ in mm.pages.items_reversed(0, HIGHEST)), 0)
    return max(align_up(last, mm.block_pages), (mm.blocks.last() + 1) * mm.block_pages if mm.blocks else 0)


def _changed(before: Mm, after: Mm) -> list[tuple[int, int]]:
    """Return ranges of whole blocks, outside of which no page differs."""
    size, end = after.block_pages, max(_end(before), _end(after))
    ranges = [*_differing(before.pages, after.pages), *_differing(before.hugetlb, after.hugetlb)]
    for a, b in ((before, after), (after, before)):
        keys = (n for n in a.blocks.keys_of_unshared(b.blocks) if a.blocks[n] != b.blocks.get(n))
        ranges += [(number * size, (number + 1) * size) for number in keys]
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        first, last = max(align_down(start, size), 0), min(align_up(stop, size), end)
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        elif first < last:
            found.append((first, last))
    return found


def _differing(before: RangeMap[Any], after: RangeMap[Any]) -> Iterator[tuple[int, int]]:
    """Yield the ranges where two maps differ, of which one is a copy of the other."""
    for first, end in {*before.unshared(after), *after.unshared(before)}:
        old, new = list(_with_gaps(before, first, end)), list(_with_gaps(after, first, end))
        yield from ((a, b) for a, b, _ in _differences(old, new))


def _with_gaps(runs: RangeMap[Any], first: int, end: int) -> Iterator[tuple[int, int, Any]]:
    at = first
    for start, stop, value in runs.items(first, end):
        if at < start:
            yield at, start, None
        yield start, stop, value
        at = stop
    if at < end:
        yield at, end, None


# --- pages ---


def _page_changes(
    before: Mm | None, after: Mm, ranges: list[tuple[int, int]], kinds: Table
) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, kind) for what differs in *ranges*."""
    for first, end in ranges:
        new = list(_numbered(after, first, end, kinds))
        old = [(first, end, -1)] if before is None else list(_numbered(before, first, end, kinds))
        yield from _differences(old, new)


def _numbered(mm: Mm, first: int, end: int, kinds: Table) -> Iterator[tuple[int, int, int]]:
    for start, stop, kind, page in pieces(mm, first, end):
        for a, b, huge in _huge(mm, start, stop):
            yield (
                a,
                b,
                -1 if kind == "hole" else kinds.number((kind, page, huge), _kind(mm, (a, b, kind, page), huge=huge)),
            )


def _huge(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield [start, end) in pieces that are of huge pages, and that are not."""
    at = start
    for a, b, _ in mm.hugetlb.items(start, end):
        if at < a:
            yield at, a, False
        yield a, b, True
        at = b
    if at < end:
        yield at, end, False


def _kind(mm: Mm, piece: Piece, *, huge: bool) -> dict[str, Any]:
    """Return what the page says of a kind: its colour, the owner in words, node, zone, flags of /proc/kpageflags."""
    _, _, colour, page = piece
    if page is None:
        text = "memmap of its own memory block, which is offline" if colour == "memmap" else "offline: nobody's yet"
        return {"colour": colour, "owner": text, "node": None, "zone": None, "flags": [], "tag": 0}
    flags = _flags(mm, page) | (KPF_HUGE if huge else 0)
    names = [*flag_names(flags), *(["compound_head or compound_tail"] if huge else [])]
    owner = "kept for the memmap and not used" if colour == "padding" else PFN_TYPES[page.owner]
    place = {"node": page.nid, "zone": page.zone.label, "tag": page.tag}
    return {"colour": colour, "owner": owner, "flags": names, **place}


def _flags(mm: Mm, page: Page) -> int:
    flags = KPAGEFLAGS[page.owner]
    if page.owner is Owner.MEMMAP_SELF and mm.features.memmap_self.reserved:
        flags |= KPF_RESERVED
    return flags & ~KPF_OFFLINE if page.owner is Owner.DEVICE else flags


def _differences(old: list[tuple[int, int, V]], new: list[tuple[int, int, V]]) -> Iterator[tuple[int, int, V]]:
    """Yield (start, end, value of *new*) where two lists of runs over the same range differ."""
    at = 0
    for start, end, value in new:
        while at < len(old) and old[at][1] <= start:
            at += 1
        for a, b, other in _meeting(old, at, end):
            if other != value:
                yield max(a, start), min(b, end), value


def _meeting(old: list[tuple[int, int, V]], at: int, end: int) -> Iterator[tuple[int, int, V]]:
    while at < len(old) and old[at][0] < end:
        yield old[at]
        at += 1


# --- blocks and zones ---


def _block_changes(before: Mm | None, after: Mm, table: Table) -> Iterator[tuple[int, int, int]]:
    if before is None:
        keys = set(after.blocks)
    else:
        keys = {*after.blocks.keys_of_unshared(before.blocks), *before.blocks.keys_of_unshared(after.blocks)}
    for number in sorted(keys):
        block = after.blocks.get(number)
        if before is not None and block == before.blocks.get(number):
            continue
        yield number, number + 1, -1 if block is None else _block_number(after, block, table)


def _block_number(mm: Mm, block: MemoryBlock, table: Table) -> int:
    zones = [name for name in block_zones(mm, block) if name != "offline"]
    first = block.id * mm.block_pages
    altmap = block.altmap
    used = None if altmap is None else [altmap.base_pfn + altmap.reserve - first, altmap.alloc]
    row = {"state": block.state, "node": block.nid, "zones": zones, "early": block.early, "memmap": used}
    row["kept"] = block.nr_vmemmap_pages
    return table.number(repr(row), row)


def _zones(mm: Mm) -> list[list[Any]]:
    return [
        [zone.nid, zone.type.label, zone.start_pfn, zone.spanned, zone.present, zone.managed, zone.free]
        for _, zone in sorted(mm.zones.items())
        if zone.spanned
    ]


# --- rows ---


def rows(runs: Iterable[tuple[int, int, int]]) -> list[Row]:
    """Return runs (start, end, value) as rows: neighbours of one value joined, then those at equal distances.

    >>> rows([(0, 2, 7), (10, 12, 7), (20, 22, 7), (30, 31, 8)])
    [[0, 2, 7, 3, 10], [30, 1, 8]]
    """
    joined: list[list[int]] = []
    for start, end, value in runs:
        if joined and joined[-1][1] == start and joined[-1][2] == value:
            joined[-1][1] = end
        else:
            joined.append([start, end, value])
    alike: dict[tuple[int, int], list[int]] = {}
    for start, end, value in joined:
        alike.setdefault((end - start, value), []).append(start)
    return [row for (length, value), starts in alike.items() for row in _in_rows(starts, length, value)]


def _in_rows(starts: list[int], length: int, value: int) -> Iterator[Row]:
    """Yield rows for runs of one length and value, given by their starts in order."""
    first = count = stride = 0
    for at, (start, after) in enumerate(pairwise([*starts, -1])):
        if count == 0:
            first, count, stride = start, 1, after - start
        if count and after == start + stride and at + 1 < len(starts):
            count += 1
            continue
        yield [first, length, value] if count == 1 else [first, length, value, count, stride]
        count = 0
