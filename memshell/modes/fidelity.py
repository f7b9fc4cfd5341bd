"""``memshell fidelity [NAME] [--files]``: the command ``fidelity``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.modes.players import make_player

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print the table of the kernel functions, or the files."""
    sys.stdout.write(make_player(args).command(["fidelity", *rest]))
    return 0
