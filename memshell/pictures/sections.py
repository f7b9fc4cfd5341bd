"""Sections and their subsections: which struct pages there are, in which memory block, with which flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Picture, Words
from memshell.pictures.kinds import machine_line
from memshell.pictures.machine import scale
from memshell.views.pages import section_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.mm.state import Mm

WIDTH, LEFT, HEIGHT, GAP = 960, 150, 22, 26
ROOM = 512
MOST = 32


def sections(mm: Mm, numbers: Sequence[int], theme: str = "light") -> Picture:
    """Return the picture of the sections of the blocks *numbers*."""
    picture = Picture(WIDTH, theme)
    size, part = mm.arch.pages_per_section, mm.arch.pages_per_subsection
    picture.add(Words(14, 26, "Sections and subsections", 15, bold=True), Words(14, 44, machine_line(mm), fill="muted"))
    shift = mm.arch.page_shift
    head = f"a section is {format_size(size << shift)}, a subsection {format_size(part << shift)}"
    picture.add(Words(14, 60, f"{head}, a memory block {format_size(mm.block_size)}", fill="muted"))
    found = _sections_of(mm, numbers)
    y, block = 84.0, None
    for number in found[:MOST]:
        held = number * size // mm.block_pages
        if held != block:
            block = held
            there = f"memory{held}, {mm.blocks[held].state}" if held in mm.blocks else "no memory block here"
            y += 14
            picture.add(Words(14, y, there, 11, bold=True))
            y += 12
        _section(picture, mm, number, y)
        y += HEIGHT + GAP
    if len(found) > MOST:
        picture.add(Words(14, y, f"and {len(found) - MOST} more sections"))
        y += 20
    parts = size // part
    scale(picture, LEFT, y, ROOM / min(parts, 64), f"{format_size(part * max(parts // 64, 1) << shift)}")
    _legend(picture, y + 22)
    return picture


def interesting(mm: Mm) -> list[int]:
    """Return the numbers of blocks, there or not, of sections that are there in part: at most four; else the last block."""
    size, found = mm.arch.pages_per_section, dict[int, None]()
    for first in dict.fromkeys(edge // size * size for a, b, _ in mm.sections.items() for edge in (a, b - 1)):
        there = sum(b - a for a, b, _ in mm.sections.items(first, first + size))
        if 0 < there < size:
            found[first // mm.block_pages] = None
    return [*found][:4] or [mm.blocks.last()]


def _sections_of(mm: Mm, numbers: Sequence[int]) -> list[int]:
    """Return the sections of blocks; where a section is larger than a block, each once."""
    size = mm.arch.pages_per_section
    found: dict[int, None] = {}
    for number in numbers:
        first, end = number * mm.block_pages, (number + 1) * mm.block_pages
        found.update(dict.fromkeys(range(first // size, -(-end // size))))
    return list(found)


def _section(picture: Picture, mm: Mm, number: int, y: float) -> None:
    data = section_data(mm, number)
    start, size, part = data["start_pfn"], mm.arch.pages_per_section, mm.arch.pages_per_subsection
    cells = min(size // part, 64)
    step = size // cells
    picture.add(Words(24, y + 15, f"section {number}"))
    for at in range(cells):
        first = start + at * step
        there = sum(min(b, first + step) - max(a, first) for a, b, _ in mm.sections.items(first, first + step))
        box = Box(LEFT + at * ROOM / cells, y, ROOM / cells, HEIGHT, "mark" if there else "paper", "paper")
        picture.add(box._replace(hatch=not there, title=f"pfn {first:#x}-{first + step - 1:#x}"))
    picture.add(Box(LEFT - 1, y - 1, ROOM + 2, HEIGHT + 2, None, "ink", dash="online" not in data["flags"]))
    low, high = data["memmap"]
    flags = " ".join(data["flags"]) or "not present"
    picture.add(Words(LEFT + ROOM + 12, y + 9, flags, 10))
    count = f"{data['subsections']} of {data['subsections_of']} subsections"
    picture.add(Words(LEFT + ROOM + 12, y + 22, count, 10, fill="muted"))
    picture.add(Words(LEFT, y + HEIGHT + 13, f"pfn {start:#x}-{start + size - 1:#x}", 10, fill="muted"))
    memmap = f"memmap at {low:#x}, {format_size(high - low)}"
    picture.add(Words(LEFT + ROOM, y + HEIGHT + 13, memmap, 10, "end", "muted"))


def _legend(picture: Picture, y: float) -> None:
    x = 14.0
    for box, text in (
        (Box(x, y, 12, 12, "mark", "muted"), "subsection with struct pages"),
        (Box(x, y, 12, 12, "paper", "muted", hatch=True), "without"),
        (Box(x, y, 12, 12, None, "ink", dash=True), "section that is not online"),
    ):
        words = Words(x + 18, y + 10, text)
        picture.add(box._replace(x=x), words)
        x = words.x + words.width + 22
