"""Pictures and pages as files, for the commands that write them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from memshell.commands.session import outcome
from memshell.errors import CommandError, MemshellError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from memshell.machine import Step
    from memshell.pictures.canvas import Picture
    from memshell.pictures.film import Scene
    from memshell.shell.shell import Player, Shell

MOST_CALLS = 1500  # of a step that are played again: a terabyte makes a million, of which the first say it all
MOST_STEPS = 300  # are played again
MOST_LINES = 6000  # of a page, in all its steps


def filmed(title: str, machines: Mapping[str, Sequence[Step]], shell: Shell) -> str:
    """Return the page of the steps of one machine, or of several side by side, each with a name."""
    from memshell.pictures.film import track
    from memshell.pictures.page import page

    tracks = [track(name, list(_scenes(steps, shell))) for name, steps in machines.items()]
    return page(title, tracks)


def _scenes(steps: Sequence[Step], shell: Shell) -> Iterator[Scene]:
    from memshell.pictures.film import Scene

    player = shell.player.fresh() if len(steps) <= MOST_STEPS else None
    most = max(MOST_LINES // len(steps), 8)
    before: Step | None = None
    for step in steps:
        lines = () if before is None else tuple(_reasons(before, step, player)[:most])
        message = "" if step.error is None else str(step.error)
        yield Scene(step.n, step.command, outcome(step), message, step.mm, lines)
        before = step


def _reasons(before: Step, step: Step, player: Player | None) -> list[str]:
    """Return the lines of the step's call tree; where it was not recorded, the command is played again for it.

    A step that cannot be played again has its events.
    """
    from memshell.machine import Machine
    from memshell.shell.explain import tree_text

    trace = step.trace
    if trace is None and player is not None:
        machine = Machine(before.mm, before.command)
        machine.tracing, machine.trace_limit = True, MOST_CALLS
        player.shell.machine = machine
        with suppress(MemshellError):  # it is told by the step itself
            player.play_text(step.command, "again")
        trace = machine.last_trace
    lines = tree_text(trace).splitlines() if trace is not None else []
    return lines or [f"{event.function}: {event.text}" for event in step.events]


def side_by_side(machines: Mapping[str, Sequence[Step]], out: Path, shell: Shell, *, force: bool) -> str:
    """Write several machines: a page where *out* ends in .html, else a picture of the block that each added last."""
    shell.guard(f"write {out}")
    with told(out):
        if out.suffix.lower() == ".html":
            return write_text(filmed(" beside ".join(machines), machines, shell), out, force=force)
        from memshell.pictures.block import blocks

        last = {name: steps[-1].mm for name, steps in machines.items()}
        return write_picture(blocks([(name, mm, mm.blocks.last()) for name, mm in last.items()]), out, force=force)


@contextmanager
def told(out: Path) -> Iterator[None]:
    """Say what kept *out* from being written.  Raises `CommandError`."""
    try:
        yield
    except FileExistsError as error:
        raise CommandError(f"{out} exists", hint="--force writes over it") from error
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from error


def write_picture(picture: Picture, out: Path, *, force: bool) -> str:
    """Write a picture in the form that the file's ending says; return what was written."""
    ending = out.suffix.lower()
    if ending == ".svg":
        from memshell.pictures.svg import svg

        return write_text(svg(picture), out, force=force)
    if ending != ".png":
        raise UsageError(f"{out}: a picture ends in .svg or .png")
    if out.exists() and not force:
        raise FileExistsError(out)
    from memshell.pictures.png import write_png

    write_png(picture, out)
    return f"{out}: {out.stat().st_size} bytes"


def write_text(text: str, out: Path, *, force: bool) -> str:
    """Write a text; return what was written.  Raises OSError as `open` does."""
    with out.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    return f"{out}: {len(text.encode())} bytes"
