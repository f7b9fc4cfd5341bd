"""``memshell verify RECORDING... [--json]``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from memshell.errors import MemshellError
from memshell.options import Parser
from memshell.verify.quantity import Quantity
from memshell.verify.recording import Recording, load_recording
from memshell.verify.report import summary, verify_recording

if TYPE_CHECKING:
    import argparse


def main(args: argparse.Namespace, rest: list[str]) -> int:
    """Verify the recordings that are named; 1 when a quantity differs or a file cannot be read."""
    from memshell.plugins import load_plugins

    parser = Parser(
        prog="memshell verify", description="Replay what a real kernel did and compare.", allow_abbrev=False
    )
    parser.add_argument("recordings", nargs="+", metavar="RECORDING", help="NAME.json or NAME.json.xz")
    parser.add_argument("--json", action="store_true", help="one object per recording")
    parser.add_argument("--all", action="store_true", help="show the quantities that are equal, too")
    options = parser.parse_args(rest)
    plugins = load_plugins(args.plugin, blocked=args.block_plugin, strict=args.strict_plugins)
    failed = 0
    for path in options.recordings:
        try:
            recording = load_recording(path)
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


def as_json(recording: Recording, quantities: list[Quantity]) -> dict[str, Any]:
    """Return the object that ``verify --json`` prints."""
    return {
        "recording": recording.name,
        "kernel": recording.kernel,
        "arch": recording.arch,
        "quantities": [q._asdict() for q in quantities],
        "summary": summary(quantities),
    }


def as_text(recording: Recording, quantities: list[Quantity], *, everything: bool = False) -> str:
    """Return a line with the tally, and a line for each quantity that is not equal."""
    tally = ", ".join(f"{count} {verdict}" for verdict, count in summary(quantities).items() if count)
    lines = [f"{recording.name} ({recording.release}): {tally}"]
    shown = [q for q in quantities if everything or q.verdict in ("differs", "not-modelled")]
    lines += [
        f"  step {q.step} ({q.action}) {q.name}: {q.verdict}, "
        f"recorded {_short(q.recorded)}, predicted {_short(q.predicted)}"
        for q in shown
    ]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 160 else f"{text[:157]}..."
