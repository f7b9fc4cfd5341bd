"""drivers/base/memory.c of v4.20: a block is registered with its first section; who asks whether it is removable."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import MemoryBlock
from memshell.mm import mirrors
from memshell.mm.page_isolation import has_unmovable_pages
from memshell.mm.state import Mm
from memshell.series.features import series


@mirrors("drivers/base/memory.c:hotplug_memory_register", "v4.20", "complete")
def hotplug_memory_register(mm: Mm, nid: int, pfn: int) -> None:
    """Register the memory block of a section; the other sections of the block find it there."""
    block_id = pfn // mm.block_pages
    mm.blocks.setdefault(block_id, MemoryBlock(block_id, nid))


@mirrors("drivers/base/memory.c:show_mem_removable", "v4.20", "complete")
def removable_show(mm: Mm) -> None:
    """Read ``removable`` of every online block.

    It asks has_unmovable_pages(), which warns about reserved pages in ZONE_MOVABLE.
    """
    if series(mm).check.has_unmovable_pages:
        return
    for block in mm.blocks.values():
        if block.state == "online" and not block.early:
            has_unmovable_pages(mm, block.id * mm.block_pages, (block.id + 1) * mm.block_pages)
