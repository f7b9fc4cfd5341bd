"""``memshell mutate FILE``: play a scenario once for each check of the 2018 series, with that check off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from memshell.commands.series import MUTANT_COLUMNS
from memshell.experiment.mutate import mutate, rows
from memshell.modes import mode_parser
from memshell.modes.players import add_allow_shell, make_player
from memshell.paths import find_scenario
from memshell.result import Result, render

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print the table of what goes wrong first."""
    parser = mode_parser(
        "mutate", "play a scenario once per check site with that check off, and say what goes wrong first"
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--pairs", action="store_true", help="two checks off at a time")
    parser.add_argument("--json", action="store_true", help="one object per row")
    parser.add_argument("-j", dest="jobs", type=int, default=None, metavar="N", help="processes; all cores without it")
    add_allow_shell(parser)
    options = parser.parse_args(rest, namespace=args)
    fresh = make_player(args).fresh
    table = rows(mutate(find_scenario(options.file), fresh, pairs=options.pairs, jobs=options.jobs))
    print(
        "\n".join(json.dumps(row) for row in table)
        if options.json
        else render(Result(rows=table, columns=MUTANT_COLUMNS), "table").rstrip()
    )
    return 0
