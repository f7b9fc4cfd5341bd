"""drivers/base/memory.c: memory blocks and memory groups come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memremap import Altmap, VmemAltmap
from memshell.mm.mmzone import MemoryGroup, ZoneType
from memshell.mm.records import often_replaced
from memshell.mm.state import Mm


@often_replaced
class MemoryBlock(NamedTuple):
    """struct memory_block. *altmap* is set when the memmap is in the block itself."""

    id: int
    nid: int
    state: str = "offline"  # online | going-offline | offline
    zone: ZoneType | None = None  # None while offline, or when an early block spans zones
    altmap: Altmap | None = None
    group: int | None = None
    early: bool = False
    nr_vmemmap_pages: int = 0  # pages at the start that online keeps from the buddy, padding included
    online_type: str | None = None  # what the next device_online() uses; None is MMOP_OFFLINE, read as "online"


def block_start(mm: Mm, block_id: int) -> int:
    """Return the first pfn of a block."""
    return block_id * mm.block_pages


def blocks_within(mm: Mm, start: int, size: int) -> list[int]:
    """Return the numbers of the blocks there are that lie in [start, start+size) bytes as a whole."""
    return mm.blocks.between(-(-start // mm.block_size), (start + size) // mm.block_size)


def find_block(mm: Mm, block_id: int) -> MemoryBlock:
    """Return block *block_id*. Raises ENOENT when sysfs has no such directory."""
    block = mm.blocks.get(block_id)
    if block is None:
        raise KernelError(
            f"there is no memory{block_id}", "ENOENT", where="drivers/base/memory.c", hint=_nearest(mm, block_id)
        )
    return block


def _nearest(mm: Mm, block_id: int) -> str | None:
    if not mm.blocks:
        return None
    return f"the nearest block is memory{min(mm.blocks, key=lambda known: (abs(known - block_id), known))}"


@mirrors("drivers/base/memory.c:add_memory_block", "v6.12", "complete")
def add_memory_block(mm: Mm, block_id: int, nid: int, altmap: Altmap | None, group: int | None) -> None:
    """Register one offline block. Raises EEXIST for one that is there."""
    if block_id in mm.blocks:
        raise KernelError(f"memory{block_id} exists already", "EEXIST", where="drivers/base/memory.c:add_memory_block")
    if mm.fault("device_register"):
        if altmap is not None and mm.features.bug.altmap_set_before_registration:
            where, text = (
                "drivers/base/memory.c:memory_block_release",
                f"WARNING: memory{block_id} has its altmap still",
            )
            mm.event("Warning", where, text, block=block_id)
        text = "injected: the block's device cannot be registered"
        raise KernelError(text, "ENOMEM", where="drivers/base/memory.c:add_memory_block")
    kept = 0
    if altmap is not None:
        # nr_vmemmap_pages: what the memmap took until v6.5, since v6.6 all that was set aside for it.
        kept = altmap.alloc if mm.features.altmap.whole_block else altmap.free
    mm.blocks[block_id] = MemoryBlock(block_id, nid, altmap=altmap, group=group, nr_vmemmap_pages=kept)
    _count_in_group(mm, group, 1)


def _count_in_group(mm: Mm, gid: int | None, blocks: int) -> None:
    if gid is not None:
        mm.groups[gid] = mm.groups[gid]._replace(nr_blocks=mm.groups[gid].nr_blocks + blocks)


@mirrors("drivers/base/memory.c:create_memory_block_devices", "v6.12", "complete")
def create_memory_block_devices(
    mm: Mm, start: int, size: int, nid: int, altmap: VmemAltmap | None, group: int | None
) -> None:
    """Register the blocks of [start, start+size) bytes; on an error none of them stays."""
    first, last = start // mm.block_size, (start + size) // mm.block_size
    block_id = first
    try:
        for block_id in range(first, last):
            if mm.fault("add_memory_block"):
                raise KernelError(
                    "injected: no memory for the block device", "ENOMEM", where="drivers/base/memory.c:add_memory_block"
                )
            own = altmap.of_block(block_start(mm, block_id)) if altmap is not None else None
            add_memory_block(mm, block_id, nid, own, group)
    except KernelError:
        for done in range(first, block_id):
            del mm.blocks[done]
        _count_in_group(mm, group, first - block_id)
        raise


@mirrors("drivers/base/memory.c:remove_memory_block", "v6.12", "complete")
def remove_memory_block(mm: Mm, block_id: int) -> None:
    """Unregister one block; one that is not there is a WARN_ON_ONCE and passed over."""
    block = mm.blocks.pop(block_id, None)
    if block is not None:
        _count_in_group(mm, block.group, -1)
    else:
        mm.event(
            "Warning",
            "drivers/base/memory.c:remove_memory_block_devices",
            f"WARNING: there is no memory{block_id}",
            block=block_id,
        )


@mirrors("drivers/base/memory.c:remove_memory_block_devices", "v6.12", "complete")
def remove_memory_block_devices(mm: Mm, start: int, size: int) -> None:
    """Unregister the blocks of [start, start+size) bytes."""
    for block_id in range(start // mm.block_size, (start + size) // mm.block_size):
        remove_memory_block(mm, block_id)


@mirrors("drivers/base/memory.c:walk_memory_blocks", "v6.12", "complete")
def walk_memory_blocks(mm: Mm, start: int, size: int, visit: Callable[[MemoryBlock], None] | None = None) -> None:
    """Call *visit* for each existing block of [start, start+size) bytes, in order; an error ends the walk."""
    if visit is None:
        return
    for block_id in mm.blocks.between(start // mm.block_size, -(-(start + size) // mm.block_size)):
        block = mm.blocks.get(block_id)
        if block is not None:
            visit(block)


def set_online_type(mm: Mm, block_id: int, online_type: str) -> None:
    """Set what the next online of the block uses."""
    mm.blocks[block_id] = mm.blocks[block_id]._replace(online_type=online_type)


def register_group(mm: Mm, nid: int, pages: int, *, static: bool) -> int:
    """memory_group_register_static() or _dynamic(): return the id of a new group of *pages* (at most, or per unit)."""
    gid = mm.counters["next_group"] = mm.counters.get("next_group", 0) + 1
    mm.groups[gid] = MemoryGroup(gid, nid, static, pages)
    return gid


def unregister_group(mm: Mm, gid: int) -> None:
    """memory_group_unregister(): the group goes, unless a block is still in it (-EBUSY, which no driver looks at)."""
    if gid in mm.groups and not mm.groups[gid].nr_blocks:
        del mm.groups[gid]
