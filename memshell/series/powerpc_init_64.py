"""arch/powerpc/mm/init_64.c with the series: frames that hold a memmap are not freed."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.state import Leaf, Mm
from memshell.series.features import series
from memshell.series.memremap import clear_marks
from memshell.series.page_alloc import free_reserved_pages
from memshell.series.struct_page import PG_RESERVED, read_pfn

LEAKED = "leaked"  # owner of a mapping that nothing remembers


@mirrors("arch/powerpc/mm/init_64.c:vmemmap_free", "v4.20 + series", "complete")
def free_marked_unit(mm: Mm, va: int, unit: int, leaf: Leaf | None) -> bool:
    """Free one mapping that holds no valid struct page: its list entry, then the frames, then itself; return whether it went.

    The series passes over marked frames with ``continue``: the mapping stays, without its list entry
    (bug.powerpc_vmemmap_continue).
    """
    where = "arch/powerpc/mm/init_64.c:vmemmap_list_free"
    if leaf is None or leaf.owner == LEAKED:
        mm.event("Warning", where, f"WARN_ON: no entry for {va:#x}", address=va)
        return False
    pfn, pages = leaf_pfn(mm, va, leaf), unit >> mm.arch.page_shift
    page = read_pfn(mm, pfn, "vmemmap_free")
    if page.vmemmap and series(mm).check.powerpc_vmemmap_free:
        clear_marks(mm, pfn, pages)
        if series(mm).bug.powerpc_vmemmap_continue:
            mm.leaves.set(va, va + unit, Leaf(leaf.size, leaf.shift, LEAKED))
            mm.event(
                "MappingLeaked",
                "arch/powerpc/mm/init_64.c:vmemmap_free",
                f"{va:#x} stays mapped to pfn {pfn:#x}",
                address=va,
                pfn=pfn,
            )
            return False
    elif leaf.owner == "buddy":
        free_range(mm, pfn, pfn + pages)
    elif page.flags & PG_RESERVED:
        free_reserved_pages(mm, pfn, pages)
    mm.leaves.delete(va, va + unit)
    return True
