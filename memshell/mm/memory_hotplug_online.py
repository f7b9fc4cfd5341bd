"""mm/memory_hotplug.c, the half that onlines and offlines pages: zone spans, buddy, counters."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors, online_rfc
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.notifier import memory_notify
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc import alloc_pages, free_range, init_per_zone_wmark_min
from memshell.mm.page_isolation import (
    give_back,
    movable_runs,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from memshell.mm.pfn import order_of
from memshell.mm.sparse import offline_mem_sections, online_mem_sections, pfn_to_online_page
from memshell.mm.state import Mm, ZoneKey
from memshell.mm.vmemmap_rfc import marks_memmap

HERE = "mm/memory_hotplug.c"


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


@mirrors("mm/mm_init.c:init_currently_empty_zone", "v6.12", "complete")
def init_currently_empty_zone(mm: Mm, key: ZoneKey) -> None:
    """Prepare a zone that has no pages yet."""
    mm.change_zone(key, initialized=True)


@mirrors("mm/mm_init.c:memmap_init_range", "v6.12", "complete")
def memmap_init_range(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int, migratetype: MigrateType) -> None:
    """Initialise the struct pages: not given to the buddy yet, in the zone, every pageblock of *migratetype*."""
    owner = Owner.OFFLINE if mm.feature("memmap_init.page_offline") else Owner.RESERVED
    mm.pages.set(start_pfn, start_pfn + nr_pages, Page(owner, *key))
    mm.pageblocks.set(start_pfn, start_pfn + nr_pages, migratetype)
    if marks_memmap(mm):
        online_rfc.memmap_init_zone(mm, key, start_pfn, nr_pages)


@mirrors("mm/memory_hotplug.c:move_pfn_range_to_zone", "v6.12", "complete")
def move_pfn_range_to_zone(mm: Mm, key: ZoneKey, start_pfn: int, nr_pages: int, migratetype: MigrateType) -> None:
    """Grow the zone and the node over [start_pfn, +nr_pages) and initialise its struct pages."""
    zone, node = mm.zones[key], mm.nodes[key[0]]
    _leaf(mm, "clear_zone_contiguous")
    if not zone.spanned:
        init_currently_empty_zone(mm, key)
    start, spanned = _grown(zone.start_pfn, zone.spanned, start_pfn, nr_pages)
    mm.change_zone(key, start_pfn=start, spanned=spanned)
    if mm.trace is not None:
        mm.note(f"{key[1].label} spans {start:#x}-{start + spanned - 1:#x}, {spanned} pages (was {zone.spanned})")
    start, spanned = _grown(node.start_pfn, node.spanned, start_pfn, nr_pages)
    mm.nodes[key[0]] = node._replace(start_pfn=start, spanned=spanned)
    memmap_init_range(mm, key, start_pfn, nr_pages, migratetype)
    _leaf(mm, "set_zone_contiguous")


def _leaf(mm: Mm, name: str) -> None:
    """Name a kernel function that is entered here and changes nothing that is modelled."""
    if mm.trace is not None:
        mm.trace.leaf(name)


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
    if key[1] is ZoneType.DEVICE or mm.feature("zone.shrinks_at") != "offline":
        return
    _leaf(mm, "clear_zone_contiguous")
    before = mm.zones[key].spanned
    shrink_zone_span(mm, key, start_pfn, start_pfn + nr_pages)
    if mm.trace is not None:
        zone = mm.zones[key]
        mm.note(f"{key[1].label} spans {zone.spanned} pages from {zone.start_pfn:#x} (was {before})")
    update_pgdat_span(mm, key[0])
    _leaf(mm, "set_zone_contiguous")


@mirrors("mm/memory_hotplug.c:mhp_init_memmap_on_memory", "v6.12", "complete")
def mhp_init_memmap_on_memory(mm: Mm, pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """Give the pages that hold a block's memmap to the zone, as in use and unmovable."""
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.UNMOVABLE)
    mm.pages.set(pfn, pfn + nr_pages, Page(Owner.MEMMAP_SELF, *key))
    whole = nr_pages - nr_pages % mm.arch.pages_per_section
    if whole:
        online_mem_sections(mm, pfn, pfn + whole)


@mirrors("mm/memory_hotplug.c:mhp_deinit_memmap_on_memory", "v6.12", "complete")
def mhp_deinit_memmap_on_memory(mm: Mm, pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """Take the pages that hold a block's memmap out of the zone again."""
    whole = nr_pages - nr_pages % mm.arch.pages_per_section
    if whole:
        offline_mem_sections(mm, pfn, pfn + whole)
    mm.pages.delete(pfn, pfn + nr_pages)
    mm.pageblocks.delete(pfn, pfn + nr_pages)
    remove_pfn_range_from_zone(mm, key, pfn, nr_pages)


@mirrors("mm/page_alloc.c:__free_pages_core", "v6.12", "complete")
def free_pages_core(mm: Mm, pfn: int, order: int) -> None:
    """Give 2^order pages that the buddy never had to it, and count them as managed."""
    run = mm.pages.get(pfn)
    assert run is not None
    key = (run.nid, run.zone)
    free_range(mm, pfn, pfn + (1 << order))
    mm.change_zone(key, managed=mm.zones[key].managed + (1 << order))


@mirrors("mm/memory_hotplug.c:generic_online_page", "v6.12", "complete")
def generic_online_page(mm: Mm, pfn: int, order: int) -> None:
    """The default callback of online_pages_range()."""
    free_pages_core(mm, pfn, order)


def online_pages_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> int:
    """Free [start_pfn, end_pfn) in the largest aligned chunks, mark its sections online; return the pages present now.

    Without a trace the whole range is freed at once: the lists come out the same.
    """
    present = end_pfn - start_pfn
    if marks_memmap(mm):
        present = sum(online_rfc.online_pages_range(mm, start_pfn, end_pfn, key))
    elif mm.online_page_callback is not None:
        mm.online_page_callback(mm, start_pfn, end_pfn, key)
    elif mm.trace is None:
        free_range(mm, start_pfn, end_pfn)
        mm.change_zone(key, managed=mm.zones[key].managed + end_pfn - start_pfn)
    else:
        pfn = start_pfn
        while pfn < end_pfn:
            order = order_of(pfn, end_pfn - pfn, mm.arch.max_order)
            generic_online_page(mm, pfn, order)
            pfn += 1 << order
    online_mem_sections(mm, start_pfn, end_pfn)
    return present


@mirrors("mm/memory_hotplug.c:online_pages", "v6.12", "complete")
def online_pages(mm: Mm, pfn: int, nr_pages: int, key: ZoneKey, group: int | None) -> None:
    """Online [pfn, +nr_pages) to the zone.

    Raises EINVAL for borders that are not pageblock and section aligned, and the errno of a notifier that refuses
    MEM_GOING_ONLINE.
    """
    end_pfn = pfn + nr_pages
    if not nr_pages or pfn % mm.arch.pageblock_nr_pages or end_pfn % mm.arch.pages_per_section:
        raise KernelError(f"pfns {pfn:#x}-{end_pfn:#x} are not aligned", "EINVAL", where=f"{HERE}:online_pages")
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.MOVABLE)
    first_memory = not mm.nodes[key[0]].n_memory
    if first_memory and mm.feature("node_notifier"):
        _leaf(mm, "node_notify")
    try:
        memory_notify(mm, "MEM_GOING_ONLINE", pfn, nr_pages)
    except KernelError:
        memory_notify(mm, "MEM_CANCEL_ONLINE", pfn, nr_pages)
        mm.pages.delete(pfn, end_pfn)
        mm.pageblocks.delete(pfn, end_pfn)
        remove_pfn_range_from_zone(mm, key, pfn, nr_pages)
        raise
    if mm.feature("mhp.restrictions"):
        online_rfc.require_resource(mm, pfn, nr_pages)
    fresh = not mm.zones[key].present
    if not mm.zones[key].pageset and fresh:
        _leaf(mm, "setup_zone_pageset")
        mm.change_zone(key, pageset=True)
    adjust_present_page_count(mm, key, group, online_pages_range(mm, pfn, end_pfn, key))
    mm.nodes[key[0]] = mm.nodes[key[0]]._replace(n_memory=True)
    if fresh:
        _leaf(mm, "build_all_zonelists")
    undo_isolate_page_range(mm, pfn, end_pfn)
    init_per_zone_wmark_min(mm)
    _leaf(mm, "kswapd_run")
    _leaf(mm, "kcompactd_run")
    if first_memory and mm.feature("node_notifier"):
        _leaf(mm, "node_notify")
    _leaf(mm, "writeback_set_ratelimit")
    memory_notify(mm, "MEM_ONLINE", pfn, nr_pages)


def _stuck(mm: Mm, text: str, function: str) -> KernelError:
    """Return what ends a loop: a signal, EINTR; or EBUSY where it gives up (bug.offline_retries_forever off)."""
    if mm.feature("bug.offline_retries_forever"):
        return KernelError(f"{text}: retried until a signal", "EINTR", where=f"{HERE}:{function}")
    return KernelError(text, "EBUSY", where=f"{HERE}:{function}")


def migrate_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """Move every movable page of the range elsewhere: scan_movable_pages() and do_migrate_range() until none is left.

    Pages go to other nodes with memory, to the own node only when there is none. A pinned page, or no room, makes the
    kernel retry until a signal: EINTR.
    """
    if marks_memmap(mm):
        online_rfc.scan_marked_pages(mm, start_pfn, end_pfn)
    runs = movable_runs(mm, start_pfn, end_pfn)
    if runs:
        _leaf(mm, "do_migrate_range")
    others = tuple(n for n, node in sorted(mm.nodes.items()) if n != key[0] and node.n_memory)
    for start, end, page in runs:
        if page.owner is Owner.PINNED:
            raise _stuck(mm, f"pfn {start:#x} is pinned and cannot be migrated", "do_migrate_range")
        pfn = start
        while pfn < end:
            order = order_of(pfn, end - pfn, mm.arch.pageblock_order)
            while (
                alloc_pages(mm, order, page.owner, nid=key[0], movable=True, tag=page.tag, nodes=others or None) is None
            ):
                if not order:
                    raise _stuck(mm, f"no room to migrate pfn {pfn:#x} to", "do_migrate_range")
                order -= 1
            pfn += 1 << order
        mm.pages.set(start, end, Page(Owner.FREE, *key))
        mm.event(
            "PagesMigrated",
            f"{HERE}:do_migrate_range",
            f"{end - start} pages from pfn {start:#x}",
            start=start,
            pages=end - start,
        )


@mirrors("mm/page_alloc.c:__offline_isolated_pages", "v6.12", "complete")
def offline_isolated_pages(mm: Mm, start_pfn: int, end_pfn: int) -> int:
    """Forget the isolated free pages of the range; return how many were not PageOffline already."""
    offline_mem_sections(mm, start_pfn, end_pfn)
    already = sum(b - a for a, b, page in mm.pages.items(start_pfn, end_pfn) if page.owner is Owner.OFFLINE)
    mm.pages.delete(start_pfn, end_pfn)
    mm.pageblocks.delete(start_pfn, end_pfn)
    return end_pfn - start_pfn - already


def _take_out(mm: Mm, start_pfn: int, end_pfn: int) -> tuple[int, int]:
    """Take the isolated pages out; return how many managed and how many present pages go with them."""
    if marks_memmap(mm):
        unlinked, skipped = online_rfc.offline_isolated_pages(mm, start_pfn, end_pfn)
        offline_isolated_pages(mm, start_pfn, end_pfn)
        return unlinked, unlinked + skipped
    managed, nr_pages = offline_isolated_pages(mm, start_pfn, end_pfn), end_pfn - start_pfn
    return nr_pages if mm.feature("bug.offline_counts_page_offline") else managed, nr_pages


def _isolate(mm: Mm, start_pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """The part of offline_pages() that can fail: isolation, the notifier, migration; on an error all is as before."""
    end_pfn = start_pfn + nr_pages
    _leaf(mm, "lru_cache_disable")
    if marks_memmap(mm) and online_rfc.only_marked(mm, start_pfn, end_pfn):
        return
    start_isolate_page_range(mm, start_pfn, end_pfn, key)
    try:
        memory_notify(mm, "MEM_GOING_OFFLINE", start_pfn, nr_pages)
        migrate_range(mm, start_pfn, end_pfn, key)
        _leaf(mm, mm.feature("offline.dissolve"))
        if not test_pages_isolated(mm, start_pfn, end_pfn):
            raise _stuck(mm, "pages stay in use", "offline_pages")
    except KernelError:
        give_back(mm, start_pfn, end_pfn, key)
        undo_isolate_page_range(mm, start_pfn, end_pfn)
        memory_notify(mm, "MEM_CANCEL_OFFLINE", start_pfn, nr_pages)
        raise


@mirrors("mm/memory_hotplug.c:offline_pages", "v6.12", "complete")
def offline_pages(
    mm: Mm, start_pfn: int, nr_pages: int, key: ZoneKey, group: int | None, *, early: bool = False
) -> None:
    """Offline [start_pfn, +nr_pages) of one zone.

    Raises EINVAL for borders that are not aligned and for memory holes, EBUSY for unmovable pages, the errno of a notifier
    that refuses, EINTR where the kernel retries until a signal comes.
    """
    end_pfn = start_pfn + nr_pages
    where = f"{HERE}:offline_pages"
    if not nr_pages or start_pfn % mm.arch.pageblock_nr_pages or end_pfn % mm.arch.pages_per_section:
        raise KernelError(f"pfns {start_pfn:#x}-{end_pfn:#x} are not aligned", "EINVAL", where=where)
    if not mm.pages.covers(start_pfn, end_pfn):
        raise KernelError(f"pfns {start_pfn:#x}-{end_pfn:#x} have memory holes", "EINVAL", where=where)
    if mm.trace is not None:
        with mm.trace.call("zone_pcp_disable", "mm/page_alloc.c:zone_pcp_disable", ()):
            _leaf(mm, "__drain_all_pages")
    try:
        _isolate(mm, start_pfn, nr_pages, key)
    except KernelError:
        _leaf(mm, "zone_pcp_enable")
        raise
    managed, present = _take_out(mm, start_pfn, end_pfn)
    _leaf(mm, "zone_pcp_enable")
    mm.change_zone(key, managed=mm.zones[key].managed - managed)
    adjust_present_page_count(mm, key, group, -present, early=early)
    init_per_zone_wmark_min(mm)
    if not mm.zones[key].present:
        _leaf(mm, "zone_pcp_reset")
        mm.change_zone(key, pageset=False)
        _leaf(mm, "build_all_zonelists")
    _node_lost_memory(mm, key[0])
    _leaf(mm, "writeback_set_ratelimit")
    memory_notify(mm, "MEM_OFFLINE", start_pfn, nr_pages)
    remove_pfn_range_from_zone(mm, key, start_pfn, nr_pages)


def _node_lost_memory(mm: Mm, nid: int) -> None:
    if mm.nodes[nid].present <= 0 and mm.nodes[nid].n_memory:
        mm.nodes[nid] = mm.nodes[nid]._replace(n_memory=False)
        _leaf(mm, "kcompactd_stop")
        _leaf(mm, "kswapd_stop")
