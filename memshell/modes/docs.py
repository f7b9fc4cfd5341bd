"""``memshell docs [PAGE]``: the documentation, on the command line."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import UsageError, did_you_mean
from memshell.modes import mode_parser

if TYPE_CHECKING:
    import argparse


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Print a page; without its name, list the pages."""
    parser = mode_parser("docs", "print a page of the documentation, such as plugins; without its name, list them")
    parser.add_argument("page", nargs="?", metavar="PAGE")
    args = parser.parse_args(rest, namespace=args)
    found = pages()
    if args.page is None:
        sys.stdout.write("".join(f"{name:<12} {text.splitlines()[0].lstrip('# ')}\n" for name, text in found.items()))
        return 0
    name = args.page.removeprefix("docs/").removesuffix(".md")
    if name not in found:
        hint = did_you_mean(name, found) or "one of " + ", ".join(found)
        raise UsageError(f"there is no page {args.page!r}", hint=hint)
    sys.stdout.write(found[name])
    return 0


def pages() -> dict[str, str]:
    """Return the pages by name.  Raises UsageError where they are not installed."""
    spec = find_spec("memshell_docs")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise UsageError("the documentation is not installed", hint="pip install memshell-mm")
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folders[0]).glob("*.md"))}
