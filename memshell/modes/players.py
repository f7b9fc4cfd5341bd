"""The player that a mode works with, by the options of the command line; and how its failures are told."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from memshell.scenario.parameters import definition
from memshell.scenario.player import Player
from memshell.shell.shell import Output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from memshell.errors import MemshellError
    from memshell.plugins import Plugins


def chosen_plugins(args: argparse.Namespace) -> Plugins:
    """Load the plugins as the command line and the environment want them."""
    from memshell.plugins import load_plugins

    blocked = [*args.block_plugin, *filter(None, os.environ.get("MEMSHELL_BLOCK_PLUGINS", "").split(","))]
    strict = args.strict_plugins or os.environ.get("MEMSHELL_STRICT_PLUGINS", "") not in {"", "0"}
    return load_plugins(args.plugin, blocked=blocked, strict=strict)


@cache
def _kept_plugins(files: tuple[str, ...], blocked: tuple[str, ...], *, strict: bool) -> Plugins:
    from argparse import Namespace

    return chosen_plugins(Namespace(plugin=list(files), block_plugin=list(blocked), strict_plugins=strict))


def kept_plugins(args: argparse.Namespace) -> Callable[[], Plugins]:
    """Return a loader of the same plugins that loads them once in each process, also where it is sent to another."""
    return partial(_kept_plugins, tuple(args.plugin), tuple(args.block_plugin), strict=args.strict_plugins)


def plugin_scenarios(args: argparse.Namespace) -> Callable[[], Mapping[str, Path]]:
    """Return what finds the scenarios that plugins bring, when it is asked."""
    return lambda: kept_plugins(args)().scenarios()


def add_definitions(parser: argparse.ArgumentParser) -> None:
    """Let a mode take ``-D NAME=VALUE``; `definitions` reads what was given."""
    text = "the value of a parameter: what the scenario has as let NAME ?= DEFAULT; more than once for several"
    parser.add_argument("-D", dest="definitions", action="append", default=[], metavar="NAME=VALUE", help=text)


def definitions(args: argparse.Namespace) -> dict[str, str]:
    """Return the values that ``-D`` gave.  Raises UsageError."""
    return dict(definition(word) for word in args.definitions)


def add_allow_shell(parser: argparse.ArgumentParser) -> None:
    """Let a mode that plays files take ``--allow-shell``, behind its word as well as before it."""
    parser.add_argument("--allow-shell", action="store_true", help=ALLOW_SHELL)


ALLOW_SHELL = "let files run programs (!CMD, | CMD) and write files (> FILE, save, export)"


def make_player(args: argparse.Namespace) -> Player:
    """Return a player on a fresh shell."""
    player = Player(partial(chosen_plugins, args), Output(form=args.form or "table"), keep_going=args.keep_going)
    player.shell.allow_shell = args.allow_shell
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


@contextmanager
def watched(player: Player) -> Iterator[None]:
    """Show on a terminal how far a command has come that takes a second, as the prompt does."""
    if not sys.stderr.isatty():
        yield
        return
    from memshell.shell.screen import Notes, Screen

    screen, output = Screen(pages=False), player.shell.output
    output.out, output.err, player.hand_over = screen, Notes(screen), screen.hand_over
    with screen.progress(player.shell):
        yield


def finish(player: Player, *, debug: bool) -> int:
    """Report the failures that --keep-going collected; the worst one gives the exit code."""
    return max((tell(failure, debug=debug) for failure in player.failures), default=0)
