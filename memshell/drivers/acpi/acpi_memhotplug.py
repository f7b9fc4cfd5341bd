"""drivers/acpi/acpi_memhotplug.c: a memory device (a DIMM) is added and removed."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import (
    MemoryBlock,
    blocks_within,
    register_group,
    unregister_group,
    walk_memory_blocks,
)
from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.memory_hotplug.remove import remove_memory_locked
from memshell.mm.state import Mm


@mirrors("drivers/acpi/acpi_memhotplug.c:acpi_memory_device_add", "v6.12", "complete")
def acpi_memory_device_add(mm: Mm, nid: int, start: int, size: int) -> None:
    """Add a DIMM. Asks for the memmap on the memory (until v6.5 only when the core supports it); one static group per DIMM."""
    features = mm.features
    flags = MHP_MEMMAP_ON_MEMORY if features.memmap_on_memory.exists else 0
    if (
        features.memmap_on_memory.caller_checks
        and not mhp_supports_memmap_on_memory(mm, nid, start, size).reserve_pages
    ):
        flags = 0
    group = register_group(mm, nid, size >> mm.arch.page_shift, static=True) if features.mhp.memory_groups else None
    try:
        add_memory(mm, nid, start, size, flags, group=group)
    except KernelError:
        unregister_group(mm, group or 0)
        raise
    walk_memory_blocks(mm, start, size)


@mirrors("drivers/acpi/acpi_memhotplug.c:acpi_memory_device_remove", "v6.12", "complete")
def acpi_memory_device_remove(mm: Mm, start: int, size: int) -> None:
    """Remove a DIMM whose blocks are offline; one that was never added (its add failed) goes in silence."""
    groups: set[int] = set()

    def visit(block: MemoryBlock) -> None:
        if block.group is not None and mm.groups[block.group].static:  # a DIMM's, and no other device's
            groups.add(block.group)

    walk_memory_blocks(mm, start, size, visit)
    if blocks_within(mm, start, size):
        remove_memory_locked(mm, start, size)
    for group in groups:
        unregister_group(mm, group)
    mm.struct_pages.delete(start, start + size)  # the DIMM goes, and what it held
