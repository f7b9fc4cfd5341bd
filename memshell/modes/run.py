"""``memshell run FILE...``: each file on a fresh machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from memshell.errors import MemshellError
from memshell.modes import mode_parser
from memshell.modes.players import finish, make_player, tell
from memshell.paths import find_scenario

if TYPE_CHECKING:
    import argparse

    from memshell.scenario.player import Played


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play the files; the worst failure gives the exit code."""
    parser = mode_parser("run", "play scenarios; each file starts without a machine")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object per step on stdout")
    parser.add_argument("--keep-going", action="store_true", default=args.keep_going)
    args = parser.parse_args(rest, namespace=args)
    code = 0
    for name in args.files:
        path = find_scenario(name)
        player = make_player(args)
        if args.json:
            player.echo = False
            player.observe = print_json
        try:
            player.play_file(path)
        except MemshellError as failure:
            code = max(code, tell(failure, debug=args.debug))
            if not args.keep_going:
                return code
        code = max(code, finish(player, debug=args.debug))
    return code


def step_record(played: Played) -> dict[str, Any]:
    """Return what ``run --json`` prints for a step."""
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
    }


def print_json(played: Played) -> None:
    """Print one step as a JSON object on a line of its own."""
    if not played.skipped:
        print(json.dumps(step_record(played), default=str), flush=True)
