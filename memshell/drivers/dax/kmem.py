"""drivers/dax/kmem.c: device memory becomes RAM, block by block."""

from __future__ import annotations

from dataclasses import replace

from memshell.drivers.base.memory.blocks import register_group, unregister_group
from memshell.drivers.dax.bus import DevDax, claim, new_name, set_device, unbind, unbound_device
from memshell.errors import KernelError
from memshell.kernel.resource import drop_resource, request_region
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory_driver_managed
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.mm.pfn import align_down, align_up, format_size
from memshell.mm.state import Mm


@mirrors("drivers/dax/kmem.c:dev_dax_kmem_probe", "v6.12", "simplified", "one range a device")
def dev_dax_kmem_probe(mm: Mm, nid: int, start: int, size: int, *, memmap_on_memory: bool) -> DevDax:
    """Make the whole memory blocks inside [start, +size) bytes RAM; return the device.

    Raises EINVAL when no whole block is inside, EBUSY where the range is not free, else what the add raises.
    """
    first, last = align_up(start, mm.block_size), align_down(start + size, mm.block_size)
    where = "drivers/dax/kmem.c:dev_dax_kmem_probe"
    if first >= last:
        block, text = format_size(mm.block_size), f"{start:#x}-{start + size - 1:#x}"
        raise KernelError(
            f"{text} has no whole memory block of {block}: too small after alignment", "EINVAL", where=where
        )
    claim(mm, "kmem", first, last - first)
    device = unbound_device(mm, start, size)
    if device is None or not device.name.startswith("dax"):
        device = DevDax(new_name(mm, "kmem"), "kmem", start, size, nid, mm.block_size, "", first, last - first)
    group = register_group(mm, nid, last - first >> mm.arch.page_shift, static=True)
    outer = request_region(mm, first, last - first, device.name)
    # The flag comes with the device's attribute memmap_on_memory (v6.8); before, kmem never sets it.
    flags = MHP_MEMMAP_ON_MEMORY if memmap_on_memory else 0
    try:
        add_memory_driver_managed(mm, nid, first, last - first, flags, group, "System RAM (kmem)")
    except KernelError:
        drop_resource(mm, outer)
        unregister_group(mm, group)
        raise
    device = replace(device, mode="kmem", driver="kmem", group=group, align=mm.block_size, stuck=False)
    device = replace(device, data_start=first, data_size=last - first)
    set_device(mm, device)
    return device


@mirrors("drivers/dax/kmem.c:dev_dax_kmem_remove", "v6.12", "simplified", "one range a device")
def dev_dax_kmem_remove(mm: Mm, device: DevDax) -> None:
    """Unbind kmem and remove its memory, whose blocks must be offline.

    There is one shot: the device is unbound whatever comes of it, and memory that could not be removed is RAM until the
    next reboot. Raises EBUSY then.
    """
    try:
        remove_memory(mm, device.data_start, device.data_size)
    except KernelError as error:
        unbind(mm, device, stuck=True)
        last = device.data_start + device.data_size - 1
        raise KernelError(
            f"{device.name} is unbound, and {device.data_start:#x}-{last:#x} cannot be hotremoved until the next reboot: "
            f"{error.message}",
            error.errno or "EBUSY",
            where="drivers/dax/kmem.c:dev_dax_kmem_remove",
        ) from error
    outer = next(r for r in mm.resources if (r.start, r.name) == (device.data_start, device.name))
    drop_resource(mm, outer)
    unregister_group(mm, device.group)
    unbind(mm, device)
