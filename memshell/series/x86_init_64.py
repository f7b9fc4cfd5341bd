"""arch/x86/mm/init_64.c with the series: frames that hold a memmap are not freed."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.state import Mm
from memshell.series.features import series
from memshell.series.memremap import clear_marks
from memshell.series.page_alloc import free_reserved_pages
from memshell.series.struct_page import PG_RESERVED, read_pfn


@mirrors(
    "arch/x86/mm/init_64.c:free_pagetable",
    "v4.20 + series",
    "simplified",
    "no SECTION_INFO pages: early memmaps are never freed here",
)
def free_pagetable(mm: Mm, pfn: int, nr_pages: int, owner: str) -> None:
    """Free the frames behind a vmemmap leaf: not those that are marked, they go with the memory.

    Reads the first frame's struct page, so that must still be mapped. Raises `KernelCrash`.
    """
    page = read_pfn(mm, pfn, "free_pagetable")
    if page.vmemmap and series(mm).check.free_pagetable:
        clear_marks(mm, pfn, nr_pages)
    elif owner == "buddy":
        free_range(mm, pfn, pfn + nr_pages)
    elif page.flags & PG_RESERVED:
        free_reserved_pages(mm, pfn, nr_pages)
    else:
        mm.event(
            "FramesLeaked",
            "arch/x86/mm/init_64.c:free_pagetable",
            f"pfn {pfn:#x}: refcount {page.refcount} does not drop to 0",
            pfn=pfn,
            pages=nr_pages,
        )


def free_pagetable_leaf(mm: Mm, va: int, size: int) -> bool:
    """remove_pmd_table() where memmap pages may be marked: the frame's struct page is read, then the leaf is cleared."""
    leaf = mm.leaves.get(va)
    if leaf is None:
        return False
    free_pagetable(mm, leaf_pfn(mm, va, leaf), size >> mm.arch.page_shift, leaf.owner)
    mm.leaves.delete(va, va + size)
    return True
