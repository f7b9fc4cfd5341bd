"""The player that a mode works with, by the options of the command line; and how its failures are told."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from memshell.scenario.player import Player
from memshell.shell.shell import Output

if TYPE_CHECKING:
    import argparse

    from memshell.errors import MemshellError
    from memshell.plugins import Plugins


def chosen_plugins(args: argparse.Namespace) -> Plugins:
    """Load the plugins as the command line and the environment want them."""
    from memshell.plugins import load_plugins

    blocked = [*args.block_plugin, *filter(None, os.environ.get("MEMSHELL_BLOCK_PLUGINS", "").split(","))]
    strict = args.strict_plugins or os.environ.get("MEMSHELL_STRICT_PLUGINS", "") not in {"", "0"}
    return load_plugins(args.plugin, blocked=blocked, strict=strict)


def make_player(args: argparse.Namespace) -> Player:
    """Return a player on a fresh shell."""
    player = Player(partial(chosen_plugins, args), Output(form=args.form or "table"), keep_going=args.keep_going)
    if args.plugin or args.strict_plugins:
        _ = player.shell.plugins
    return player


def tell(failure: MemshellError, *, debug: bool) -> int:
    """Print a failure on stderr and return its exit code."""
    if debug and failure.__cause__ is not None:
        import traceback

        traceback.print_exception(failure.__cause__)
    print(failure, file=sys.stderr)
    return failure.exit_code


def finish(player: Player, *, debug: bool) -> int:
    """Report the failures that --keep-going collected; the worst one gives the exit code."""
    return max((tell(failure, debug=debug) for failure in player.failures), default=0)
