"""``memshell verify RECORDING... [--json]``: replay what a real kernel did and compare."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.modes import mode_parser
from memshell.modes.players import chosen_plugins
from memshell.verify import load_recording, verify_recording
from memshell.verify.cli import as_json, as_text

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Verify the recordings that are named; 1 when a quantity differs or a file cannot be read."""
    parser = mode_parser("verify", "Replay what a real kernel did and compare.")
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="NAME.json or NAME.json.xz")
    parser.add_argument("--json", action="store_true", help="one object per recording")
    parser.add_argument("--all", action="store_true", help="show the quantities that are equal, too")
    options = parser.parse_args(rest)
    plugins = chosen_plugins(args)
    failed = 0
    for path in options.recordings:
        try:
            recording = load_recording(path)
            with redirect_stdout(sys.stderr):  # what a plugin prints is no result
                quantities = verify_recording(recording, plugins.arches(), plugins.policies())
        except MemshellError as error:
            if args.debug:
                raise
            print(f"memshell: {error}", file=sys.stderr)
            failed = 1
            continue
        print(
            json.dumps(as_json(recording, quantities))
            if options.json
            else as_text(recording, quantities, everything=options.all)
        )
        failed |= any(q.verdict == "differs" for q in quantities)
    return int(failed)
