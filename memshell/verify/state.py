"""Compare a recorded state with the model's: zones, blocks, iomem, counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memshell.drivers.base.memory.state import valid_zones
from memshell.mm.mmzone import ZONE_BY_LABEL, MigrateType, ZoneType
from memshell.mm.pfn import KiB
from memshell.mm.state import Mm
from memshell.verify.quantity import Quantity, compare

PAGEBLOCK_NAMES = {
    "Unmovable": MigrateType.UNMOVABLE,
    "Movable": MigrateType.MOVABLE,
    "Reclaimable": MigrateType.RECLAIMABLE,
}


def state_quantities(step: dict[str, Any], mm: Mm, boot: tuple[dict[str, Any], Mm]) -> Iterator[Quantity]:
    """Yield the quantities of one step's recorded state."""
    state = step["state"]
    yield from _meminfo(step, mm, boot)
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


def _meminfo(step: dict[str, Any], mm: Mm, boot: tuple[dict[str, Any], Mm]) -> Iterator[Quantity]:
    meminfo = step["state"].get("meminfo_kb", {})
    if "MemTotal" in meminfo:
        # Counted from boot: s390's 6.1 has 6 pages in MemTotal that are managed by no zone.
        change = (mm.totalram_pages - boot[1].totalram_pages) << mm.arch.page_shift >> 10
        yield compare(step, "meminfo.MemTotal", meminfo["MemTotal"], boot[0]["meminfo_kb"]["MemTotal"] + change)
    split = meminfo.get("DirectMap4k", 0) - boot[0].get("meminfo_kb", {}).get("DirectMap4k", 0)
    for name, size in mm.arch.direct_map_counters().items():
        if name in meminfo:
            change = (direct_map_bytes(mm, size) - direct_map_bytes(boot[1], size)) // KiB
            if name == "DirectMap2M":  # modules that were loaded split 2M leaves of boot memory: an input
                change -= split
            yield compare(step, f"meminfo.{name}", meminfo[name], boot[0]["meminfo_kb"][name] + change)


def direct_map_bytes(mm: Mm, leaf_size: int) -> int:
    """Return the bytes of RAM that the direct map maps with leaves of one size."""
    return sum(end - start for start, end, leaf in mm.leaves.items() if leaf.owner == "ram" and leaf.size == leaf_size)


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
        if recorded["zone"] != "Movable" or not mm.zones[recorded["node"], ZoneType.MOVABLE].present:
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
