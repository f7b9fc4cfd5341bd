"""``memshell sweep SCENARIO -D NAME=VALUES ...``: what the command ``sweep`` does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.modes.players import kept_plugins, tell
from memshell.scenario.player import Player
from memshell.shell.shell import Output

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play the grid; the exit code says whether it was played, not how its cells ended."""
    player = Player(kept_plugins(args), Output(form=args.form or "table"))
    try:
        sys.stdout.write(player.command(["sweep", *rest]))
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return 0
