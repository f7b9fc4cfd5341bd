"""The driver's work: it follows what the hypervisor requests, as far as that goes."""

from __future__ import annotations

from dataclasses import replace

from memshell.drivers.virtio.virtio_mem import bigblocks, subblocks
from memshell.drivers.virtio.virtio_mem.device import (
    WHERE,
    could_add_memory,
    device_of,
    offline_threshold,
    own_blocks,
    plugged_pages,
    refuse_size,
)
from memshell.errors import KernelError
from memshell.kernel.workqueue import queue_work
from memshell.mm import mirrors
from memshell.mm.pfn import format_size
from memshell.mm.state import Mm

RETRIED = ("EBUSY", "ENOMEM")


def request(mm: Mm, size: int) -> None:
    """Set requested-size to *size* bytes and plug or unplug towards it, as far as that goes.

    Raises EINVAL for a size that the device does not have, ENOMEM where an add fails, EBUSY when pages in use keep the device
    above what is wanted: the driver tries these again when it is asked again.
    """
    vm = device_of(mm)
    refuse_size(size, vm.size, vm.block_size)
    mm.enter("mhp_get_pluggable_range")
    mm.virtio_mem = replace(vm, requested=size)
    virtio_mem_run_wq(mm)


@mirrors(
    "drivers/virtio/virtio_mem.c:virtio_mem_run_wq",
    "v6.12",
    "simplified",
    "no timer: a failure is tried again on request",
)
def virtio_mem_run_wq(mm: Mm) -> None:
    """Work until nothing changes: a block that was removed may have held what kept another one."""
    error: KernelError | None = None
    mm.virtio_mem = replace(device_of(mm), active=True)
    try:
        while not device_of(mm).broken:
            blocks, error = len(own_blocks(mm)), _run(mm)
            if error is None or len(own_blocks(mm)) >= blocks:
                break
    finally:
        mm.virtio_mem = replace(device_of(mm), active=False)
    if error is not None:
        if error.errno not in RETRIED:
            mm.virtio_mem = replace(device_of(mm), broken=str(error))
        raise error


def _run(mm: Mm) -> KernelError | None:
    vm = device_of(mm)
    mode = bigblocks if vm.big else subblocks
    try:
        if not vm.big:
            subblocks.cleanup_pending(mm)
        want = (vm.requested >> mm.arch.page_shift) - plugged_pages(mm)
        want = (abs(want) // vm.unit * vm.unit) * (1 if want > 0 else -1)
        if want > 0:
            mode.plug(mm, want)
        elif want and mode.unplug(mm, -want):
            plugged = format_size(plugged_pages(mm) << mm.arch.page_shift)
            text = (
                f"memory in use stays plugged, {plugged} of {format_size(vm.requested)} wanted; the driver keeps trying"
            )
            return KernelError(text, "EBUSY", where=f"{WHERE}:virtio_mem_unplug_request")
    except KernelError as error:
        return error
    return None


def retry(mm: Mm) -> None:
    """The work item, queued by the driver itself: an error waits for the next run."""
    try:
        virtio_mem_run_wq(mm)
    except KernelError as error:
        mm.event("Warning", f"{WHERE}:virtio_mem_run_wq", str(error))


def waits_for(mm: Mm) -> str:
    """Return why less than requested is plugged; empty where it is not, or where an error said so."""
    vm = device_of(mm)
    unit = vm.unit << mm.arch.page_shift
    missing = vm.requested - (plugged_pages(mm) << mm.arch.page_shift)
    if vm.broken:
        return f"the driver has given up: {vm.broken}"
    if missing <= 0:
        return ""
    if missing < unit:
        return f"the driver plugs whole {format_size(unit)}"
    if not could_add_memory(mm, unit if vm.big else mm.block_size):
        least = format_size(offline_threshold(mm))
        return f"the driver adds no more than {least} that is not online; online it"
    return "the region has no room for another whole block"


@mirrors(
    "drivers/virtio/virtio_mem.c:virtio_mem_memory_notifier_cb",
    "v6.12",
    "simplified",
    "what is plugged of a block follows from the map of plugged pages",
)
def virtio_mem_memory_notifier_cb(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """The driver's memory notifier.

    Going offline, its PageOffline pages give up their reference; where the core would take them off managed again
    (until v6.10), the driver adds them first. Memory that somebody onlines makes room for more: the work is queued.
    """
    vm, size = mm.virtio_mem, nr_pages << mm.arch.page_shift
    start = start_pfn << mm.arch.page_shift
    if vm is None or start + size <= vm.start or vm.start + vm.size <= start:
        return
    if action in ("MEM_GOING_OFFLINE", "MEM_CANCEL_OFFLINE"):
        if mm.features.bug.offline_counts_page_offline:
            _count_managed(mm, start_pfn, nr_pages, 1 if action == "MEM_GOING_OFFLINE" else -1)
    elif action in ("MEM_ONLINE", "MEM_OFFLINE"):
        change = size if action == "MEM_OFFLINE" else -size
        mm.virtio_mem = vm = replace(vm, offline=vm.offline + change)
        if action == "MEM_ONLINE" and not vm.active:
            _start_adding_more(mm)


def _count_managed(mm: Mm, start_pfn: int, nr_pages: int, sign: int) -> None:
    page = mm.pages.get(start_pfn)
    if page is not None:
        nr_unplugged = sign * sum(b - a for a, b in mm.plugged.gaps(start_pfn, start_pfn + nr_pages))
        zone = mm.zones[page.nid, page.zone]
        changed = zone._replace(managed=zone.managed + nr_unplugged, taken_twice=zone.taken_twice - nr_unplugged)
        mm.zones[page.nid, page.zone] = changed


def _start_adding_more(mm: Mm) -> None:
    """Half of what may be offline is online: go on with what was requested."""
    if could_add_memory(mm, offline_threshold(mm) // 2):
        queue_work(mm, retry)
