"""``memshell plugins``: the plugins and how they fare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.commands.session import plugin_rows
from memshell.modes import mode_parser
from memshell.modes.players import make_player
from memshell.result import render

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print the table of the plugins."""
    parser = mode_parser("plugins", "the plugins and how they fare")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--time", action="store_true", help="show the load time")
    args = parser.parse_args(rest, namespace=args)
    found = plugin_rows(make_player(args).shell, time=args.time)
    sys.stdout.write(render(found, "json" if args.json else args.form or "table"))
    return 0
