"""The command ``plot``: the steps of a session, or the table of a sweep, as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.commands.export import THEMES
from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import FILE, TEXT, choice

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from memshell.machine import Machine
    from memshell.mm.state import Mm
    from memshell.pictures.chart import Chart
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

SUBJECTS = {
    "free": "what is free and what is managed, over the steps",
    "memmap": "where memmap is: of boot, from existing memory, in the blocks themselves",
    "zones": "what is present in each zone",
    "blocks": "how many memory blocks are online and offline",
}

TITLES = {
    "free": ("Managed and free memory", "size"),
    "memmap": ("Where the struct pages are", "size of the memmap"),
    "zones": ("What is present in each zone", "size"),
    "blocks": ("Memory blocks", "number of blocks"),
}


def _subject(word: str, _shell: Shell) -> str:
    if word not in SUBJECTS and not Path(word).suffix:
        hint = did_you_mean(word, SUBJECTS) or f"one of {', '.join(SUBJECTS)}, or a table that sweep wrote"
        raise UsageError(f"{word!r} is nothing to plot", hint=hint)
    return word


def _subjects(shell: Shell, prefix: str) -> Suggestions:
    yield from SUBJECTS.items()
    yield from FILE.complete(shell, prefix)


@command(
    "look",
    arg(
        "what",
        ArgType("WHAT", _subject, _subjects),
        "free, memmap, zones or blocks; or a table: .csv, .json",
        nargs="?",
    ),
    arg("x=", TEXT, "the column of the table that is the x axis; the first without it"),
    arg("y=", TEXT, "the columns that are drawn; the first that is measured without it"),
    arg("by=", TEXT, "the columns that make the lines; what else varies without it"),
    arg("out=", FILE, "a picture, .png or .svg; in letters without it"),
    arg("theme=", choice("theme", THEMES), "the colours of a picture", default="light"),
    arg("--force", None, "write over what is there"),
    needs_machine=False,
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
<...>
> online all movable
<...>
> plot blocks
Memory blocks: number of blocks
      24 |                                                                                         a
         |
         |
         |
         |aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
         |
      12 |
         |
         |                                            bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
         |
         |
         |
       0 |bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb                                             b
         +------------------------------------------------------------------------------------------
          step: 0 ... 2
          a online
          b offline
""",
)
def plot(shell: Shell, args: Namespace) -> str:
    """Draw a chart of the session's steps, or of a table that sweep wrote.

    Without out= it is drawn in letters, as wide as the terminal; a .png or .svg is drawn by matplotlib
    (memshell-mm[plot]). Of a table, cells that failed are left out, and the note under the chart says how many.
    """
    subject = args.what or "free"
    if subject in SUBJECTS:
        if args.x or args.y or args.by:
            raise UsageError("x=, y= and by= are for a table that sweep wrote", hint="plot FILE.csv y=usable")
        chart = of_steps(shell.need_machine(), subject)
    else:
        chart = of_table(_rows(Path(subject)), subject, args)
    if args.out is None:
        from memshell.pictures.chart import text_chart

        return text_chart(chart, shell.output.width or 80)
    return _write(shell, chart, Path(args.out), args)


def _write(shell: Shell, chart: Chart, out: Path, args: Namespace) -> str:
    from memshell.commands.drawing import told
    from memshell.pictures.chart import write_chart

    shell.guard(f"plot {out}")
    if out.suffix.lower() not in {".png", ".svg"}:
        raise UsageError(f"{out}: a picture ends in .svg or .png")
    with told(out):
        if out.exists() and not args.force:
            raise FileExistsError(out)
        write_chart(chart, out, args.theme)
        return f"{out}: {out.stat().st_size} bytes" + (f"\n{chart.note}" if chart.note else "")


# --- steps ---


def of_steps(machine: Machine, subject: str) -> Chart:
    """Return the chart of a machine's steps; *subject* is one of `SUBJECTS`."""
    from memshell.pictures.chart import Chart, Line

    found = [_values(step.mm, subject) for step in machine.steps]
    names = list(dict.fromkeys(name for values in found for name in values))
    lines = tuple(Line(name, tuple(values.get(name, 0) for values in found)) for name in names)
    title, what = TITLES[subject]
    steps = tuple(str(step.n) for step in machine.steps)
    return Chart(title, "step", what, steps, lines, bytes=subject != "blocks", steps=True)


def _values(mm: Mm, subject: str) -> dict[str, float]:
    page = mm.arch.page_size
    if subject == "free":
        zones = mm.zones.values()
        return {"managed": mm.totalram_pages * page, "free": sum(zone.free for zone in zones) * page}
    if subject == "zones":
        zones = mm.zones.values()
        return {f"node {zone.nid} {zone.type.label}": zone.present * page for zone in zones if zone.present}
    if subject == "blocks":
        states = [block.state for block in mm.blocks.values()]
        return {state: states.count(state) for state in ("online", "offline")}
    from memshell.experiment.compare import memmap_bytes

    names = {"early": "of boot", "buddy": "from existing memory", "altmap": "in the blocks themselves"}
    return {text: memmap_bytes(mm, owner) for owner, text in names.items()}


# --- a table ---


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table that sweep wrote.  Raises `CommandError` for one that cannot be read."""
    import csv
    import json

    try:
        if path.suffix.lower() == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                found = [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]
        else:
            raise UsageError(f"{path}: a table to plot ends in .csv or .json")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"{path} is no table: {error}") from error
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise CommandError(f"{path} has no rows", hint="memshell sweep SCENARIO -D NAME=A,B out=FILE.csv writes one")
    return found


def _number(text: str | None) -> Any:
    try:
        return float(text) if text and "." in text else int(text or "")
    except ValueError:
        return text


ENDS = ("errno", "outcome", "why")
MOST_LINES = 16


def of_table(rows: Sequence[dict[str, Any]], name: str, args: Namespace) -> Chart:
    """Return the chart of a sweep.  Raises `UsageError` for a column that is not there, or holds no numbers."""
    from memshell.pictures.chart import Chart, Line, sizes

    good = [row for row in rows if row.get("outcome", "ok") == "ok"]
    columns = list(rows[0])
    x = _columns(args.x, columns, columns[:1])[0]
    first = next((one for one in columns if one != x and _measured(good, one)), "")
    y = _columns(args.y, columns, [first])
    if not good or not all(column and _measured(good, column) for column in y):
        raise UsageError(f"{name}: {', '.join(filter(None, y)) or 'no column'} holds nothing measured", hint="y=COLUMN")
    by = _columns(args.by, columns, [c for c in columns[: columns.index(first)] if c != x and _varies(good, c)])
    places = list(dict.fromkeys(str(row[x]) for row in good))
    known = sizes(places)
    places = [place for _, place in sorted(zip(known, places, strict=True))] if known is not None else places
    series: dict[str, dict[str, float]] = {}
    for row in good:
        for column in y:
            words = [str(row[c]) for c in by] + ([column] if len(y) > 1 or not by else [])
            line = series.setdefault(", ".join(words), {})
            if line.setdefault(str(row[x]), row[column]) != row[column]:
                raise UsageError(f"several cells of one line have {x}={row[x]}", hint="by= names what they differ in")
    if len(series) > MOST_LINES:
        raise UsageError(f"{len(series)} lines are too many for a chart", hint=f"{MOST_LINES} at most: choose with by=")
    lines = tuple(Line(key, tuple(values.get(place) for place in places)) for key, values in series.items())
    in_bytes = all(row[column] == 0 or abs(row[column]) >= 1 << 12 for row in good for column in y if row[column])
    left = len(rows) - len(good)
    note = f"{left} of {len(rows)} cells failed and are left out" if left else ""
    return Chart(f"{', '.join(y)} by {x}", x, ", ".join(y), tuple(places), lines, bytes=in_bytes, note=note)


def _columns(wish: str | None, known: Sequence[str], otherwise: list[str]) -> list[str]:
    names = otherwise if wish is None else [name.strip() for name in wish.split(",") if name.strip()]
    for name in names:
        if name and name not in known:
            raise UsageError(
                f"there is no column {name!r}", hint=did_you_mean(name, known) or f"there are {', '.join(known)}"
            )
    return names


def _measured(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a column holds numbers and is no axis of words or sizes."""
    values = [row.get(name) for row in rows if row.get(name) not in (None, "")]
    return name not in ENDS and bool(values) and all(isinstance(value, (int, float)) for value in values)


def _varies(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return name not in ENDS and len({row.get(name) for row in rows}) > 1
