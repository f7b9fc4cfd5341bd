"""The command ``export``: the machine for other tools and for documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError
from memshell.shell.registry import arg, command
from memshell.shell.types import FILE, choice

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

KINDS = {
    "sysroot": "a tree of /sys and /proc, for lsmem --sysroot and other tools",
    "svg": "the map as a picture",
    "html": "the map and the tables as a page",
    "json": "the state as one JSON document",
}


@command(
    "session",
    arg("kind", choice("kind", KINDS), "what to write"),
    arg("out", FILE, "the file, or the folder of the tree"),
    arg("--force", None, "write over what is there"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> export sysroot guest
guest: 110 files
> !cat guest/sys/devices/system/memory/memory3/state
online
> export svg guest.svg
guest.svg: <...> bytes
""",
)
def export(shell: Shell, args: Namespace) -> str:
    """Write the machine for other tools and for documents."""
    mm = shell.need_machine().mm
    out = Path(args.out)
    try:
        return _tree(mm, out, force=args.force) if args.kind == "sysroot" else _file(mm, args.kind, out, args.force)
    except FileExistsError as error:
        raise CommandError(f"{args.out} exists", hint="--force writes over it") from error
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from error


def _tree(mm: Mm, out: Path, *, force: bool) -> str:
    """Write the tree; with *force* into a folder that exists, in which nothing else is touched."""
    from memshell.views.sysroot import files, links

    if out.exists() and (any(out.iterdir()) if out.is_dir() else True) and not force:
        raise FileExistsError(out)
    count = 0
    for path, text in files(mm):
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        count += 1
    for path, to in links(mm):
        link = out / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(to)
    return f"{out}: {count} files"


def _file(mm: Mm, kind: str, out: Path, force: bool) -> str:
    text = {"svg": _svg, "html": _html, "json": _json}[kind](mm)
    with out.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    return f"{out}: {len(text.encode())} bytes"


def _svg(mm: Mm) -> str:
    from memshell.views.svg import svg

    return svg(mm)


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


def _html(mm: Mm) -> str:
    from html import escape

    from memshell.views.lsmem import DEFAULT_COLUMNS, rows, summary
    from memshell.views.proc import iomem, meminfo, zoneinfo

    table = _table(rows(mm, (*DEFAULT_COLUMNS, "NODE", "ZONES")))
    views = {"meminfo": meminfo, "zoneinfo": zoneinfo, "iomem": iomem}
    texts = "".join(f"<h2>{name}</h2><pre>{escape(view(mm))}</pre>\n" for name, view in views.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>memshell</title></head><body>\n'
        f"{_svg(mm)}<h2>lsmem</h2>\n{table}<pre>{escape(summary(mm))}</pre>\n{texts}</body></html>\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    from html import escape

    lines = [[f"<th>{escape(name)}</th>" for name in (rows[0] if rows else {})]]
    lines += [[f"<td>{escape(str(value))}</td>" for value in row.values()] for row in rows]
    return "<table>\n" + "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in lines) + "</table>\n"
