"""The canvas: boxes, lines and words in points, in colours that have names; `svg` and `png` write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

# Okabe and Ito's colours, which people with any colour vision tell apart; their greys differ too.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1a1a1a",
    "muted": "#595959",
    "grid": "#b4b4b4",
    "mark": "#0b62a8",
    "veil": "#ececec",
    "free": "#d8ecd8",
    "in use": "#56b4e9",
    "pinned": "#0072b2",
    "free huge page": "#35a483",
    "kernel": "#e69f00",
    "memmap": "#c8321e",
    "padding": "#f0a79c",
    "reserved": "#9a9a9a",
    "PageOffline": "#f0e442",
    "device": "#cc79a7",
    "bad or lost": "#1f1f1f",
    "offline": "#ffffff",
    "hole": "#ffffff",
}
DARK = {
    "paper": "#15181c",
    "ink": "#ececec",
    "muted": "#a9b0b8",
    "grid": "#59616b",
    "mark": "#6db7f2",
    "veil": "#262b31",
    "free": "#28492f",
    "in use": "#5ab0e6",
    "pinned": "#9fd3f5",
    "free huge page": "#0c8f6d",
    "kernel": "#cf8f00",
    "memmap": "#d9452f",
    "padding": "#8a4037",
    "reserved": "#777d85",
    "PageOffline": "#cfc32c",
    "device": "#bb6a97",
    "bad or lost": "#f5f5f5",
    "offline": "#15181c",
    "hole": "#15181c",
}
THEMES = {"light": LIGHT, "dark": DARK}
GLYPH = 0.602  # how wide a letter is in a monospace font, in its size: DejaVu Sans Mono; none of its kind is wider


class Box(NamedTuple):
    """A rectangle; *dash* is a broken frame, *hatch* fills it with slanting lines, *title* is shown by hovering."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    stroke: str | None = None
    dash: bool = False
    hatch: bool = False
    title: str = ""
    bold: bool = False


class Line(NamedTuple):
    """A straight line; *arrow* is at its end."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str = "ink"
    dash: bool = False
    arrow: bool = False


class Shade(NamedTuple):
    """A pale surface between *points*: from what is small to what it is when it is large."""

    points: tuple[tuple[float, float], ...]
    fill: str = "veil"


class Words(NamedTuple):
    """A line of text; *anchor* says what of it is at x: start, middle or end."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: str = "start"
    fill: str = "ink"
    bold: bool = False

    @property
    def width(self) -> float:
        """How wide it is, in points."""
        return len(self.text) * self.size * GLYPH


Shape = Box | Line | Shade | Words


@dataclass(slots=True)
class Picture:
    """What is drawn, in order, and how large it is; the y axis points down."""

    width: float
    theme: str = "light"
    height: float = 0
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw over what is there; the picture grows downwards where it must."""
        self.shapes += shapes
        for shape in shapes:
            self.height = max(self.height, _bottom(shape) + 12)

    def colour(self, name: str) -> str:
        """Return the colour of a name in this picture's theme."""
        return THEMES[self.theme][name]

    def paste(self, other: Picture, x: float, y: float) -> None:
        """Draw another picture with its corner at (x, y)."""
        self.add(*(_moved(shape, x, y) for shape in other.shapes))
        self.height = max(self.height, y + other.height)


def _bottom(shape: Shape) -> float:
    if isinstance(shape, Box):
        return shape.y + shape.height
    if isinstance(shape, Line):
        return max(shape.y1, shape.y2)
    if isinstance(shape, Shade):
        return max(y for _, y in shape.points)
    return shape.y + shape.size / 3


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Line):
        return shape._replace(x1=shape.x1 + x, x2=shape.x2 + x, y1=shape.y1 + y, y2=shape.y2 + y)
    if isinstance(shape, Shade):
        return shape._replace(points=tuple((a + x, b + y) for a, b in shape.points))
    return shape._replace(x=shape.x + x, y=shape.y + y)


def fitted(text: str, room: float, size: float = 11) -> bool:
    """Return whether *text* fits into *room* points, with a little air."""
    return len(text) * size * GLYPH + 6 <= room


def wrapped(text: str, room: float, size: float = 11) -> list[str]:
    """Return *text* in lines that fit into *room* points."""
    from textwrap import wrap

    return wrap(text, max(int(room / (size * GLYPH)), 8), break_on_hyphens=False)
