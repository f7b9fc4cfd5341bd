"""mm/memory_hotplug.c: pages of a block go to their zone and to the buddy."""

from __future__ import annotations

from collections.abc import Callable

from memshell.drivers.base.memory.notifier import memory_notify
from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.zone import (
    adjust_present_page_count,
    move_pfn_range_to_zone,
    remove_pfn_range_from_zone,
)
from memshell.mm.mmzone import MigrateType
from memshell.mm.page_alloc.allocation import free_pages_core, free_range
from memshell.mm.page_alloc.watermarks import init_per_zone_wmark_min
from memshell.mm.page_isolation import undo_isolate_page_range
from memshell.mm.pfn import order_of
from memshell.mm.sparse import online_mem_sections
from memshell.mm.state import Mm, ZoneKey


@mirrors("mm/memory_hotplug.c:generic_online_page", "v6.12", "complete")
def generic_online_page(mm: Mm, pfn: int, order: int) -> None:
    """The default callback of online_pages_range()."""
    free_pages_core(mm, pfn, order)


@mirrors("mm/memory_hotplug.c:set_online_page_callback", "v6.12", "complete")
def set_online_page_callback(mm: Mm, callback: Callable[[Mm, int, int, ZoneKey], None]) -> bool:
    """Let a driver give pages to the buddy; return whether it may: the first driver keeps it, another gets EINVAL."""
    if mm.online_page_callback is None:
        mm.online_page_callback = callback
    return mm.online_page_callback is callback


def free_online_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> int:
    """online_pages_range(): free [start_pfn, end_pfn) in the largest aligned chunks; return the pages present now.

    Without a trace the whole range is freed at once: the lists come out the same.
    """
    if mm.online_page_callback is not None:
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
    return end_pfn - start_pfn


@mirrors("mm/memory_hotplug.c:online_pages", "v6.12", "complete")
def online_pages(mm: Mm, pfn: int, nr_pages: int, zone: Callable[[], ZoneKey], group: int | None) -> None:
    """Online [pfn, +nr_pages) to the zone that *zone* says.

    Raises EINVAL for borders that are not pageblock and section aligned, and the errno of a notifier that refuses
    MEM_GOING_ONLINE.
    """
    end_pfn = pfn + nr_pages
    if not nr_pages or pfn % mm.arch.pageblock_nr_pages or end_pfn % mm.arch.pages_per_section:
        raise KernelError(
            f"pfns {pfn:#x}-{end_pfn:#x} are not aligned", "EINVAL", where="mm/memory_hotplug.c:online_pages"
        )
    key = zone()
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.MOVABLE)
    first_memory = not mm.nodes[key[0]].n_memory
    if first_memory and mm.features.node_notifier:
        mm.enter("node_notify")
    try:
        memory_notify(mm, "MEM_GOING_ONLINE", pfn, nr_pages)
    except KernelError:
        memory_notify(mm, "MEM_CANCEL_ONLINE", pfn, nr_pages)
        mm.pages.delete(pfn, end_pfn)
        mm.pageblocks.delete(pfn, end_pfn)
        remove_pfn_range_from_zone(mm, key, pfn, nr_pages)
        raise
    mm.seam.check_resource(mm, pfn, nr_pages)
    fresh = not mm.zones[key].present
    if not mm.zones[key].pageset and fresh:
        mm.enter("setup_zone_pageset")
        mm.change_zone(key, pageset=True)
    present = mm.seam.online_pages_range(mm, pfn, end_pfn, key)
    online_mem_sections(mm, pfn, end_pfn)
    adjust_present_page_count(mm, key, group, present)
    mm.nodes[key[0]] = mm.nodes[key[0]]._replace(n_memory=True)
    if fresh:
        mm.enter("build_all_zonelists")
    undo_isolate_page_range(mm, pfn, end_pfn)
    init_per_zone_wmark_min(mm)
    mm.enter("kswapd_run")
    mm.enter("kcompactd_run")
    if first_memory and mm.features.node_notifier:
        mm.enter("node_notify")
    mm.enter("writeback_set_ratelimit")
    memory_notify(mm, "MEM_ONLINE", pfn, nr_pages)
