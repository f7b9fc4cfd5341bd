"""``memshell verify RECORDING... [--json | --as-scenario]``: replay what a real kernel did and compare."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, printable
from memshell.modes import mode_parser
from memshell.modes.players import chosen_plugins
from memshell.scenario.player import Player
from memshell.scenario.words import quote
from memshell.verify import load_recording
from memshell.verify.cli import as_json, as_text
from memshell.verify.report import replay_recording
from memshell.verify.text import as_scenario

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Verify the recordings that are named; 1 when a quantity differs or a file cannot be read."""
    parser = mode_parser("verify", "Replay what a real kernel did and compare.")
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="NAME.json or NAME.json.xz")
    parser.add_argument("--json", action="store_true", help="one object per recording")
    parser.add_argument(
        "--as-scenario", action="store_true", help="print what is played, as a scenario that `run` plays"
    )
    parser.add_argument("--all", action="store_true", help="show the quantities that are equal, too")
    options = parser.parse_args(rest)
    player = Player(partial(chosen_plugins, args))
    failed = 0
    for path in options.recordings:
        try:
            recording = load_recording(path)
            with redirect_stdout(sys.stderr):  # what a plugin prints is no result
                quantities, replay = replay_recording(recording, player)
        except MemshellError as error:
            if args.debug:
                raise
            print(f"memshell: {error}", file=sys.stderr)
            failed = max(failed, error.exit_code)
            continue
        replay.forget()
        if options.as_scenario:
            print(printable(as_scenario(recording, quote(path), replay.said, quantities)), end="")
        elif options.json:
            print(json.dumps(as_json(recording, quantities)))
        else:
            print(printable(as_text(recording, quantities, everything=options.all)))
        failed = max(failed, int(any(q.verdict == "differs" for q in quantities)))
    return failed
