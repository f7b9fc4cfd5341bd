"""What programs do to pages while memory comes and goes: they take and free them, and read /proc.

This is where a memmap that was lost, overwritten or mapped twice is noticed. Only kernels with marked memmap
pages keep the content of struct pages (`memshell.series.struct_page`); for the others these functions do nothing.
"""

from __future__ import annotations

from memshell.errors import KernelCrash
from memshell.mm import mirrors
from memshell.mm.fault import page_fault
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import alloc_pages
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, ZoneKey
from memshell.series.features import series
from memshell.series.memory import removable_show
from memshell.series.page_alloc import HOT_PAGE, PAGES, bad_page
from memshell.series.struct_page import Content, StructPage, filled, kept, read_pfn, runs, zone_bits


def use_memory(mm: Mm, size: int) -> int:
    """Let a process touch *size* bytes of new memory, pageblock by pageblock; return the bytes that it got.

    Raises `KernelCrash` when the allocator runs into a struct page that was overwritten.
    """
    order = mm.arch.pageblock_order
    step = mm.arch.page_size << order
    for done in range(0, size, step):
        if alloc_pages(mm, order, Owner.USER, movable=True) is None:
            return done
    return size


def process_runs(mm: Mm) -> None:
    """A process starts, the one before it ends, and it reads the memory blocks and /proc/pagetypeinfo.

    Raises `KernelCrash` where that touches a struct page which is not what it was.
    """
    if not mm.seam.marks_memmap:
        return
    fault_in_hot_page(mm)
    lru_add_drain(mm)
    removable_show(mm)
    pagetypeinfo_show(mm)


def fault_in_hot_page(mm: Mm) -> None:
    """Let the process touch its first page, which is the hottest of the per-cpu list: the one that was freed last.

    In get_page_from_freelist() check_new_page() finds a mapping that should be NULL, with CONFIG_DEBUG_VM: the page is bad and
    stays out. clear_page() overwrites the struct pages that lie in the page. Source: mm/page_alloc.c of v4.20.
    """
    pfn = mm.counters.pop(HOT_PAGE, None)
    state = mm.pages.get(pfn) if pfn is not None else None
    if pfn is None or state is None or not mm.free[state.nid, state.zone].remove(pfn, 0, MigrateType.MOVABLE):
        return
    key = (state.nid, state.zone)
    mm.change_zone(key, free=mm.zones[key].free - 1)
    if series(mm).config.debug_vm and read_pfn(mm, pfn, "get_page_from_freelist").mapping:
        bad_page(mm, pfn, 1, "non-NULL mapping")
        mm.pages.set(pfn, pfn + 1, Page(Owner.BAD, *key))
        return
    mm.pages.set(pfn, pfn + 1, Page(Owner.USER, *key))
    shift = mm.arch.page_shift
    if _holds_memmap(mm, pfn):
        mm.event(
            "MemmapOverwritten",
            f"{PAGES}:clear_page",
            f"pfn {pfn:#x} holds struct pages; a process writes over them",
            pfn=pfn,
        )
    mm.struct_pages.delete(pfn << shift, (pfn + 1) << shift)


def _holds_memmap(mm: Mm, pfn: int) -> bool:
    shift = mm.arch.page_shift
    return any(True for _ in mm.struct_pages.items(pfn << shift, (pfn + 1) << shift))


@mirrors(
    "mm/vmstat.c:pagetypeinfo_show",
    "v4.20",
    "simplified",
    "the pages of a list whose links are intact are not looked at",
)
def pagetypeinfo_show(mm: Mm) -> None:
    """Walk the free lists. Raises `KernelCrash` where a free block's struct page is lost or on two lists."""
    seen: RangeMap[int] = RangeMap()  # physical addresses of the struct pages of free pages -> what maps them there
    for key, area in mm.free.items():
        for start, end, order in area.runs():
            if not kept(mm, start):
                continue
            for a, b, content in runs(mm, start, end):
                if not intact(content, key) and _head_in(start, a, b, order):
                    at = mm.arch.vmemmap_address(a) if content is None else 0
                    raise page_fault(
                        at, "pagetypeinfo_show", f"the struct page of the free block at pfn {a:#x} is lost"
                    )
            _check_alias(mm, seen, start, end)


def _check_alias(mm: Mm, seen: RangeMap[int], start: int, end: int) -> None:
    """Raise `KernelCrash` when the struct pages of a free run are those of another one too."""
    for a, b, leaf in mm.leaves.items(mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)):
        shift = leaf.shift << mm.arch.page_shift
        if any(other != shift for _, _, other in seen.items(a + shift, b + shift)):
            raise KernelCrash(
                "hang",
                "pagetypeinfo_show",
                None,
                f"the struct page of pfn {start:#x} is on two free lists: the walk has no end",
            )
        seen.set(a + shift, b + shift, shift)


def intact(content: Content | None, key: ZoneKey) -> bool:
    """Whether struct pages are as the zone initialised them."""
    return isinstance(content, StructPage) and zone_bits(content.flags) == key[1] and content != filled(0xFD)


def _head_in(start: int, a: int, b: int, order: int) -> bool:
    """Whether a block of *order* begins in [a, b); blocks begin at *start* and every 2^order pages on."""
    return start + (-(-(a - start) >> order) << order) < b


@mirrors("mm/swap.c:lru_add_drain", "v4.20", "simplified", "the process has pages of every hot-added block")
def lru_add_drain(mm: Mm) -> None:
    """End the process: its pages go to the LRU of the zone that their struct pages name.

    Raises `KernelCrash`, a general protection fault, where struct pages read 0xFD.
    """
    for block in mm.blocks.values():
        if block.state != "online" or block.early:
            continue
        start = block.id * mm.block_pages
        if any(content == filled(0xFD) for _, _, content in runs(mm, start, start + mm.block_pages)):
            raise KernelCrash(
                "general protection fault",
                "__pagevec_lru_add_fn",
                None,
                f"the struct pages of memory{block.id} read 0xfd",
            )


def lost_movable(mm: Mm) -> int:
    """Return the pages of ZONE_MOVABLE that hold a memmap and can never move."""
    return sum(
        b - a for a, b, page in mm.pages.items() if page.owner is Owner.VMEMMAP and page.zone is ZoneType.MOVABLE
    )
