"""drivers/virtio/virtio_mem.c, the mode with memory blocks of several subblocks (SBM): memory that grows and shrinks by MiB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memshell.drivers.base.memory.blocks import MemoryBlock, register_group
from memshell.errors import KernelError
from memshell.kernel.resource import request_region
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MERGE_RESOURCE
from memshell.mm.memory_hotplug.add import add_memory_driver_managed
from memshell.mm.memory_hotplug.online import generic_online_page
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory, try_remove_memory
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.page_alloc.contig import alloc_contig_range
from memshell.mm.pfn import MiB, format_size, order_of
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm, ZoneKey

NEVER_ONLINE = 1  # the tag of PageOffline pages that the buddy never had (PG_dirty)


@dataclass(frozen=True, slots=True)
class VirtioMem:
    """One device: its region in bytes, the subblock in pages, its memory group, what the hypervisor wants."""

    nid: int
    start: int
    size: int
    subblock: int
    group: int
    requested: int = 0


def probe(mm: Mm, nid: int, start: int, size: int) -> None:
    """Bind the driver to a device with the region [start, start+size) bytes; nothing is plugged yet."""
    subblock = subblock_pages(mm)
    request_region(mm, start, size, "virtio0")
    group = register_group(mm, nid, mm.block_pages, static=False)
    mm.virtio_mem = VirtioMem(nid, start, size, subblock, group)
    mm.online_page_callback = online_range
    mm.memory_notifier = virtio_mem_memory_notifier_cb


def subblock_pages(mm: Mm) -> int:
    """Return how many pages the driver plugs at least."""
    return max(mm.arch.pageblock_nr_pages, 2 * MiB >> mm.arch.page_shift)


def plugged_pages(mm: Mm) -> int:
    """Return how many pages are plugged."""
    return sum(end - start for start, end, _ in mm.plugged.items())


def own_blocks(mm: Mm) -> list[int]:
    """Return the ids of the memory blocks that the device has added, lowest first."""
    ids = _block_ids(mm)
    return sorted(number for number in mm.blocks if number in ids)


def request(mm: Mm, size: int) -> None:
    """Set requested-size to *size* bytes and plug or unplug towards it, as far as that goes.

    Raises EINVAL for a size that is not whole subblocks or larger than the region, ENOMEM where an add fails, EBUSY when
    pages in use keep the device above what is wanted (the driver would go on trying).
    """
    vm = device_of(mm)
    refuse_size(mm, size, vm.size)
    mm.enter("mhp_get_pluggable_range")
    mm.virtio_mem = replace(vm, requested=size)
    want = (size >> mm.arch.page_shift) - plugged_pages(mm)
    if want > 0:
        _plug(mm, want)
    elif _unplug(mm, -want):
        raise KernelError(
            "memory in use stays plugged; the driver keeps trying",
            "EBUSY",
            where="drivers/virtio/virtio_mem.c:virtio_mem_unplug_request",
        )


def refuse_size(mm: Mm, size: int, region: int) -> None:
    """Raise EINVAL for a requested-size that is not whole subblocks or larger than the region, both in bytes."""
    subblock = subblock_pages(mm) << mm.arch.page_shift
    if size % subblock or not 0 <= size <= region:
        raise KernelError(
            f"requested-size {format_size(size)} cannot be",
            "EINVAL",
            where="drivers/virtio/virtio_mem.c",
            hint=f"whole {format_size(subblock)}, at most {format_size(region)}",
        )


def device_of(mm: Mm) -> VirtioMem:
    """Return the machine's device. Raises ENODEV without one."""
    if mm.virtio_mem is None:
        raise KernelError("there is no virtio-mem device", "ENODEV", where="drivers/virtio/virtio_mem.c")
    return mm.virtio_mem


def _block_ids(mm: Mm) -> range:
    vm = device_of(mm)
    return range(-(-vm.start // mm.block_size), (vm.start + vm.size) // mm.block_size)


def _own_blocks(mm: Mm, kinds: tuple[str, ...]) -> Iterator[MemoryBlock]:
    for number in own_blocks(mm):
        block = mm.blocks[number]
        if _kind(block) in kinds:
            yield block


def _kind(block: MemoryBlock) -> str:
    if block.state != "online":
        return "offline"
    return "movable" if block.zone is ZoneType.MOVABLE else "kernel"


def _unplugged(mm: Mm, block: MemoryBlock) -> list[tuple[int, int]]:
    start = block.id * mm.block_pages
    return list(mm.plugged.gaps(start, start + mm.block_pages))


def _plug(mm: Mm, want: int) -> None:
    """virtio_mem_sbm_plug_request(): fill partly plugged blocks first (movable, kernel, offline), then add blocks."""
    for kind in ("movable", "kernel", "offline"):
        for block in list(_own_blocks(mm, (kind,))):
            for start, end in _unplugged(mm, block):
                take = min(want, end - start)
                if not take:
                    return
                _send(mm, "plug", start, start + take)
                if block.state == "online":
                    virtio_mem_fake_online(mm, start, take)
                want -= take
    for block_id in _block_ids(mm):
        if not want:
            return
        if block_id not in mm.blocks:
            take = min(want, mm.block_pages)
            virtio_mem_sbm_plug_and_add_mb(mm, block_id, take)
            want -= take


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_sbm_plug_and_add_mb", "v6.12", "complete")
def virtio_mem_sbm_plug_and_add_mb(mm: Mm, block_id: int, nr_pages: int) -> None:
    """Plug the first *nr_pages* of a block and add the block; when the add fails, unplug them again."""
    start = block_id * mm.block_pages
    _send(mm, "plug", start, start + nr_pages)
    try:
        virtio_mem_add_memory(mm, block_id)
    except KernelError:
        _send(mm, "unplug", start, start + nr_pages)
        raise


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_add_memory", "v6.12", "complete")
def virtio_mem_add_memory(mm: Mm, block_id: int) -> None:
    """Add one block: merged in iomem, never with the memmap on the memory."""
    vm = device_of(mm)
    name = "System RAM (virtio_mem)"
    add_memory_driver_managed(mm, vm.nid, block_id * mm.block_size, mm.block_size, MHP_MERGE_RESOURCE, vm.group, name)


def _send(mm: Mm, what: str, start: int, end: int) -> None:
    """virtio_mem_send_plug_request() and _unplug_request(): the hypervisor agrees."""
    mm.enter(f"virtio_mem_send_{what}_request")
    if what == "plug":
        mm.plugged.set(start, end, value=True)
    else:
        mm.plugged.delete(start, end)
    mm.event(
        f"Virtio{what.capitalize()}ged",
        f"drivers/virtio/virtio_mem.c:virtio_mem_send_{what}_request",
        f"pfns {start:#x}-{end - 1:#x}",
        start=start,
        end=end,
    )


def online_range(mm: Mm, start: int, end: int, key: ZoneKey) -> None:
    """virtio_mem_online_page_cb() for every chunk: plugged parts go to the buddy, the others stay PageOffline."""
    plugged = mm.plugged if mm.virtio_mem is not None else RangeMap[bool]()
    pfn = start
    while pfn < end:
        order = order_of(pfn, end - pfn, mm.arch.max_order)
        if mm.trace is not None:
            virtio_mem_online_page_cb(mm, pfn, order, key)
            pfn += 1 << order
            continue
        run = plugged.run_at(pfn)
        gap = next(plugged.gaps(pfn, end), (end, end))
        stop = min(run[1], end) if run else gap[1]
        if run:
            free_range(mm, pfn, stop)
            mm.change_zone(key, managed=mm.zones[key].managed + stop - pfn)
        else:
            mm.pages.set(pfn, stop, Page(Owner.OFFLINE, *key, NEVER_ONLINE))
        pfn = stop


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_online_page_cb", "v6.12", "complete")
def virtio_mem_online_page_cb(mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
    """Online one chunk, or leave it offline; a chunk that is plugged in part is split."""
    _online_chunk(mm, pfn, order, key)


def _online_chunk(mm: Mm, pfn: int, order: int, key: ZoneKey) -> None:
    end = pfn + (1 << order)
    if mm.plugged.covers(pfn, end):
        generic_online_page(mm, pfn, order)
    elif not mm.plugged.intersects(pfn, end):
        set_fake_offline(mm, pfn, end, key, NEVER_ONLINE)
    else:
        _online_chunk(mm, pfn, order - 1, key)
        _online_chunk(mm, pfn + (1 << (order - 1)), order - 1, key)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_set_fake_offline", "v6.12", "complete")
def set_fake_offline(mm: Mm, start: int, end: int, key: ZoneKey, tag: int) -> None:
    """Mark pages PageOffline; dirty when they were never onlined."""
    mm.pages.set(start, end, Page(Owner.OFFLINE, *key, tag))


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_fake_online", "v6.12", "complete")
def virtio_mem_fake_online(mm: Mm, start: int, nr_pages: int) -> None:
    """Give PageOffline pages to the buddy, in chunks of the largest order; they count as managed from now on."""
    pfn, end = start, start + nr_pages
    while pfn < end:
        order = order_of(pfn, end - pfn, mm.arch.max_order)
        mm.enter("virtio_mem_clear_fake_offline")
        page = mm.pages.get(pfn)
        if page is not None and page.tag == NEVER_ONLINE:
            generic_online_page(mm, pfn, order)
        elif page is not None:
            free_range(mm, pfn, pfn + (1 << order))
            key = (page.nid, page.zone)
            mm.change_zone(key, managed=mm.zones[key].managed + (1 << order))
        pfn += 1 << order


def _unplug(mm: Mm, want: int) -> int:
    """virtio_mem_sbm_unplug_request(): offline blocks first, then movable, then kernel; from the highest. Return what is left."""
    # Offline blocks first; of online ones those plugged in part before whole ones, in either case movable before kernel.
    for kind, partial in (
        ("offline", True),
        ("offline", False),
        ("movable", True),
        ("kernel", True),
        ("movable", False),
        ("kernel", False),
    ):
        for block in reversed(list(_own_blocks(mm, (kind,)))):
            if not want:
                return 0
            if bool(_unplugged(mm, block)) == partial:
                want = _unplug_offline(mm, block, want) if kind == "offline" else _unplug_online(mm, block, want)
    return want


def _unplug_offline(mm: Mm, block: MemoryBlock, want: int) -> int:
    """virtio_mem_sbm_unplug_any_sb_offline(): from the end; a block without any plugged part is removed."""
    first = block.id * mm.block_pages
    for start, end, _ in reversed(list(mm.plugged.items(first, first + mm.block_pages))):
        take = min(want, end - start)
        if take:
            _send(mm, "unplug", end - take, end)
            want -= take
    if not mm.plugged.intersects(first, first + mm.block_pages):
        try_remove_memory(mm, block.id * mm.block_size, mm.block_size)
    return want


def _unplug_online(mm: Mm, block: MemoryBlock, want: int) -> int:
    """virtio_mem_sbm_unplug_any_sb_online(): the whole block at once if it may go, else subblock by subblock from the end."""
    vm, first = device_of(mm), block.id * mm.block_pages
    assert block.zone is not None
    key = (block.nid, block.zone)
    whole = want >= mm.block_pages and not _unplugged(mm, block)
    if whole and _unplug_subblocks(mm, first, mm.block_pages, key):
        want -= mm.block_pages
    else:
        for pfn in range(first + mm.block_pages - vm.subblock, first - 1, -vm.subblock):
            if want and mm.plugged.intersects(pfn, pfn + vm.subblock) and _unplug_subblocks(mm, pfn, vm.subblock, key):
                want -= vm.subblock
    if not mm.plugged.intersects(first, first + mm.block_pages):
        try:
            offline_and_remove_memory(mm, block.id * mm.block_size, mm.block_size)
        except KernelError as error:
            mm.event(
                "UnplugFailed",
                "drivers/virtio/virtio_mem.c:virtio_mem_sbm_try_remove_unplugged_mb",
                f"memory{block.id}: {error}",
                block=block.id,
            )
    return want


def _unplug_subblocks(mm: Mm, start: int, nr_pages: int, key: ZoneKey) -> bool:
    try:
        virtio_mem_fake_offline(mm, start, nr_pages, key)
    except KernelError:
        return False
    _send(mm, "unplug", start, start + nr_pages)
    return True


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_fake_offline", "v6.12", "complete")
def virtio_mem_fake_offline(mm: Mm, start: int, nr_pages: int, key: ZoneKey) -> None:
    """Take online pages away from the buddy: present stays, managed goes down. Raises EBUSY for pages in use."""
    alloc_contig_range(mm, start, start + nr_pages, key)
    set_fake_offline(mm, start, start + nr_pages, key, 0)
    mm.change_zone(key, managed=mm.zones[key].managed - nr_pages)


@mirrors(
    "drivers/virtio/virtio_mem.c:virtio_mem_memory_notifier_cb",
    "v6.12",
    "simplified",
    "the driver's own bookkeeping follows from the blocks",
)
def virtio_mem_memory_notifier_cb(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """The driver's memory notifier.

    Going offline, its PageOffline pages give up their reference; where the core would take them off managed again
    (until v6.10), the driver adds them first.
    """
    if action == "MEM_GOING_OFFLINE" and mm.features.bug.offline_counts_page_offline:
        for start, end, page in list(mm.pages.items(start_pfn, start_pfn + nr_pages)):
            if page.owner is Owner.OFFLINE:
                key = (page.nid, page.zone)
                mm.change_zone(key, managed=mm.zones[key].managed + end - start)
