"""What a replay takes from the recording instead of predicting it: the boot state, and what lives in used zones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from memshell.mm.held import used_ranges
from memshell.mm.mmzone import ZONE_BY_LABEL, ZoneType
from memshell.mm.page import (
    KPF_ANON,
    KPF_BUDDY,
    KPF_LRU,
    KPF_NOPAGE,
    KPF_OFFLINE,
    KPF_PGTABLE,
    KPF_SLAB,
    UNMOVABLE_OWNERS,
    Owner,
    Page,
)
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm
from memshell.verify import series


def owner_of(flags: int) -> Owner:
    """Return who owns a page with these /proc/kpageflags."""
    if flags & KPF_BUDDY:
        return Owner.FREE
    if flags & KPF_OFFLINE:
        return Owner.OFFLINE
    if flags & (KPF_LRU | KPF_ANON):
        return Owner.USER
    if flags & KPF_SLAB:
        return Owner.SLAB
    return Owner.PAGETABLE if flags & KPF_PGTABLE else Owner.KERNEL


def read_pages(mm: Mm, step: dict[str, Any]) -> None:
    """Take what the guest has in its online hot-added blocks from the recording (kpageflags), free lists included.

    Pages without any flag may be the kernel's or wait on a per-cpu list. The zone's pcp count is given to the pageblocks
    that hold fewest of them; the rest are the kernel's.
    """
    runs = step.get("kpageflags_runs")
    if not runs:
        return
    if mm.seam.marks_memmap:
        runs = series.reveal(mm, runs)
    pcp = _pcp_pageblocks(mm, runs, step["state"]["zones"])
    size = mm.arch.pageblock_nr_pages
    before = mm.pages.copy()
    for start, end, page in used_ranges(mm):
        for a, b, flags in _clip(runs, start, end):
            owner = owner_of(flags)
            if flags & KPF_NOPAGE:
                continue
            if owner is not Owner.KERNEL:
                set_owner(mm, a, b, page._replace(owner=owner, tag=0))
                continue
            for c in range(a - a % size, b, size):
                bare = Owner.FREE if c in pcp else Owner.KERNEL
                set_owner(mm, max(a, c), min(b, c + size), page._replace(owner=bare, tag=0))
    _read_pins(mm, before, str(step["op"].get("what", "")))


def _read_pins(mm: Mm, before: RangeMap[Page], what: str) -> None:
    """Keep what is pinned pinned until the guest unpins; a step that pins pins the user pages that it made."""
    if what.startswith("unpin"):
        return
    for start, end, page in list(used_ranges(mm)):
        if page.owner is not Owner.USER:
            continue
        for a, b, old in list(before.items(start, end)):
            if old.owner is Owner.PINNED or (what.startswith("pin ") and old.owner is not Owner.USER):
                set_owner(mm, a, b, page._replace(owner=Owner.PINNED))


def _pcp_pageblocks(mm: Mm, runs: list[list[int]], zones: list[dict[str, Any]]) -> set[int]:
    """Return the pageblocks whose flagless pages are taken to be on per-cpu lists."""
    size = mm.arch.pageblock_nr_pages
    bare: dict[tuple[int, ZoneType], dict[int, int]] = {}
    kernel = {pfn - pfn % size for pfn in _backing_pfns(mm)}
    for start, end, page in used_ranges(mm):
        for a, b, flags in _clip(runs, start, end):
            owner = owner_of(flags)
            for c in range(a - a % size, b, size) if not flags & KPF_NOPAGE and owner is not Owner.FREE else ():
                if owner is Owner.KERNEL:
                    counts = bare.setdefault((page.nid, page.zone), {})
                    counts[c] = counts.get(c, 0) + min(b, c + size) - max(a, c)
                elif owner in UNMOVABLE_OWNERS:
                    kernel.add(c)
    chosen: set[int] = set()
    for z in zones:
        left = z.get("pcp_pages", 0)
        counts = bare.get((z["node"], ZONE_BY_LABEL[z["zone"]]), {})
        for c in sorted(counts, key=lambda c: (c in kernel, counts[c], c)):
            if counts[c] > left:
                break
            left -= counts[c]
            chosen.add(c)
    return chosen


def _backing_pfns(mm: Mm) -> Iterator[int]:
    """Yield a pfn of each page table and each piece of memmap that came from the buddy."""
    yield from (table.pfn for table in mm.tables.values() if table.owner in ("buddy", "half", "fragment"))
    for start, end, leaf in mm.leaves.items():
        if leaf.owner == "buddy":
            first = leaf_pfn(mm, start, leaf)
            yield from range(first, first + (end - start >> mm.arch.page_shift), mm.arch.pageblock_nr_pages)


def read_dumped(mm: Mm, step: dict[str, Any]) -> None:
    """Take the pages that the kernel dumped as unmovable during the step: they were there, whatever was read before."""
    last: int | None = None
    for line in step.get("dmesg", ()):
        found = re.search(r"pfn:0x([0-9a-f]+)", line)
        if found:
            last = int(found.group(1), 16)
        if "page dumped because: unmovable page" in line and last is not None:
            page = mm.pages.get(last)
            if page is not None and page.owner is Owner.FREE:
                set_owner(mm, last, last + 1, page._replace(owner=Owner.KERNEL))


def _clip(runs: list[list[int]], start: int, end: int) -> list[tuple[int, int, int]]:
    return [(max(p, start), min(p + n, end), flags) for p, n, flags in runs if p < end and p + n > start]


def set_owner(mm: Mm, start: int, end: int, page: Page) -> None:
    """Make *page* the state of [start, end), which is online in that zone; the free lists and counters follow."""
    key = (page.nid, page.zone)
    if all(now == page for _, _, now in mm.pages.items(start, end)):
        return  # as it is: free blocks stay as they are, aligned or not
    taken = sum(b - a for a, b, _ in mm.free[key].take_range(start, end))
    mm.pages.set(start, end, page)
    given = 0
    if page.owner is Owner.FREE:
        given = end - start
        for a, b, kind in list(mm.pageblocks.items(start, end)):
            mm.free[key].free_range(a, b, kind)
    mm.change_zone(key, free=mm.zones[key].free - taken + given)
