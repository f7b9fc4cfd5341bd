"""The view of util-linux's lsmem: memory blocks, neighbours with equal attributes in one line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memshell.mm.state import Mm

# What can split a range. Source: lsmem(1), --split.
SPLITTING = ("STATE", "REMOVABLE", "NODE", "ZONES")
DEFAULT_COLUMNS = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK")


@dataclass(frozen=True, slots=True)
class Range:
    """Blocks first to last (inclusive) that are equal in what was asked for."""

    first: int
    last: int
    state: str
    node: int
    zones: str


def ranges(
    mm: Mm, columns: Sequence[str], split: Sequence[str] | None = None, *, every: bool = False
) -> Iterator[Range]:
    """Yield the ranges of blocks, merged as far as *split* allows, or the *columns*; with *every*, single blocks.

    A range of blocks that differ is shown as its first one is.
    """
    splitting = [name for name in SPLITTING if name in (columns if split is None else split)]
    wanted = "ZONES" in columns or "ZONES" in splitting
    current: Range | None = None
    for number in sorted(mm.blocks):
        block = mm.blocks[number]
        new = Range(number, number, block.state, block.nid, zones(mm, number) if wanted else "")
        if current is None:
            current = new
        elif not every and number == current.last + 1 and _same(current, new, splitting):
            current = replace(current, last=number)
        else:
            yield current
            current = new
    if current is not None:
        yield current


def _same(a: Range, b: Range, splitting: Sequence[str]) -> bool:
    return (
        (a.state == b.state or "STATE" not in splitting)  # removable says the same of all, since v5.8
        and (a.node == b.node or "NODE" not in splitting)
        and (a.zones == b.zones or "ZONES" not in splitting)
    )


def zones(mm: Mm, block_id: int) -> str:
    """Return the ZONES column: valid_zones with slashes, None where sysfs says none."""
    from memshell.drivers.base.memory.state import valid_zones

    return valid_zones(mm, block_id).replace("none", "None").replace(" ", "/")


def rows(
    mm: Mm,
    columns: Sequence[str],
    split: Sequence[str] | None = None,
    *,
    every: bool = False,
    plain_bytes: bool = False,
) -> list[dict[str, Any]]:
    """Return the lines as ``lsmem -J`` keys them, in *columns*; sizes are text, or *plain_bytes*."""
    size = mm.block_size
    found = []
    for item in ranges(mm, columns, split, every=every):
        length = (item.last - item.first + 1) * size
        values = {
            "RANGE": f"0x{item.first * size:016x}-0x{(item.last + 1) * size - 1:016x}",
            "SIZE": length if plain_bytes else human(length),
            "STATE": item.state,
            "REMOVABLE": item.state == "online",
            "BLOCK": str(item.first) if item.first == item.last else f"{item.first}-{item.last}",
            "NODE": item.node,
            "ZONES": item.zones,
        }
        found.append({name.lower(): values[name] for name in columns})
    return found


def summary(mm: Mm, *, plain_bytes: bool = False) -> str:
    """Return the three lines under the table."""
    online = sum(block.state == "online" for block in mm.blocks.values()) * mm.block_size
    offline = len(mm.blocks) * mm.block_size - online
    lines = (
        ("Memory block size:", mm.block_size),
        ("Total online memory:", online),
        ("Total offline memory:", offline),
    )
    if plain_bytes:
        return "\n".join(f"{label:<23} {size:>15}" for label, size in lines)
    return "\n".join(f"{label:<23} {human(size):>5}" for label, size in lines)


def human(size_bytes: int) -> str:
    """Return a size as util-linux writes it: the largest unit, with at most one decimal, 0B for nothing.

    >>> human(128 << 20), human(2304 << 20), human(0)
    ('128M', '2.3G', '0B')
    """
    exponent = min((size_bytes.bit_length() - 1) // 10, 6) if size_bytes else 0
    whole, rest = divmod(size_bytes, 1 << 10 * exponent)
    tenths = (rest * 10 + (1 << 10 * exponent) // 2) >> 10 * exponent
    if tenths == 10:
        whole, tenths = whole + 1, 0
    return f"{whole}{f'.{tenths}' if tenths else ''}{'BKMGTPE'[exponent]}"
