"""drivers/base/memory.c: a block goes online and offline, and what sysfs shows of it."""

from __future__ import annotations

from functools import cache

from memshell.drivers.base.memory.blocks import MemoryBlock, block_start, find_block, set_online_type
from memshell.drivers.base.memory.notifier import prepare_notify
from memshell.errors import KernelError
from memshell.kernel.workqueue import flush_work
from memshell.lib.kstrtox import kstrtobool
from memshell.mm import mirrors
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_deinit_memmap_on_memory, mhp_init_memmap_on_memory
from memshell.mm.memory_hotplug.offline import offline_pages
from memshell.mm.memory_hotplug.online import online_pages
from memshell.mm.memory_hotplug.online_policy import zone_for_pfn_range
from memshell.mm.memory_hotplug.zone import adjust_present_page_count
from memshell.mm.mmzone import ZoneType
from memshell.mm.state import Mm

ONLINE_TYPES = ("online", "online_kernel", "online_movable")


def _unlocked(mm: Mm, block_id: int, function: str) -> None:
    """Say that *function* changes a zone outside of mem_hotplug_lock (bug.altmap_accounting_unlocked)."""
    if mm.features.bug.altmap_accounting_unlocked:
        text = f"{function}() for memory{block_id} without mem_hotplug_lock"
        mm.event("Race", f"drivers/base/memory.c:{function}", text, block=block_id)


@mirrors("drivers/base/memory.c:memory_subsys_online", "v6.12", "complete")
def memory_subsys_online(mm: Mm, block_id: int) -> None:
    """Online one offline block as its online_type says; on an error it is offline as before. Source: also memory_block_online."""
    block = mm.blocks[block_id]
    start, nr_pages, kept = block_start(mm, block_id), mm.block_pages, block.nr_vmemmap_pages
    online_type, group = block.online_type or "online", block.group
    mm.blocks[block_id] = block._replace(online_type=None)
    key = cache(lambda: (block.nid, zone_for_pfn_range(mm, online_type, block.nid, group, start, nr_pages)))
    if kept or mm.features.mhp.block_chooses_zone:
        key()  # before all others; else online_pages() asks first
    prepare_notify(mm, "MEM_PREPARE_ONLINE", start, nr_pages)
    try:
        if kept:
            _unlocked(mm, block_id, "mhp_init_memmap_on_memory")
            mhp_init_memmap_on_memory(mm, start, kept, key())
        try:
            online_pages(mm, start + kept, nr_pages - kept, key, group)
        except KernelError:
            # The memmap's pages leave present first: offline_pages() compares what is left of the node with what goes.
            if kept:
                mhp_deinit_memmap_on_memory(mm, start, kept, key())
            raise
    except KernelError:
        prepare_notify(mm, "MEM_FINISH_OFFLINE", start, nr_pages)
        raise
    if kept:
        _unlocked(mm, block_id, "adjust_present_page_count")
        adjust_present_page_count(mm, key(), group, kept)
    block_onlined(mm, block, key()[1])


def block_onlined(mm: Mm, block: MemoryBlock, zone: ZoneType) -> None:
    """Say that the pages of an offline block are in *zone* now."""
    nr_pages, kept = mm.block_pages, block.nr_vmemmap_pages
    mm.blocks[block.id] = block._replace(state="online", zone=zone, online_type=None)
    mm.event(
        "BlockOnlined",
        "drivers/base/memory.c:memory_block_online",
        f"memory{block.id} online in {zone.label}, {nr_pages - kept} of {nr_pages} pages to the buddy",
        block=block.id,
        zone=zone.label,
        nid=block.nid,
        pages=nr_pages - kept,
        memmap_pages=kept,
    )


@mirrors("drivers/base/memory.c:memory_subsys_offline", "v6.12", "complete")
def memory_subsys_offline(mm: Mm, block_id: int) -> None:
    """Offline one online block; on an error it is online as before. Source: also memory_block_offline."""
    block = mm.blocks[block_id]
    if block.zone is None:
        known = mm.features.offline.zone_of_block
        where = "drivers/base/memory.c:memory_block_offline" if known else "mm/memory_hotplug.c:offline_pages"
        raise KernelError(f"memory{block_id} spans more than one zone", "EINVAL", where=where)
    start, nr_pages, kept, key = (
        block_start(mm, block_id),
        mm.block_pages,
        block.nr_vmemmap_pages,
        (block.nid, block.zone),
    )
    if kept:
        _unlocked(mm, block_id, "adjust_present_page_count")
        adjust_present_page_count(mm, key, block.group, -kept)
    try:
        offline_pages(mm, start + kept, nr_pages - kept, key, block.group, early=block.early)
    except KernelError:
        if kept:
            adjust_present_page_count(mm, key, block.group, kept)
        raise
    if kept:
        _unlocked(mm, block_id, "mhp_deinit_memmap_on_memory")
        mhp_deinit_memmap_on_memory(mm, start, kept, key)
    prepare_notify(mm, "MEM_FINISH_OFFLINE", start, nr_pages)
    block_offlined(mm, block, block.zone)


def block_offlined(mm: Mm, block: MemoryBlock, zone: ZoneType) -> None:
    """Say that the pages of an online block have left *zone*."""
    mm.blocks[block.id] = block._replace(state="offline", zone=None)
    mm.event(
        "BlockOfflined",
        "drivers/base/memory.c:memory_block_offline",
        f"memory{block.id} offline, out of {zone.label}",
        block=block.id,
        zone=zone.label,
        nid=block.nid,
    )


def state_store(mm: Mm, block_id: int, value: str) -> None:
    """Write *value* to /sys/devices/system/memory/memoryN/state, as `state_store` takes it.

    Raises EINVAL for a value that is none, and for the state that the block is in already; else what
    online or offline return. The online type of a refused write stays with an online block: it is what a later
    device_online() without a type uses (an eject that rolls back does).
    """
    block = find_block(mm, block_id)
    where = "drivers/base/memory.c:state_store"
    if value not in (*ONLINE_TYPES, "offline"):
        raise KernelError(
            f"{value!r} is no state", "EINVAL", where=where, hint=f"write one of {', '.join(ONLINE_TYPES)}, offline"
        )
    if value == "offline":
        if block.state == "offline":
            raise KernelError(f"memory{block_id} is offline already", "EINVAL", where=where)
        memory_subsys_offline(mm, block_id)
        flush_work(mm)
        return
    set_online_type(mm, block_id, value)
    if block.state == "online":
        raise KernelError(f"memory{block_id} is online already", "EINVAL", where=where)
    memory_subsys_online(mm, block_id)
    flush_work(mm)


def online_store(mm: Mm, block_id: int, value: str) -> None:
    """Write *value* to memoryN/online. Source: drivers/base/core.c:online_store.

    What the block is already is done; a block comes online by the type that was written last, or where the kernel puts
    it. Raises EINVAL for what is neither yes nor no; else what online or offline return.
    """
    block = find_block(mm, block_id)
    online = kstrtobool(value, "drivers/base/core.c:online_store")
    if online and block.state != "online":
        memory_subsys_online(mm, block_id)
    elif not online and block.state != "offline":
        memory_subsys_offline(mm, block_id)
    flush_work(mm)


def valid_zones(mm: Mm, block_id: int) -> str:
    """Return what /sys/devices/system/memory/memoryN/valid_zones shows. Source: drivers/base/memory.c:valid_zones_show."""
    block = find_block(mm, block_id)
    if block.state != "offline":
        return block.zone.label if block.zone is not None else "none"
    start, nr_pages = block_start(mm, block_id), mm.block_pages
    trace, mm.trace = mm.trace, None
    default = zone_for_pfn_range(mm, "online", block.nid, block.group, start, nr_pages)
    kernel = zone_for_pfn_range(mm, "online_kernel", block.nid, block.group, start, nr_pages)
    mm.trace = trace
    rest = [zone.label for zone in (kernel, ZoneType.MOVABLE) if zone is not default]
    return " ".join([default.label, *rest])
