"""mm/memory_hotplug.c: memory whose blocks are offline is removed."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import (
    MemoryBlock,
    block_start,
    remove_memory_block_devices,
    set_online_type,
    walk_memory_blocks,
)
from memshell.drivers.base.memory.state import memory_subsys_offline, memory_subsys_online
from memshell.errors import KernelError
from memshell.kernel.resource import release_mem_region_adjustable
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.pfn import align_down, format_size
from memshell.mm.sparse import blocks_in_rows, sparse_remove_sections
from memshell.mm.state import Mm


def check_hotplug_memory_range(mm: Mm, start: int, size: int) -> None:
    """Raise EINVAL unless the range is one or more whole memory blocks."""
    if not size or start % mm.block_size or size % mm.block_size:
        raise KernelError(
            f"block size {format_size(mm.block_size)}: unaligned hotplug range: start {start:#x}, size {size:#x}",
            "EINVAL",
            where="mm/memory_hotplug.c:check_hotplug_memory_range",
            hint=f"use multiples of {format_size(mm.block_size)}",
        )


@mirrors("mm/memory_hotplug.c:__remove_pages", "v6.12", "complete")
def remove_pages(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Remove the sections of [pfn, +nr_pages), ascending."""
    end, first = pfn + nr_pages, pfn
    while pfn < end:
        pfn = sparse_remove_sections(mm, pfn, end, altmap)
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        mm.seam.remove_section(mm, pfn, step, altmap)
        pfn += step
    where = "mm/memory_hotplug.c:__remove_pages"
    for low, high in altmap.parts(first, end) if altmap is not None else [(first, end)]:
        mm.event("SectionsRemoved", where, f"pfns {low:#x}-{high - 1:#x}", start_pfn=low, end_pfn=high)


@mirrors("mm/memory_hotplug.c:try_offline_node", "v6.12", "complete")
def try_offline_node(mm: Mm, nid: int) -> None:
    """Offline node *nid* when it has neither a span nor a block nor a CPU."""
    node = mm.nodes[nid]
    if not node.spanned and not node.has_cpu and not any(block.nid == nid for block in mm.blocks.values()):
        mm.nodes[nid] = node._replace(online=False)


@mirrors("mm/memory_hotplug.c:remove_memory_blocks_and_altmaps", "v6.12", "complete")
def remove_memory_blocks_and_altmaps(mm: Mm, start: int, size: int) -> None:
    """Remove the blocks of a range one by one, each memmap back to its altmap; equal ones at once."""
    at, end = start, start + size
    while at < end:
        block = mm.blocks.get(at // mm.block_size)
        count = _row_of_altmaps(mm, block, end) if block is not None else 1
        altmap = block.altmap.copy().row(count) if block is not None and block.altmap else None
        remove_memory_block_devices(mm, at, count * mm.block_size)
        at += count * mm.block_size
        if block is None:
            continue  # find_memory_block_by_id() found none: a WARN_ON_ONCE
        if altmap is not None and mm.features.bug.memory_block_reference_leak:
            mm.counters["memory_blocks.leaked"] = mm.counters.get("memory_blocks.leaked", 0) + count
        mm.arch.arch_remove_memory(mm, at - count * mm.block_size, count * mm.block_size, altmap)
        if altmap is not None and altmap.alloc:
            mm.event(
                "Warning",
                "mm/memory_hotplug.c:remove_memory_blocks_and_altmaps",
                "Altmap not fully unmapped",
                alloc=altmap.alloc,
            )


def _row_of_altmaps(mm: Mm, first: MemoryBlock, end: int) -> int:
    """Return how many blocks from *first* on, before the byte *end*, have all of their memmap in leaves of altmaps alike."""
    pfn, nr_pages = block_start(mm, first.id), mm.block_pages
    memmap = nr_pages * mm.arch.struct_page_size >> mm.arch.page_shift
    in_rows = blocks_in_rows(mm, pfn, end >> mm.arch.page_shift)
    if not in_rows or first.altmap is None or first.altmap.alloc != memmap:
        return 1
    count = 0
    for number in range(first.id, end // mm.block_size):
        block, behind = mm.blocks.get(number), count * nr_pages
        if block is None or block.altmap != first.altmap.moved(behind):
            break
        low = mm.arch.vmemmap_address(pfn + behind)
        run = mm.leaves.run_at(low)
        if (
            run is None
            or run[1] < low + (memmap << mm.arch.page_shift)
            or run[2][::2] != (1 << mm.arch.pmd_shift, "altmap")
        ):
            break
        count += 1
    return max(count, 1)


@mirrors("mm/memory_hotplug.c:try_remove_memory", "v6.12", "complete")
def try_remove_memory(mm: Mm, start: int, size: int) -> None:
    """Remove offline memory. Raises EBUSY while a block is online, EINVAL for a range or granularity that cannot be."""
    mm.profile.need_built(mm.features.config.memory_hotremove, "MEMORY_HOTREMOVE")
    where = "mm/memory_hotplug.c:try_remove_memory"
    check_hotplug_memory_range(mm, start, size)
    online: list[int] = []

    def visit(block: MemoryBlock) -> None:
        mm.enter("check_memblock_offlined_cb")
        if block.state != "offline":
            online.append(block.id)

    walk_memory_blocks(mm, start, size, visit)
    if online:
        raise KernelError(f"memory{online[0]} is online", "EBUSY", where=where)
    blocks = [mm.blocks[i] for i in mm.blocks.between(start // mm.block_size, (start + size) // mm.block_size)]
    if not blocks:
        # The kernel does not look whether anything is there: it warns for each block and succeeds (recorded on s390, 6.12).
        mm.event(
            "Warning",
            where,
            f"WARNING: no memory block at {start:#x}-{start + size - 1:#x}: nothing removed",
            start=start,
            size=size,
        )
        return
    altmaps = [block for block in blocks if block.altmap is not None]
    if mm.policy.parameter != "N":
        walk_memory_blocks(mm, start, size)
    if altmaps and mm.features.memmap_on_memory.single_block and size != mm.block_size:
        raise KernelError("refused to remove: wrong granularity", "EINVAL", where=where)
    if altmaps and len(altmaps) != len(blocks):
        raise KernelError("some blocks of the range have their memmap on the memory, some not", "EINVAL", where=where)
    mm.seam.remove_blocks(mm, start, size, altmaps=bool(altmaps))
    release_mem_region_adjustable(mm, start, size)
    try_offline_node(mm, blocks[0].nid)
    mm.event("MemoryRemoved", where, f"{start:#x}-{start + size - 1:#x} ({format_size(size)})", start=start, size=size)


def remove_blocks(mm: Mm, start: int, size: int, *, altmaps: bool) -> None:
    """Remove blocks and sections: block by block where each has an altmap, else the whole range at once."""
    if altmaps:
        remove_memory_blocks_and_altmaps(mm, start, size)
    else:
        remove_memory_block_devices(mm, start, size)
        mm.arch.arch_remove_memory(mm, start, size, None)


@mirrors("mm/memory_hotplug.c:__remove_memory", "v6.12", "complete")
def remove_memory_locked(mm: Mm, start: int, size: int) -> None:
    """Remove [start, start+size) bytes; every block of it must be offline."""
    try_remove_memory(mm, start, size)


@mirrors("mm/memory_hotplug.c:offline_and_remove_memory", "v6.12", "complete")
def offline_and_remove_memory(mm: Mm, start: int, size: int) -> None:
    """Offline every block of the range and remove it; on an error the blocks that were offlined come back to their zone kind."""
    if start % mm.block_size or not size or size % mm.block_size:
        raise KernelError(
            f"{start:#x}+{size:#x} is not whole blocks", "EINVAL", where="mm/memory_hotplug.c:offline_and_remove_memory"
        )
    done: list[tuple[int, str]] = []

    def offline(block: MemoryBlock) -> None:
        if block.state == "online":
            # try_offline_memory_block() remembers the kind of zone, not the zone: a block of DMA32 may come back as Normal.
            kind = "online_movable" if block.zone is not None and block.zone.label == "Movable" else "online_kernel"
            memory_subsys_offline(mm, block.id)
            done.append((block.id, kind))

    try:
        walk_memory_blocks(mm, start, size, offline)
        try_remove_memory(mm, start, size)
    except KernelError:
        for block_id, kind in done:
            set_online_type(mm, block_id, kind)
            memory_subsys_online(mm, block_id)
        raise


@mirrors("mm/memory_hotplug.c:remove_memory", "v6.12", "complete")
def remove_memory(mm: Mm, start: int, size: int) -> None:
    """Remove memory and hand its error to the driver."""
    try_remove_memory(mm, start, size)
