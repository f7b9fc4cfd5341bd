"""The command ``sweep``: a scenario for each combination of its parameters, a row a cell."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import COUNT, FILE, SCENARIO, TEXT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from memshell.shell.shell import Cells, Shell
    from memshell.sweep.keep import Kept
    from memshell.sweep.pools import Played, Task

AXIS = ArgType("NAME=VALUES", lambda word, _shell: word)
SHOWN = "usable,memmap,errno"
SECONDS = 60


@command(
    "what if",
    arg("scenario", SCENARIO, "a scenario with parameters: let NAME ?= DEFAULT"),
    arg("-D", AXIS, "an axis: size=1G,4G,..,1T is 1G 4G 16G 64G 256G 1T; once for each", nargs="+"),
    arg("show=", TEXT, f"the columns: names of expressions, and errno; {SHOWN} without it", default=SHOWN),
    arg("out=", FILE, "a table: .csv, .md, .json, .parquet, .sqlite or .txt"),
    arg("jobs=", COUNT, "processes; all cores without it"),
    arg("on=", TEXT, "a dask cluster: tcp://HOST:8786, or local"),
    arg("limit=", COUNT, "the seconds that a cell may take", default=SECONDS),
    arg("--resume", None, "go on with a sweep that was interrupted"),
    arg("--force", None, "write over what is there"),
    needs_machine=False,
    examples="""
> sweep tutorial/sizes -D size=64G,256G,..,1T -D policy=buddy,memmap_on_memory jobs=1
SIZE POLICY            USABLE MEMMAP ERRNO  OUTCOME
64G  buddy              67.8G   1.1G        ok
64G  memmap_on_memory   66.8G   1.1G        ok
256G buddy               3.8G   3.8G ENOMEM ENOMEM
256G memmap_on_memory  255.8G   4.1G        ok
1T   buddy               3.8G   3.8G ENOMEM ENOMEM
1T   memmap_on_memory 1011.8G  16.1G        ok
6 cells: 4 ok, 2 ENOMEM
> sweep tutorial/sizes -D arch=x86_64,powerpc show=usable,added.largest,blocks.total out=sizes.csv jobs=1
sizes.csv: 2 cells: 2 ok
""",
)
def sweep(shell: Shell, args: Namespace) -> Result | str:
    """Play a scenario with each combination of values of its parameters: a row a cell, failures too.

    What a column shows is what `expect` and `print` know: usable, memmap, added.wasted, zone.Movable.free, blocks.online;
    errno is that of the command that ended the cell. OUTCOME is ok, that errno, refused (typed wrong, or no such thing on
    this kernel), failed (an expectation), hung, or crashed where the process that played it died; why stands in files.
    Sizes are in bytes in files and in JSON. The axes of a `# matrix:` in the scenario's head are played too.

    Cells run on all cores; with on= on a dask cluster, whose workers have memshell installed. Ctrl-C keeps what is done:
    with out= in FILE.part, where --resume goes on. A scenario without `use` begins with the session's machine.
    """
    from memshell.paths import find_scenario
    from memshell.sweep.axes import axes_of, cells
    from memshell.sweep.keep import Kept, check_ending, write_rows
    from memshell.sweep.pools import Task

    made = shell.player.cells(find_scenario(args.scenario))
    axes = made.axes(axes_of(args.D or []))
    show = tuple(dict.fromkeys(wish.strip() for wish in args.show.split(",") if wish.strip()))
    made.check(show)
    out = None if args.out is None else Path(args.out)
    if out is not None:
        shell.guard(f"sweep {args.scenario} out={out}")
        check_ending(out)
    tasks = [Task(at, values, show, args.limit) for at, values in enumerate(cells(axes))]
    kept = Kept(out, [made.before + made.text, axes, show], resume=args.resume, force=args.force)
    try:
        _play(shell, made, [task for task in tasks if task.number not in kept.rows], kept, args)
    except KeyboardInterrupt:
        _interrupted(shell, kept, len(tasks), axes)
        raise
    if out is None:
        return replace(_table(kept.in_order(), axes), header=_header(shell, made))
    write_rows(kept.in_order(), out)
    kept.done()
    return f"{out}: {_tally(kept.in_order())}"


def _header(shell: Shell, made: Cells) -> str:
    """Name the machine that each cell begins with, where it is the session's."""
    if not made.before:
        return ""
    from memshell.commands.machine import describe

    return f"from {describe(shell.need_machine().mm)}, as this session has it"


def _play(shell: Shell, made: Cells, tasks: list[Task], kept: Kept, args: Namespace) -> None:
    with _progress(shell, len(tasks)) as step:
        for number, row in _rows(made, tasks, args):
            if kept.add(number, row):
                step()


def _rows(made: Cells, tasks: Sequence[Task], args: Namespace) -> Iterator[Played]:
    """Play the cells where the arguments say."""
    from memshell.sweep.pools import here, in_processes, on_dask

    jobs = args.jobs or os.cpu_count() or 1
    if args.on is not None:
        if not made.travels:
            raise UsageError("on= needs plugins that can be loaded elsewhere")
        return on_dask(made, tasks, args.on, jobs)
    if jobs > 1 and made.travels and len(tasks) > 1:
        return in_processes(made, tasks, jobs)
    return here(made, tasks)


@contextmanager
def _progress(shell: Shell, total: int) -> Iterator[Callable[[], object]]:
    """Show how many cells are done and how long the rest may take, where somebody looks."""
    if not sys.stderr.isatty() or total < 2:
        done = iter(range(total + 1))

        def count() -> None:
            shell.running.progress = (next(done) + 1, total)

        yield count
        shell.running.progress = None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    with shell.player.hand_over(), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweep", total=total)
        yield lambda: bar.advance(task)


def _interrupted(shell: Shell, kept: Kept, total: int, axes: dict[str, list[str]]) -> None:
    """Show what is done, and say how to go on."""
    if kept.part is not None:
        shell.note(f"{len(kept.rows)} of {total} cells are done, in {kept.part}: --resume goes on")
        return
    from memshell.result import render

    shell.write(render(_table(kept.in_order(), axes), shell.output.form, width=shell.output.width))
    shell.note(f"{len(kept.rows)} of {total} cells are done; with out=FILE they can be gone on with")


def _table(rows: list[dict[str, Any]], axes: dict[str, list[str]]) -> Result:
    """Return the rows as a table: sizes as people read them, in JSON as they are."""
    shown = [{name: _size(name, value, axes) for name, value in row.items()} for row in rows]
    names = list(rows[0]) if rows else []
    columns = tuple(
        Column(name.upper(), key=name, right=_is_number(rows, name), default=name != "why") for name in names
    )
    return Result(rows=shown, columns=columns, data=rows, footer=_tally(rows))


def _size(name: str, value: Any, axes: dict[str, list[str]]) -> Any:
    from memshell.views.lsmem import human

    return human(value) if name not in axes and isinstance(value, int) and value >= 1 << 20 else value


def _is_number(rows: list[dict[str, Any]], name: str) -> bool:
    return any(isinstance(row.get(name), (int, float)) for row in rows)


def _tally(rows: list[dict[str, Any]]) -> str:
    from collections import Counter

    counts = Counter(row["outcome"] for row in rows)
    return f"{len(rows)} cells: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
