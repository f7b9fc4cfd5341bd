"""The ways to run memshell that are not the prompt, one function each."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.commands import load_builtin_commands
from memshell.commands.registry import did_you_mean
from memshell.commands.shell import Options, Shell
from memshell.errors import MemshellError, UsageError
from memshell.paths import own_scenarios, scenario_root
from memshell.scenario.player import Played, Player
from memshell.scenario.syntax import DIRECTIVES, SyntaxProblem

if TYPE_CHECKING:
    import argparse


def make_shell(args: argparse.Namespace) -> Shell:
    """Return a fresh shell with the options of the command line."""
    load_builtin_commands()
    shell = Shell(options=Options(form=args.form or "table"), directives=dict(DIRECTIVES))
    shell.loader = partial(_load, args)
    return shell


def _load(args: argparse.Namespace) -> Any:
    import os

    from memshell.plugins import load_plugins

    blocked = [*args.block_plugin, *filter(None, os.environ.get("MEMSHELL_BLOCK_PLUGINS", "").split(","))]
    strict = args.strict_plugins or os.environ.get("MEMSHELL_STRICT_PLUGINS", "") not in {"", "0"}
    return load_plugins(args.plugin, blocked=blocked, strict=strict)


def make_player(args: argparse.Namespace) -> Player:
    """Return a player on a fresh shell."""
    player = Player(make_shell(args), keep_going=args.keep_going)
    player.shell.play_file = player.play_file
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


def _finish(player: Player, *, debug: bool) -> int:
    """Report the failures that --keep-going collected; the worst one gives the exit code."""
    return max((tell(failure, debug=debug) for failure in player.failures), default=0)


def commands(args: argparse.Namespace) -> int:
    """``memshell -c``."""
    if args.rest:
        raise UsageError(f"unexpected {args.rest[0]!r} behind -c", hint="put all commands into one word, with ;")
    player = make_player(args)
    try:
        player.play_text(args.commands, "-c")
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    return _finish(player, debug=args.debug)


def script(args: argparse.Namespace) -> int:
    """Commands on standard input, each run as soon as it is complete."""
    player = make_player(args)
    pending, first = "", 1
    try:
        for number, line in enumerate(sys.stdin, start=1):
            pending += line
            if not pending.rstrip("\n").endswith("\\") and _play(player, pending, first):
                pending, first = "", number + 1
        if pending.strip():
            player.play_text(pending, "<stdin>", first_line=first)
    except MemshellError as failure:
        return tell(failure, debug=args.debug)
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text (byte {error.start})") from error
    return _finish(player, debug=args.debug)


def _play(player: Player, text: str, first_line: int) -> bool:
    """Play *text* if it is complete."""
    try:
        player.play_text(text, "<stdin>", first_line=first_line)
    except SyntaxProblem as problem:
        if not problem.incomplete:
            raise
        return False
    return True


# --- run ---


def find_scenario(name: str) -> str:
    """Return the path of a scenario: a file, or the name of one that memshell brings, such as tutorial/first.

    Raises UsageError with the nearest name.
    """
    if Path(name).is_file():
        return name
    root = scenario_root()
    for candidate in (root / name, root / f"{name}.mem"):
        if candidate.is_file():
            return str(candidate)
    raise UsageError(f"no scenario {name}: no such file", hint=_near_scenario(name.removesuffix(".mem")))


def _near_scenario(name: str) -> str:
    """Return a hint: the scenario that is called *name* in some folder, or nearly so, else one of each folder."""
    known = own_scenarios()
    same = next((item for item in known if item.rpartition("/")[2].lower() == name.lower()), None)
    first = {item.partition("/")[0]: item for item in reversed(known)}
    of_ours = f"a file, or one of memshell's own, such as {', '.join(sorted(first.values()))}"
    return f"did you mean {same}?" if same else did_you_mean(name, known) or of_ours


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """``memshell run FILE...``: each file on a fresh machine."""
    parser = mode_parser("run", "play scenarios; each file starts without a machine")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object per step on stdout")
    parser.add_argument("--keep-going", action="store_true", default=args.keep_going)
    args = parser.parse_args(rest, namespace=args)
    code = 0
    for name in args.files:
        path = find_scenario(name)
        player = make_player(args)
        if args.json:
            player.echo = False
            player.observe = print_json
        try:
            player.play_file(path)
        except MemshellError as failure:
            code = max(code, tell(failure, debug=args.debug))
            if not args.keep_going:
                return code
        code = max(code, _finish(player, debug=args.debug))
    return code


def mode_parser(mode: str, text: str) -> argparse.ArgumentParser:
    """Return a parser for the options of one mode."""
    from memshell.options import Parser

    return Parser(prog=f"memshell {mode}", description=text, allow_abbrev=False)


def step_record(played: Played) -> dict[str, Any]:
    """Return what ``run --json`` prints for a step."""
    error = played.error
    events = [event for step in played.steps for event in step.events]
    return {
        "n": played.n,
        "file": played.statement.where.file,
        "line": played.statement.where.line,
        "command": played.command,
        "ok": error is None,
        "errno": played.errno,
        "message": None if error is None else str(error),
        "output": played.output,
        "events": [{"kind": e.kind, "function": e.function, "text": e.text, **e.data} for e in events],
        "crashed": played.crashed,
    }


def print_json(played: Played) -> None:
    """Print one step as a JSON object on a line of its own."""
    if not played.skipped:
        print(json.dumps(step_record(played), default=str), flush=True)


def plugins(args: argparse.Namespace, rest: list[str]) -> int:
    """``memshell plugins``."""
    from memshell.commands.session import plugin_rows
    from memshell.report import render

    parser = mode_parser("plugins", "the plugins and how they fare")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--time", action="store_true", help="show the load time")
    args = parser.parse_args(rest, namespace=args)
    found = plugin_rows(make_shell(args), time=args.time)
    sys.stdout.write(render(found, "json" if args.json else args.form or "table"))
    return 0


def vmlinux(args: argparse.Namespace, rest: list[str]) -> int:
    """``memshell vmlinux FILE``."""
    from shutil import get_terminal_size

    from memshell.vmlinux.cli import main_vmlinux

    parser = mode_parser("vmlinux", "facts from a kernel image: vmlinux, bzImage, vmlinuz or a BTF file")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--symbols", action="append", default=[], metavar="NAME,...", help="addresses of symbols")
    parser.add_argument("--struct", action="append", default=[], metavar="NAME,...", help="layouts of structs")
    parser.add_argument("--config", metavar="FILE", help="the kernel's configuration, where the image has none")
    args = parser.parse_args(rest, namespace=args)
    text = main_vmlinux(
        args.file,
        as_json=args.json or args.form == "json",
        structs=args.struct,
        symbols=args.symbols,
        config=args.config,
        columns=get_terminal_size().columns if sys.stdout.isatty() else 0,
    )
    sys.stdout.write(text)
    return 0


def export(args: argparse.Namespace, rest: list[str]) -> int:
    """``memshell export KIND OUT [FILE...]``: play the files, or standard input, and write the machine."""
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
