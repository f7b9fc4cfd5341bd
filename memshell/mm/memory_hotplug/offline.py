"""mm/memory_hotplug.c: pages of a block are isolated, migrated away and taken out of their zone."""

from __future__ import annotations

from memshell.drivers.base.memory.notifier import memory_notify
from memshell.errors import KernelError
from memshell.kernel.resource import is_system_ram
from memshell.mm import mirrors
from memshell.mm.hugetlb.folio import dissolve_free_hugetlb_folios
from memshell.mm.memory_hotplug.zone import adjust_present_page_count, remove_pfn_range_from_zone
from memshell.mm.migrate import migrate_pages
from memshell.mm.page import Owner
from memshell.mm.page_alloc.offline import offline_isolated_pages
from memshell.mm.page_alloc.watermarks import init_per_zone_wmark_min
from memshell.mm.page_isolation import (
    give_back,
    movable_runs,
    start_isolate_page_range,
    test_pages_isolated,
    undo_isolate_page_range,
)
from memshell.mm.state import Mm, ZoneKey


def _stuck(mm: Mm, text: str, function: str, pfn: int | None) -> KernelError:
    """Return what ends a loop: a signal, EINTR; or EBUSY where it gives up (bug.offline_retries_forever off)."""
    where = f"mm/memory_hotplug.c:{function}"
    if mm.features.bug.offline_retries_forever:
        return KernelError(f"{text}: retried until a signal", "EINTR", where=where, pfn=pfn)
    return KernelError(text, "EBUSY", where=where, pfn=pfn)


def migrate_range(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """Move every movable page of the range elsewhere: scan_movable_pages() and do_migrate_range() until none is left.

    Pages go to other nodes with memory, to the own node only when there is none. A pinned page, or no room, makes the
    kernel retry until a signal: EINTR.
    """
    mm.seam.scan_movable_pages(mm, start_pfn, end_pfn)
    runs = movable_runs(mm, start_pfn, end_pfn)
    if runs:
        mm.enter("do_migrate_range")
    others = tuple(n for n, node in sorted(mm.nodes.items()) if n != key[0] and node.n_memory)
    for start, end, page in runs:
        if page.owner is Owner.BALLOON:
            raise KernelError(
                f"pfn {start:#x} is PageOffline, and its driver keeps a reference",
                "EBUSY",
                where="mm/memory_hotplug.c:scan_movable_pages",
                pfn=start,
            )
        if page.owner is Owner.PINNED:
            raise _stuck(mm, f"pfn {start:#x} is pinned and cannot be migrated", "do_migrate_range", start)
        failed = migrate_pages(mm, start, end, page, others, (start_pfn, end_pfn))
        if failed is not None:
            raise _stuck(mm, f"no room to migrate pfn {failed:#x} to", "do_migrate_range", failed)
        mm.event(
            "PagesMigrated",
            "mm/memory_hotplug.c:do_migrate_range",
            f"{end - start} pages from pfn {start:#x}",
            start=start,
            pages=end - start,
        )


def offline_isolated_range(mm: Mm, start_pfn: int, end_pfn: int) -> tuple[int, int]:
    """Take the isolated pages out; return how many managed and how many present pages go with them."""
    page, nr_pages = mm.pages.get(start_pfn), end_pfn - start_pfn
    managed = offline_isolated_pages(mm, start_pfn, end_pfn)
    # Managed loses every page until v6.10, since v6.11 those that were not PageOffline already; present every page.
    if page is None or not mm.features.bug.offline_counts_page_offline:
        return managed, nr_pages
    zone = mm.zones[page.nid, page.zone]
    mm.change_zone((page.nid, page.zone), taken_twice=zone.taken_twice + nr_pages - managed)
    return nr_pages, nr_pages


def _isolate(mm: Mm, start_pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """The part of offline_pages() that can fail: isolation, the notifier, migration; on an error all is as before."""
    end_pfn = start_pfn + nr_pages
    mm.enter("lru_cache_disable")
    if not mm.seam.needs_isolation(mm, start_pfn, end_pfn):
        return
    start_isolate_page_range(mm, start_pfn, end_pfn, key)
    try:
        memory_notify(mm, "MEM_GOING_OFFLINE", start_pfn, nr_pages)
        migrate_range(mm, start_pfn, end_pfn, key)
        dissolve_free_hugetlb_folios(mm, start_pfn, end_pfn)
        used = test_pages_isolated(mm, start_pfn, end_pfn, offline=True)
        if used is not None:
            raise _stuck(mm, f"pfn {used:#x} stays in use", "offline_pages", used)
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
    where = "mm/memory_hotplug.c:offline_pages"
    if not mm.features.config.memory_hotremove:  # include/linux/memory_hotplug.h has a stub then
        raise KernelError("the kernel was built without CONFIG_MEMORY_HOTREMOVE", "EINVAL", where=where)
    if not nr_pages or start_pfn % mm.arch.pageblock_nr_pages or end_pfn % mm.arch.pages_per_section:
        raise KernelError(f"pfns {start_pfn:#x}-{end_pfn:#x} are not aligned", "EINVAL", where=where)
    start, end = start_pfn << mm.arch.page_shift, end_pfn << mm.arch.page_shift
    if not mm.pages.covers(start_pfn, end_pfn) or (early and not is_system_ram(mm, start, end)):
        raise KernelError(f"pfns {start_pfn:#x}-{end_pfn:#x} have memory holes", "EINVAL", where=where)
    if mm.trace is not None:
        with mm.trace.call("zone_pcp_disable", "mm/page_alloc.c:zone_pcp_disable", ()):
            mm.enter("__drain_all_pages")
    try:
        _isolate(mm, start_pfn, nr_pages, key)
    except KernelError:
        mm.enter("zone_pcp_enable")
        raise
    managed, present = mm.seam.offline_isolated_pages(mm, start_pfn, end_pfn)
    mm.enter("zone_pcp_enable")
    mm.change_zone(key, managed=mm.zones[key].managed - managed)
    adjust_present_page_count(mm, key, group, -present, early=early)
    init_per_zone_wmark_min(mm)
    if not mm.zones[key].present:
        mm.enter("zone_pcp_reset")
        mm.change_zone(key, pageset=False)
        mm.enter("build_all_zonelists")
    _node_lost_memory(mm, key[0])
    mm.enter("writeback_set_ratelimit")
    memory_notify(mm, "MEM_OFFLINE", start_pfn, nr_pages)
    remove_pfn_range_from_zone(mm, key, start_pfn, nr_pages)


def _node_lost_memory(mm: Mm, nid: int) -> None:
    if mm.nodes[nid].present <= 0 and mm.nodes[nid].n_memory:
        mm.nodes[nid] = mm.nodes[nid]._replace(n_memory=False)
        mm.enter("kcompactd_stop")
        mm.enter("kswapd_stop")
