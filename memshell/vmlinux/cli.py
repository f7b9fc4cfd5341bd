"""``memshell vmlinux FILE [--json] [--symbols NAME,...] [--struct NAME,...]``."""

from __future__ import annotations

from collections.abc import Iterable

from memshell.vmlinux.facts import read_facts
from memshell.vmlinux.render import render


def main_vmlinux(
    file: str,
    *,
    as_json: bool = False,
    structs: Iterable[str] = (),
    symbols: Iterable[str] = (),
    config: str | None = None,
    columns: int = 0,
) -> str:
    """What the command prints, with its newline; ImageError (exit 1) when the file cannot be read.

    *structs* and *symbols* are names; each may also be several, with commas between them. *columns* is the
    width of the terminal, 0 for no limit.
    """
    wanted = names(structs)
    facts = read_facts(file, structs=wanted, symbols=names(symbols), config=config)
    if not as_json:
        return render(facts, wanted, columns)
    import json

    return json.dumps(facts.to_json()) + "\n"


def names(given: Iterable[str]) -> list[str]:
    """Split ``NAME,...`` and drop ``struct`` before a name.

    >>> names(["page,zone", "struct folio"])  ->  ["page", "zone", "folio"]
    """
    pieces = [piece.strip() for value in given for piece in value.split(",")]
    return [piece.removeprefix("struct ").strip() for piece in pieces if piece]
