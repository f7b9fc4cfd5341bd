"""Compare a recorded state with the model's: zones, blocks, iomem, counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from memshell.drivers.base.memory.state import valid_zones
from memshell.mm.mmzone import ZONE_BY_LABEL, MigrateType, ZoneType
from memshell.mm.pfn import KiB
from memshell.mm.state import Mm
from memshell.verify.quantity import Quantity, compare
from memshell.views.proc import direct_map_bytes

PAGEBLOCK_NAMES = {
    "Unmovable": MigrateType.UNMOVABLE,
    "Movable": MigrateType.MOVABLE,
    "Reclaimable": MigrateType.RECLAIMABLE,
}


class Before(NamedTuple):
    """What was there before a step: the recorded state and the machine after boot, and the state that was recorded last."""

    boot: dict[str, Any]
    mm: Mm
    state: dict[str, Any]


def state_quantities(step: dict[str, Any], mm: Mm, before: Before) -> Iterator[Quantity]:
    """Yield the quantities of one step's recorded state."""
    state = step["state"]
    yield from _meminfo(step, mm, before)
    yield from _zones(step, mm)
    yield from _blocks(step, mm)
    if "iomem" in state:
        yield compare(
            step,
            "iomem",
            _depths(state["iomem"]),
            _depths([[r.depth, r.start, r.end, r.name] for r in mm.resources if not r.name.startswith("virtio")]),
        )
    for name in ("nr_memmap_pages", "nr_memmap_boot_pages"):
        if name in state.get("vmstat", {}):
            yield compare(step, f"vmstat.{name}", state["vmstat"][name], mm.counters.get(name))
    yield from _pageblocks(step, mm)


def _depths(lines: list[list[Any]]) -> list[list[Any]]:
    return sorted([depth, start, end, name] for depth, start, end, name in lines)


def _meminfo(step: dict[str, Any], mm: Mm, before: Before) -> Iterator[Quantity]:
    meminfo, boot = step["state"].get("meminfo_kb", {}), before.boot.get("meminfo_kb", {})
    if "MemTotal" in meminfo:
        # Counted from boot: s390's 6.1 has 6 pages in MemTotal that are managed by no zone.
        change = (mm.totalram_pages - before.mm.totalram_pages) << mm.arch.page_shift >> 10
        yield compare(step, "meminfo.MemTotal", meminfo["MemTotal"], boot["MemTotal"] + change)
    for name, size in mm.arch.direct_map_counters().items():
        if name not in meminfo:
            continue
        change = (direct_map_bytes(mm, size) - direct_map_bytes(before.mm, size)) // KiB
        quantity = compare(step, f"meminfo.{name}", meminfo[name], boot[name] + change)
        yield _less_split(quantity, step, before) if name == "DirectMap2M" else quantity


def _less_split(quantity: Quantity, step: dict[str, Any], before: Before) -> Quantity:
    """Take off the 2M leaves of boot memory that were split: text of modules does that, nothing here predicts when.

    What the step before shows is known; where only the step's own DirectMap4k tells, the quantity is given.
    """

    def split(state: dict[str, Any]) -> int:
        small = [one.get("meminfo_kb", {}).get("DirectMap4k", 0) for one in (state, before.boot)]
        return int(small[0]) - int(small[1])

    known, own = split(before.state), split(step["state"])
    first = compare(step, quantity.name, quantity.recorded, quantity.predicted - known)
    second = compare(step, quantity.name, quantity.recorded, quantity.predicted - own)
    if first.verdict == "equal" or second.verdict != "equal":
        return first
    return second._replace(verdict="given", given="leaves were split, says its own DirectMap4k")


def _zones(step: dict[str, Any], mm: Mm) -> Iterator[Quantity]:
    for recorded in step["state"]["zones"]:
        zone = mm.zones.get((recorded["node"], ZONE_BY_LABEL[recorded["zone"]]))
        prefix = f"zone.{recorded['node']}.{recorded['zone']}"
        for name in ("start_pfn", "spanned", "present", "managed"):
            if name == "start_pfn" and not recorded.get("spanned"):
                continue
            if name in recorded:
                yield compare(step, f"{prefix}.{name}", recorded[name], getattr(zone, name) if zone else None)


def _blocks(step: dict[str, Any], mm: Mm) -> Iterator[Quantity]:
    state = step["state"]
    if "block_size_bytes" in state:
        yield compare(step, "block_size_bytes", state["block_size_bytes"], mm.block_size)
    recorded = state.get("memory_blocks")
    if recorded is None:
        return
    yield compare(step, "blocks", sorted(map(int, recorded)), sorted(mm.blocks))
    for number, shown in recorded.items():
        block = mm.blocks.get(int(number))
        if block is None:
            continue
        yield compare(step, f"block.{number}.state", shown["state"], block.state)
        if "valid_zones" in shown:
            yield compare(step, f"block.{number}.valid_zones", shown["valid_zones"], valid_zones(mm, block.id))
        if "phys_index" in shown:
            yield compare(step, f"block.{number}.phys_index", shown["phys_index"], block.id)


def _pageblocks(step: dict[str, Any], mm: Mm) -> Iterator[Quantity]:
    """Compare the pageblocks of a hot-added ZONE_MOVABLE by migratetype; kernel zones' depend on what lives there."""
    for recorded in step["state"].get("pageblocks", ()):
        if recorded["zone"] != "Movable" or not _present(mm, recorded["node"]):
            continue
        size = mm.arch.pageblock_nr_pages
        counts = dict.fromkeys(PAGEBLOCK_NAMES.values(), 0)
        for start, end, page in mm.pages.items():
            if (page.nid, page.zone) == (recorded["node"], ZoneType.MOVABLE):
                for a, b, kind in mm.pageblocks.items(start, end):
                    counts[kind] = counts.get(kind, 0) + b - a
        predicted = {name: counts[kind] // size for name, kind in PAGEBLOCK_NAMES.items()}
        yield compare(
            step, f"pageblocks.{recorded['node']}.Movable", {n: recorded[n] for n in PAGEBLOCK_NAMES}, predicted
        )


def _present(mm: Mm, nid: int) -> int:
    zone = mm.zones.get((nid, ZoneType.MOVABLE))
    return zone.present if zone is not None else 0
