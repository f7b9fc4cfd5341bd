"""``python -m memshell.vmlinux FILE``: the ``vmlinux`` mode on its own."""

from __future__ import annotations

import argparse
import sys

from memshell.errors import ImageError
from memshell.vmlinux.cli import main_vmlinux


def main(argv: list[str] | None = None) -> int:
    """Print the facts of one kernel image; 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="memshell vmlinux", description="Facts from a kernel image.")
    parser.add_argument("file", help="vmlinux, bzImage, module, BTF blob, or one of them compressed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--struct", action="append", default=[], metavar="NAME,...", help="show these structs too")
    parser.add_argument("--symbols", action="append", default=[], metavar="NAME,...", help="show these symbols")
    given = parser.parse_args(argv)
    try:
        sys.stdout.write(main_vmlinux(given.file, as_json=given.json, structs=given.struct, symbols=given.symbols))
    except ImageError as error:
        sys.stderr.write(f"memshell: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
