"""The view of util-linux's lsmem: memory blocks, neighbours with equal attributes in one line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memshell.mm.memory_hotplug.memmap_on_memory import get_memmap_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from memshell.mm.state import Mm

# What can split a range. Source: lsmem(1), --split.
SPLITTING = ("STATE", "REMOVABLE", "NODE", "ZONES", "CONFIGURED", "MEMMAP-ON-MEMORY")
DEFAULT_COLUMNS = ("RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK")


@dataclass(frozen=True, slots=True)
class Range:
    """Blocks first to last (inclusive) that are equal in what was asked for.

    *node*: -1 for a block that is not there, only listed in /sys/firmware/memory. *configured*, *on_memory*: None where
    nothing is listed there.
    """

    first: int
    last: int
    state: str
    node: int
    zones: str
    configured: bool | None = None
    on_memory: bool | None = None


def _nothing(_number: int) -> Mapping[str, Any]:
    return {}


def ranges(
    mm: Mm,
    columns: Sequence[str],
    split: Sequence[str] | None = None,
    *,
    every: bool = False,
    more: Callable[[int], Mapping[str, Any]] = _nothing,
) -> Iterator[Range]:
    """Yield the ranges of blocks, merged as far as *split* allows, or the *columns*; with *every*, single blocks.

    *more* gives what else a block is asked for: blocks that differ in it stay apart.
    A range of blocks that differ is shown as its first one is.
    """
    splitting = [name for name in SPLITTING if name in (columns if split is None else split)]
    wanted = "ZONES" in columns or "ZONES" in splitting
    firmware = mm.arch.firmware_memory(mm) or {}
    current: Range | None = None
    for number in sorted({*mm.blocks, *firmware}) if firmware else sorted(mm.blocks):
        new = _single(mm, number, firmware, zoned=wanted)
        if current is None:
            current = new
        elif (
            not every
            and number == current.last + 1
            and _same(current, new, splitting)
            and more(current.first) == more(number)
        ):
            current = replace(current, last=number)
        else:
            yield current
            current = new
    if current is not None:
        yield current


def _single(mm: Mm, number: int, firmware: Mapping[int, tuple[bool, bool]], *, zoned: bool) -> Range:
    block, listed = mm.blocks.get(number), firmware.get(number, (None, None))
    if block is None:
        return Range(number, number, "offline", -1, "", *listed)
    return Range(number, number, block.state, block.nid, zones(mm, number) if zoned else "", *listed)


def _same(a: Range, b: Range, splitting: Sequence[str]) -> bool:
    return (
        (a.state == b.state or "STATE" not in splitting)  # removable says the same of all, since v5.8
        and (a.node == b.node or "NODE" not in splitting)
        and (a.zones == b.zones or "ZONES" not in splitting)
        and (a.configured == b.configured or "CONFIGURED" not in splitting)
        and (a.on_memory == b.on_memory or "MEMMAP-ON-MEMORY" not in splitting)
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
    more: Callable[[int], Mapping[str, Any]] = _nothing,
) -> list[dict[str, Any]]:
    """Return the lines as ``lsmem -J`` keys them, in *columns*; sizes are text, or *plain_bytes*."""
    size = mm.block_size
    found = []
    for item in ranges(mm, columns, split, every=every, more=more):
        length = (item.last - item.first + 1) * size
        values = {
            "RANGE": f"0x{item.first * size:016x}-0x{(item.last + 1) * size - 1:016x}",
            "SIZE": length if plain_bytes else human(length),
            "STATE": item.state,
            "REMOVABLE": item.state == "online",
            "BLOCK": str(item.first) if item.first == item.last else f"{item.first}-{item.last}",
            "NODE": None if item.node < 0 else item.node,
            "ZONES": item.zones,
            "CONFIGURED": item.configured,
            "MEMMAP-ON-MEMORY": item.on_memory,
        }
        found.append({**{name.lower(): values[name] for name in columns}, **more(item.first)})
    return found


def summary(mm: Mm, *, plain_bytes: bool = False) -> str:
    """Return the lines under the table; what is deconfigured counts as offline.

    Only where memory is configured by hand the parameter's line stands there: util-linux 2.42 shows both.
    """
    firmware = mm.arch.firmware_memory(mm)
    online = sum(block.state == "online" for block in mm.blocks.values()) * mm.block_size
    offline = len({*mm.blocks, *(firmware or ())}) * mm.block_size - online
    sizes = (
        ("Memory block size:", mm.block_size),
        ("Total online memory:", online),
        ("Total offline memory:", offline),
    )
    lines = [(label, str(size) if plain_bytes else human(size)) for label, size in sizes]
    if firmware is not None:
        parameter = get_memmap_mode(mm)
        lines.append(("Memmap on memory parameter:", {"Y": "yes", "N": "no"}.get(parameter, parameter)))
    label_width, width = 23 if firmware is None else 32, 15 if plain_bytes else 5
    return "\n".join(f"{label:<{label_width}} {text:>{width}}" for label, text in lines)


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
