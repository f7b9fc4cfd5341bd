"""``memshell run FILE...``: each file on a fresh machine."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from memshell.errors import MemshellError, printable
from memshell.modes import mode_parser
from memshell.modes.players import (
    add_allow_shell,
    add_definitions,
    definitions,
    finish,
    make_player,
    plugin_scenarios,
    tell,
)
from memshell.paths import find_scenario
from memshell.scenario.parameters import check_given, define
from memshell.scenario.suite import Cell, find_cells

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from memshell.scenario.player import Played


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play the files; the worst failure gives the exit code."""
    parser = mode_parser("run", "play scenarios; each file, and each cell of its matrix, starts without a machine")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object per step on stdout")
    parser.add_argument("--keep-going", action="store_true", default=args.keep_going)
    add_allow_shell(parser)
    add_definitions(parser)
    args = parser.parse_args(rest, namespace=args)
    paths, given = [find_scenario(name, plugin_scenarios(args)) for name in args.files], definitions(args)
    check_given(given, paths)
    code = 0
    for cell in find_cells(paths, given):
        code = max(code, _play(cell, args))
        if code and not args.keep_going:
            break
    return code


def _play(cell: Cell, args: argparse.Namespace) -> int:
    """Play a cell of a file on a fresh machine; return the exit code."""
    player = make_player(args)
    define(player, cell.values)
    if args.json:
        player.echo = False
        player.observe = partial(print_json, parameters=cell.values)
    elif cell.axes:
        print(printable(f"{cell.name}:"), file=sys.stderr, flush=True)
    try:
        player.play_file(cell.path)
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return finish(player, debug=args.debug)


def step_record(played: Played, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``run --json`` prints for a step of a scenario that was given *parameters*."""
    error = played.error
    events = [event for step in played.steps for event in step.events]
    return {
        "n": played.n,
        "file": played.statement.where.file,
        "line": played.statement.where.line,
        "command": played.command,
        "ok": error is None,
        "errno": played.errno,
        "message": None if error is None else str(error),
        "output": played.output,
        "events": [{"kind": e.kind, "function": e.function, "text": e.text, **e.data} for e in events],
        "crashed": played.crashed,
        "parameters": dict(parameters),
    }


def print_json(played: Played, parameters: Mapping[str, str]) -> None:
    """Print one step as a JSON object on a line of its own."""
    if not played.skipped:
        print(json.dumps(step_record(played, parameters), default=str), flush=True)
