"""What became of memory that was added after boot: how much it is, and how much of it anybody can use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memshell.drivers.base.memory.blocks import MemoryBlock
from memshell.experiment.compare import wasted_bytes
from memshell.mm.page import Owner
from memshell.mm.state import Mm


class Added(NamedTuple):
    """Bytes of the blocks that were not there at boot."""

    size: int
    usable: int  # what came to the buddy allocator, whoever has it now
    memmap: int  # the struct pages that it needs, wherever they are
    wasted: int  # what its blocks set aside for the memmap and do not need


def added(mm: Mm) -> Added:
    """Return what became of added memory."""
    blocks = list(_blocks(mm))
    size = len(blocks) * mm.block_size
    memmap = len(blocks) * mm.block_pages * mm.arch.struct_page_size
    usable = sum(_usable_pages(mm, block) for block in blocks)
    return Added(size, usable * mm.arch.page_size, memmap, wasted_bytes(mm))


def _blocks(mm: Mm) -> Iterator[MemoryBlock]:
    return (block for block in mm.blocks.values() if not block.early)


def _usable_pages(mm: Mm, block: MemoryBlock) -> int:
    """Return the pages of a block that the buddy has or gave away."""
    if block.state != "online":
        return 0
    pages = mm.block_pages - block.nr_vmemmap_pages
    if mm.online_page_callback is None:
        return pages
    start, held = block.id * mm.block_pages, (Owner.OFFLINE, Owner.BALLOON)
    return pages - sum(b - a for a, b, page in mm.pages.items(start, start + mm.block_pages) if page.owner in held)
