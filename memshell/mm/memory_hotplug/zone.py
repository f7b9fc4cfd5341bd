"""mm/memory_hotplug.c: the spans and counts of a zone and its node while pages come and go."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.mm_init.zones import init_currently_empty_zone, memmap_init_range
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Page
from memshell.mm.state import SECTION_ONLINE, Mm, ZoneKey


@mirrors("mm/memory_hotplug.c:adjust_present_page_count", "v6.12", "complete")
def adjust_present_page_count(mm: Mm, key: ZoneKey, group: int | None, nr_pages: int, *, early: bool = False) -> None:
    """Add *nr_pages* (which may be negative) to the present pages of the zone, its node and the group."""
    zone, node = mm.zones[key], mm.nodes[key[0]]
    if mm.trace is not None:
        mm.note(
            f"{key[1].label} present {zone.present} {nr_pages:+} = {zone.present + nr_pages}, managed {zone.managed}"
        )
    mm.zones[key] = zone._replace(
        present=zone.present + nr_pages, present_early=zone.present_early + (nr_pages if early else 0)
    )
    mm.nodes[key[0]] = node._replace(present=node.present + nr_pages)
    if group is not None:
        g = mm.groups[group]
        if key[1] is ZoneType.MOVABLE:
            mm.groups[group] = g._replace(present_movable=g.present_movable + nr_pages)
        else:
            mm.groups[group] = g._replace(present_kernel=g.present_kernel + nr_pages)


@mirrors("mm/memory_hotplug.c:move_pfn_range_to_zone", "v6.12", "complete")
def move_pfn_range_to_zone(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int, migratetype: MigrateType) -> None:
    """Grow the zone and the node over [start_pfn, +nr_pages) and initialise its struct pages."""
    zone, node = mm.zones[key], mm.nodes[key[0]]
    mm.enter("clear_zone_contiguous")
    if not zone.spanned:
        init_currently_empty_zone(mm, key)
    start, spanned = _grown(zone.start_pfn, zone.spanned, start_pfn, nr_pages)
    mm.change_zone(key, start_pfn=start, spanned=spanned)
    if mm.trace is not None:
        mm.note(f"{key[1].label} spans {start:#x}-{start + spanned - 1:#x}, {spanned} pages (was {zone.spanned})")
    start, spanned = _grown(node.start_pfn, node.spanned, start_pfn, nr_pages)
    mm.nodes[key[0]] = node._replace(start_pfn=start, spanned=spanned)
    memmap_init_range(mm, key, start_pfn, nr_pages, migratetype)
    mm.enter("set_zone_contiguous")


def _grown(start: int, spanned: int, start_pfn: int, nr_pages: int) -> tuple[int, int]:
    if not spanned:
        return start_pfn, nr_pages
    first = min(start, start_pfn)
    return first, max(start + spanned, start_pfn + nr_pages) - first


def shrink_zone_span(mm: Mm, key: ZoneKey, start_pfn: int, end_pfn: int) -> None:
    """Take [start_pfn, end_pfn) off an edge of the zone's span, on to the next online page of the zone.

    In the middle nothing changes: the hole stays in the span. Source: mm/memory_hotplug.c:shrink_zone_span. The kernel
    steps by subsections; runs give the same pfns.
    """
    zone = mm.zones[key]
    # Where no online page of the zone is left beyond the edge, start and span become 0.
    if zone.start_pfn == start_pfn:
        pfn = next((a for a, _, page in mm.pages.items(end_pfn, zone.end_pfn) if _counts(mm, a, page, key)), None)
        change = (
            {"start_pfn": pfn, "spanned": zone.end_pfn - pfn} if pfn is not None else {"start_pfn": 0, "spanned": 0}
        )
    elif zone.end_pfn == end_pfn:
        end = next(
            (b for a, b, page in mm.pages.items_reversed(zone.start_pfn, start_pfn) if _counts(mm, a, page, key)), None
        )
        change = {"spanned": end - zone.start_pfn} if end is not None else {"start_pfn": 0, "spanned": 0}
    else:
        return
    mm.change_zone(key, **change)


def _counts(mm: Mm, pfn: int, page: Page, key: ZoneKey) -> bool:
    return (page.nid, page.zone) == key and pfn_to_online_page(mm, pfn)


def update_pgdat_span(mm: Mm, nid: int) -> None:
    """Set the node's span to the union of its zones' spans."""
    spans = [zone for (node, _), zone in mm.zones.items() if node == nid and zone.spanned]
    start = min((zone.start_pfn for zone in spans), default=0)
    end = max((zone.end_pfn for zone in spans), default=0)
    mm.nodes[nid] = mm.nodes[nid]._replace(start_pfn=start, spanned=end - start)


@mirrors("mm/memory_hotplug.c:remove_pfn_range_from_zone", "v6.12", "complete")
def remove_pfn_range_from_zone(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int) -> None:
    """Shrink the zone and the node; a ZONE_DEVICE span never shrinks. Until v5.5 the removal of the sections did it."""
    if key[1] is ZoneType.DEVICE:
        return
    mm.enter("clear_zone_contiguous")
    before = mm.zones[key].spanned
    if not mm.seam.shrink_zone_span(mm, key, start_pfn, start_pfn + nr_pages):
        return
    if mm.trace is not None:
        zone = mm.zones[key]
        mm.note(f"{key[1].label} spans {zone.spanned} pages from {zone.start_pfn:#x} (was {before})")
    update_pgdat_span(mm, key[0])
    mm.enter("set_zone_contiguous")


def pfn_to_online_page(mm: Mm, pfn: int) -> bool:
    """Whether *pfn* has a struct page that may be looked at: its section is online."""
    return bool((mm.sections.get(pfn) or 0) & SECTION_ONLINE)
