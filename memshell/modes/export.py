"""``memshell export KIND OUT [FILE...]``: play the files, or standard input, and write the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memshell.errors import CommandError, MemshellError, UsageError
from memshell.modes import mode_parser
from memshell.modes.players import add_allow_shell, add_definitions, definitions, make_player, plugin_scenarios, tell
from memshell.paths import find_scenario
from memshell.scenario.parameters import check_given, define

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

KEYS = ("show", "blocks", "step", "since", "theme")  # of the command, which the mode hands on


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play, then do what the command ``export`` does."""
    parser = mode_parser("export", "play scenarios, or what stands on standard input, and write the machine")
    parser.add_argument("kind", metavar="sysroot|svg|html|json|script")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("files", nargs="*", metavar="FILE", help="scenarios; and key=value as export takes it")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    add_allow_shell(parser)
    add_definitions(parser)
    keys = [word for word in rest if word.partition("=")[0] in KEYS and "=" in word]
    args = parser.parse_args([word for word in rest if word not in keys], namespace=args)
    given, paths = definitions(args), [find_scenario(name, plugin_scenarios(args)) for name in args.files]
    check_given(given, paths)
    if args.kind == "script":
        return _script(args, paths, given)
    player = make_player(args)
    player.echo = False
    define(player, given)
    try:
        for path in paths:
            player.play_file(path)
        if not args.files:
            with player.in_file():
                player.play_text(sys.stdin.read(), "<stdin>")
        sys.stdout.write(player.command(["export", args.kind, args.out, *keys, *["--force"] * args.force]))
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return 0


def _script(args: argparse.Namespace, paths: list[str], given: Mapping[str, str]) -> int:
    """Write one scenario as the shell script that a real machine plays it with."""
    from functools import partial
    from pathlib import Path

    from memshell.lab.plan import make_plan
    from memshell.lab.script import script
    from memshell.modes.players import chosen_plugins
    from memshell.scenario.files import read_scenario

    if len(paths) > 1:
        raise UsageError("a script is of one scenario", hint="memshell export script OUT.sh FILE")
    name = paths[0] if paths else "<stdin>"
    text = read_scenario(name) if paths else sys.stdin.read()
    out = Path(args.out)
    written = script(make_plan(name, text, partial(chosen_plugins, args), given))
    try:
        with out.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(written)
        out.chmod(0o755)
    except FileExistsError as error:
        raise CommandError(f"{out} exists", hint="--force writes over it") from error
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}") from error
    print(f"{out}: {len(written.splitlines())} lines")
    return 0
