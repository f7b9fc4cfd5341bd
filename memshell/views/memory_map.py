"""The map: memory as people think of it, in characters. Each says what most of its piece of memory is."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from memshell.drivers.base.memory.blocks import block_start
from memshell.mm.page import Owner
from memshell.mm.pfn import format_size
from memshell.views.pages import PFN_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.state import Mm

HOLE, OFFLINE, FREE = " ", "-", "."
LETTERS = {
    Owner.PINNED: "P",
    Owner.MEMMAP: "M",
    Owner.MEMMAP_SELF: "M",
    Owner.VMEMMAP: "M",
    Owner.BAD: "B",
    Owner.LOST: "L",
    Owner.KERNEL: "K",
    Owner.SLAB: "K",
    Owner.SLAB_PAGE: "K",
    Owner.PAGETABLE: "K",
    Owner.RESERVED: "R",
    Owner.USER: "U",
    Owner.HUGETLB: "H",
    Owner.OFFLINE: "O",
    Owner.BALLOON: "O",
    Owner.DEVICE: "D",
}
NAMES = {
    "P": "pinned",
    "M": "memmap",
    "K": "kernel",
    "R": "reserved",
    "U": "movable in use",
    "H": "free huge page",
    "O": "PageOffline",
    "D": "device",
    "B": "bad",
    "L": "lost",
    FREE: "free",
    OFFLINE: "offline",
}
# Of the sixteen that a terminal's own theme defines; the letters say the same without them.
COLOURS = {
    "P": 31,
    "M": 35,
    "K": 36,
    "R": 90,
    "U": 34,
    "H": 34,
    "O": 33,
    "D": 94,
    "B": 91,
    "L": 91,
    FREE: 32,
    OFFLINE: 33,
}
RANK = "PMBLKRUHOD"  # what a small part is shown for when several are in one piece
MOST_ROWS = 24


class Row(NamedTuple):
    """A line of the map: blocks [first, first + count) and their characters, block by block."""

    first: int
    cells: tuple[str, ...]
    zones: str


def cell(mm: Mm, start: int, end: int) -> str:
    """Return the character of [start, end): a capital for most of its pages, a small letter for a part."""
    counts: Counter[str] = Counter()
    for a, b, page in mm.pages.items(start, end):
        counts[LETTERS.get(page.owner, FREE)] += b - a
    if not counts:
        block = mm.blocks.get(start // mm.block_pages)
        return OFFLINE if block is not None and block.state == "offline" else HOLE
    letter = max(counts, key=lambda key: counts[key])
    small = next((key for key in RANK if key in counts), None)
    if letter == FREE and small is not None:
        return small.lower()
    rarer = next((key for key in "PM" if key in counts and key != letter), None)
    return rarer.lower() if rarer else letter


def shape(mm: Mm, width: int) -> tuple[int, int, int]:
    """Return (blocks in a piece, pieces of a block, pieces in a row) for a map of at most MOST_ROWS lines."""
    room = width - 30
    total = len(mm.blocks)
    for pieces in (4, 2, 1):
        per_row = next(n for n in (16, 8, 4, 2, 1) if n * (pieces + 1) <= room or n == 1)
        if total <= per_row * MOST_ROWS:
            return 1, pieces, per_row
    per_row = 1 << (room // 2).bit_length() - 1
    together = 1
    while total > per_row * together * MOST_ROWS:
        together *= 2
    return together, 1, per_row


def paint(cells: str) -> str:
    """Return characters of the map in their colours, as a terminal takes them."""
    return re.sub(r"([PMKRUODB.-])\1*", _painted, cells, flags=re.IGNORECASE)


def _painted(run: re.Match[str]) -> str:
    return f"\x1b[{COLOURS[run[1].upper()]}m{run[0]}\x1b[0m"


def overview(mm: Mm, width: int = 80, *, colour: bool = False) -> str:
    """Draw the whole machine: a line for each row of blocks, equal lines and holes folded."""
    together, pieces, per_row = shape(mm, width)
    span = together * per_row
    rows = [_row(mm, first, together, pieces, per_row) for first in sorted({n // span * span for n in mm.blocks})]
    piece = format_size(mm.block_size * together // pieces)
    block = format_size(mm.block_size)
    title = f"{mm.arch.name}, blocks of {block}, kernel {mm.profile.name}, policy {mm.policy.name}"
    lines = [
        title,
        f"one character = {piece}, | between {'blocks' if together == 1 else f'every {together} blocks'}",
        "",
    ]
    lines += _drawn(mm, rows, span, paint if colour else str)
    used = {letter for row in rows for cells in row.cells for letter in cells}
    return "\n".join([*lines, "", *legend(used, width, colour=colour), "", *totals(mm)]) + "\n"


def _row(mm: Mm, first: int, together: int, pieces: int, per_row: int) -> Row:
    pages = mm.block_pages * together // pieces
    cells = []
    for number in range(first, first + together * per_row, together):
        start = block_start(mm, number)
        there = any(n in mm.blocks for n in range(number, number + together))
        cells.append(
            "".join(cell(mm, start + i * pages, start + (i + 1) * pages) for i in range(pieces))
            if there
            else HOLE * pieces
        )
    blocks = [mm.blocks[n] for n in range(first, first + together * per_row) if n in mm.blocks]
    return Row(first, tuple(cells), _zones(mm, blocks))


def _zones(mm: Mm, blocks: list[MemoryBlock]) -> str:
    names: dict[str, None] = {}
    for block in blocks:
        names.update(dict.fromkeys(block_zones(mm, block)))
    return " ".join(names)


def block_zones(mm: Mm, block: MemoryBlock) -> list[str]:
    """Return the zones that a block's pages are in; ``offline`` for a block that is."""
    if block.state == "offline":
        return ["offline"]
    if block.zone is not None:
        return [block.zone.label]
    start = block_start(mm, block.id)
    return list(dict.fromkeys(page.zone.label for _, _, page in mm.pages.items(start, start + mm.block_pages)))


def _drawn(mm: Mm, rows: list[Row], span: int, draw: Callable[[str], str]) -> list[str]:
    lines: list[str] = []
    before: Row | None = None
    folded: list[str] = []
    for row in rows:
        bar = draw("|".join(row.cells))
        line = f"{row.first * mm.block_size:#14x} |{bar}| {row.zones}"
        gap = row.first - before.first - span if before is not None else 0
        if before is not None and row[1:] == before[1:] and not gap:
            folded.append(line)
        else:
            lines += _folded(mm, folded, span)
            folded = []
            if gap:
                lines.append(f"{'':>14}  hole: {format_size(gap * mm.block_size)}")
            lines.append(line)
        before = row
    return lines + _folded(mm, folded, span)


def _folded(mm: Mm, lines: list[str], span: int) -> list[str]:
    if len(lines) < 2:
        return lines
    return [f"{'':>14}  ... {format_size(len(lines) * span * mm.block_size)} more like this"]


def legend(used: set[str], width: int, *, colour: bool = False) -> list[str]:
    """Return what the characters that are *used* mean, in lines of at most *width*."""
    words = [f"{letter} {name}" for letter, name in NAMES.items() if {letter, letter.lower()} & used]
    if any(letter.islower() for letter in used):
        words.append("small letter: a part of it")
    lines: list[list[str]] = [[]]
    for word in words:
        if len("   ".join([*lines[-1], word])) > width:
            lines.append([])
        lines[-1].append(word)
    draw = paint if colour else str
    return ["   ".join(draw(word[0]) + word[1:] if word[1] == " " else word for word in line) for line in lines]


def totals(mm: Mm) -> list[str]:
    """Return a table of what each zone holds, and of what is offline."""
    sums: dict[tuple[int, str], Counter[str]] = {}
    for a, b, page in mm.pages.items():
        sums.setdefault((page.nid, page.zone.label), Counter())[NAMES[LETTERS.get(page.owner, FREE)]] += b - a
    kinds = [name for name in NAMES.values() if any(counts[name] for counts in sums.values())]
    order = {zone.type.label: zone.type for zone in mm.zones.values()}
    lines = [_columns("NODE ZONE", ["PRESENT", *(name.removesuffix(" in use").upper() for name in kinds)])]
    for (nid, label), counts in sorted(sums.items(), key=lambda item: (item[0][0], order[item[0][1]])):
        sizes = [_size(mm, sum(counts.values())), *(_size(mm, counts[name]) for name in kinds)]
        lines.append(_columns(f"{nid:>4} {label}", sizes))
    offline = sum(block.state == "offline" for block in mm.blocks.values())
    if offline:
        lines.append(f"     offline: {format_size(offline * mm.block_size)} in {offline} blocks")
    return lines


def _columns(head: str, cells: list[str]) -> str:
    return f"{head:<13}" + "".join(f"{text:>9}" for text in cells)


def _size(mm: Mm, pages: int) -> str:
    """Return pages in the largest unit that leaves 10 of it or divides it, one decimal; nothing for none."""
    size = pages << mm.arch.page_shift
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size >= 10 << shift or (size >= 1 << shift and size % (1 << shift) == 0):
            whole, tenths = divmod(size * 10 >> shift, 10)
            return f"{whole}.{tenths}{unit}" if tenths and whole < 1000 else f"{whole}{unit}"
    return ""


# --- one block, one section ---

_MOST_RUNS = 20


def block_map(mm: Mm, block: MemoryBlock, width: int = 80, *, colour: bool = False) -> str:
    """Draw one block, and its runs of pages."""
    kept = f", memmap in its first {block.nr_vmemmap_pages} pages" if block.nr_vmemmap_pages else ""
    head = f"memory{block.id}: {block.state}, node {block.nid}, {' '.join(block_zones(mm, block))}{kept}"
    return _zoomed(mm, head, (block_start(mm, block.id), mm.block_pages), width, colour=colour)


def section_map(mm: Mm, number: int, width: int = 80, *, colour: bool = False) -> str:
    """Draw one section, and its runs of pages."""
    pages = mm.arch.pages_per_section
    block = mm.blocks.get(number * pages // mm.block_pages)
    inside = f"memory{block.id} ({block.state})" if block is not None else "no memory block"
    return _zoomed(mm, f"section {number}, in {inside}", (number * pages, pages), width, colour=colour)


def _zoomed(mm: Mm, head: str, where: tuple[int, int], width: int, *, colour: bool) -> str:
    """Draw a piece of memory in eight rows or more."""
    start, pages = where
    per_row = 64 if width >= 80 else 32
    piece = max(pages // (per_row * 8), 1)
    lines = [head, f"one character = {format_size(piece << mm.arch.page_shift)}", ""]
    draw = paint if colour else str
    cells = "".join(cell(mm, pfn, pfn + piece) for pfn in range(start, start + pages, piece))
    lines += [
        f"{start + at * piece << mm.arch.page_shift:#14x} {draw(cells[at : at + per_row].rstrip())}"
        for at in range(0, len(cells), per_row)
    ]
    return (
        "\n".join([*lines, "", *legend(set(cells), width, colour=colour), "", *_runs(mm, start, start + pages)]) + "\n"
    )


def _runs(mm: Mm, start: int, end: int) -> list[str]:
    runs = list(mm.pages.items(start, end))
    lines = [f"{'PFNS':<21} {'PAGES':>7} {'ZONE':<8} WHAT"] if runs else []
    for a, b, page in runs[:_MOST_RUNS]:
        tag = f" (alloc {page.tag})" if page.tag > 0 else ""
        lines.append(f"{f'{a:#x}-{b - 1:#x}':<21} {b - a:>7} {page.zone.label:<8} {PFN_TYPES[page.owner]}{tag}")
    if len(runs) > _MOST_RUNS:
        lines.append(f"... and {len(runs) - _MOST_RUNS} more runs")
    return lines
