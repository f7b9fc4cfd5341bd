"""Zones: what each spans, what of that is present, and the holes in it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from memshell.mm.mmzone import ZoneType
from memshell.pictures.canvas import Box, Line, Picture, Words
from memshell.pictures.kinds import human, machine_line

if TYPE_CHECKING:
    from memshell.mm.mmzone import Zone
    from memshell.mm.ranges import RangeMap
    from memshell.mm.state import Mm, ZoneKey

WIDTH, LEFT, HEIGHT, GAP = 960, 130, 26, 40
ROOM = WIDTH - LEFT - 24
LEAST = 44  # points that a piece of the axis has at least


class Axis(NamedTuple):
    """Addresses from left to right in pieces: each as wide as it is large, but *LEAST* at least."""

    edges: tuple[int, ...]
    places: tuple[float, ...]
    exact: bool

    def x(self, pfn: int) -> float:
        """Return where a page is."""
        from bisect import bisect_right

        at = min(max(bisect_right(self.edges, pfn) - 1, 0), len(self.edges) - 2)
        first, end = self.edges[at], self.edges[at + 1]
        share = (pfn - first) / (end - first)
        return self.places[at] + share * (self.places[at + 1] - self.places[at])


def zones(mm: Mm, theme: str = "light") -> Picture:
    """Return the picture of the zones."""
    picture = Picture(WIDTH, theme)
    picture.add(Words(14, 26, "Zones: spans, what is present, and holes", 15, bold=True))
    picture.add(Words(14, 44, machine_line(mm), fill="muted"))
    present = _present(mm)
    shown = [key for key in sorted(mm.zones) if mm.zones[key].spanned]
    edges = {mm.zones[key].start_pfn for key in shown} | {mm.zones[key].end_pfn for key in shown}
    edges |= {edge for key in shown for a, b, _ in present[key].items() for edge in (a, b) if b - a >= mm.block_pages}
    axis = _axis(sorted(edges | {0}))
    y = 96.0
    _ruler(picture, mm, axis, y - 16, y + len(shown) * (HEIGHT + GAP))
    for key in shown:
        _zone(picture, mm, mm.zones[key], present[key], axis, y)
        y += HEIGHT + GAP
    scale = "to scale" if axis.exact else "not to scale: small pieces are drawn wider than they are"
    picture.add(Words(LEFT, y + 2, f"the axis is {scale}; a frame is a span", 10, fill="muted"))
    _legend(picture, y + 14)
    return picture


def _present(mm: Mm) -> dict[ZoneKey, RangeMap[bool]]:
    """Return the pages of each zone, as runs."""
    from memshell.mm.ranges import RangeMap

    found: dict[ZoneKey, RangeMap[bool]] = {key: RangeMap() for key in mm.zones}
    for start, end, page in mm.pages.items():
        found.setdefault((page.nid, page.zone), RangeMap()).set(start, end, value=True)
    return found


def _axis(edges: list[int]) -> Axis:
    """Return the axis with *edges*: those that are nearest to others go where it would be crowded."""
    most = int(ROOM / LEAST) - 1
    while len(edges) > most:
        inner = range(1, len(edges) - 1)
        nearest = min(inner, key=lambda at: min(edges[at] - edges[at - 1], edges[at + 1] - edges[at]))
        edges = [*edges[:nearest], *edges[nearest + 1 :]]
    sizes = [b - a for a, b in pairwise(edges)] or [1]
    total, room = sum(sizes), ROOM - LEAST * len(sizes)
    exact = all(size / total * ROOM >= LEAST for size in sizes)
    widths = [size / total * ROOM if exact else LEAST + size / total * room for size in sizes]
    places = [float(LEFT)]
    for width in widths:
        places.append(places[-1] + width)
    return Axis(tuple(edges) if len(edges) > 1 else (0, 1), tuple(places), exact)


def _ruler(picture: Picture, mm: Mm, axis: Axis, top: float, bottom: float) -> None:
    """Write the addresses of the edges over the zones, in two lines so that they do not meet."""
    ends = [0.0, 0.0]
    for pfn in axis.edges:
        x = axis.x(pfn)
        words = Words(x, top, f"{pfn << mm.arch.page_shift:#x}", 10, "middle", "muted")
        line = 0 if x - words.width / 2 >= ends[0] else 1
        left = max(x - words.width / 2, ends[line] + 3)
        left = min(left, WIDTH - words.width - 4)
        ends[line] = left + words.width + 3
        picture.add(words._replace(x=left, anchor="start", y=top - 12 * line))
        picture.add(Line(x, top + 4, x, bottom - GAP + 6, "grid", dash=True))


def _zone(picture: Picture, mm: Mm, zone: Zone, present: RangeMap[bool], axis: Axis, y: float) -> None:
    picture.add(Words(14, y + 12, f"node {zone.nid}", 11), Words(14, y + 25, zone.type.label, 12, bold=True))
    left, right = axis.x(zone.start_pfn), axis.x(zone.end_pfn)
    picture.add(Box(left, y, right - left, HEIGHT, "paper", hatch=True, title="a hole in the span"))
    for start, end, _ in present.items():
        box = Box(axis.x(start), y, max(axis.x(end) - axis.x(start), 0.6), HEIGHT, "in use")
        picture.add(box._replace(title=f"pfn {start:#x}-{end - 1:#x}"))
    picture.add(Box(left, y - 1, right - left, HEIGHT + 2, None, "ink"))
    text = _counts(mm, zone)
    words = Words(left, y + HEIGHT + 14, text, 10)
    words = words._replace(x=max(min(left, WIDTH - words.width - 12), 14))
    picture.add(Box(words.x - 2, words.y - 10, words.width + 4, 14, "paper"), words)


def _counts(mm: Mm, zone: Zone) -> str:
    """Return what the kernel counts; of a device zone it counts no page as present."""
    if zone.type is ZoneType.DEVICE:
        return f"spanned {human(mm, zone.spanned)}; pages of devices are not counted as present"
    hole = zone.spanned - zone.present
    sizes = [("spanned", zone.spanned), ("present", zone.present), ("managed", zone.managed), ("holes", hole)]
    return ", ".join(f"{name} {human(mm, pages)}" for name, pages in sizes if pages or name != "holes")


def _legend(picture: Picture, y: float) -> None:
    picture.add(Box(LEFT, y, 12, 12, "in use", "muted"), Words(LEFT + 18, y + 10, "pages of the zone"))
    picture.add(Box(LEFT + 166, y, 12, 12, "paper", "muted", hatch=True))
    picture.add(Words(LEFT + 184, y + 10, "hole in the span"))
