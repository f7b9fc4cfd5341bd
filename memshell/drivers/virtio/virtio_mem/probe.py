"""The driver takes a device over."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import register_group
from memshell.drivers.virtio.virtio_mem.device import WHERE, VirtioMem, units
from memshell.drivers.virtio.virtio_mem.pages import online_range
from memshell.drivers.virtio.virtio_mem.work import virtio_mem_memory_notifier_cb
from memshell.errors import KernelError
from memshell.kernel.resource import overlaps, request_region
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.online import set_online_page_callback
from memshell.mm.state import Mm


@mirrors(
    "drivers/virtio/virtio_mem.c:virtio_mem_init_hotplug",
    "v6.12",
    "simplified",
    "force_bbm and bbm_block_size are not set",
)
def virtio_mem_init_hotplug(mm: Mm, nid: int, start: int, size: int, block_size: int) -> None:
    """Bind the driver to a device with the region [start, start+size) bytes; nothing is plugged yet.

    Raises EBUSY where something is in the region already, EINVAL for a device block that the kernel does not take (v5.10), and
    where another driver gives onlined pages to the buddy.
    """
    unit, big = units(mm, block_size)
    if overlaps(mm, start, start + size - 1, 0):
        raise KernelError("could not reserve device region", "EBUSY", where=f"{WHERE}:virtio_mem_create_resource")
    if not set_online_page_callback(mm, online_range):
        text = "another driver gives the pages of onlined blocks to the buddy"
        raise KernelError(text, "EINVAL", where="mm/memory_hotplug.c:set_online_page_callback")
    request_region(mm, start, size, "virtio0")
    group = register_group(mm, nid, unit if big else mm.block_pages, static=False)
    mm.virtio_mem = VirtioMem(nid, start, size, block_size, unit, big, group)
    mm.memory_notifier = virtio_mem_memory_notifier_cb
