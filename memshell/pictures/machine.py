"""The machine: every memory block a bar, and in it what its pages are, to scale; also before and after, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Line, Picture, Words
from memshell.pictures.kinds import Run, filled, human, legend, machine_line, places, runs
from memshell.views.memory_map import block_zones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.state import Mm

PER_ROW = 8
HEIGHT, GAP, LEFT, TOP = 24, 22, 118, 74
MOST_ROWS = 40


class Row(NamedTuple):
    """Eight neighbouring blocks, or several rows of such that look alike."""

    first: int
    rows: int


def machine(mm: Mm, theme: str = "light", *, title: str = "") -> Picture:
    """Return the picture of the whole machine."""
    return _grid(title or "The memory of a machine", [(machine_line(mm), mm)], theme)


def change(before: tuple[str, Mm], after: tuple[str, Mm], theme: str = "light") -> Picture:
    """Return two states side by side, each with its name; a block that differs has a heavy frame."""
    return _grid("Before and after", [before, after], theme)


def _grid(title: str, states: list[tuple[str, Mm]], theme: str) -> Picture:
    """Draw the same rows of blocks of one state or of two."""
    last = states[-1][1]
    cell = 96 if len(states) == 1 else 50
    panel = PER_ROW * (cell + 6)
    right = 8 + max((len(text) for _, mm in states for text in _zone_texts(mm)), default=0) * 6.1
    picture = Picture(LEFT + len(states) * (panel + right) + 14, theme)
    picture.add(Words(14, 26, title, 15, bold=True), Words(14, 44, machine_line(last), fill="muted"))
    rows = _folded([mm for _, mm in states])
    tops, y = _tops(rows[:MOST_ROWS], TOP + 14)
    for at, (name, mm) in enumerate(states):
        x = LEFT + at * (panel + right)
        if len(states) > 1:
            picture.add(Words(x, TOP - 8, name, 12, bold=True))
        for row, top in tops:
            _row(picture, mm, row, (x, top, cell), states[0][1] if at else None)
    _addresses(picture, last, tops)
    if len(rows) > MOST_ROWS:
        picture.add(Words(14, y, f"and {len(rows) - MOST_ROWS} more rows that differ"))
        y += 20
    scale(picture, LEFT, y, cell, f"{format_size(last.block_size)}, one memory block")
    kinds = [kind for _, mm in states for row in rows for _, _, kind in _row_runs(mm, row)]
    y = legend(picture, [kind for kind in kinds if kind != "hole"], 14, y + 22)
    if len(states) > 1:
        picture.add(Box(15, y + 1, 11, 11, None, "mark", bold=True), Words(32, y + 10, "changed"))
    return picture


def _tops(rows: list[Row], y: float) -> tuple[list[tuple[Row, float]], float]:
    """Return each row with its y, room for a line where memory is missing between two; and the y under them."""
    found: list[tuple[Row, float]] = []
    end = rows[0].first if rows else 0
    for row in rows:
        y += GAP if row.first != end else 0
        found.append((row, y))
        y += HEIGHT + GAP
        end = row.first + row.rows * PER_ROW
    return found, y


def _addresses(picture: Picture, mm: Mm, tops: list[tuple[Row, float]]) -> None:
    """Write where each row begins, and how much is missing before it."""
    end = tops[0][0].first if tops else 0
    for row, y in tops:
        picture.add(Words(14, y + 16, f"{row.first * mm.block_size:#x}", 10, fill="muted"))
        if row.first != end:
            missing = f"no memory here: {format_size((row.first - end) * mm.block_size)}"
            picture.add(Words(LEFT, y - 20, missing, 10, fill="muted"))
        end = row.first + row.rows * PER_ROW


def _zone_texts(mm: Mm) -> Iterator[str]:
    yield from {_zones(mm, Row(number // PER_ROW * PER_ROW, 1)) for number in mm.blocks}


def _zones(mm: Mm, row: Row) -> str:
    ids = mm.blocks.between(row.first, row.first + PER_ROW)
    names = dict.fromkeys(name for number in ids for name in block_zones(mm, mm.blocks[number]) if name != "offline")
    if not ids:
        base, end = row.first * mm.block_pages, (row.first + PER_ROW) * mm.block_pages
        names = dict.fromkeys(page.zone.label for _, _, page in mm.pages.items(base, end))
    return " ".join(names)


def _row_runs(mm: Mm, row: Row) -> list[Run]:
    return runs(mm, row.first * mm.block_pages, (row.first + PER_ROW) * mm.block_pages)


def _folded(states: list[Mm]) -> list[Row]:
    """Return the rows that have blocks; of three or more in a sequence that look alike, the first and how many."""
    firsts = sorted({number // PER_ROW * PER_ROW for mm in states for number in places(mm)})
    found: list[Row] = []
    before: object = None
    for first in firsts:
        looks = [_look(mm, first) for mm in states]
        follows = bool(found) and found[-1].first + found[-1].rows * PER_ROW == first
        if looks == before and follows:
            found[-1] = found[-1]._replace(rows=found[-1].rows + 1)
        else:
            found.append(Row(first, 1))
        before = looks
    return found


def _look(mm: Mm, first: int) -> list[object]:
    base = first * mm.block_pages
    ids = mm.blocks.between(first, first + PER_ROW)
    states = [(n - first, mm.blocks[n].state, mm.blocks[n].zone, mm.blocks[n].nid) for n in ids]
    return [states, *((a - base, b - base, kind) for a, b, kind in _row_runs(mm, Row(first, 1)))]


def _row(picture: Picture, mm: Mm, row: Row, place: tuple[float, float, float], before: Mm | None) -> None:
    """Draw a row at (x, y), a block *cell* wide; what it is of more rows stands behind it."""
    x, y, cell = place
    there = places(mm)
    for number in range(row.first, row.first + PER_ROW):
        if number in there:
            changed = before is not None and _differs(before, mm, number)
            _block(picture, mm, number, (x + (number - row.first) * (cell + 6), y, cell), changed=changed)
    right = x + PER_ROW * (cell + 6) + 2
    picture.add(Words(right, y + 16, _zones(mm, row), 10))
    if row.rows > 1:
        more = (row.rows - 1) * PER_ROW
        text = f"... and {format_size(more * mm.block_size)} more like this, to memory{row.first + more + PER_ROW - 1}"
        picture.add(Words(x, y + HEIGHT + 10, text, 10, fill="muted"))


def _differs(before: Mm, after: Mm, number: int) -> bool:
    first, end = number * after.block_pages, (number + 1) * after.block_pages
    same = before.blocks.get(number) == after.blocks.get(number)
    return not same or runs(before, first, end) != runs(after, first, end)


def _block(picture: Picture, mm: Mm, number: int, place: tuple[float, float, float], *, changed: bool) -> None:
    """Draw a block: runs of pages at their places, a broken frame when it is offline."""
    x, y, cell = place
    block = mm.blocks.get(number)
    first = number * mm.block_pages
    what = f"memory{number}: {block.state}, node {block.nid}" if block is not None else "no memory block"
    found = runs(mm, first, first + mm.block_pages)
    sums = {kind: sum(b - a for a, b, other in found if other == kind) for _, _, kind in found}
    what += ", " + ", ".join(f"{human(mm, pages)} {kind}" for kind, pages in sums.items())
    for start, end, kind in sorted(found, key=lambda run: run[2] == "memmap"):  # a memmap is seen, however small it is
        left, right = (start - first) / mm.block_pages * cell, (end - first) / mm.block_pages * cell
        picture.add(filled(x + left, y, min(max(right - left, 2.5), cell - left), HEIGHT, kind))
    online = block is not None and block.state == "online"
    frame = Box(x - 1, y - 1, cell + 2, HEIGHT + 2, None, "mark" if changed else "ink", dash=not online, bold=changed)
    picture.add(frame._replace(title=what))
    if block is not None:
        picture.add(Words(x, y - 4, f"memory{number}" if cell > 60 else str(number), 10, fill="muted"))


def scale(picture: Picture, x: float, y: float, width: float, text: str) -> None:
    """Draw a scale bar of *width* points, and what it is."""
    ends = (Line(x, y - 4, x, y + 4), Line(x + width, y - 4, x + width, y + 4))
    picture.add(Line(x, y, x + width, y), *ends, Words(x + width + 8, y + 4, text, 10))
