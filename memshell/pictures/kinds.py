"""What the pages of a picture are: runs of one kind, the legend of the kinds, sizes in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.page import Owner
from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Picture, Words

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


def runs(mm: Mm, first: int, end: int) -> list[Run]:
    """Return [first, end) as runs of one kind, holes too.

    A block that is offline shows the memmap that it holds already: its pages are nobody's, but they are in use.
    """
    found: list[Run] = []
    at = first
    for start, stop, page in mm.pages.items(first, end):
        _append(found, _nobodys(mm, at, start))
        if page.owner is Owner.MEMMAP_SELF:
            _append(found, _kept(mm, start, stop))
        else:
            _append(found, [(start, stop, KINDS[page.owner])])
        at = stop
    _append(found, _nobodys(mm, at, end))
    return found


def _append(found: list[Run], more: Iterable[Run]) -> None:
    """Append runs, joined where they are alike."""
    for start, end, kind in more:
        if found and found[-1][1] == start and found[-1][2] == kind:
            found[-1] = (found[-1][0], end, kind)
        elif start < end:
            found.append((start, end, kind))


def _kept(mm: Mm, first: int, end: int) -> Iterator[Run]:
    """Yield what pages that blocks keep for their memmap are: those that it takes, and what is left of them."""
    at = first
    while at < end:
        number = at // mm.block_pages
        stop = min((number + 1) * mm.block_pages, end)
        altmap = mm.blocks[number].altmap
        used = stop if altmap is None else min(max(altmap.base_pfn + altmap.reserve + altmap.alloc, at), stop)
        yield from ((a, b, kind) for a, b, kind in ((at, used, "memmap"), (used, stop, "padding")) if a < b)
        at = stop


def _nobodys(mm: Mm, first: int, end: int) -> Iterator[Run]:
    """Yield the runs of a range that no page of is anybody's."""
    at = first
    while at < end:
        number = at // mm.block_pages
        stop = min((number + 1) * mm.block_pages, end)
        block = mm.blocks.get(number)
        if block is not None and block.state == "offline":
            yield from _offline(mm, number, at, stop)
        else:
            yield at, stop, "hole"
        at = stop


def _offline(mm: Mm, number: int, first: int, end: int) -> Iterator[Run]:
    altmap = mm.blocks[number].altmap
    used = altmap.base_pfn + altmap.reserve if altmap is not None else 0
    stop = used + altmap.alloc if altmap is not None else 0
    used, stop = min(max(used, first), end), min(max(stop, first), end)
    yield from ((a, b, kind) for a, b, kind in ((first, used, "offline"), (used, stop, "memmap")) if a < b)
    if stop < end:
        yield max(first, stop), end, "offline"


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
    """Return the size of *pages*, in the largest unit, with one decimal where it is not whole."""
    size = pages << mm.arch.page_shift
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift:
            return format_size(size) if not size % (1 << shift) else f"{size / (1 << shift):.1f}{unit}"
    return format_size(size)


def machine_line(mm: Mm) -> str:
    """Return what machine it is, in one line."""
    policy = f"policy {mm.policy.name}"
    return f"{mm.arch.name}, blocks of {format_size(mm.block_size)}, kernel {mm.profile.name}, {policy}"


def percent(part: int, whole: int) -> str:
    """Return a share with one decimal, as text."""
    return f"{100 * part / whole:.1f} %".replace(".0 %", " %") if whole else "0 %"
