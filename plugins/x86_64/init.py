"""arch/x86/mm/init.c: the direct map is made in the runs that its leaves can have."""

from __future__ import annotations

from collections.abc import Callable

from memshell import GiB, Mm, align_down, align_up, mirrors

PUD = GiB


@mirrors(
    "arch/x86/mm/init.c:init_memory_mapping", "v6.12", "simplified", "hot-added memory only: no 4K leaves, no promotion"
)
def init_memory_mapping(mm: Mm, start: int, end: int, *, gbpages: bool, fill: Callable[[Mm, int, int], None]) -> None:
    """Build the direct map of [start, end) bytes; *fill* is kernel_physical_mapping_init() of init_64.c."""
    for a, b in split_mem_range(start, end, gbpages=gbpages):
        fill(mm, a, b)


def split_mem_range(start: int, end: int, *, gbpages: bool) -> list[tuple[int, int]]:
    """Return the runs of [start, end): one for 2M leaves, one for 1G leaves where *gbpages* allows, one for 2M again."""
    low, high = align_up(start, PUD), align_down(end, PUD)
    runs = ((start, low), (low, high), (high, end)) if gbpages and low < high else ((start, end),)
    return [(a, b) for a, b in runs if a < b]
