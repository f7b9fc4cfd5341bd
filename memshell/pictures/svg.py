"""A picture as SVG: one file that says all it needs, colours as attributes, so that every program draws it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from memshell.pictures.canvas import Box, Line, Picture, Shade, Shape, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

FONT = 'font-family="DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"'


def svg(picture: Picture) -> str:
    """Return the picture as an SVG document."""
    width, height = _number(picture.width), _number(picture.height)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT}>',
        *_patterns(picture),
        f'<rect width="{width}" height="{height}" fill="{picture.colour("paper")}"/>',
        *(_drawn(picture, shape) for shape in picture.shapes),
    ]
    return "\n".join([*lines, "</svg>", ""])


def _patterns(picture: Picture) -> Iterator[str]:
    """Yield what hatched boxes and arrows refer to, where there are any."""
    grid = picture.colour("grid")
    if any(isinstance(shape, Box) and shape.hatch for shape in picture.shapes):
        yield (
            '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><path d="M0 0V6" stroke="{grid}" stroke-width="1.6"/></pattern></defs>'
        )
    for name in sorted({shape.stroke for shape in picture.shapes if isinstance(shape, Line) and shape.arrow}):
        yield (
            f'<defs><marker id="arrow-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{picture.colour(name)}"/></marker></defs>'
        )


def _drawn(picture: Picture, shape: Shape) -> str:
    if isinstance(shape, Box):
        return _box(picture, shape)
    if isinstance(shape, Line):
        ends = " ".join(f'{name}="{_number(getattr(shape, name))}"' for name in ("x1", "y1", "x2", "y2"))
        dash = ' stroke-dasharray="4 3"' if shape.dash else ""
        arrow = f' marker-end="url(#arrow-{shape.stroke})"' if shape.arrow else ""
        return f'<line {ends} stroke="{picture.colour(shape.stroke)}"{dash}{arrow}/>'
    if isinstance(shape, Shade):
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.points)
        return f'<polygon points="{points}" fill="{picture.colour(shape.fill)}"/>'
    return _words(picture, shape)


def _box(picture: Picture, box: Box) -> str:
    place = " ".join(f'{name}="{_number(getattr(box, name))}"' for name in ("x", "y", "width", "height"))
    fill = "none" if box.fill is None else picture.colour(box.fill)
    stroke = "" if box.stroke is None else f' stroke="{picture.colour(box.stroke)}"'
    stroke += ' stroke-width="2"' if box.bold else ""
    stroke += ' stroke-dasharray="4 3"' if box.dash else ""
    over = f'\n<rect {place} fill="url(#hatch)"/>' if box.hatch else ""
    if box.title:
        fill += "" if box.fill else '" pointer-events="all'
        return f'<rect {place} fill="{fill}"{stroke}><title>{escape(box.title)}</title></rect>{over}'
    return f'<rect {place} fill="{fill}"{stroke}/>{over}'


def _words(picture: Picture, words: Words) -> str:
    anchor = "" if words.anchor == "start" else f" text-anchor={quoteattr(words.anchor)}"
    weight = ' font-weight="bold"' if words.bold else ""
    place = f'x="{_number(words.x)}" y="{_number(words.y)}" font-size="{_number(words.size)}"'
    return f'<text {place}{anchor}{weight} fill="{picture.colour(words.fill)}">{escape(words.text)}</text>'


def _number(value: float) -> str:
    """Return a length with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
