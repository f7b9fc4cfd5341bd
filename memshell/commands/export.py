"""The command ``export``: the machine for other tools and for documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.commands.drawing import filmed, told, write_picture, write_text
from memshell.commands.session import outcome
from memshell.errors import CommandError, PluginError, UsageError
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import BLOCKS, FILE, INT, block_ids, choice, named

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.machine import Machine, Step
    from memshell.mm.state import Mm
    from memshell.pictures.canvas import Picture
    from memshell.shell.shell import Shell

KINDS = {
    "sysroot": "a tree of /sys and /proc, for lsmem --sysroot and other tools",
    "svg": "a picture; a file that ends in .png is one of pixels",
    "html": "a page with a slider over the steps, the map, the zones, and why each page is what it is",
    "json": "the state as one JSON document",
}
PICTURES = {
    "machine": "every memory block, and in it what its pages are",
    "block": "a block, and where its struct pages are: block, pageblock, page, struct page",
    "sections": "the sections of blocks and their subsections",
    "zones": "what each zone spans, and the holes in it",
    "tables": "the page tables that map the memmap of blocks",
    "change": "two steps side by side",
    "steps": "all steps as a strip",
}
MOST_BLOCKS = 8  # in one picture
THEMES = {"light": "dark on white, for paper", "dark": "light on black"}


def _kinds(shell: Shell) -> dict[str, str]:
    return {**KINDS, **{name: one.text for name, one in shell.plugins.formats().items() if name not in KINDS}}


KIND = named("kind", _kinds)

LISTED = ArgType("BLOCKS", lambda word, shell: block_ids(word.split(","), shell), BLOCKS.complete)


@command(
    "session",
    arg("kind", KIND, "what to write: sysroot, svg, html, json, or what a plugin can"),
    arg("out", FILE, "the file, or the folder of the tree"),
    arg("show=", choice("picture", PICTURES), "what a picture shows", default="machine"),
    arg("blocks=", LISTED, "the blocks of a picture of blocks, sections or tables: 32,34-37; the last one without it"),
    arg("step=", INT, "the state after this step, for a picture; the present one without it"),
    arg("since=", INT, "the other step of show=change; the one before without it"),
    arg("theme=", choice("theme", THEMES), "the colours of a picture", default="light"),
    arg("--force", None, "write over what is there"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> export sysroot guest
guest: 130 files
> !cat guest/sys/devices/system/memory/memory3/state
online
> export svg guest.svg
guest.svg: <...> bytes
> add 256M
256M at <...>
memmap <...>
> online last movable
memory33 <...>
> export svg block.svg show=block blocks=33 theme=dark
block.svg: <...> bytes
> export svg change.svg show=change
change.svg: <...> bytes
> export svg block.jpg show=block
block.jpg: a picture ends in .svg or .png
""",
)
def export(shell: Shell, args: Namespace) -> str:
    """Write the machine for other tools and for documents."""
    machine, out = shell.need_machine(), Path(args.out)
    _check_name(args.kind, out)
    shell.guard(f"export {args.out}")
    with told(out):
        if args.kind == "sysroot":
            return _tree(machine.mm, out, force=args.force)
        if args.kind == "svg":
            return write_picture(draw(machine, args), out, force=args.force)
        if args.kind == "json":
            return write_text(_json(machine.mm), out, force=args.force)
        if args.kind in shell.plugins.formats():
            return write_text(_own(shell, args.kind, machine.mm), out, force=args.force)
        page = filmed(machine.steps[0].command, {machine.mm.policy.name: machine.steps}, shell)
        return write_text(page, out, force=args.force)


ENDINGS = {".svg": "svg", ".png": "svg", ".html": "html", ".htm": "html", ".json": "json"}


def _check_name(kind: str, out: Path) -> None:
    """Raise `UsageError` where the name of the file says that it is of another kind."""
    other = ENDINGS.get(out.suffix.lower(), kind)
    if kind in ENDINGS.values() and other != kind:
        endings = " or ".join(ending for ending, one in ENDINGS.items() if one == kind)
        raise UsageError(f"{out} is no name for {kind}: it ends in {endings}", hint=f"export {other} {out}")


def _own(shell: Shell, kind: str, mm: Mm) -> str:
    from memshell.plugins_guard import isolated

    text: object = shell.plugins.formats()[kind].write(isolated(mm))
    if not isinstance(text, str):
        raise PluginError(f"the format {kind} wrote {type(text).__name__}, no text")
    return text


def _tree(mm: Mm, out: Path, *, force: bool) -> str:
    """Write the tree; with *force* into a folder that exists, in which nothing else is touched."""
    from memshell.views.sysroot import files, links

    if out.exists() and (any(out.iterdir()) if out.is_dir() else True) and not force:
        raise FileExistsError(out)
    count = 0
    for path, data in files(mm):
        target = out / path
        _refuse_links(out, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        count += 1
    for path, to in links(mm):
        link = out / path
        _refuse_links(out, link.parent)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(to)
    return f"{out}: {count} files"


def draw(machine: Machine, args: Namespace) -> Picture:
    """Return the picture that the arguments ask for.  Raises `UsageError` for a step or blocks that cannot be."""
    step = _step(machine, args.step, machine.step.n)
    mm, theme = step.mm, args.theme
    if args.show in {"block", "sections", "tables"}:
        return _of_blocks(mm, args.show, _blocks(mm, args.show, args.blocks), theme)
    if args.blocks is not None:
        raise UsageError(f"show={args.show} shows all blocks", hint="blocks= is for show=block, sections or tables")
    if args.show == "zones":
        from memshell.pictures.zones import zones

        return zones(mm, theme)
    if args.show == "steps":
        from memshell.pictures.steps import Shown, steps

        return steps([Shown(s.n, s.command, outcome(s), s.mm) for s in machine.steps[: step.n + 1]], theme)
    from memshell.pictures.machine import change
    from memshell.pictures.machine import machine as whole

    if args.show == "machine":
        return whole(mm, theme)
    before = _step(machine, args.since, max(step.n - 1, 0))
    return change(_named(before), _named(step), theme)


def _named(step: Step) -> tuple[str, Mm]:
    ended = "" if outcome(step) == "ok" else f" -> {outcome(step)}"
    command = step.command if len(step.command) <= 40 else step.command[:39] + "…"
    return f"step {step.n}: {command}{ended}", step.mm


def _step(machine: Machine, wanted: int | None, otherwise: int) -> Step:
    n = otherwise if wanted is None else wanted
    if not 0 <= n < len(machine.steps):
        raise UsageError(f"there is no step {n}", hint=f"steps are 0 to {len(machine.steps) - 1}")
    return machine.steps[n]


def _blocks(mm: Mm, what: str, wanted: list[int] | None) -> list[int]:
    missing = [number for number in wanted or () if number not in mm.blocks]
    if missing:
        raise UsageError(f"there is no memory{missing[0]} at that step")
    if not mm.blocks:
        raise CommandError("there are no memory blocks")
    if wanted is None and what == "sections":
        from memshell.pictures.sections import interesting

        return interesting(mm)
    return wanted if wanted is not None else [mm.blocks.last()]


def _of_blocks(mm: Mm, what: str, numbers: list[int], theme: str) -> Picture:
    if what == "sections":
        from memshell.pictures.sections import sections

        return sections(mm, numbers, theme)
    if what == "tables":
        from memshell.pictures.tables import tables

        return tables(mm, numbers, theme)
    from memshell.pictures.block import block, blocks

    if len(numbers) > MOST_BLOCKS:
        raise UsageError(f"{len(numbers)} blocks are too many for a picture", hint=f"{MOST_BLOCKS} at most")
    if len(numbers) == 1:
        return block(mm, numbers[0], theme)
    return blocks([(f"memory{number}", mm, number) for number in numbers], theme)


def _refuse_links(out: Path, target: Path) -> None:
    """Raise `CommandError` where a symbolic link below *out* would lead the write to *target* elsewhere."""
    for place in (target, *target.parents):
        if place == out:
            return
        if place.is_symlink():
            raise CommandError(f"{place} is a symbolic link", hint=f"nothing is written outside of {out}: remove it")


def state(mm: Mm) -> dict[str, Any]:
    """Return the state as the views have it in JSON, under the views' names."""
    from memshell.views.lsmem import rows
    from memshell.views.pages import altmaps
    from memshell.views.proc import buddyinfo_data, iomem_data, meminfo_data, vmstat_data, zoneinfo_data

    columns = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK", "NODE", "ZONES")
    return {
        "arch": mm.arch.name,
        "profile": mm.profile.name,
        "policy": mm.policy.name,
        "page_size": mm.arch.page_size,
        "block_size": mm.block_size,
        "params": mm.params.texts(),
        "lsmem": {"memory": rows(mm, columns)},
        "zoneinfo": zoneinfo_data(mm),
        "buddyinfo": buddyinfo_data(mm),
        "meminfo": meminfo_data(mm),
        "vmstat": vmstat_data(mm),
        "iomem": iomem_data(mm),
        "altmap": altmaps(mm),
    }


def _json(mm: Mm) -> str:
    import json

    return json.dumps(state(mm), indent=2, default=str) + "\n"
