"""Adding and removing memory in kernels with struct mhp_restrictions: v4.20 with the series of 2017 to 2019.

One altmap for the whole add; sections and memory blocks appear one by one, and stay when a later one fails;
removal goes section by section. Sources: "[RFC PATCH 2/4] mm, memory_hotplug: provide a more generic
restrictions for memory hotplug" and 3/4 of the same series, O. Salvador, 2018-11-16; mm/memory_hotplug.c and
mm/sparse.c of v4.20.
"""

from __future__ import annotations

from memshell.errors import KernelCrash, KernelError, OutOfMemory
from memshell.mm import mirrors
from memshell.mm.compound_vmemmap import populate_section_memmap
from memshell.mm.memory_block import MemoryBlock
from memshell.mm.memory_hotplug_online import update_pgdat_span
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import align_down
from memshell.mm.sparse import sparse_index_init
from memshell.mm.state import SECTION_HAS_MEM_MAP, SECTION_PRESENT, Mm, ZoneKey
from memshell.mm.struct_page import (
    NODE_SHIFT,
    ZERO,
    StructPage,
    initial_content,
    initial_count,
    physical,
    read,
    runs,
    write,
    write_run,
    zone_bits,
    zone_of,
)
from memshell.mm.vmemmap_rfc import (
    RangeAltmap,
    begin_altmap,
    kfree_section_memmap,
    mark_vmemmap_pages,
    mark_vmemmap_range,
)

HERE = "mm/memory_hotplug.c"
MHP_MEMBLOCK_API, MHP_MEMMAP_FROM_RANGE = 1, 2
WANTED = 4  # the caller asked for the memmap in the range, whatever the architecture made of it


def add_restricted(mm: Mm, nid: int, start: int, size: int, *, from_range: bool) -> None:
    """The part of add_memory_resource() that sets the restrictions and calls the architecture."""
    mm.restrictions = MHP_MEMBLOCK_API | (MHP_MEMMAP_FROM_RANGE | WANTED if from_range else 0)
    try:
        mm.arch.arch_add_memory(mm, nid, start, size, None)
    except KernelError:
        if not mm.feature("bug.failed_add_stays"):
            undo_add(mm, start, size)
        raise
    finally:
        mm.restrictions = None


def undo_add(mm: Mm, start: int, size: int) -> None:
    """Remove what an add that failed has made: what the series should do."""
    first, last = start >> mm.arch.page_shift, start + size >> mm.arch.page_shift
    if mm.sections.intersects(first, last):
        mm.arch.arch_remove_memory(mm, start, size, None)


def veto_from_range(mm: Mm) -> None:
    """``restrictions->flags &= ~MHP_MEMMAP_FROM_RANGE`` of an architecture that cannot.

    ~1<<1 clears MHP_MEMBLOCK_API too.
    """
    if mm.restrictions is not None and mm.feature("check.s390_veto"):
        mm.restrictions &= ~1 << 1 if mm.feature("bug.mhp_macro_parentheses") else ~MHP_MEMMAP_FROM_RANGE


@mirrors("mm/memory_hotplug.c:__add_pages with restrictions", "v4.20 + series", "complete")
def add_pages_restricted(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections of [pfn, +nr_pages), each with its memory block. What was added before an error stays.

    Raises EINVAL for an altmap that does not fit (a reserve that was never set), ENOMEM where a section's
    memory cannot be had.
    """
    flags, where = mm.restrictions or 0, f"{HERE}:__add_pages"
    if altmap is None and flags & MHP_MEMMAP_FROM_RANGE:
        altmap = begin_altmap(mm, pfn, nr_pages)
    if altmap is not None and (altmap.base_pfn != pfn or altmap.offset > nr_pages):
        raise KernelError("memory add fail, invalid altmap", "EINVAL", where=where)
    require_backing(mm, pfn, nr_pages, altmap)
    done = pfn
    try:
        for done in range(pfn, pfn + nr_pages, mm.arch.pages_per_section):
            _add_section(mm, nid, done, altmap, flags)
        done = pfn + nr_pages
    finally:
        broke_off = done < pfn + nr_pages
        whole = nr_pages if not broke_off or mm.feature("bug.count_set_after_failed_add") else done - pfn
        if isinstance(altmap, RangeAltmap) and mm.feature("vmemmap.mark") == "range":
            mark_vmemmap_range(mm, altmap, whole)
    if altmap is None and flags & WANTED and mm.feature("bug.constructor_without_altmap"):
        why = "the constructor is called for a range whose altmap was vetoed"
        raise KernelCrash("unable to handle kernel NULL pointer dereference", "mark_vmemmap_pages", None, why)
    source = "existing memory" if altmap is None else "the range"
    mm.event(
        "SectionsAdded",
        where,
        f"pfns {pfn:#x}-{pfn + nr_pages - 1:#x}, memmap from {source}",
        start_pfn=pfn,
        end_pfn=pfn + nr_pages,
    )


def require_backing(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """The first struct pages that are written lie at the start of the range.

    A hypervisor must back them before anything is online.

    The parameter ``backed`` is how many MiB of each range it does (Xen and Hyper-V: a part). Raises
    `KernelCrash`.
    """
    backed = mm.params.get("backed")
    needed = nr_pages // mm.arch.pages_per_section * (mm.arch.pages_per_section * mm.arch.struct_page_size)
    if altmap is not None and backed and needed > int(backed) << 20:
        at = mm.arch.page_offset + (pfn << mm.arch.page_shift) + (int(backed) << 20)
        raise KernelCrash(
            "access to memory that is not backed", "sparse_add_one_section", at, "the memmap lies in the range"
        )


def _add_section(mm: Mm, nid: int, pfn: int, altmap: VmemAltmap | None, flags: int) -> None:
    """__add_section(): a section that exists is passed over, as far as the fault goes."""
    if mm.sections.get(pfn) is not None:
        if mm.feature("bug.retry_restarts_altmap"):
            return
        raise KernelError(
            f"section {pfn // mm.arch.pages_per_section} is there already", "EEXIST", where=f"{HERE}:__add_section"
        )
    sparse_add_one_section(mm, nid, pfn, altmap)
    if flags & MHP_MEMBLOCK_API:
        hotplug_memory_register(mm, nid, pfn)


@mirrors(
    "mm/sparse.c:sparse_add_one_section",
    "v4.20 + series",
    "simplified",
    "the usemap comes from slab, which is not modelled",
)
def sparse_add_one_section(mm: Mm, nid: int, pfn: int, altmap: VmemAltmap | None) -> None:
    """Add one section: map its memmap, allocate its usemap, mark its memmap's pages. Raises ENOMEM."""
    size, number = mm.arch.pages_per_section, pfn // mm.arch.pages_per_section
    sparse_index_init(mm, number, nid)
    populate_section_memmap(mm, pfn, size, nid, altmap)
    if mm.fault("section_usage"):
        kfree_section_memmap(mm, pfn, size, altmap)
        raise OutOfMemory(f"no memory for the usemap of section {number}", where="mm/sparse.c:sparse_add_one_section")
    _first_content(mm, pfn, altmap)
    if isinstance(altmap, RangeAltmap) and mm.feature("vmemmap.mark") == "section":
        mark_vmemmap_pages(mm, altmap)
    mm.sections.set(pfn, pfn + size, SECTION_PRESENT | SECTION_HAS_MEM_MAP)


def _first_content(mm: Mm, pfn: int, altmap: VmemAltmap | None) -> None:
    """What the new struct pages hold before anybody writes them."""
    size = mm.arch.pages_per_section
    content, count = initial_content(mm), initial_count(mm)
    if content is not None:
        write_run(mm, pfn, pfn + size, content)
    if mm.feature("vmemmap.zeroed") == "all":
        write_run(mm, pfn, pfn + size, ZERO)
    if count is not None and isinstance(altmap, RangeAltmap) and not altmap.marks:
        va = mm.arch.vmemmap_address(pfn)
        if physical(mm, va) is not None:
            write(mm, va, read(mm, va, "page_init_poison")._replace(refcount=count))


@mirrors("drivers/base/memory.c:hotplug_memory_register", "v4.20", "complete")
def hotplug_memory_register(mm: Mm, nid: int, pfn: int) -> None:
    """Register the memory block of a section; the other sections of the block find it there."""
    block_id = pfn // mm.block_pages
    mm.blocks.setdefault(block_id, MemoryBlock(block_id, nid))


def remove_range(mm: Mm, start: int, size: int) -> None:
    """remove_memory() behind its checks: the architecture removes the sections, each with its block.

    Without the fault ``bug.partial_remove`` only what one add has added can be removed: EINVAL else.
    """
    whole = any(r.start == start and r.end == start + size - 1 for r in mm.resources)
    if not whole and not mm.feature("bug.partial_remove"):
        raise KernelError("only a whole added range can be removed", "EINVAL", where=f"{HERE}:remove_memory")
    mm.arch.arch_remove_memory(mm, start, size, None)


@mirrors(
    "mm/memory_hotplug.c:__remove_section",
    "v4.20 + series",
    "simplified",
    "clear_hwpoisoned_pages() is left out: no page is poisoned",
)
def remove_section(mm: Mm, pfn: int, altmap: VmemAltmap | None) -> None:
    """Remove one section: its memory block, its part of the zone's span, itself, its memmap."""
    size = mm.arch.pages_per_section
    if mm.sections.get(pfn) is None:
        return  # EINVAL, which nobody looks at
    key = page_zone(mm, pfn)
    mm.sections.delete(pfn, pfn + size)
    block_id = pfn // mm.block_pages
    if not mm.sections.intersects(block_id * mm.block_pages, (block_id + 1) * mm.block_pages):
        mm.blocks.pop(block_id, None)
    shrink_zone_span(mm, key, pfn, pfn + size)
    kfree_section_memmap(mm, pfn, size, altmap)


def page_zone(mm: Mm, pfn: int) -> ZoneKey:
    """page_zone(): what the struct page says, initialised or not."""
    return zone_of(mm, read(mm, mm.arch.vmemmap_address(pfn), "__remove_zone").flags, "__remove_zone")


def shrink_zone_span(mm: Mm, key: ZoneKey, start_pfn: int, end_pfn: int) -> None:
    """Take a removed section off the zone's span, on to the next section that is in the zone.

    Source: mm/memory_hotplug.c:shrink_zone_span of v4.20, which goes by valid sections, not by online ones.
    """
    zone = mm.zones.get(key)
    if zone is None or not zone.intersects(start_pfn, end_pfn - start_pfn):
        return
    spans = zone_runs(mm, align_down(zone.start_pfn, mm.arch.pages_per_section), zone.end_pfn, key)
    if not spans:
        mm.change_zone(key, start_pfn=0, spanned=0)
    elif zone.start_pfn == start_pfn:
        first = min(a for a, _ in spans)
        mm.change_zone(key, start_pfn=first, spanned=zone.end_pfn - first)
    elif zone.end_pfn == end_pfn:
        mm.change_zone(key, spanned=max(b for _, b in spans) - zone.start_pfn)
    update_pgdat_span(mm, key[0])


def zone_runs(mm: Mm, start: int, end: int, key: ZoneKey) -> list[tuple[int, int]]:
    """Return the runs of valid sections whose struct pages (of boot memory: whose pages) are in the zone."""
    found = []
    for low, high, _ in mm.sections.items(start, end):
        found += [(a, b) for a, b, page in mm.pages.items(low, high) if (page.nid, page.zone) == key]
        for a, b, content in runs(mm, low, high):
            flags = content.flags if isinstance(content, StructPage) else 0
            if flags and (flags >> NODE_SHIFT & 3, zone_bits(flags)) == key:
                found.append((a, b))
    return found
