"""The mode with big blocks of one or more memory blocks (BBM, v5.11): a big block is plugged and unplugged as a whole."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import MemoryBlock
from memshell.drivers.virtio.virtio_mem.device import (
    could_add_memory,
    count_offline,
    device_of,
    send,
    unit_ids,
    virtio_mem_add_memory,
)
from memshell.drivers.virtio.virtio_mem.pages import virtio_mem_fake_offline, virtio_mem_fake_online
from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory
from memshell.mm.mmzone import ZoneType
from memshell.mm.state import Mm


def _size(mm: Mm) -> int:
    return device_of(mm).unit << mm.arch.page_shift


def _blocks(mm: Mm, number: int) -> list[MemoryBlock]:
    each = _size(mm) // mm.block_size
    return [mm.blocks[block] for block in mm.blocks.between(number * each, (number + 1) * each)]


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_bbm_plug_request", "v6.12", "complete")
def plug(mm: Mm, want: int) -> None:
    """Plug and add the big blocks that fit into *want* pages, lowest first, until too much is offline (ENOSPC)."""
    unit = device_of(mm).unit
    for number in unit_ids(mm, unit):
        if want < unit or (not _blocks(mm, number) and not could_add_memory(mm, _size(mm))):
            return
        if not _blocks(mm, number):
            virtio_mem_bbm_plug_and_add_bb(mm, number)
            want -= unit


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_bbm_plug_and_add_bb", "v6.12", "complete")
def virtio_mem_bbm_plug_and_add_bb(mm: Mm, number: int) -> None:
    """Plug a big block and add it; when the add fails, unplug it again."""
    unit = device_of(mm).unit
    send(mm, "plug", number * unit, (number + 1) * unit)
    try:
        virtio_mem_add_memory(mm, number * _size(mm), _size(mm))
    except KernelError:
        send(mm, "unplug", number * unit, (number + 1) * unit)
        raise


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_bbm_unplug_request", "v6.12", "complete")
def unplug(mm: Mm, want: int) -> int:
    """Unplug big blocks, highest first: those that are offline, then movable ones, then any. Return what is left of *want*.

    One that has pages in use is passed over.
    """
    unit = device_of(mm).unit
    left = want // unit
    for accept in (_is_offline, _is_movable, _blocks):
        for number in reversed(unit_ids(mm, unit)):
            if not left:
                return 0
            if _blocks(mm, number) and accept(mm, number) and _offline_remove_and_unplug(mm, number):
                left -= 1
    return left * unit


def _is_offline(mm: Mm, number: int) -> bool:
    return all(block.state == "offline" for block in _blocks(mm, number))


def _is_movable(mm: Mm, number: int) -> bool:
    return all(block.state == "offline" or block.zone is ZoneType.MOVABLE for block in _blocks(mm, number))


def _offline_remove_and_unplug(mm: Mm, number: int) -> bool:
    """virtio_mem_bbm_offline_remove_and_unplug_bb(): take all pages, then the blocks; what fails is taken back."""
    unit, size, section = device_of(mm).unit, _size(mm), mm.arch.pages_per_section
    online = [block for block in _blocks(mm, number) if block.state == "online"]
    taken: list[int] = []
    try:
        for block in online:
            assert block.zone is not None
            for pfn in range(block.id * mm.block_pages, (block.id + 1) * mm.block_pages, section):
                virtio_mem_fake_offline(mm, pfn, section, (block.nid, block.zone))
                taken.append(pfn)
        offline_and_remove_memory(mm, number * size, size)
    except KernelError:
        for pfn in taken:
            virtio_mem_fake_online(mm, pfn, section)
        return False
    count_offline(mm, -size)
    send(mm, "unplug", number * unit, (number + 1) * unit)
    return True
