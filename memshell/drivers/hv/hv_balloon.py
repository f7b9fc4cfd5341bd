"""drivers/hv/hv_balloon.c: Hyper-V hot-adds memory in whole chunks, of which it backs a part.

The host names pages; the driver adds the chunks that cover them and tells which of their pages are backed. Only those go
to the buddy when a block is onlined, the rest stay PageOffline with a reference and keep the block from going offline.
What the host backs later continues where the last request ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MERGE_RESOURCE
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.online import set_online_page_callback
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.pfn import MiB, align_down, align_up
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, ZoneKey

WHERE = "drivers/hv/hv_balloon.c"
DRVDATA = "hv_balloon"


@dataclass(frozen=True, slots=True)
class HotAddState:
    """struct hv_hotadd_state, in pfns: the region, how far it is added, how far it is backed but for *gaps*."""

    start_pfn: int
    ha_end_pfn: int
    covered_end_pfn: int
    end_pfn: int
    gaps: tuple[tuple[int, int], ...] = ()

    def backed(self, start_pfn: int, end_pfn: int) -> list[tuple[int, int]]:
        """has_pfn_is_backed(): return what of [start_pfn, end_pfn) the host backs."""
        runs: RangeMap[bool] = RangeMap()
        runs.set(max(start_pfn, self.start_pfn), min(end_pfn, self.covered_end_pfn), value=True)
        for a, b in self.gaps:
            runs.delete(a, b)
        return [(a, b) for a, b, _ in runs.items()]


def regions(mm: Mm) -> tuple[HotAddState, ...]:
    """Return the regions that the host has named, oldest first."""
    found = mm.drvdata.get(DRVDATA, ())
    assert isinstance(found, tuple)
    return found


def chunk_pages(mm: Mm) -> int:
    """ha_pages_in_chunk: a memory block; 128 MiB until v6.9, whatever the block (then larger blocks are refused)."""
    size = mm.block_size if mm.features.hv_balloon.chunk_is_block else 128 * MiB
    return size >> mm.arch.page_shift


@mirrors("drivers/hv/hv_balloon.c:hot_add_req", "v6.12", "simplified", "the host specifies no region of its own")
def hot_add_req(mm: Mm, nid: int, start: int, size: int) -> None:
    """The host offers [start, +size) bytes: back what lies in chunks that are there, and add chunks for the rest.

    Raises what add_memory() raises for the first chunk that fails; what was added before it stays.
    """
    set_online_page_callback(mm, hv_online_pages)  # what it returns is not looked at
    shift = mm.arch.page_shift
    first, pfn_cnt = start >> shift, size >> shift
    if not pfn_covered(mm, first, pfn_cnt):
        unit = chunk_pages(mm)
        begin, end = align_down(first, unit), align_up(first + pfn_cnt, unit)
        gaps = ((begin, first),) if begin < first else ()
        _store(mm, (*regions(mm), HotAddState(begin, begin, first, end, gaps)))
    handle_pg_range(mm, nid, first, pfn_cnt)


@mirrors("drivers/hv/hv_balloon.c:pfn_covered", "v6.12", "complete")
def pfn_covered(mm: Mm, start_pfn: int, pfn_cnt: int) -> bool:
    """Whether a region holds *start_pfn*. It is extended by whole chunks; what was skipped becomes a gap."""
    for has in regions(mm):
        if not has.start_pfn <= start_pfn < has.end_pfn:
            continue
        gaps = has.gaps if has.covered_end_pfn == start_pfn else (*has.gaps, (has.covered_end_pfn, start_pfn))
        beyond = max(start_pfn + pfn_cnt - has.end_pfn, 0)
        end = has.end_pfn + align_up(beyond, chunk_pages(mm))
        _change(mm, has, replace(has, covered_end_pfn=start_pfn, end_pfn=end, gaps=gaps))
        return True
    return False


def next_place(mm: Mm) -> int | None:
    """Return the address at which the host continues: behind what it backs, None where it has named nothing yet."""
    found = regions(mm)
    return found[-1].covered_end_pfn << mm.arch.page_shift if found else None


def _store(mm: Mm, found: tuple[HotAddState, ...]) -> None:
    mm.drvdata[DRVDATA] = found


def _change(mm: Mm, old: HotAddState, new: HotAddState) -> HotAddState:
    _store(mm, tuple(new if has == old else has for has in regions(mm)))
    return new


@mirrors("drivers/hv/hv_balloon.c:handle_pg_range", "v6.12", "complete")
def handle_pg_range(mm: Mm, nid: int, start_pfn: int, pfn_cnt: int) -> None:
    """Back [start_pfn, +pfn_cnt): first in the chunks that are there, online ones at once; then in new chunks."""
    has = next(has for has in regions(mm) if has.start_pfn <= start_pfn < has.end_pfn)
    if start_pfn < has.ha_end_pfn:
        here = min(pfn_cnt, has.ha_end_pfn - start_pfn)
        has = _change(mm, has, replace(has, covered_end_pfn=has.covered_end_pfn + here))
        pfn_cnt -= here
        for a, b, page in list(mm.pages.items(start_pfn, start_pfn + here)):
            if page.owner is Owner.BALLOON:
                bring_pgs_online(mm, a, b, (page.nid, page.zone))
    size = has.end_pfn - has.ha_end_pfn
    if size and pfn_cnt:
        size = min(align_up(pfn_cnt, chunk_pages(mm)), size)
        hv_mem_hot_add(mm, nid, has, size, min(pfn_cnt, size))


@mirrors("drivers/hv/hv_balloon.c:hv_mem_hot_add", "v6.12", "simplified", "nobody waits for the block to come online")
def hv_mem_hot_add(mm: Mm, nid: int, has: HotAddState, size: int, pfn_cnt: int) -> None:
    """Add *size* pages chunk by chunk, of which the first *pfn_cnt* are backed. Raises what add_memory() raises."""
    unit = chunk_pages(mm)
    for start in range(has.ha_end_pfn, has.ha_end_pfn + size, unit):
        backed = min(unit, pfn_cnt)
        pfn_cnt -= backed
        before = has
        has = _change(mm, has, replace(has, ha_end_pfn=start + unit, covered_end_pfn=has.covered_end_pfn + backed))
        try:
            add_memory(mm, nid, start << mm.arch.page_shift, unit << mm.arch.page_shift, MHP_MERGE_RESOURCE)
        except KernelError:
            _change(mm, has, before)
            raise


def hv_online_pages(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """hv_online_page() for every chunk of [start_pfn, end_pfn): backed pages go to the buddy, others stay PageOffline.

    Memory that another caller added is onlined as usual.
    """
    at = start_pfn
    for has in regions(mm):
        low, high = max(has.start_pfn, at), min(has.end_pfn, end_pfn)
        if low >= high:
            continue
        bring_pgs_online(mm, at, low, key)
        mm.pages.set(low, high, Page(Owner.BALLOON, *key))
        for a, b in has.backed(low, high):
            mm.pages.set(a, b, Page(Owner.RESERVED, *key))
            bring_pgs_online(mm, a, b, key)
        at = high
    bring_pgs_online(mm, at, end_pfn, key)


def bring_pgs_online(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """hv_bring_pgs_online(): give pages to the buddy that it never had."""
    if start_pfn < end_pfn:
        free_range(mm, start_pfn, end_pfn)
        mm.change_zone(key, managed=mm.zones[key].managed + end_pfn - start_pfn)
