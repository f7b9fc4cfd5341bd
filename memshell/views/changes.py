"""What differs between two states, in few lines: changes that are alike are one row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.drivers.base.memory.blocks import MemoryBlock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memshell.machine import Change

_BLOCK = re.compile(r"memory\.(\d+)((?:\.\w+)?)")
_TABLE = re.compile(r"(page table\.\w+) (0x[0-9a-f]+)")


class Row(NamedTuple):
    """Changes that are alike: what, as ``memory.32-39.state``, the values, and how many they are."""

    what: str
    before: object
    after: object
    nr: int = 1


def fold(changes: Iterable[Change]) -> list[Row]:
    """Return *changes* with those of blocks, and of page tables of one level, joined where both values are equal."""
    found: dict[tuple[object, ...], list[tuple[str, Any]]] = {}
    for change in changes:
        before, after = plain(change.before), plain(change.after)
        kind, place = _place(change.path)
        found.setdefault((kind, str(before), str(after)), []).append((change.path, (place, before, after)))
    return [row for (kind, *_), members in found.items() for row in _rows(str(kind), [m[1] for m in members])]


def _place(path: str) -> tuple[str, int | str]:
    """Return what kind of change *path* is, and which of its kind: a block's number, a table's address, or nothing."""
    block, table = _BLOCK.fullmatch(path), _TABLE.fullmatch(path)
    if block is not None:
        return f"memory.*{block[2]}", int(block[1])
    return (f"{table[1]} *", table[2]) if table is not None else (path, "")


def _rows(kind: str, members: list[tuple[Any, object, object]]) -> list[Row]:
    _, before, after = members[0]
    places = [place for place, _, _ in members]
    if "*" not in kind:
        return [Row(kind, before, after)]
    if kind.startswith("page table"):
        more = f"{places[0]} to {places[-1]} ({len(places)})" if len(places) > 1 else places[0]
        return [Row(kind.replace("*", more), before, after, len(places))]
    return [
        Row(kind.replace("*", f"{first}-{last}" if last > first else str(first)), before, after, last - first + 1)
        for first, last in _runs(sorted(places))
    ]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def plain(value: object) -> object:
    """Return a zone by its name and a memory block by what it is, without its place; anything else as it is."""
    if isinstance(value, MemoryBlock):
        return _block(value)
    return getattr(value, "label", value)


def _block(block: MemoryBlock) -> str:
    words = [block.state + (f" in {block.zone.label}" if block.zone is not None else "")]
    words += [f"node {block.nid}"] if block.nid else []
    words += [f"group {block.group}"] if block.group is not None else []
    words += [f"{block.nr_vmemmap_pages} pages of memmap"] if block.nr_vmemmap_pages else []
    return ", ".join(words)
