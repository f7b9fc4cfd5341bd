"""mm/memory_hotplug.c: which zone a block is onlined to (contig-zones and auto-movable)."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.mmzone import MemoryGroup, ZoneType
from memshell.mm.pfn import align_down
from memshell.mm.state import Mm


def default_kernel_zone_for_pfn(mm: Mm, nid: int, start_pfn: int, nr_pages: int) -> ZoneType:
    """Return the first zone below ZONE_NORMAL whose span meets the range, else ZONE_NORMAL."""
    for kind in (ZoneType.DMA, ZoneType.DMA32):
        zone = mm.zones.get((nid, kind))
        if zone is not None and zone.intersects(start_pfn, nr_pages):
            return kind
    return ZoneType.NORMAL


def default_zone_for_pfn(mm: Mm, nid: int, start_pfn: int, nr_pages: int) -> ZoneType:
    """Return the zone that the range extends: the kernel zone, unless it meets only ZONE_MOVABLE (contig-zones)."""
    kernel = default_kernel_zone_for_pfn(mm, nid, start_pfn, nr_pages)
    in_kernel = mm.zones[nid, kernel].intersects(start_pfn, nr_pages)
    in_movable = mm.zones[nid, ZoneType.MOVABLE].intersects(start_pfn, nr_pages)
    if mm.trace is not None:
        mm.note(
            f"contig-zones: inside the span of {kernel.label}: {'yes' if in_kernel else 'no'}, "
            f"of Movable: {'yes' if in_movable else 'no'}"
        )
    # The one zone whose span the range meets; where it meets both or none, the parameter movable_node decides.
    if in_kernel != in_movable:
        return kernel if in_kernel else ZoneType.MOVABLE
    return ZoneType.MOVABLE if mm.params.movable_node else kernel


def _room(mm: Mm, nid: int | None, need: int, group: MemoryGroup | None) -> bool:
    """auto_movable_can_online_movable(): whether *need* more movable pages keep the ratio, on one node or on all."""
    ratio = mm.params.auto_movable_ratio
    early = movable = 0
    for (node, kind), zone in mm.zones.items():
        if nid in (None, node) and zone.present and kind is not ZoneType.DEVICE:
            if kind is ZoneType.MOVABLE:
                movable += zone.present
            else:
                early += zone.present_early
    wanted = 0
    for other in mm.groups.values():
        if other.static or other == group or (nid is not None and other.nid != nid):
            continue
        required = other.present_movable * 100 // ratio - other.present_kernel
        wanted += max(required, 0)
        movable -= other.present_movable
    if early <= wanted:
        return False
    early -= wanted
    if group is not None and not group.static:
        early += group.present_kernel
    if mm.trace is not None:
        mm.note(f"auto-movable: {movable} + {need} movable pages against {ratio} % of {early} early kernel pages")
    return movable + need <= ratio * early // 100


def auto_movable_zone_for_pfn(mm: Mm, nid: int, group_id: int | None, start_pfn: int, nr_pages: int) -> ZoneType:
    """Return ZONE_MOVABLE while the ratio of movable to early kernel memory allows it. Source: auto_movable_zone_for_pfn."""
    kernel = default_kernel_zone_for_pfn(mm, nid, start_pfn, nr_pages)
    group = mm.groups.get(group_id) if group_id is not None else None
    if mm.params.auto_movable_ratio == 0:
        return kernel
    unit, online = nr_pages, 0
    if group is not None and group.static:
        if group.present_kernel:
            return kernel
        unit, online = group.pages, group.present_movable
    elif group is not None and group.pages != nr_pages:
        unit = group.pages
        first = align_down(start_pfn, unit)
        for start, end, page in mm.pages.items(first, first + unit):
            if page.zone is not ZoneType.MOVABLE:
                return kernel
            online += end - start
    need = unit - online
    if not _room(mm, None, need, group):
        return kernel
    if mm.params.auto_movable_numa_aware and not _room(mm, nid, need, group):
        return kernel
    return ZoneType.MOVABLE


@mirrors("mm/memory_hotplug.c:zone_for_pfn_range", "v6.12", "complete")
def zone_for_pfn_range(
    mm: Mm, online_type: str, nid: int, group: int | None, start_pfn: int, nr_pages: int
) -> ZoneType:
    """Return the zone that onlining [start_pfn, +nr_pages) with *online_type* goes to."""
    if mm.features.bug.zone_for_pfn_range_32bit:
        start_pfn &= 0xFFFFFFFF
    if online_type == "online_kernel":
        return default_kernel_zone_for_pfn(mm, nid, start_pfn, nr_pages)
    if online_type == "online_movable":
        return ZoneType.MOVABLE
    if mm.params.online_policy == "auto-movable" and mm.features.mhp.memory_groups:
        return auto_movable_zone_for_pfn(mm, nid, group, start_pfn, nr_pages)
    return default_zone_for_pfn(mm, nid, start_pfn, nr_pages)
