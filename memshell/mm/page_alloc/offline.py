"""mm/page_alloc.c: isolated pages are forgotten."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.page import Owner
from memshell.mm.sparse import offline_mem_sections
from memshell.mm.state import Mm


@mirrors("mm/page_alloc.c:__offline_isolated_pages", "v6.12", "complete")
def offline_isolated_pages(mm: Mm, start_pfn: int, end_pfn: int) -> int:
    """Forget the isolated free pages of the range; return how many were not PageOffline already."""
    offline_mem_sections(mm, start_pfn, end_pfn)
    already = sum(b - a for a, b, page in mm.pages.items(start_pfn, end_pfn) if page.owner is Owner.OFFLINE)
    mm.pages.delete(start_pfn, end_pfn)
    mm.pageblocks.delete(start_pfn, end_pfn)
    return end_pfn - start_pfn - already
