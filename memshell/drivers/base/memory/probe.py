"""drivers/base/memory.c: the file probe, through which a user adds a block."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.state import Mm


@mirrors("drivers/base/memory.c:probe_store", "v6.12", "complete")
def probe_store(mm: Mm, nid: int, start: int) -> None:
    """Write *start* to /sys/devices/system/memory/probe: add one block. Raises EINVAL when it is not aligned to a block."""
    if start % mm.block_size:
        raise KernelError(f"{start:#x} is not aligned to a block", "EINVAL", where="drivers/base/memory.c:probe_store")
    add_memory(mm, nid, start, mm.block_size)
