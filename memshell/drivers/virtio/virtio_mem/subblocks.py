"""The mode with memory blocks of several subblocks (SBM)."""

from __future__ import annotations

from collections.abc import Iterator

from memshell.drivers.base.memory.blocks import MemoryBlock
from memshell.drivers.virtio.virtio_mem.device import (
    WHERE,
    could_add_memory,
    count_offline,
    device_of,
    own_blocks,
    send,
    unit_ids,
    virtio_mem_add_memory,
)
from memshell.drivers.virtio.virtio_mem.pages import virtio_mem_fake_offline, virtio_mem_fake_online
from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory, try_remove_memory
from memshell.mm.mmzone import ZoneType
from memshell.mm.state import Mm, ZoneKey

ANY = ("kernel", "movable")  # an online block, of whatever zone
# Since v5.14 the driver tells zones apart: it plugs kernel zones first, and unplugs movable memory first.
PLUG = {True: (("kernel",), ("movable",), ("offline",)), False: (ANY, ("offline",))}
UNPLUG = {
    True: ((("movable",), True), (("kernel",), True), (("movable",), False), (("kernel",), False)),
    False: ((ANY, True), (ANY, False)),
}


def _blocks(mm: Mm, kinds: tuple[str, ...]) -> list[MemoryBlock]:
    return [block for block in map(mm.blocks.__getitem__, own_blocks(mm)) if _kind(block) in kinds]


def _kind(block: MemoryBlock) -> str:
    if block.state != "online":
        return "offline"
    return "movable" if block.zone is ZoneType.MOVABLE else "kernel"


def _unplugged(mm: Mm, block: MemoryBlock) -> list[tuple[int, int]]:
    start = block.id * mm.block_pages
    return list(mm.plugged.gaps(start, start + mm.block_pages))


def _without_any(mm: Mm, block: MemoryBlock) -> bool:
    start = block.id * mm.block_pages
    return not mm.plugged.intersects(start, start + mm.block_pages)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_sbm_plug_request", "v6.12", "complete")
def plug(mm: Mm, want: int) -> None:
    """Plug *want* pages: fill blocks that are plugged in part, then add blocks, until too much is offline (ENOSPC)."""
    for kinds in PLUG[mm.features.virtio_mem.by_zone]:
        for block in _blocks(mm, kinds):
            want = _plug_any(mm, block, want)
            if not want:
                return
    for block_id in unit_ids(mm, mm.block_pages):
        if not want or (block_id not in mm.blocks and not could_add_memory(mm, mm.block_size)):
            return
        if block_id not in mm.blocks:
            take = min(want, mm.block_pages)
            virtio_mem_sbm_plug_and_add_mb(mm, block_id, take)
            want -= take


def _plug_any(mm: Mm, block: MemoryBlock, want: int) -> int:
    """virtio_mem_sbm_plug_any_sb(): plug what is unplugged of a block, lowest first. Return what is still wanted."""
    for start, end in _unplugged(mm, block):
        take = min(want, end - start)
        if take:
            send(mm, "plug", start, start + take)
            if block.state == "online":
                virtio_mem_fake_online(mm, start, take)
            want -= take
    return want


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_sbm_plug_and_add_mb", "v6.12", "complete")
def virtio_mem_sbm_plug_and_add_mb(mm: Mm, block_id: int, nr_pages: int) -> None:
    """Plug the first *nr_pages* of a block and add the block; when the add fails, unplug them again."""
    start = block_id * mm.block_pages
    send(mm, "plug", start, start + nr_pages)
    try:
        virtio_mem_add_memory(mm, block_id * mm.block_size, mm.block_size)
    except KernelError:
        send(mm, "unplug", start, start + nr_pages)
        raise


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_sbm_unplug_request", "v6.12", "complete")
def unplug(mm: Mm, want: int) -> int:
    """Unplug *want* pages, from the highest block down; return what is left.

    Offline blocks come first; of online ones those plugged in part before whole ones.
    """
    for partial in (True, False):
        for block in _highest_first(mm, ("offline",), partial=partial):
            if not want:
                return 0
            want = _unplug_offline(mm, block, want)
    for kinds, partial in UNPLUG[mm.features.virtio_mem.by_zone]:
        for block in _highest_first(mm, kinds, partial=partial):
            if not want:
                return 0
            want = _unplug_online(mm, block, want)
    return want


def _highest_first(mm: Mm, kinds: tuple[str, ...], *, partial: bool) -> Iterator[MemoryBlock]:
    for block in reversed(_blocks(mm, kinds)):
        if bool(_unplugged(mm, block)) == partial:
            yield block


def _unplug_offline(mm: Mm, block: MemoryBlock, want: int) -> int:
    """virtio_mem_sbm_unplug_any_sb_offline(): from the end; a block without any plugged part is removed."""
    first = block.id * mm.block_pages
    for start, end, _ in reversed(list(mm.plugged.items(first, first + mm.block_pages))):
        take = min(want, end - start)
        if take:
            send(mm, "unplug", end - take, end)
            want -= take
    if _without_any(mm, block):
        try_remove_memory(mm, block.id * mm.block_size, mm.block_size)
        count_offline(mm, -mm.block_size)
    return want


def _unplug_online(mm: Mm, block: MemoryBlock, want: int) -> int:
    """virtio_mem_sbm_unplug_any_sb_online(): the whole block at once if it may go, else subblock by subblock from the end."""
    unit, first = device_of(mm).unit, block.id * mm.block_pages
    assert block.zone is not None
    key = (block.nid, block.zone)
    whole = want >= mm.block_pages and not _unplugged(mm, block)
    if whole and _unplug_subblocks(mm, first, mm.block_pages, key):
        want -= mm.block_pages
    else:
        for pfn in range(first + mm.block_pages - unit, first - 1, -unit):
            if want and mm.plugged.intersects(pfn, pfn + unit) and _unplug_subblocks(mm, pfn, unit, key):
                want -= unit
    try_remove_unplugged(mm, block)
    return want


def _unplug_subblocks(mm: Mm, start: int, nr_pages: int, key: ZoneKey) -> bool:
    try:
        virtio_mem_fake_offline(mm, start, nr_pages, key)
    except KernelError:
        return False
    send(mm, "unplug", start, start + nr_pages)
    return True


def try_remove_unplugged(mm: Mm, block: MemoryBlock) -> None:
    """virtio_mem_sbm_try_remove_unplugged_mb(): offline and remove a block of which nothing is plugged; an error is ignored."""
    if not _without_any(mm, block):
        return
    try:
        offline_and_remove_memory(mm, block.id * mm.block_size, mm.block_size)
    except KernelError as error:
        where = f"{WHERE}:virtio_mem_sbm_try_remove_unplugged_mb"
        mm.event("UnplugFailed", where, f"memory{block.id}: {error}", block=block.id)
    else:
        count_offline(mm, -mm.block_size)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_cleanup_pending_mb", "v6.12", "complete")
def cleanup_pending(mm: Mm) -> None:
    """Try again to remove blocks of which nothing is plugged (v6.6); before, they waited for the next unplug request."""
    if mm.features.virtio_mem.retries_removal:
        for kinds in (("movable",), ("kernel",), ("offline",)):
            for block in _blocks(mm, kinds):
                try_remove_unplugged(mm, block)
