"""mm/mm_init.c: where ZONE_MOVABLE begins when the command line asks for one: kernelcore=, movablecore=."""

from __future__ import annotations

from dataclasses import replace

from memshell.arch import BootMemory, BootZone
from memshell.errors import UsageError
from memshell.mm import mirrors
from memshell.mm.mmzone import ZoneType
from memshell.mm.pfn import align_up, format_size, memparse
from memshell.mm.state import Mm


def core_pages(key: str, text: str, total: int, page_shift: int) -> int:
    """Return the pages that kernelcore= or movablecore= asks for: a size, or N% of all. Source: mm/mm_init.c:cmdline_parse_core.

    Raises `UsageError`.
    """
    if not text:
        return 0
    if text.endswith("%"):
        if not text[:-1].isdecimal() or int(text[:-1]) > 100:
            raise UsageError(f"{key}={text} cannot be", hint="a size, or N% of the memory")
        return total * int(text[:-1]) // 100
    if text == "mirror":
        raise UsageError(f"{key}=mirror needs memory that the firmware mirrors, which is not played")
    return memparse(text) >> page_shift


@mirrors(
    "mm/mm_init.c:find_zone_movable_pfns_for_nodes", "v6.12", "simplified", "no hotpluggable or mirrored boot memory"
)
def find_zone_movable_pfns_for_nodes(mm: Mm, memory: BootMemory) -> dict[int, int]:
    """Return the first pfn of ZONE_MOVABLE by node; empty where there is none.

    Each node keeps an equal share of what the kernel needs, as far as it has that much; what lies below the highest kernel
    zone counts and is never movable. movable_node makes the kernel ignore both words.
    """
    arch, params = mm.arch, mm.params
    total = sum(end - start for start, end, _ in memory.ram)
    kernelcore = core_pages("kernelcore", params.kernelcore, total, arch.page_shift)
    movablecore = core_pages("movablecore", params.movablecore, total, arch.page_shift)
    step = 1 << arch.max_order
    if movablecore:
        kernelcore = max(kernelcore, total - min(align_up(movablecore, step), total))
    if params.movable_node or not kernelcore or kernelcore >= total:
        return {}
    usable = max((zone for zone in memory.zones if zone.type is not ZoneType.MOVABLE), key=lambda zone: zone.type)
    found = _spread(memory, kernelcore, usable.start_pfn)
    starts = {nid: align_up(pfn, step) for nid, pfn in found.items()}
    ends = {nid: max(end for _, end, n in memory.ram if n == nid) for nid in starts}
    return {nid: pfn for nid, pfn in starts.items() if pfn < ends[nid]}


def _spread(memory: BootMemory, required: int, usable_start: int) -> dict[int, int]:
    """Give each node its share of the *required* pages, again until nothing is left or no node can take more."""
    nodes = sorted({nid for _, _, nid in memory.ram})
    found: dict[int, int] = {}
    usable_nodes = len(nodes)
    while usable_nodes:
        share = required // usable_nodes
        for nid in nodes:
            if required < share:
                share = required // usable_nodes
            required = _take_share(memory, found, nid, share, required, usable_start)
        usable_nodes -= 1
        if not (usable_nodes and required > usable_nodes):
            break
    return found


def _take_share(
    memory: BootMemory, found: dict[int, int], nid: int, share: int, required: int, usable_start: int
) -> int:
    """Move the node's border up by *share* pages of RAM; return what is still required."""
    for start, end, n in memory.ram:
        low = max(start, found.get(nid, 0))
        if n != nid or low >= end:
            continue
        below = max(min(end, usable_start) - low, 0)
        share, required = share - min(below, share), required - min(below, required)
        if end <= usable_start:
            found[nid] = end
            continue
        low = max(low, usable_start)
        size = min(end - low, share)
        found[nid] = low + size
        share, required = share - size, required - min(size, required)
        if not share:
            break
    return required


def with_zone_movable(mm: Mm, memory: BootMemory) -> BootMemory:
    """Return *memory* with the end of its nodes in ZONE_MOVABLE, as the command line asks. Raises `UsageError`.

    What boot took from the end of the memory stays there, reserved: such a block never goes offline.
    """
    params = mm.params
    if not params.kernelcore and not params.movablecore:
        return memory
    starts = find_zone_movable_pfns_for_nodes(mm, memory)
    if not starts:
        asked = f"kernelcore={params.kernelcore}" if params.kernelcore else f"movablecore={params.movablecore}"
        why = "with movable_node" if params.movable_node else "on this machine"
        raise UsageError(f"{asked} makes no ZONE_MOVABLE {why}", hint="less than all of the memory")
    zones: list[BootZone] = []
    for zone in memory.zones:
        start = starts.get(zone.nid, zone.start_pfn + zone.spanned)
        if start < zone.start_pfn + zone.spanned:
            below = [other for other in zones if other.nid == zone.nid]
            zones = [other for other in zones if other.nid != zone.nid] + _cut(mm, memory, zone, start, below)
        else:
            zones.append(zone)
    return replace(memory, zones=tuple(zones))


def _cut(mm: Mm, memory: BootMemory, zone: BootZone, start: int, below: list[BootZone]) -> list[BootZone]:
    """Return the node's zones with what *zone* has from *start* on in ZONE_MOVABLE; the kernel uses those *below* too."""
    end, order = zone.start_pfn + zone.spanned, mm.arch.max_order
    present = sum(max(min(b, end) - max(a, start), 0) for a, b, n in memory.ram if n == zone.nid)
    kept = min(memory.reserved_at_end, present)
    left = _free(zone) - (present - kept)
    movable = BootZone(
        zone.nid, ZoneType.MOVABLE, start, end - start, present, present - kept, largest(present - kept, order)
    )
    zones = list(below)
    if start > zone.start_pfn:
        managed = zone.managed - (present - kept)
        kernel = replace(zone, spanned=start - zone.start_pfn, present=zone.present - present, managed=managed, pcp=0)
        zones.append(replace(kernel, orders=largest(max(left, 0), order)))
    for at in range(len(below) - 1, -1, -1):
        take = min(max(-left, 0), _free(zones[at]))
        zones[at] = replace(zones[at], orders=largest(_free(zones[at]) - take, order), pcp=0) if take else zones[at]
        left += take
    if left < 0:
        short = format_size(-left << mm.arch.page_shift)
        text = f"the kernel has {short} more in use than is left outside of ZONE_MOVABLE"
        raise UsageError(text, hint="more kernelcore=, less movablecore=")
    return [*zones, movable]


def _free(zone: BootZone) -> int:
    return sum(count << order for order, count in enumerate(zone.orders)) + zone.pcp


def largest(free: int, max_order: int) -> tuple[int, ...]:
    """Return the fewest free blocks that *free* pages make, as counts by order.

    >>> largest(13, 2)
    (1, 0, 3)
    """
    return (*(free >> order & 1 for order in range(max_order)), free >> max_order)
