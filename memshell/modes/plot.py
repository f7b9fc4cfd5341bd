"""``memshell plot TABLE ...``: what the command ``plot`` does with a table that ``sweep`` wrote."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.modes.players import make_player, tell

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Draw the chart."""
    player = make_player(args)
    if sys.stdout.isatty():
        player.shell.output.width = shutil.get_terminal_size().columns
    try:
        sys.stdout.write(player.command(["plot", *rest]))
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return 0
