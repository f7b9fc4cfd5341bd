"""The one door for a machine's state: what was said of it is read again from the model, and holds together.

What differs is named; what no kernel can be in is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from memshell.drivers.base.memory.state import valid_zones
from memshell.errors import RecordingError
from memshell.mm.invariants import violations
from memshell.mm.mmzone import ZONE_BY_LABEL, Zone, ZoneType
from memshell.mm.state import Mm

NAMED = 5  # differences of a kind; of more the number


def judge(mm: Mm, state: Mapping[str, Any]) -> list[str]:
    """Return what *state* said and the booted model does not show. Raises `RecordingError` for a state that no kernel is in."""
    broken = violations(mm)
    if broken:
        more = f"; and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise RecordingError(f"its parts do not go together: {broken[0]}{more}")
    return [
        *_some(_zones(mm, state)),
        *_total(mm, state),
        *_some(_blocks(mm, state)),
        *_some(_offline(mm, state)),
        *_some(_iomem(mm, state)),
    ]


def _some(found: Iterator[str]) -> list[str]:
    named = list(islice(found, NAMED))
    more = sum(1 for _ in found)
    return [*named, f"and {more} more like this"] if more else named


def _zones(mm: Mm, state: Mapping[str, Any]) -> Iterator[str]:
    for said in state.get("zones", ()):
        kind = ZONE_BY_LABEL[said["zone"]]
        zone = mm.zones.get((said["node"], kind))
        if kind is ZoneType.DEVICE or (zone is None and not said["spanned"]):
            continue
        shown = {} if zone is None else {"spanned": zone.spanned, "present": zone.present, "managed": zone.managed}
        if zone is not None and zone.spanned:
            yield from _edges(mm, zone, f"zone.{said['node']}.{said['zone']}")
        for what, value in shown.items():
            if value != said[what]:
                yield f"zone.{said['node']}.{said['zone']}: {what} is {said[what]}, and {value} here"
        if zone is None:
            yield f"zone.{said['node']}.{said['zone']} is not here"


def _edges(mm: Mm, zone: Zone, name: str) -> Iterator[str]:
    own = [
        (a, b) for a, b, p in mm.pages.items(zone.start_pfn, zone.end_pfn) if (p.nid, p.zone) == (zone.nid, zone.type)
    ]
    section = mm.arch.pages_per_section
    if own and (own[0][0] - zone.start_pfn >= section or zone.end_pfn - own[-1][1] >= section):
        yield f"{name} spans {zone.start_pfn:#x}-{zone.end_pfn - 1:#x}, its pages are in {own[0][0]:#x}-{own[-1][1] - 1:#x}"


def _total(mm: Mm, state: Mapping[str, Any]) -> Iterator[str]:
    said, shown = state.get("meminfo_kb", {}).get("MemTotal"), mm.totalram_pages << mm.arch.page_shift >> 10
    if said is not None and abs(said - shown) * 50 >= shown:
        yield f"MemTotal is {said} kB, and {shown} kB here"


def _blocks(mm: Mm, state: Mapping[str, Any]) -> Iterator[str]:
    for text, said in state.get("memory_blocks", {}).items():
        block = mm.blocks.get(int(text))
        if block is None:
            yield f"memory{text} is not here: no RAM lies in it"
            continue
        online = said["state"] != "offline"
        if online != (block.state == "online"):
            yield f"memory{text} is {said['state']}, and {block.state} here"
        zone = said.get("valid_zones", "").split(" ")[0]
        if online and zone and zone != (label := valid_zones(mm, block.id)):
            yield f"memory{text}: valid_zones is {said['valid_zones']}, and {label} here"
        if said.get("node") not in (None, block.nid):
            yield f"memory{text} is of node {said['node']}, and of node {block.nid} here"
    for number in mm.blocks:
        if state.get("memory_blocks") and str(number) not in state["memory_blocks"]:
            yield f"memory{number} is not there, and is here: RAM lies in it"


def _offline(mm: Mm, state: Mapping[str, Any]) -> Iterator[str]:
    for text, said in state.get("memory_blocks", {}).items():
        block, zones = mm.blocks.get(int(text)), said.get("valid_zones", "")
        if block is not None and block.state == "offline" and zones and zones != (shown := valid_zones(mm, block.id)):
            yield f"memory{text} may go online to {zones}, and to {shown} here"


def _iomem(mm: Mm, state: Mapping[str, Any]) -> Iterator[str]:
    if "iomem" in state:
        shown = {(r.start, r.end, r.name) for r in mm.resources}
        said = {(start, end, name) for _, start, end, name in state["iomem"]}
        for start, end, name in sorted(said - shown):
            yield f"iomem: {start:#x}-{end:#x} {name} is not here"
