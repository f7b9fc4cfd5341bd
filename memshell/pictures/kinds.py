"""What the pages of a picture are: runs of one kind, the legend of the kinds, sizes in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.page import Owner, Page
from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Picture, Words
from memshell.policy import titled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memshell.mm.state import Mm

KINDS = {
    Owner.FREE: "free",
    Owner.USER: "in use",
    Owner.PINNED: "pinned",
    Owner.HUGETLB: "free huge page",
    Owner.MEMMAP: "memmap",
    Owner.MEMMAP_SELF: "memmap",
    Owner.VMEMMAP: "memmap",
    Owner.KERNEL: "kernel",
    Owner.SLAB: "kernel",
    Owner.SLAB_PAGE: "kernel",
    Owner.PAGETABLE: "kernel",
    Owner.RESERVED: "reserved",
    Owner.BAD: "bad or lost",
    Owner.LOST: "bad or lost",
    Owner.OFFLINE: "PageOffline",
    Owner.BALLOON: "PageOffline",
    Owner.DEVICE: "device",
}
LEGEND = {
    "free": "free",
    "in use": "in use, movable",
    "pinned": "pinned",
    "free huge page": "free huge page",
    "memmap": "memmap (struct pages)",
    "padding": "padding (kept, not used)",
    "kernel": "kernel",
    "reserved": "reserved",
    "PageOffline": "PageOffline",
    "device": "device",
    "bad or lost": "bad or lost",
    "offline": "offline",
    "hole": "no memory",
}
Run = tuple[int, int, str]
Piece = tuple[int, int, str, Page | None]


def runs(mm: Mm, first: int, end: int) -> list[Run]:
    """Return [first, end) as runs of one kind, holes too."""
    found: list[Run] = []
    for start, stop, kind, _ in pieces(mm, first, end):
        if found and found[-1][1] == start and found[-1][2] == kind:
            found[-1] = (found[-1][0], stop, kind)
        else:
            found.append((start, stop, kind))
    return found


def pieces(mm: Mm, first: int, end: int) -> Iterator[Piece]:
    """Yield [first, end) in pieces of pages that are alike, each with its kind and what the pages are.

    A block that is offline shows the memmap that it holds already: its pages are nobody's, but they are in use.
    """
    at = first
    for start, stop, page in mm.pages.items(first, end):
        yield from _nobodys(mm, at, start)
        if page.owner is Owner.MEMMAP_SELF:
            yield from _kept(mm, start, stop, page)
        else:
            yield start, stop, KINDS[page.owner], page
        at = stop
    yield from _nobodys(mm, at, end)


def _kept(mm: Mm, first: int, end: int, page: Page) -> Iterator[Piece]:
    """Yield what pages that blocks keep for their memmap are: those that it takes, and what is left of them."""
    at = first
    while at < end:
        number = at // mm.block_pages
        stop = min((number + 1) * mm.block_pages, end)
        altmap = mm.blocks[number].altmap if number in mm.blocks else None
        used = stop if altmap is None else min(max(altmap.base_pfn + altmap.reserve + altmap.alloc, at), stop)
        yield from ((a, b, kind, page) for a, b, kind in ((at, used, "memmap"), (used, stop, "padding")) if a < b)
        at = stop


def _nobodys(mm: Mm, first: int, end: int) -> Iterator[Piece]:
    """Yield the pieces of a range that no page of is anybody's."""
    at = first
    for number in mm.blocks.between(first // mm.block_pages, -(-end // mm.block_pages)):
        start, stop = max(number * mm.block_pages, at), min((number + 1) * mm.block_pages, end)
        if mm.blocks[number].state == "offline" and start < stop:
            if at < start:
                yield at, start, "hole", None
            yield from _offline(mm, number, start, stop)
            at = stop
    if at < end:
        yield at, end, "hole", None


def _offline(mm: Mm, number: int, first: int, end: int) -> Iterator[Piece]:
    altmap = mm.blocks[number].altmap
    used = altmap.base_pfn + altmap.reserve if altmap is not None else 0
    stop = used + altmap.alloc if altmap is not None else 0
    used, stop = min(max(used, first), end), min(max(stop, first), end)
    kinds = ((first, used, "offline"), (used, stop, "memmap"), (max(first, stop), end, "offline"))
    yield from ((a, b, kind, None) for a, b, kind in kinds if a < b)


def places(mm: Mm) -> set[int]:
    """Return the numbers of all blocks, and those that blocks would have where device memory has its pages."""
    found = set(mm.blocks)
    for start, device in mm.pagemaps.items():
        found.update(range(start // mm.block_size, -(-(start + device.size) // mm.block_size)))
    return found


def filled(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Box:
    """Return the box of a run."""
    return Box(x, y, width, height, kind, hatch=kind in {"offline", "padding"}, title=title)


def legend(picture: Picture, kinds: Iterable[str], x: float, y: float) -> float:
    """Draw what the colours of *kinds* mean, in as many lines as it takes; return the y under it."""
    left, known = x, set(kinds)
    for kind, text in LEGEND.items():
        if kind not in known:
            continue
        words = Words(left + 18, y + 10, text)
        if words.x + words.width > picture.width - x and left > x:
            left, y = x, y + 20
            words = words._replace(x=left + 18, y=y + 10)
        picture.add(filled(left, y, 12, 12, kind)._replace(stroke="muted", dash=kind in {"offline", "hole"}), words)
        left = words.x + words.width + 22
    return y + 20


def human(mm: Mm, pages: int) -> str:
    """Return the size of *pages* in the largest unit: exactly in quarters of it, else with one decimal."""
    size = pages << mm.arch.page_shift
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift:
            value = size / (1 << shift)
            return f"{value:.2f}".rstrip("0").rstrip(".") + unit if (value * 4).is_integer() else f"{value:.1f}{unit}"
    return format_size(size)


def machine_line(mm: Mm) -> str:
    """Return what machine it is, in one line."""
    policy = f"policy {titled(mm.policy)}"
    return f"{mm.arch.name}, blocks of {format_size(mm.block_size)}, kernel {mm.profile.name}, {policy}"


def percent(part: int, whole: int) -> str:
    """Return a share with one decimal, as text."""
    return f"{100 * part / whole:.1f} %".replace(".0 %", " %") if whole else "0 %"
