"""``memshell vmlinux FILE [--json] [--symbols NAME,...] [--struct NAME,...]``: facts from a kernel image."""

from __future__ import annotations

import json
import sys
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from memshell.modes import mode_parser
from memshell.modes.players import chosen_plugins
from memshell.vmlinux.facts import read_facts
from memshell.vmlinux.render import render

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print the facts.  Raises ImageError for a file that cannot be read."""
    parser = mode_parser("vmlinux", "facts from a kernel image: vmlinux, bzImage, vmlinuz or a BTF file")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--symbols", action="append", default=[], metavar="NAME,...", help="addresses of symbols")
    parser.add_argument("--struct", action="append", default=[], metavar="NAME,...", help="layouts of structs")
    parser.add_argument("--config", metavar="FILE", help="the kernel's configuration, where the image has none")
    args = parser.parse_args(rest, namespace=args)
    chosen_plugins(args).arches()  # they bring what an image does not hold
    structs = names(args.struct)
    facts = read_facts(args.file, structs=structs, symbols=names(args.symbols), config=args.config)
    if args.json or args.form == "json":
        sys.stdout.write(json.dumps(facts.to_json()) + "\n")
    else:
        columns = get_terminal_size().columns if sys.stdout.isatty() else 0
        sys.stdout.write(render(facts, structs, columns))
    return 0


def names(given: Iterable[str]) -> list[str]:
    """Split ``NAME,...`` and drop ``struct`` before a name.

    >>> names(["page,zone", "struct folio"])  ->  ["page", "zone", "folio"]
    """
    pieces = [piece.strip() for value in given for piece in value.split(",")]
    return [piece.removeprefix("struct ").strip() for piece in pieces if piece]
