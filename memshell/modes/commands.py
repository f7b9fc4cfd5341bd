"""``memshell -c 'CMD; CMD'``, and commands on standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, UsageError
from memshell.modes.players import finish, make_player, tell, watched
from memshell.scenario.syntax import SyntaxProblem

if TYPE_CHECKING:
    import argparse

    from memshell.scenario.player import Player


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Run the commands of ``-c``."""
    if rest:
        raise UsageError(f"unexpected {rest[0]!r} behind -c", hint="put all commands into one word, with ;")
    player = make_player(args)
    try:
        with watched(player):
            player.play_text(args.commands, "-c")
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return finish(player, debug=args.debug)


def script(args: argparse.Namespace) -> int:
    """Run the commands on standard input."""
    return play_stdin(args, make_player(args))


def play_stdin(args: argparse.Namespace, player: Player) -> int:
    """Play the commands on standard input, each as soon as it is complete; return the exit code."""
    player.shell.trusted = False  # who sends it is not known
    pending, first = "", 1
    try:
        for number, line in enumerate(sys.stdin, start=1):
            if player.shell.leaving:
                break
            pending += line
            if not pending.rstrip("\n").endswith("\\") and _play(player, pending, first):
                pending, first = "", number + 1
        if pending.strip():
            player.play_text(pending, "<stdin>", first_line=first)
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text (byte {error.start})") from error
    return finish(player, debug=args.debug)


def _play(player: Player, text: str, first_line: int) -> bool:
    """Play *text* if it is complete."""
    try:
        player.play_text(text, "<stdin>", first_line=first_line)
    except SyntaxProblem as problem:
        if not problem.incomplete:
            raise
        return False
    return True
