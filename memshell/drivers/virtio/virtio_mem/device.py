"""The device: its region, the size of its blocks, and in which mode the driver works them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memshell.errors import KernelError, UsageError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MERGE_RESOURCE
from memshell.mm.memory_hotplug.add import add_memory_driver_managed
from memshell.mm.pfn import GiB, MiB, format_size
from memshell.mm.state import Mm

WHERE = "drivers/virtio/virtio_mem.c"
DEVICE = "hw/virtio/virtio-mem.c"  # QEMU's side
DEFAULT_BLOCK_SIZE = 2 * MiB  # QEMU on a host whose transparent huge pages are as large


@dataclass(frozen=True, slots=True)
class VirtioMem:
    """One device. *start*, *size*, *block_size*, *requested* and *offline* in bytes, *unit* in pages.

    *unit* is a subblock, or with *big* a big block: what is plugged at once. *offline* is what the driver has added and
    nobody has onlined. *broken*: an error that the driver did not expect; it does nothing any more.
    """

    nid: int
    start: int
    size: int
    block_size: int
    unit: int
    big: bool
    group: int
    requested: int = 0
    offline: int = 0
    active: bool = False
    broken: str = ""


def device_of(mm: Mm) -> VirtioMem:
    """Return the machine's device. Raises ENODEV without one."""
    if mm.virtio_mem is None:
        raise KernelError("there is no virtio-mem device", "ENODEV", where=WHERE)
    return mm.virtio_mem


def virtio_mem_contains_range(mm: Mm, start_pfn: int, end_pfn: int) -> bool:
    """Whether the pfns [start_pfn, end_pfn) lie in the device's region."""
    vm, shift = device_of(mm), mm.arch.page_shift
    return vm.start <= start_pfn << shift and end_pfn << shift <= vm.start + vm.size


def units(mm: Mm, block_size: int) -> tuple[int, bool]:
    """Return how many pages the driver plugs at once with device blocks of *block_size* bytes, and whether as big blocks."""
    least = mm.arch.pageblock_nr_pages
    if not mm.features.virtio_mem.subblock_is_pageblock:
        least = max(least, 1 << mm.arch.max_order)
    block = block_size >> mm.arch.page_shift
    unit = max(least, block)
    if unit < mm.block_pages:
        return unit, False
    if mm.features.virtio_mem.big_blocks:
        return max(block, mm.block_pages), True
    if block > mm.block_pages:
        raise KernelError(
            f"device blocks of {format_size(block_size)} are larger than memory blocks",
            "EINVAL",
            where=f"{WHERE}:virtio_mem_init",
        )
    return mm.block_pages, False


def refuse_device(mm: Mm, start: int, size: int, block_size: int) -> None:
    """Raise `UsageError` where the kernel has no driver, or for a device that no hypervisor offers; all in bytes."""
    if not mm.arch.has_virtio_mem(mm.profile):
        text = f"{mm.arch.name} with kernel {mm.profile.name} has no virtio-mem driver"
        raise UsageError(text, hint="x86_64 has it since v5.8, arm64 since v5.17, s390 since v6.13")
    if block_size < MiB or block_size & (block_size - 1):
        raise UsageError(f"block_size={format_size(block_size)} cannot be", hint="a power of two from 1M")
    if not size or (start | size) % block_size:
        text = f"a region of {format_size(size)} at {start:#x} is not whole device blocks"
        raise UsageError(text, hint=f"a device block has {format_size(block_size)}; block_size= says another")


def refuse_size(size: int, region: int, block_size: int) -> None:
    """Raise EINVAL for a requested-size that is not whole device blocks or larger than the region, all in bytes."""
    if size % block_size or not 0 <= size <= region:
        raise KernelError(
            f"requested-size {format_size(size)} cannot be",
            "EINVAL",
            where=DEVICE,
            hint=f"whole {format_size(block_size)}, at most {format_size(region)}",
        )


def unit_ids(mm: Mm, pages: int) -> range:
    """Return the numbers of the units of *pages* pages (a memory block, a big block) that the driver can use.

    Raises nothing: what does not fit whole, or cannot be mapped, is not used.
    """
    vm, (low, high), size = device_of(mm), mm.arch.mhp_range(), pages << mm.arch.page_shift
    return range(-(-max(vm.start, low) // size), min(vm.start + vm.size, high + 1) // size)


def plugged_pages(mm: Mm) -> int:
    """Return how many pages are plugged."""
    return sum(end - start for start, end, _ in mm.plugged.items())


def own_blocks(mm: Mm) -> list[int]:
    """Return the ids of the memory blocks that the device has added, lowest first."""
    ids = unit_ids(mm, mm.block_pages)
    return mm.blocks.between(ids.start, ids.stop)


def offline_threshold(mm: Mm) -> int:
    """Return how many bytes the driver has added at most that nobody has onlined: two units, 1 GiB at least."""
    vm = device_of(mm)
    return max(2 * mm.block_size, GiB, 2 * (vm.unit << mm.arch.page_shift) if vm.big else 0)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_could_add_memory", "v6.12", "complete")
def could_add_memory(mm: Mm, size: int) -> bool:
    """Whether *size* bytes more would not be too much that is offline."""
    return device_of(mm).offline + size <= offline_threshold(mm)


def count_offline(mm: Mm, change: int) -> None:
    """Remember that *change* bytes more of the device are offline."""
    vm = device_of(mm)
    mm.virtio_mem = replace(vm, offline=vm.offline + change)


@mirrors("drivers/virtio/virtio_mem.c:virtio_mem_add_memory", "v6.12", "complete")
def virtio_mem_add_memory(mm: Mm, start: int, size: int) -> None:
    """Add [start, +size) bytes: merged in iomem, never with the memmap on the memory."""
    vm = device_of(mm)
    count_offline(mm, size)
    try:
        add_memory_driver_managed(mm, vm.nid, start, size, MHP_MERGE_RESOURCE, vm.group, "System RAM (virtio_mem)")
    except KernelError:
        count_offline(mm, -size)
        raise


def send(mm: Mm, what: str, start: int, end: int) -> None:
    """virtio_mem_send_plug_request() and _unplug_request() for the pfns [start, end): the hypervisor agrees."""
    mm.enter(f"virtio_mem_send_{what}_request")
    if what == "plug":
        mm.plugged.set(start, end, value=True)
    else:
        mm.plugged.delete(start, end)
    mm.event(
        f"Virtio{what.capitalize()}ged",
        f"{WHERE}:virtio_mem_send_{what}_request",
        f"pfns {start:#x}-{end - 1:#x}",
        start=start,
        end=end,
    )
