"""drivers/dax/kmem.c: device memory becomes RAM."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import register_group
from memshell.errors import KernelError
from memshell.kernel.resource import drop_resource, request_region
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory_driver_managed
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.mm.pfn import align_down, align_up, format_size
from memshell.mm.state import Mm, Resource


def dev_dax_kmem_probe(mm: Mm, nid: int, start: int, size: int, name: str, *, memmap_on_memory: bool) -> Resource:
    """Make the whole memory blocks inside [start, start+size) bytes RAM; return the device's resource.

    Raises EINVAL when no whole block is inside. Source: drivers/dax/kmem.c:dev_dax_kmem_probe.
    """
    first, last = align_up(start, mm.block_size), align_down(start + size, mm.block_size)
    if first >= last:
        raise KernelError(
            f"no whole memory block of {format_size(mm.block_size)} in {start:#x}-{start + size - 1:#x}",
            "EINVAL",
            where="drivers/dax/kmem.c:dev_dax_kmem_probe",
        )
    group = register_group(mm, nid, last - first >> mm.arch.page_shift, static=True)
    outer = request_region(mm, first, last - first, name)
    try:
        add_memory_driver_managed(
            mm, nid, first, last - first, MHP_MEMMAP_ON_MEMORY if memmap_on_memory else 0, group, "System RAM (kmem)"
        )
    except KernelError:
        drop_resource(mm, outer)
        del mm.groups[group]
        raise
    return outer


def dev_dax_kmem_remove(mm: Mm, outer: Resource) -> None:
    """Unbind kmem: remove the memory, whose blocks must be offline. Raises EBUSY; the memory stays RAM then."""
    remove_memory(mm, outer.start, outer.end - outer.start + 1)
    drop_resource(mm, outer)
