"""Pages of the device: online ones are the buddy's where they are plugged, else PageOffline."""

from __future__ import annotations

from memshell.drivers.virtio.virtio_mem.device import virtio_mem_contains_range
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.online import generic_online_page
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.page_alloc.contig import alloc_contig_range
from memshell.mm.pfn import order_of
from memshell.mm.state import Mm, ZoneKey

NEVER_ONLINE = -1  # the mark of PageOffline pages that the buddy never had (PG_dirty)


def online_range(mm: Mm, start: int, end: int, key: ZoneKey) -> None:
    """virtio_mem_online_page_cb() for every chunk: plugged parts go to the buddy, the others stay PageOffline."""
    if not virtio_mem_contains_range(mm, start, end):
        free_range(mm, start, end)
        mm.change_zone(key, managed=mm.zones[key].managed + end - start)
        return
    plugged, pfn = mm.plugged, start
    while pfn < end:
        order = order_of(pfn, end - pfn, mm.arch.max_order)
        if mm.trace is not None:
            virtio_mem_online_page_cb(mm, pfn, order, key)
            pfn += 1 << order
            continue
        run = plugged.run_at(pfn)
        gap = next(plugged.gaps(pfn, end), (end, end))
        stop = min(run[1], end) if run else gap[1]
        if run:
            free_range(mm, pfn, stop)
            mm.change_zone(key, managed=mm.zones[key].managed + stop - pfn)
        else:
            mm.pages.set(pfn, stop, Page(Owner.OFFLINE, *key, NEVER_ONLINE))
        pfn = stop


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_online_page_cb", "v6.12", "complete")
def virtio_mem_online_page_cb(mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
    """Online one chunk, or leave it offline; a chunk that is plugged in part is split."""
    _online_chunk(mm, pfn, order, key)


def _online_chunk(mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
    end = pfn + (1 << order)
    if mm.plugged.covers(pfn, end):
        generic_online_page(mm, pfn, order)
    elif not mm.plugged.intersects(pfn, end):
        set_fake_offline(mm, pfn, end, key, NEVER_ONLINE)
    else:
        _online_chunk(mm, pfn, order - 1, key)
        _online_chunk(mm, pfn + (1 << (order - 1)), order - 1, key)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_set_fake_offline", "v6.12", "complete")
def set_fake_offline(mm: Mm, start: int, end: int, key: ZoneKey, tag: int) -> None:
    """Mark pages PageOffline; dirty when they were never onlined."""
    mm.pages.set(start, end, Page(Owner.OFFLINE, *key, tag))


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_fake_online", "v6.12", "complete")
def virtio_mem_fake_online(mm: Mm, start: int, nr_pages: int) -> None:
    """Give PageOffline pages to the buddy, in chunks of the largest order; they count as managed from now on."""
    pfn, end = start, start + nr_pages
    while pfn < end:
        order = order_of(pfn, end - pfn, mm.arch.max_order)
        mm.enter("virtio_mem_clear_fake_offline")
        page = mm.pages.get(pfn)
        if page is not None and page.tag == NEVER_ONLINE:
            generic_online_page(mm, pfn, order)
        elif page is not None and page.owner is Owner.OFFLINE:
            free_range(mm, pfn, pfn + (1 << order))
            key = (page.nid, page.zone)
            mm.change_zone(key, managed=mm.zones[key].managed + (1 << order))
        pfn += 1 << order


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_fake_offline", "v6.12", "complete")
def virtio_mem_fake_offline(mm: Mm, start: int, nr_pages: int, key: ZoneKey) -> None:
    """Take online pages away from the buddy: present stays, managed goes down. Raises EBUSY for pages in use."""
    alloc_contig_range(mm, start, start + nr_pages, key)
    set_fake_offline(mm, start, start + nr_pages, key, 0)
    mm.change_zone(key, managed=mm.zones[key].managed - nr_pages)
