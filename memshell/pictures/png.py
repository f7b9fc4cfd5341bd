"""A picture as PNG, drawn by matplotlib: two pixels for a point, so that it is sharp in print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError
from memshell.pictures.canvas import Box, Line, Picture, Shade, Shape

if TYPE_CHECKING:
    from pathlib import Path

DOTS = 200  # pixels of an inch: 72 points are 1 inch here, and SVG has 96
INCH = 100


def write_png(picture: Picture, path: Path) -> None:
    """Write the picture.  Raises `CommandError` where matplotlib is not installed, OSError as `open` does."""
    matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(picture.width / INCH, picture.height / INCH), dpi=DOTS, facecolor=picture.colour("paper"))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.set_axis_off()
    for order, shape in enumerate(picture.shapes):
        _draw(axes, picture, shape, order)
    figure.savefig(path, format="png", facecolor=picture.colour("paper"))


def matplotlib(what: str = "a PNG") -> Any:
    """Return matplotlib, which draws *what*.  Raises `CommandError` that says how to get it."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        other = "a file that ends in .svg needs nothing" if what == "a PNG" else "without out= it is drawn in letters"
        hint = f"pip install 'memshell-mm[plot]'; {other}"
        raise CommandError(f"{what} is drawn by matplotlib, which is not installed", hint=hint) from error
    return mpl


def _draw(axes: Any, picture: Picture, shape: Shape, order: int) -> None:
    from matplotlib.patches import Polygon

    if isinstance(shape, Box):
        _box(axes, picture, shape, order)
    elif isinstance(shape, Line):
        style = "--" if shape.dash else "-"
        ends = {"xy": (shape.x2, shape.y2), "xytext": (shape.x1, shape.y1), "zorder": order}
        arrow = "-|>" if shape.arrow else "-"
        line = {"arrowstyle": arrow, "color": picture.colour(shape.stroke), "linestyle": style, "linewidth": 0.72}
        axes.annotate("", **ends, arrowprops={**line, "shrinkA": 0, "shrinkB": 0})
    elif isinstance(shape, Shade):
        axes.add_patch(Polygon(shape.points, facecolor=picture.colour(shape.fill), linewidth=0, zorder=order))
    else:
        align = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
        weight = "bold" if shape.bold else "normal"
        size = shape.size * 72 / INCH
        font = {"family": "monospace", "size": size, "weight": weight, "color": picture.colour(shape.fill)}
        text = shape.text.replace("$", r"\$")
        axes.text(shape.x, shape.y, text, ha=align, va="baseline", zorder=order, **font)


def _box(axes: Any, picture: Picture, box: Box, order: int) -> None:
    from matplotlib.patches import Rectangle

    place: dict[str, Any] = {"xy": (box.x, box.y), "width": box.width, "height": box.height, "zorder": order}
    fill: dict[str, Any] = {"facecolor": "none" if box.fill is None else picture.colour(box.fill)}
    stroke = "none" if box.stroke is None else picture.colour(box.stroke)
    wide = 1.5 if box.bold else 0.72
    if box.hatch:
        slant: dict[str, Any] = {
            "facecolor": fill["facecolor"],
            "edgecolor": picture.colour("grid"),
            "linewidth": 0,
            "hatch": "/////",
        }
        axes.add_patch(Rectangle(**place, **slant))
        fill = {"facecolor": "none"}
    style = "--" if box.dash else "-"
    frame: dict[str, Any] = {"edgecolor": stroke, "linewidth": wide if box.stroke else 0, "linestyle": style}
    axes.add_patch(Rectangle(**place, **fill, **frame))
