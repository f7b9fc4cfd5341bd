"""The steps as a strip: time goes down, memory lies across, what changed is marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memshell.pictures.canvas import Box, Line, Picture, Words
from memshell.pictures.kinds import filled, human, legend, machine_line, places, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.mm.state import Mm

WIDTH, LEFT, HEIGHT, GAP, TOP = 960, 14, 20, 34, 84
RIGHT = 150
ROOM = WIDTH - LEFT - RIGHT - 14
MOST = 40
PIECES = 160  # of the axis: what is smaller is drawn as what most of it is


class Shown(NamedTuple):
    """A step as it is drawn: its number, its command, how it ended (ok, or an errno), the state after it."""

    n: int
    command: str
    outcome: str
    mm: Mm


def steps(shown: Sequence[Shown], theme: str = "light") -> Picture:
    """Return the strip of the steps."""
    picture = Picture(WIDTH, theme)
    last = shown[-1].mm
    picture.add(Words(LEFT, 26, "Step by step", 15, bold=True), Words(LEFT, 44, machine_line(last), fill="muted"))
    stretches = _stretches([step.mm for step in shown])
    _ruler(picture, last, stretches)
    kinds: set[str] = set()
    y, before = float(TOP), None
    for step in shown[:MOST]:
        kinds |= _step(picture, step, before, stretches, y)
        before = step.mm
        y += HEIGHT + GAP
    if len(shown) > MOST:
        picture.add(Words(LEFT, y, f"and {len(shown) - MOST} more steps"))
        y += 20
    y = legend(picture, kinds - {"hole"}, LEFT, y)
    picture.add(Box(LEFT, y + 5, 12, 3, "mark"), Words(LEFT + 18, y + 10, "changed by the step"))
    return picture


def _stretches(states: Sequence[Mm]) -> list[tuple[int, int, float, float]]:
    """Return [first, end) in pages where any state has blocks, with their places; what lies between is left out."""
    ids = sorted({number for mm in states for number in places(mm)})
    pages = states[0].block_pages
    found: list[list[int]] = []
    for number in ids:
        if found and found[-1][1] == number * pages:
            found[-1][1] += pages
        else:
            found.append([number * pages, (number + 1) * pages])
    room = ROOM - 10 * (len(found) - 1)
    total = sum(end - start for start, end in found)
    found_at, x = [], float(LEFT)
    for start, end in found:
        width = (end - start) / total * room
        found_at.append((start, end, x, width))
        x += width + 10
    return found_at


def _ruler(picture: Picture, mm: Mm, stretches: list[tuple[int, int, float, float]]) -> None:
    edge = 0.0
    for start, _, x, _ in stretches:
        words = Words(x, TOP - 22, f"{start << mm.arch.page_shift:#x}", 10, fill="muted")
        if x >= edge:
            picture.add(words)
            edge = x + words.width + 8
        picture.add(Line(x, TOP - 18, x, TOP - 12, "muted"))
    picture.add(Words(WIDTH - RIGHT, TOP - 22, "free / memmap added", 10, fill="muted"))


def _step(
    picture: Picture, step: Shown, before: Mm | None, stretches: list[tuple[int, int, float, float]], y: float
) -> set[str]:
    """Draw one step: its command over its bar, what is free behind it."""
    failed = step.outcome != "ok"
    text = f"{step.n}  {step.command}"
    most = int(ROOM / 6.7)
    text = text if len(text) <= most - 10 else text[: most - 11] + "…"
    picture.add(Words(LEFT, y - 5, text + (f"  -> {step.outcome}" if failed else ""), 11, bold=failed))
    kinds: set[str] = set()
    for start, end, x, width in stretches:
        for left, right, kind in _drawn(step.mm, start, end, width):
            kinds.add(kind)
            picture.add(filled(x + left, y, right - left, HEIGHT, kind))
        if before is not None:
            _changes(picture, before, step.mm, (start, end, x, width), y)
        picture.add(Box(x - 0.5, y - 0.5, width + 1, HEIGHT + 1, None, "grid"))
    free = sum(zone.free for zone in step.mm.zones.values())
    added = sum(
        b - a for a, b, leaf in step.mm.leaves.items() if leaf.owner != "early" and a >= step.mm.arch.vmemmap_base
    )
    numbers = f"{human(step.mm, free)} / {human(step.mm, added >> step.mm.arch.page_shift)}"
    picture.add(Words(WIDTH - RIGHT, y + 14, numbers, 11))
    return kinds


def _drawn(mm: Mm, start: int, end: int, width: float) -> list[tuple[float, float, str]]:
    """Return the runs of a stretch as they are drawn, nothing narrower than a point; memmap is never left out."""
    found: list[tuple[float, float, str]] = []
    for a, b, kind in runs(mm, start, end):
        left, right = ((edge - start) / (end - start) * width for edge in (a, b))
        if found and (right - left < 0.8 and kind != "memmap"):
            found[-1] = (found[-1][0], right, found[-1][2])
        elif found and left < found[-1][1]:
            if right > found[-1][1]:
                found.append((found[-1][1], right, kind))
        else:
            found.append((left, max(right, left + 1), kind))
    return [(left, min(right, width), kind) for left, right, kind in found if left < width]


def _changes(picture: Picture, before: Mm, after: Mm, stretch: tuple[int, int, float, float], y: float) -> None:
    """Mark the blocks that this step changed with a line under the bar."""
    start, end, x, width = stretch
    pages = after.block_pages
    marked: list[list[int]] = []
    for number in range(start // pages, end // pages):
        if before.blocks.get(number) is not after.blocks.get(number) and before.blocks.get(number) != after.blocks.get(
            number
        ):
            if marked and marked[-1][1] == number:
                marked[-1][1] += 1
            else:
                marked.append([number, number + 1])
    for first, last in marked:
        left, right = ((edge * pages - start) / (end - start) * width for edge in (first, last))
        picture.add(Box(x + left, y + HEIGHT + 2, max(right - left, 1), 3, "mark"))
