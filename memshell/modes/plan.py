"""``memshell plan ram=8G add=512G``: the command ``plan`` on a machine of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, UsageError
from memshell.modes import mode_parser
from memshell.modes.players import make_player, tell

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play the ways to add memory and print them, the recommended one first."""
    text = "Say how to add memory: each way is played on the model. Without --keep it is later to be unplugged again."
    parser = mode_parser("plan", text)
    parser.add_argument("machine", nargs="*", metavar="ARCH|KEY=VALUE", help="as `use` takes them; x86_64 without ARCH")
    parser.add_argument("--keep", action="store_true", help="it stays for good: nothing has to be unplugged again")
    parser.add_argument("--way", metavar="N", help="show this row's commands instead of the recommended one's")
    parser.add_argument("-o", "--out", metavar="FILE", help="write the scenario that shows it")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    options = parser.parse_args(rest)
    size, machine = _size_and_machine(options.machine)
    player = make_player(args)
    player.echo = False
    keys = (("way", options.way), ("out", options.out))
    words = [*["--keep"] * options.keep, *["--force"] * options.force, *(f"{k}={v}" for k, v in keys if v)]
    try:
        print(player.command(["use", *machine]).rstrip(), file=sys.stderr)
        sys.stdout.write(player.command(["plan", size, *words]))
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return 0


def _size_and_machine(words: list[str]) -> tuple[str, list[str]]:
    """Take add=SIZE out of the words; the rest is the machine's.  Raises UsageError."""
    sizes = [word.partition("=")[2] for word in words if word.startswith("add=")]
    machine = [word for word in words if not word.startswith("add=")]
    if len(sizes) != 1 or not sizes[0]:
        raise UsageError("plan what?", hint="such as: memshell plan ram=8G add=512G")
    if all("=" in word for word in machine):
        machine.insert(0, "x86_64")
    return sizes[0], machine
