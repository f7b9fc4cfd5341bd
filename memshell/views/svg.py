"""The map as a picture: every memory block a bar, and in it what its pages are, to scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.page import Owner
from memshell.mm.pfn import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.state import Mm

# Colours that people with any colour vision tell apart (after Okabe and Ito), readable on white and in grey.
COLOURS = {
    "free": "#cfe8cf",
    "in use": "#56b4e9",
    "kernel": "#e69f00",
    "memmap": "#cc3d3d",
    "reserved": "#8c8c8c",
    "device": "#cc79a7",
    "offline": "#ffffff",
}
KINDS = {
    Owner.FREE: "free",
    Owner.USER: "in use",
    Owner.PINNED: "in use",
    Owner.HUGETLB: "in use",
    Owner.MEMMAP: "memmap",
    Owner.MEMMAP_SELF: "memmap",
    Owner.VMEMMAP: "memmap",
    Owner.KERNEL: "kernel",
    Owner.SLAB: "kernel",
    Owner.PAGETABLE: "kernel",
    Owner.RESERVED: "reserved",
    Owner.BAD: "reserved",
    Owner.LOST: "reserved",
    Owner.OFFLINE: "reserved",
    Owner.BALLOON: "reserved",
    Owner.DEVICE: "device",
}
PER_ROW, WIDTH, HEIGHT, LEFT, TOP = 8, 96, 22, 130, 44
MOST_ROWS = 64
FONT = 'font-family="monospace" font-size="12"'


def svg(mm: Mm) -> str:
    """Return the picture of the machine as an SVG document."""
    rows = _rows(mm)
    height = TOP + (len(rows) + 2) * (HEIGHT + 6)
    width = LEFT + PER_ROW * (WIDTH + 4) + 90
    title = f"{mm.arch.name}, blocks of {format_size(mm.block_size)}, {mm.profile.name}, {mm.policy.name}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="14">{title}</text>',
    ]
    for number, row in enumerate(rows[:MOST_ROWS]):
        parts += _row(mm, row, TOP + number * (HEIGHT + 6))
    bottom = TOP + min(len(rows), MOST_ROWS) * (HEIGHT + 6) + 14
    if len(rows) > MOST_ROWS:
        parts.append(f'<text x="10" y="{bottom}">... {len(rows) - MOST_ROWS} more rows</text>')
        bottom += HEIGHT
    parts += _legend(bottom)
    return "\n".join([*parts, "</svg>", ""])


def _rows(mm: Mm) -> list[list[int]]:
    """Return the ids of the blocks of each row; a row begins at a multiple of its length."""
    rows: dict[int, list[int]] = {}
    for number in sorted(mm.blocks):
        rows.setdefault(number // PER_ROW, []).append(number)
    return list(rows.values())


def _row(mm: Mm, row: list[int], y: int) -> Iterator[str]:
    start = row[0] // PER_ROW * PER_ROW * mm.block_size
    yield f'<text x="10" y="{y + 15}">{start:#x}</text>'
    for number in row:
        yield from _block(mm, number, LEFT + number % PER_ROW * (WIDTH + 4), y)
    zones = sorted({zone.label for number in row if (zone := mm.blocks[number].zone) is not None})
    yield f'<text x="{LEFT + PER_ROW * (WIDTH + 4) + 4}" y="{y + 15}">{" ".join(zones)}</text>'


def _block(mm: Mm, number: int, x: int, y: int) -> Iterator[str]:
    """Draw a block: runs of pages at their places, a dashed frame when it is offline."""
    block = mm.blocks[number]
    first = number * mm.block_pages
    scale = WIDTH / mm.block_pages
    yield f"<g><title>memory{number}: {block.state}, node {block.nid}</title>"
    for start, end, kind in _runs(mm, first, first + mm.block_pages):
        left, right = x + (start - first) * scale, x + (end - first) * scale
        yield (
            f'<rect x="{left:.2f}" y="{y}" width="{max(right - left, 0.5):.2f}" height="{HEIGHT}" '
            f'fill="{COLOURS[kind]}"/>'
        )
    dashes = ' stroke-dasharray="3 2"' if block.state != "online" else ""
    frame = f'fill="none" stroke="#333333"{dashes}'
    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" {frame}/></g>'


def _runs(mm: Mm, first: int, end: int) -> list[tuple[int, int, str]]:
    """Return the runs of equal kind in [first, end), neighbours joined."""
    runs: list[tuple[int, int, str]] = []
    for start, stop, page in mm.pages.items(first, end):
        kind = KINDS[page.owner]
        if runs and runs[-1][1] == start and runs[-1][2] == kind:
            runs[-1] = (runs[-1][0], stop, kind)
        else:
            runs.append((start, stop, kind))
    return runs


def _legend(y: int) -> Iterator[str]:
    for number, (kind, colour) in enumerate(COLOURS.items()):
        x = 10 + number * 110
        yield f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}" stroke="#333333"/>'
        yield f'<text x="{x + 20}" y="{y + 12}">{kind}</text>'
