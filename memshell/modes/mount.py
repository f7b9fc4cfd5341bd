"""``memshell mount``: the machine as a live /sys and /proc, beside the prompt or under a command."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, Terminated, UsageError
from memshell.modes import commands, mode_parser
from memshell.modes.players import add_allow_shell, make_player, tell
from memshell.paths import find_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mount.session import Session
    from memshell.scenario.player import Player

MACHINE = "x86_64 ram=2G"


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Mount the machine, and let people or a command use it until they are done."""
    parser = mode_parser("mount", "show a machine as a live /sys and /proc; what is written there is done to it")
    parser.add_argument(
        "where", nargs="*", metavar="DIR [SCENARIO]", help="where (not with --exec), and what is played"
    )
    parser.add_argument("--use", metavar="MACHINE", help=f"the machine in the words of `use`; without, {MACHINE!r}")
    parser.add_argument(
        "--uevents", type=Path, metavar="FIFO", help="tell of blocks that come, go and change, a line each"
    )
    parser.add_argument(
        "--exec", nargs=argparse.REMAINDER, metavar="CMD", help="run CMD on it, and leave with its status"
    )
    add_allow_shell(parser)
    args = parser.parse_args(rest, namespace=args)
    if args.exec is not None and not args.exec:
        raise UsageError("--exec needs a command", hint="such as: memshell mount --exec lsmem")
    if args.exec is None and not args.where:
        raise UsageError("mount needs a folder", hint="memshell mount DIR [SCENARIO], or memshell mount --exec CMD")
    folder = None if args.exec is not None else Path(args.where.pop(0)).absolute()
    if len(args.where) > 1:
        raise UsageError(f"unexpected {args.where[1]!r}", hint="one scenario is enough: it can include others")
    player = make_player(args)
    try:
        _start(player, args)
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return _beside(args, player, folder) if folder is not None else _under(args, player)


def _start(player: Player, args: argparse.Namespace) -> None:
    """Play what makes the machine."""
    echo, player.echo = player.echo, False
    if args.use is not None or not args.where:
        player.play_text(f"use {args.use or MACHINE}", "--use")
    for name in args.where:
        player.play_file(find_scenario(name))
    player.echo = echo


def _end(number: int, _frame: object) -> None:
    raise Terminated(128 + number)


@contextmanager
def _served(args: argparse.Namespace, player: Player, folder: Path, *, notes: bool) -> Iterator[Session]:
    """Have the machine on *folder*, and its uevents in the FIFO. SIGTERM and a closed terminal end it."""
    from memshell.mount.mounted import mounted
    from memshell.mount.session import Session
    from memshell.mount.uevents import Uevents

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    session = Session(player, player.shell.note if notes else None)
    if args.uevents is not None:
        uevents = Uevents(args.uevents)
        uevents.start(session.mm)
        player.observe = uevents.played
    with mounted(session, folder, lambda text: print(f"memshell: {text}", file=sys.stderr)):
        yield session


def _under(args: argparse.Namespace, player: Player) -> int:
    """Run a command on the machine."""
    from memshell.mount import namespace

    namespace.unshare()
    with tempfile.TemporaryDirectory(prefix="memshell-") as place:
        folder = Path(place) / "root"
        with _served(args, player, folder, notes=False):
            return namespace.run(folder, args.exec)


def _beside(args: argparse.Namespace, player: Player, folder: Path) -> int:
    """Serve the machine beside the prompt; without a terminal, what stands on standard input and then until Ctrl-C."""
    if sys.stdin.isatty():
        with _served(args, player, folder, notes=True):
            return int(args.prompt(args, player))
    with _served(args, player, folder, notes=False):
        code = commands.play_stdin(args, player)
        while not code:
            time.sleep(1)
    return code
