"""The model's rules on a real kernel's state: sums, frames, mappings and free lists that must go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memshell.capture.collect import page_size
from memshell.mm.page import KPF_BUDDY
from memshell.mm.ranges import RangeMap

DEVICES = ("Persistent Memory", "namespace", "dax")  # of iomem: mapped, and no memory blocks


@dataclass(frozen=True, slots=True)
class Complaint:
    """A rule that does not hold after a step."""

    step: int
    action: str
    rule: str
    text: str


@dataclass(slots=True)
class Seen:
    """A recorded step, and what the rules ask of it."""

    step: Mapping[str, Any]
    boot: Mapping[str, Any]  # the step after boot
    page: int

    @property
    def state(self) -> Mapping[str, Any]:
        """The state after the step."""
        state: Mapping[str, Any] = self.step["state"]
        return state

    def blocks(self, *, online: bool = False) -> RangeMap[int]:
        """Return the pfns that memory blocks cover, or those that are online."""
        pages, found = self.state["block_size_bytes"] // self.page, RangeMap[int]()
        for name, shown in self.state["memory_blocks"].items():
            if not online or shown["state"] == "online":
                found.set(int(name) * pages, (int(name) + 1) * pages, int(name))
        return found

    def hot(self) -> set[str]:
        """Return the blocks that were not there at boot."""
        return set(self.state["memory_blocks"]) - set(self.boot["state"]["memory_blocks"])


def check_recording(raw: Mapping[str, Any]) -> list[Complaint]:
    """Return what does not hold in the states of a recording."""
    steps = [step for step in raw["steps"] if "state" in step]
    page = page_size(raw["arch"], raw.get("config", {}), steps[0]["state"]) or 4096
    found = []
    for step in steps:
        seen = Seen(step, steps[0], page)
        for name, rule in RULES.items():
            found += [Complaint(step["n"], step["action"], name, text) for text in rule(seen)]
    return found


def _zone_sums(seen: Seen) -> Iterator[str]:
    """Free <= managed <= present <= spanned.  Source: include/linux/mmzone.h, struct zone."""
    for zone in seen.state["zones"]:
        name = f"node {zone['node']} {zone['zone']}"
        if not zone["free"] <= zone["managed"] <= zone["present"] <= zone["spanned"]:
            counts = ", ".join(f"{key} {zone[key]}" for key in ("spanned", "present", "managed", "free"))
            yield f"{name}: {counts}"


def _memtotal(seen: Seen) -> Iterator[str]:
    """MemTotal changes as the managed pages of all zones do.  Source: adjust_managed_page_count()."""

    def sums(step: Mapping[str, Any]) -> tuple[int, int]:
        state = step["state"]
        return state["meminfo_kb"]["MemTotal"], sum(zone["managed"] for zone in state["zones"]) * seen.page // 1024

    (total, managed), (was_total, was_managed) = sums(seen.step), sums(seen.boot)
    if total - was_total != managed - was_managed:
        yield f"MemTotal changed by {total - was_total} kB since boot, the managed pages by {managed - was_managed} kB"


def _movable_present(seen: Seen) -> Iterator[str]:
    """What a Movable zone has present is its online blocks."""
    pages = seen.state["block_size_bytes"] // seen.page
    for zone in seen.state["zones"]:
        shown = seen.state["memory_blocks"].values()
        blocks = [b for b in shown if b["state"] == "online" and b.get("valid_zones") == zone["zone"]]
        if zone["zone"] == "Movable" and all("node" in b for b in shown):
            own = sum(b["node"] == zone["node"] for b in blocks) * pages
            if own != zone["present"]:
                yield f"node {zone['node']} Movable has {zone['present']} pages present, its online blocks {own}"


def _blocks_in_ram(seen: Seen) -> Iterator[str]:
    """A memory block lies in System RAM."""
    ram = RangeMap[bool]()
    for _, start, end, name in seen.state.get("iomem", ()):
        if "System RAM" in name:
            ram.set(start // seen.page, -(-(end + 1) // seen.page), value=True)
    hot = seen.hot()
    for start, end, number in seen.blocks().items() if ram else ():
        if str(number) in hot and not any(ram.items(start, end)):
            yield f"memory{number} is in no System RAM resource"


def _free_lists(seen: Seen) -> Iterator[str]:
    """Free blocks are aligned to their order, online, and as many pages as /proc/kpageflags shows."""
    online = seen.blocks(online=True)
    flagged = sum(count for _, count, flags in seen.step.get("kpageflags_runs", ()) if flags & KPF_BUDDY)
    listed = 0
    for entry in seen.step.get("buddy", ()):
        for pfn, order, count in entry["chunks"]:
            listed += count << order
            if pfn % (1 << order):
                yield f"the free block {pfn:#x} is not aligned to its order {order}"
            if any(online.gaps(pfn, pfn + (count << order))):
                yield f"the free block {pfn:#x} of order {order} is in memory that is not online"
    if "buddy" in seen.step and seen.step.get("kpageflags_runs") and listed != flagged:
        yield f"the free lists have {listed} pages, kpageflags {flagged}"


def _mappings(seen: Seen) -> Iterator[str]:
    """No page table maps memory that is gone, and no memmap lies in it."""
    blocks = seen.blocks()
    for _, first, last, name in seen.state.get("iomem", ()):
        if name.startswith(DEVICES):
            blocks.set(first // seen.page, (last + 1) // seen.page, 0)
    for entry in seen.step.get("page_tables", ()):
        for _, count, size, pfn in entry["direct_map"]["leaves"]:
            if any(blocks.gaps(pfn, pfn + count * size // seen.page)):
                yield f"the direct map has pages from {pfn:#x} on that no memory block has"
        for va, count, size, pfn in entry["vmemmap"]["leaves"]:
            if any(blocks.gaps(pfn, pfn + count * size // seen.page)):
                yield f"the memmap at {va:#x} lies in pages from {pfn:#x} on that are gone"


def _memmap_counter(seen: Seen) -> Iterator[str]:
    """nr_memmap_pages changes by the pages behind the memmap of what was added.  Since commit 15995a352474, v6.11."""
    counted = seen.state.get("vmstat", {}).get("nr_memmap_pages")
    if (
        counted is None
        or not _all_read(seen)
        or any(z["zone"] == "Device" and z["spanned"] for z in seen.state["zones"])
    ):
        return
    change, pages = counted - seen.boot["state"]["vmstat"]["nr_memmap_pages"], seen.step["vmemmap_pages"]
    if change != pages:
        yield f"nr_memmap_pages changed by {change} since boot, the memmap of what was added has {pages} pages"


def _all_read(seen: Seen) -> bool:
    """Whether the page tables of all that was added were read."""
    pages = seen.state["block_size_bytes"] // seen.page
    ranges = [entry["range"] for entry in seen.step.get("page_tables", ())]
    return bool(ranges) and all(any(a <= int(name) * pages < b for a, b in ranges) for name in seen.hot())


RULES: Mapping[str, Callable[[Seen], Iterator[str]]] = {
    "zone_sums": _zone_sums,
    "memtotal": _memtotal,
    "movable_present": _movable_present,
    "blocks_in_ram": _blocks_in_ram,
    "free_lists": _free_lists,
    "mappings": _mappings,
    "nr_memmap_pages": _memmap_counter,
}
