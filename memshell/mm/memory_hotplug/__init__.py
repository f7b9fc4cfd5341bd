"""mm/memory_hotplug.c: memory comes and goes, online and offline. Here: the flags of include/linux/memory_hotplug.h."""

from __future__ import annotations

MHP_MERGE_RESOURCE, MHP_MEMMAP_ON_MEMORY, MHP_NID_IS_MGID = 1, 2, 4
