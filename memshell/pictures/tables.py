"""Page tables of a vmemmap range: the tables of each level, the leaves, and the pages behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Line, Picture, Words
from memshell.pictures.kinds import machine_line
from memshell.views.pages import mapping_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.mm.state import Mm

WIDTH, LEFT, TOP, HEIGHT, GAP = 1080, 14, 96, 34, 10
MOST = 10
SOURCES = {
    "early": ("boot memory", "reserved"),
    "buddy": ("from memory that was there", "kernel"),
    "altmap": ("in the block itself", "memmap"),
}


class Node(NamedTuple):
    """A box: its first address, what it says, its colour."""

    address: int
    lines: tuple[str, str]
    fill: str


def tables(mm: Mm, numbers: Sequence[int], theme: str = "light") -> Picture:
    """Return the picture of what maps the memmap of the blocks *numbers*."""
    picture = Picture(WIDTH, theme)
    data = mapping_data(mm, list(numbers))
    names = f"memory{numbers[0]}" + (f" to memory{numbers[-1]}" if len(numbers) > 1 else "")
    picture.add(Words(LEFT, 26, f"What maps the memmap of {names}", 15, bold=True))
    picture.add(Words(LEFT, 44, machine_line(mm), fill="muted"))
    columns = _columns(mm, data)
    step = (WIDTH - 2 * LEFT) / max(len(columns), 1)
    above: list[tuple[Node, float]] = []
    deepest = TOP
    for at, (head, nodes) in enumerate(columns):
        x = LEFT + at * step
        picture.add(Words(x, TOP - 14, head, 11, bold=True))
        drawn = _column(picture, nodes, x, step - 34)
        _joined(picture, above, drawn, x - 34, x)
        above = drawn
        deepest = max([deepest, *(int(y) + HEIGHT + GAP for _, y in drawn)])
    leaves = sum(count for _, count, _, _ in data["leaves"])
    pages = {pfn for level in data["tables"].values() for _, pfn in level if pfn is not None}
    text = f"{leaves} leaves; {len(pages)} pages of tables that were not there at boot (always of existing memory)"
    picture.add(Words(LEFT, deepest + 40, text, 11))
    _legend(picture, deepest + 54)
    return picture


def _columns(mm: Mm, data: dict[str, Any]) -> list[tuple[str, list[Node]]]:
    """Return the levels from the top down, the leaves last."""
    levels = sorted(data["tables"], key=lambda level: (len(data["tables"][level]), -_depth(level)))
    columns = []
    for level in sorted(levels, key=_depth):
        nodes = [_table(address, pfn) for address, pfn in data["tables"][level]]
        columns.append((f"{level} table" + "s" * (len(nodes) != 1), nodes))
    columns.append(("leaves: a run of equal ones", [_leaf(mm, *leaf) for leaf in data["leaves"]]))
    return columns


def _depth(level: str) -> int:
    order = ("pgd", "p4d", "p4d_pud", "pud", "pmd", "pte")
    return order.index(level) if level in order else len(order)


def _table(address: int, pfn: int | None) -> Node:
    where = "of boot" if pfn is None else f"page {pfn:#x}"
    return Node(address, (f"from {address:#x}", where), "reserved" if pfn is None else "kernel")


def _leaf(mm: Mm, va: int, count: int, size: int, pfn: int | None) -> Node:
    leaf = mm.leaves.get(va)
    source = leaf.owner if leaf is not None else "early"
    times = f"{count} x {format_size(size)}"
    where = "boot memory" if pfn is None else f"page {pfn:#x}" + (f" in memory{pfn // mm.block_pages}")
    return Node(va, (f"{times} at {va:#x}", where), SOURCES.get(source, SOURCES["buddy"])[1])


def _column(picture: Picture, nodes: list[Node], x: float, width: float) -> list[tuple[Node, float]]:
    """Draw boxes under one another; return each with its y."""
    drawn = []
    for at, node in enumerate(nodes[:MOST]):
        y = TOP + at * (HEIGHT + GAP)
        picture.add(Box(x, y, width, HEIGHT, "veil", "ink"), Box(x, y, 6, HEIGHT, node.fill))
        picture.add(Words(x + 12, y + 14, node.lines[0], 9.5), Words(x + 12, y + 27, node.lines[1], 9.5, fill="muted"))
        drawn.append((node, float(y)))
    if len(nodes) > MOST:
        y = TOP + MOST * (HEIGHT + GAP) + 10
        picture.add(Words(x, y, f"and {len(nodes) - MOST} more", 10, fill="muted"))
    return drawn


def _joined(
    picture: Picture, above: list[tuple[Node, float]], below: list[tuple[Node, float]], a: float, b: float
) -> None:
    """Draw a line from each box to the one on its left that it belongs to."""
    for node, y in below:
        parents = [(other, top) for other, top in above if other.address <= node.address]
        if parents:
            _, top = max(parents, key=lambda parent: parent[0].address)
            picture.add(Line(a, top + HEIGHT / 2, b - 2, y + HEIGHT / 2, "muted", arrow=True))


def _legend(picture: Picture, y: float) -> None:
    x = float(LEFT)
    for name, fill in (*SOURCES.values(),):
        words = Words(x + 18, y + 10, name)
        picture.add(Box(x, y, 12, 12, fill, "muted"), words)
        x = words.x + words.width + 22
