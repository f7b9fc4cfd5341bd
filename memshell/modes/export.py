"""``memshell export KIND OUT [FILE...]``: play the files, or standard input, and write the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError
from memshell.modes import mode_parser
from memshell.modes.players import make_player, tell
from memshell.paths import find_scenario

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play, then do what the command ``export`` does."""
    parser = mode_parser("export", "play scenarios, or what stands on standard input, and write the machine")
    parser.add_argument("kind", metavar="sysroot|svg|html|json")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    args = parser.parse_args(rest, namespace=args)
    player = make_player(args)
    player.echo = False
    try:
        for name in args.files:
            player.play_file(find_scenario(name))
        if not args.files:
            player.play_text(sys.stdin.read(), "<stdin>")
        sys.stdout.write(player.command(["export", args.kind, args.out, *["--force"] * args.force]))
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return 0
