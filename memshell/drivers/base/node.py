"""drivers/base/node.c: the links between nodes and memory blocks."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import MemoryBlock, walk_memory_blocks
from memshell.mm import mirrors
from memshell.mm.state import Mm


@mirrors("drivers/base/node.c:register_memory_blocks_under_node", "v6.12", "stubbed", "sysfs links")
def register_memory_blocks_under_node(mm: Mm, start: int, size: int) -> None:
    """Link the blocks of the range to their node."""

    def link(block: MemoryBlock) -> None:
        if mm.trace is not None:
            with mm.trace.call("register_mem_block_under_node_hotplug", "drivers/base/node.c", (block.id,)):
                mm.trace.leaf("do_register_memory_block_under_node")

    walk_memory_blocks(mm, start, size, link if mm.trace is not None else None)
