"""mm/page_isolation.c with the series: marked pages are no obstacle."""

from __future__ import annotations

from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.state import Mm
from memshell.series.features import series


def unmovable_mark(mm: Mm, page: Page, pfn: int) -> bool:
    """has_unmovable_pages(): a marked page counts only where the check is off; a warning in ZONE_MOVABLE."""
    if page.owner is not Owner.VMEMMAP or series(mm).check.has_unmovable_pages:
        return False
    if page.zone is ZoneType.MOVABLE:
        mm.event(
            "Warning",
            "mm/page_isolation.c:has_unmovable_pages",
            f"WARN_ON_ONCE: a reserved page in ZONE_MOVABLE, pfn {pfn:#x}",
            pfn=pfn,
        )
    return True


def isolated(mm: Mm, page: Page) -> bool:
    """__test_page_isolated_in_pageblock(): whether one run lets the test go on."""
    return page.owner is Owner.VMEMMAP and series(mm).check.test_page_isolated_in_pageblock
