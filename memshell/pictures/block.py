"""One memory block to scale, and under it where its struct pages are: block, pageblock, page, struct page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memshell.drivers.base.memory.blocks import block_start
from memshell.mm.pfn import format_size
from memshell.pictures.canvas import Box, Line, Picture, Shade, Words, fitted, wrapped
from memshell.pictures.kinds import filled, human, legend, machine_line, percent, runs
from memshell.pictures.machine import scale
from memshell.views.memory_map import block_zones
from memshell.views.pages import leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.mm.state import Mm

WIDTH, LEFT, BAR = 960, 40, 46
ROOM = WIDTH - 2 * LEFT


class Span(NamedTuple):
    """A bar: pages [first, end), drawn at height *y* over the whole room."""

    first: int
    end: int
    y: float

    def x(self, pfn: float) -> float:
        """Return where a page begins in the bar."""
        return LEFT + (pfn - self.first) / (self.end - self.first) * ROOM


class Backing(NamedTuple):
    """Where a block's struct pages are: *kind* is altmap, buddy or early; [first, end) its first run of pages."""

    kind: str
    first: int
    end: int
    pieces: int
    leaf: int


def backing(mm: Mm, number: int) -> Backing | None:
    """Return where the struct pages of a block are; None where they are not mapped."""
    start = block_start(mm, number)
    low, high = mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(start + mm.block_pages)
    found = leaves(mm, low, high)
    leaf = mm.leaves.get(low)
    if not found or leaf is None:
        return None
    va, count, size, pfn = found[0]
    if pfn is None or va is None or count is None or size is None:
        return Backing("early", 0, 0, len(found), leaf.size)
    skipped = max(low - va, 0) >> mm.arch.page_shift  # of a leaf that other blocks share
    pages = min(count * size - max(low - va, 0), high - low) >> mm.arch.page_shift
    return Backing(leaf.owner, pfn + skipped, pfn + skipped + pages, len(found), leaf.size)


def block(mm: Mm, number: int, theme: str = "light", *, title: str = "") -> Picture:
    """Return the picture of a block."""
    picture = Picture(WIDTH, theme)
    held, start = mm.blocks[number], block_start(mm, number)
    zones = [name for name in block_zones(mm, held) if name != "offline"]
    where = f"node {held.nid}" + (f", zone {' '.join(zones)}" if zones else "")
    head = f"memory{number}: one memory block, {format_size(mm.block_size)}, {held.state}, {where}"
    picture.add(Words(14, 26, title or head, 15, bold=True))
    picture.add(Words(14, 44, f"{head}; {machine_line(mm)}" if title else machine_line(mm), 10, fill="muted"))
    whole = Span(start, start + mm.block_pages, 96)
    _bar(picture, mm, whole, f"memory{number}", _types(mm, whole), dash=held.state != "online")
    _pageblocks(picture, mm, whole)
    found = backing(mm, number)
    y = _backed(picture, mm, number, whole, found) if found is not None and found.kind != "early" else 190
    for line in wrapped(sentence(mm, number, found), WIDTH - 2 * LEFT, 12):
        picture.add(Words(LEFT, y, line, 12))
        y += 18
    legend(picture, {shape.fill for shape in picture.shapes if isinstance(shape, Box) and shape.fill}, LEFT, y + 2)
    return picture


def blocks(panels: Sequence[tuple[str, Mm, int]], theme: str = "light") -> Picture:
    """Return several blocks under one another, each with a name: the same block as several kernels have it."""
    pictures = [block(mm, number, theme, title=name) for name, mm, number in panels]
    whole = Picture(WIDTH, theme)
    y = 0.0
    for picture in pictures:
        if y:
            whole.add(Line(14, y + 4, WIDTH - 14, y + 4, "grid"))
        whole.paste(picture, 0, y + 8 if y else y)
        y = whole.height + 6
    return whole


def _bar(picture: Picture, mm: Mm, span: Span, name: str, more: str = "", *, dash: bool = False) -> None:
    """Draw the pages of *span* to scale, with what they are and its ends; *more* is said of it."""
    picture.add(Words(LEFT, span.y - 8, f"{name}, pfn {span.first:#x}", 10, fill="muted"))
    if more:
        picture.add(Words(LEFT + ROOM / 2, span.y - 8, more, 10, "middle", "muted"))
    end = Words(LEFT + ROOM, span.y - 8, f"to {span.end - 1:#x}", 10, "end", "muted")
    picture.add(end)
    for start, stop, kind in runs(mm, span.first, span.end):
        left, right = span.x(start), span.x(stop)
        picture.add(filled(left, span.y, max(right - left, 1.5), BAR, kind, f"{kind}: pfn {start:#x}-{stop - 1:#x}"))
        text = f"{human(mm, stop - start)} {kind}"
        if fitted(text, right - left):
            _label(picture, (left + right) / 2, span.y + BAR / 2 + 4, text, kind)
    picture.add(Box(LEFT - 1, span.y - 1, ROOM + 2, BAR + 2, None, "ink", dash=dash))


def _types(mm: Mm, span: Span) -> str:
    """Return how many pageblocks there are of each migratetype."""
    counts: dict[str, int] = {}
    for start, end, kind in mm.pageblocks.items(span.first, span.end):
        name = kind.name.capitalize()
        counts[name] = counts.get(name, 0) + -(-(end - start) // mm.arch.pageblock_nr_pages)
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"pageblocks: {parts}" if parts else ""


def _label(picture: Picture, x: float, y: float, text: str, kind: str) -> None:
    """Write over a run, on paper where its own colour would hide the words."""
    words = Words(x, y, text, 11, "middle")
    if kind != "free":
        picture.add(Box(x - words.width / 2 - 4, y - 11, words.width + 8, 15, "paper"))
    picture.add(words)


def _pageblocks(picture: Picture, mm: Mm, span: Span) -> None:
    """Draw a tick for each pageblock, or for a power of two of them, and a scale bar of sixteenths."""
    pages = mm.arch.pageblock_nr_pages
    while (span.end - span.first) // pages > 128:
        pages *= 2
    for pfn in range(span.first, span.end + 1, pages):
        picture.add(Line(span.x(pfn), span.y + BAR + 2, span.x(pfn), span.y + BAR + 7, "muted"))
    part = (span.end - span.first) // 16
    size = human(mm, pages)
    name = f"a tick is {size}, a pageblock" if pages == mm.arch.pageblock_nr_pages else f"a tick is {size}"
    text = f"{human(mm, part)}; {name}"
    width = ROOM / 16
    scale(picture, LEFT + ROOM - width - 8 - (len(text) * 6.1), span.y + BAR + 20, width, text)


def _backed(picture: Picture, mm: Mm, number: int, whole: Span, found: Backing) -> float:
    """Draw the pages that hold the block's struct pages, and one of them in struct pages; return the y below."""
    if found.kind == "altmap":
        second = _near(mm, whole, found)
        left, right = whole.x(second.first), max(whole.x(second.end), whole.x(second.first) + 2)
        top = whole.y + BAR + 1
        picture.add(Shade(((left, top), (right, top), (LEFT + ROOM, second.y - 1), (LEFT, second.y - 1))))
        _bar(picture, mm, second, f"the first {human(mm, second.end - second.first)} of memory{number}, enlarged")
    else:
        second = _elsewhere(picture, mm, whole, found)
    third = second.y + BAR + 64
    left = second.x(found.first)
    right = max(second.x(found.first + 1), left + 1.5)
    top = second.y + BAR + 1
    picture.add(Shade(((left, top), (right, top), (LEFT + ROOM, third - 1), (LEFT, third - 1))))
    _struct_pages(picture, mm, number, found, third)
    return third + BAR + 44


def _near(mm: Mm, whole: Span, found: Backing) -> Span:
    """Return the enlarged beginning of the block: twice what it keeps, in whole pageblocks."""
    kept = max(mm.blocks[whole.first // mm.block_pages].nr_vmemmap_pages, found.end - whole.first)
    pages = max(2 * kept, 1)
    return Span(whole.first, min(whole.first + pages, whole.end), whole.y + BAR + 84)


def _elsewhere(picture: Picture, mm: Mm, whole: Span, found: Backing) -> Span:
    """Draw the block that gave the memmap, with an arrow from the one whose memmap it is."""
    giver = found.first // mm.block_pages
    span = Span(giver * mm.block_pages, (giver + 1) * mm.block_pages, whole.y + BAR + 84)
    _bar(picture, mm, span, f"memory{giver}, which was there before")
    mark = Box(span.x(found.first) - 2, span.y - 4, max(span.x(found.end) - span.x(found.first), 2) + 4, BAR + 8)
    picture.add(mark._replace(stroke="mark", bold=True))
    x = span.x((found.first + found.end) / 2)
    start = min(max(x, LEFT + 20), LEFT + ROOM / 2)
    picture.add(Line(start, whole.y + BAR + 10, x, span.y - 6, "mark", arrow=True))
    text = f"its struct pages: {human(mm, found.end - found.first)} of another block"
    left = start + 10 if x <= start + 1 else start - 10 - len(text) * 6.7
    picture.add(Words(max(left, LEFT), whole.y + BAR + 40, text, 11, fill="mark", bold=True))
    return span


def _struct_pages(picture: Picture, mm: Mm, number: int, found: Backing, y: float) -> None:
    """Draw one page of memmap as the struct pages in it."""
    size, each = mm.arch.page_size, mm.arch.struct_page_size
    count = size // each
    shown = min(count, 64)
    first = block_start(mm, number)
    head = f"one page of it, pfn {found.first:#x}, enlarged: {format_size(size)} = {count} struct pages of {each} bytes"
    picture.add(Words(LEFT, y - 8, head, 10, fill="muted"))
    width = ROOM / shown
    for at in range(shown):
        picture.add(Box(LEFT + at * width, y, width, BAR, "memmap", "paper"))
    picture.add(Box(LEFT - 1, y - 1, ROOM + 2, BAR + 2, None, "ink"))
    last = f"struct page of pfn {first + count - 1:#x}" if shown == count else f"... {count - shown} more of them"
    for x, anchor, text in ((LEFT, "start", f"struct page of pfn {first:#x}"), (LEFT + ROOM, "end", last)):
        picture.add(Words(x, y + BAR + 15, text, 10, anchor))
    middle = f"each says what one page of memory{number} is: free, in use, by whom"
    picture.add(Words(LEFT + ROOM / 2, y + BAR + 15, middle, 10, "middle", "muted"))


def sentence(mm: Mm, number: int, found: Backing | None) -> str:
    """Return in words what the picture shows."""
    held = mm.blocks[number]
    name, whole = f"memory{number}", mm.block_pages
    needed = whole * mm.arch.struct_page_size
    if found is None:
        return f"{name} has no struct pages."
    if found.kind == "early":
        return f"The struct pages of {name} are of boot: {format_size(needed)} of memory that boot took for it."
    takes = f"{whole} struct pages of {mm.arch.struct_page_size} bytes, {format_size(needed)}"
    if found.kind == "altmap":
        kept = held.nr_vmemmap_pages or found.end - found.first
        rest = kept - (-(-needed // mm.arch.page_size))
        unused = f", {human(mm, rest)} of that to fill a pageblock" if rest > 0 else ""
        state = "are free to use" if held.state == "online" else "become free to use when it goes online"
        return (
            f"memmap_on_memory: {name} keeps the first {human(mm, kept)} ({percent(kept, whole)}) for its own memmap"
            f"{unused}: {takes}. The other {human(mm, whole - kept)} {state}. "
            "Adding it took no memory from the machine for struct pages."
        )
    pieces = f" in {found.pieces} pieces" if found.pieces > 1 else ""
    return (
        f"The memmap of {name} is elsewhere: {takes}{pieces}, from pfn {found.first:#x} on, taken from memory that was "
        f"there before. All {format_size(mm.block_size)} of {name} are for use, and adding it cost the machine "
        f"{format_size(needed)} ({percent(needed, mm.block_size)})."
    )
