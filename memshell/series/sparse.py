"""mm/sparse.c with the series: a section is added with its marks, and its memmap is freed with the whole range."""

from __future__ import annotations

from collections.abc import Iterable

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.sparse import sparse_index_init
from memshell.mm.sparse_vmemmap import populate_section_memmap
from memshell.mm.state import SECTION_HAS_MEM_MAP, SECTION_PRESENT, Mm
from memshell.series.features import series
from memshell.series.memremap import RangeAltmap, mark_vmemmap_pages, memmap_bytes
from memshell.series.struct_page import (
    REFCOUNT_OFFSET,
    ZERO,
    initial_content,
    initial_count,
    physical,
    read,
    write,
    write_run,
)


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
    if isinstance(altmap, RangeAltmap) and series(mm).vmemmap.mark == "section":
        mark_vmemmap_pages(mm, altmap)
    mm.sections.set(pfn, pfn + size, SECTION_PRESENT | SECTION_HAS_MEM_MAP)


def _first_content(mm: Mm, pfn: int, altmap: VmemAltmap | None) -> None:
    """What the new struct pages hold before anybody writes them."""
    size = mm.arch.pages_per_section
    content, count = initial_content(mm), initial_count(mm)
    if content is not None:
        write_run(mm, pfn, pfn + size, content)
    if series(mm).vmemmap.zeroed == "all":
        write_run(mm, pfn, pfn + size, ZERO)
    if count is not None and isinstance(altmap, RangeAltmap) and not altmap.marks:
        va = mm.arch.vmemmap_address(pfn)
        if physical(mm, va) is not None:
            write(mm, va, read(mm, va, "page_init_poison")._replace(refcount=count))


KFREE = "mm/sparse.c:__kfree_section_memmap"


@mirrors(KFREE, "v4.20 + series", "complete")
def kfree_section_memmap(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Free the memmap of one section, or only count it off in the head of the range that holds it.

    The first section whose first struct page is marked is the head's; from then on every section counts,
    until 0.
    """
    start = mm.arch.vmemmap_address(pfn)
    end = start + nr_pages * mm.arch.struct_page_size
    first = read(mm, start, "__kfree_section_memmap")
    if series(mm).vmemmap.free == "deferred" and series(mm).check.kfree_section_memmap:
        if first.vmemmap and mm.vmemmap_head is None:
            mm.vmemmap_head = start
        if mm.vmemmap_head is not None:
            _put_head(mm, mm.vmemmap_head, end)
            return
    _vmemmap_free(mm, start, end, altmap, direct=True)


def _put_head(mm: Mm, head: int, end: int) -> None:
    page = read(mm, head, "__kfree_section_memmap", REFCOUNT_OFFSET)
    left = page.refcount - 1
    write(mm, head, page._replace(refcount=left))
    mm.event(
        "HeadPut",
        KFREE,
        f"head {head:#x} count {page.refcount} -> {left}",
        head=head,
        before=page.refcount,
        after=left,
        what="deferred" if left else "free",
    )
    if not left:
        free_vmemmap_range(mm, head, end)
        mm.vmemmap_head = None


def _vmemmap_free(mm: Mm, start: int, end: int, altmap: VmemAltmap | None, *, direct: bool) -> None:
    mm.event("VmemmapFreed", KFREE, f"[{start:#x}, {end:#x})", start=start, end=end, direct=direct)
    mm.arch.vmemmap_free(mm, start, end, altmap)


@mirrors("mm/sparse.c:free_vmemmap_range", "v4.20 + series", "complete")
def free_vmemmap_range(mm: Mm, limit: int, end: int) -> None:
    """Free the memmap [limit, end) section by section, from the end down (or in the order that is tried)."""
    size = memmap_bytes(mm)
    backwards = list(range(end - size, limit - 1, -size))
    for start in _in_order(mm, backwards):
        _vmemmap_free(mm, start, start + size, None, direct=False)


def _in_order(mm: Mm, backwards: list[int]) -> Iterable[int]:
    upwards = backwards[::-1]
    if series(mm).bug.ascending_free:
        return upwards
    order = series(mm).vmemmap.free_order
    hosts = {"host0-last": 1, "host1-host0-last": 2}.get(order, len(upwards))
    return upwards[hosts:] + upwards[:hosts][::-1]
