"""drivers/dax/bus.c: the attributes of a dax device."""

from __future__ import annotations

from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.state import Mm


def dax_memmap_on_memory(mm: Mm, nid: int, start: int, size: int) -> bool:
    """Write 1 to a dax device's memmap_on_memory attribute; return whether it took (v6.8 and later)."""
    return bool(mhp_supports_memmap_on_memory(mm, nid, start, size).reserve_pages)
