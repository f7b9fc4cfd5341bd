"""mm/page_alloc.c: exactly these pages are allocated, migrating what is in the way."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.memory_hotplug.offline import migrate_range
from memshell.mm.page_isolation import start_isolate_page_range, test_pages_isolated, undo_isolate_page_range
from memshell.mm.state import Mm, ZoneKey


@mirrors("mm/page_alloc.c:alloc_contig_range_noprof", "v6.12", "simplified", "no retry of a migration that failed")
def alloc_contig_range(mm: Mm, start: int, end: int, key: ZoneKey) -> None:
    """Allocate exactly [start, end), migrating what is movable. Raises EBUSY, with everything as it was."""
    start_isolate_page_range(mm, start, end, key)
    if mm.trace is not None:
        for name in ("__drain_all_pages", "lru_cache_disable"):
            mm.trace.leaf(name)
    migrate_range(mm, start, end, key)
    test_pages_isolated(mm, start, end)
    undo_isolate_page_range(mm, start, end)
