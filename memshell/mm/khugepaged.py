"""mm/khugepaged.c: what transparent huge pages want to be kept free."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.state import Mm


@mirrors("mm/khugepaged.c:set_recommended_min_free_kbytes", "v6.12", "complete")
def set_recommended_min_free_kbytes(mm: Mm, min_free_kbytes: int, low: int, nr_zones: int) -> int:
    """Return min_free_kbytes raised as transparent huge pages want it: 11 pageblocks a zone, at most 5 % of the kernel zones.

    Two pageblocks for each zone below ZONE_MOVABLE, and one for each pair of the three per-cpu migratetypes.
    """
    pages = min((1 << mm.arch.pageblock_order) * nr_zones * (2 + 3 * 3), low // 20)
    return max(min_free_kbytes, pages << mm.arch.page_shift >> 10)
