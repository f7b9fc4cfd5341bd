"""argv -> mode -> exit code.  Imports nothing heavy: every mode loads what it needs."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from memshell.errors import MemshellError, os_error
from memshell.modes import find_mode, is_scenario, usage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from memshell.scenario.player import Player

EXIT_CODES = "exit codes: 0 fine, 1 failed, 2 usage, 3 a plugin or memshell itself failed, 130 interrupted"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the options that every mode has; the modes parse the rest."""
    import argparse

    from memshell.options import Parser

    parser = Parser(prog="memshell", usage=usage(), epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument("-c", dest="commands", metavar="CMDS", help="run these commands and leave")
    parser.add_argument("-F", dest="form", choices=["table", "json", "csv", "md"], help="form of the results")
    parser.add_argument("--keep-going", action="store_true", help="go on after a step that failed")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--no-rc", action="store_true", help="do not read rc.mem")
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="NAME", help="bring back a session: the newest, or NAME"
    )
    parser.add_argument("--allow-shell", action="store_true", help="let files run programs and write files")
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE", help="load a plugin from FILE")
    parser.add_argument("--block-plugin", action="append", default=[], metavar="NAME", help="do not load plugin NAME")
    parser.add_argument("--strict-plugins", action="store_true", help="a plugin's fault ends memshell")
    parser.add_argument("--version", action="store_true", help="show the version and leave")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _run(args: argparse.Namespace) -> int:
    if args.version:
        from memshell import __version__

        print(f"memshell {__version__}")
        return 0
    if args.commands is not None:
        from memshell.modes.commands import run

        return run(args, args.rest)
    if args.rest:
        if is_scenario(args.rest[0]):
            return find_mode("run")(args, args.rest)
        args.prompt = _prompt
        return find_mode(args.rest[0])(args, args.rest[1:])
    if sys.stdin.isatty():
        return _prompt(args)
    from memshell.modes.commands import script

    return script(args)


def _prompt(args: argparse.Namespace, player: Player | None = None) -> int:
    """Run the prompt, on *player* where a mode has made one."""
    from memshell.repl.app import prompt

    return prompt(args, player)


def main(argv: Sequence[str] | None = None) -> int:
    """Run memshell and return its exit code."""
    debug = False
    gc.set_threshold(50_000, 20, 100)  # a state is many small records and no circle: there is little to find
    try:
        args = build_parser().parse_args(argv)
        debug = args.debug
        code = _run(args)
        sys.stdout.flush()  # what cannot be written is told here, not by the interpreter as it leaves
    except MemshellError as error:
        if debug:
            raise
        print(f"memshell: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of stdout went away: point it elsewhere, so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # What memshell opens itself says what it was; this is its standard output, on a full disk.
        print(f"memshell: {os_error(error)}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        print("memshell: no memory is left; see ulimit -v", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("memshell: interrupted", file=sys.stderr)
        return 130
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 2
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        print(f"memshell: internal error: {kind}: {error}; --debug shows where", file=sys.stderr)
        return 3
    else:
        return code


if __name__ == "__main__":
    sys.exit(main())
