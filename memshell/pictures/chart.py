"""A chart: some lines over steps or over the values of a parameter, drawn by matplotlib or in letters."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.errors import UsageError
from memshell.mm.pfn import memparse, spoken_size
from memshell.pictures.canvas import THEMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Okabe and Ito's, dark enough for paper, then for black; each line has a mark and a dash of its own too.
LINES = {
    "light": ("#0072b2", "#c8321e", "#007a57", "#a35200", "#8a3b74", "#1a1a1a", "#4b8bb3", "#7a6a00"),
    "dark": ("#6db7f2", "#ff7d66", "#3fd0a0", "#f0b040", "#e39cc8", "#f0f0f0", "#a5d3f2", "#e8dc5a"),
}
MARKS = "os^Dv*Px"
DASHES = ("-", "--", "-.", ":")
LOGARITHMIC = 64  # how many times larger than the smallest the largest value is, for a logarithmic axis


class Line(NamedTuple):
    """A line: its name, and a value for each place of the x axis, None where there is none."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn; *bytes* says that values are sizes of memory, *steps* that they hold until the next place."""

    title: str
    x: str
    y: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]
    bytes: bool = True
    steps: bool = False
    note: str = ""

    @property
    def top(self) -> float:
        """The largest value."""
        return max((value for line in self.lines for value in line.values if value is not None), default=0)

    @property
    def logarithmic(self) -> bool:
        """Whether equal factors are equally far apart: where values differ by large ones."""
        known = [value for line in self.lines for value in line.values if value]
        return not self.steps and bool(known) and max(known) > LOGARITHMIC * min(known)

    def label(self, value: float) -> str:
        """Return a value as the axis has it."""
        return spoken_size(round(value)) if self.bytes else f"{value:g}"


def sizes(places: Sequence[str]) -> list[int] | None:
    """Return the places of an axis as numbers, None where they are words."""
    try:
        return [memparse(place) for place in places]
    except UsageError:
        return None


# --- in letters ---

HEIGHT = 13


def text_chart(chart: Chart, width: int = 80) -> str:
    """Return the chart in letters: each line has one, ``*`` is where several meet."""
    room = max(width - 10, 20)
    grid = [[" "] * room for _ in range(HEIGHT)]
    last = max(len(chart.places) - 1, 1)
    for letter, line in zip("abcdefghijklmnopqrstuvwxyz", chart.lines, strict=False):
        for at, value in enumerate(line.values):
            if value is None:
                continue
            row = grid[HEIGHT - 1 - round(_height(chart, value) * (HEIGHT - 1))]
            first = round(at / last * (room - 1))
            end = round((at + 1) / last * (room - 1)) if chart.steps and at < last else first + 1
            for column in range(first, end):
                row[column] = letter if row[column] in {" ", letter} else "*"
    rows = [f"{_tick(chart, at):>8} |{''.join(row).rstrip()}" for at, row in enumerate(grid)]
    ends = f"{chart.places[0]} ... {chart.places[-1]}" if len(chart.places) > 1 else chart.places[0]
    names = [f"{letter} {line.name}" for letter, line in zip("abcdefghijklmnopqrstuvwxyz", chart.lines, strict=False)]
    scale = ", logarithmic" if chart.logarithmic else ""
    head = f"{chart.title}: {chart.y}{' in bytes' if chart.bytes else ''}{scale}"
    foot = [f"{'':>8} +{'-' * room}", f"{'':>10}{chart.x}: {ends}", *(f"{'':>10}{name}" for name in names)]
    return "\n".join([head, *rows, *foot, *([chart.note] if chart.note else [])]) + "\n"


def _height(chart: Chart, value: float) -> float:
    """Return how high a value is, from 0 to 1."""
    if not chart.logarithmic:
        return value / chart.top if chart.top else 0
    low = _lowest(chart)
    return (log2(value) - low) / (log2(chart.top) - low) if value else 0


def _lowest(chart: Chart) -> float:
    return min(log2(value) for line in chart.lines for value in line.values if value)


def _tick(chart: Chart, row: int) -> str:
    """Return what stands beside a row: at the top, in the middle, at the bottom."""
    if row not in {0, HEIGHT // 2, HEIGHT - 1}:
        return ""
    share = (HEIGHT - 1 - row) / (HEIGHT - 1)
    if not chart.logarithmic:
        return chart.label(chart.top * share)
    low = _lowest(chart)
    return chart.label(2 ** (low + share * (log2(chart.top) - low)))


# --- by matplotlib ---


def write_chart(chart: Chart, path: Path, theme: str = "light") -> None:
    """Write the chart as PNG or SVG, as the ending says.  Raises `CommandError` without matplotlib."""
    from memshell.pictures.png import matplotlib

    mpl = matplotlib("a chart")
    from matplotlib.figure import Figure

    palette = THEMES[theme]
    style = {"svg.fonttype": "none", "svg.hashsalt": "memshell", "font.size": 11, "text.parse_math": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.6, 4.6), dpi=200, facecolor=palette["paper"], layout="constrained")
        axes = figure.add_subplot(facecolor=palette["paper"])
        places = _draw_lines(axes, chart, theme)
        _draw_axes(axes, chart, places, palette)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, format=path.suffix[1:].lower(), facecolor=palette["paper"], metadata=metadata)


def _draw_lines(axes: Any, chart: Chart, theme: str) -> list[int]:
    """Draw the lines; return where the places of the x axis are."""
    known = None if chart.steps else sizes(chart.places)
    places = known if known is not None else list(range(len(chart.places)))
    drawing = "steps-post" if chart.steps else "default"
    for at, line in enumerate(chart.lines):
        points = [(x, value) for x, value in zip(places, line.values, strict=True) if value is not None]
        look: dict[str, Any] = {
            "color": LINES[theme][at % 8],
            "marker": MARKS[at % 8],
            "linestyle": DASHES[at // 2 % 4],
        }
        look |= {"markerfacecolor": "none"} if at % 2 else {}  # what lies under it is seen
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            drawstyle=drawing,
            label=line.name,
            markersize=5 + 2 * (at % 2),
            **look,
        )
    if known is not None and min(known) > 0 and max(known) > LOGARITHMIC / 4 * min(known):
        axes.set_xscale("log", base=2)
    return places


def _draw_axes(axes: Any, chart: Chart, places: list[int], palette: dict[str, str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    if chart.logarithmic:
        axes.set_yscale("log", base=2)
    else:
        axes.set_ylim(0, chart.top * 1.08 or 1)
        every = 2 ** max(ceil(log2(chart.top / 6)), 0) if chart.bytes and chart.top else 1
        ticks = [at * every for at in range(int(chart.top // every) + 1)]
        axes.yaxis.set_major_locator(FixedLocator(ticks) if chart.bytes else MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: chart.label(value)))
    thin = range(0, len(places), max(-(-len(places) // 12), 1))
    axes.set_xticks([places[at] for at in thin], [chart.places[at] for at in thin], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(chart.x, color=palette["ink"])
    axes.set_ylabel(chart.y + (" [bytes]" if chart.bytes else ""), color=palette["ink"])
    axes.set_title(chart.title, color=palette["ink"], loc="left", fontweight="bold", fontsize=12)
    axes.grid(visible=True, color=palette["grid"], linewidth=0.5, alpha=0.6)
    axes.tick_params(colors=palette["ink"], which="both")
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(palette["muted"])
    if len(chart.lines) > 1:
        columns = 1 if max(len(line.name) for line in chart.lines) > 40 else 2
        axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=palette["ink"])
