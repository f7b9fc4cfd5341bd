"""Who adds and removes memory: one registry of the callers of add_memory() and remove_memory().

The core's callers stand here; an architecture brings its own (`Arch.callers`). Every command that adds or removes memory
goes through `caller`, and so does a recording, which is played as commands. What a caller has plugged is remembered
(`Mm.devices`): it decides how that memory goes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_remove
from memshell.drivers.acpi.scan import acpi_bus_scan, acpi_scan_hot_remove
from memshell.drivers.base.memory.blocks import register_group, unregister_group
from memshell.drivers.base.memory.probe import probe_store
from memshell.drivers.dax.bus import bound_driver, dax_memmap_on_memory, find_device
from memshell.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memshell.drivers.hv.hv_balloon import hot_add_req, next_place
from memshell.drivers.nvdimm.namespace import unbind_dax
from memshell.drivers.virtio.virtio_mem.device import refuse_device, refuse_size
from memshell.drivers.virtio.virtio_mem.probe import virtio_mem_init_hotplug
from memshell.drivers.virtio.virtio_mem.work import request as request_size
from memshell.drivers.xen.balloon import reserve_additional_memory
from memshell.errors import KernelError, UsageError
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory, add_memory_driver_managed
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory, remove_memory
from memshell.mm.pfn import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.sorted_map import SortedMap
    from memshell.mm.state import Mm


DRIVER = "System RAM (driver)"  # in iomem, where nobody names it


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller is asked to add: [start, +size) bytes on node *nid*.

    *flags* are the MHP_* of a module that calls add_memory() itself, or the wish of a dax device; *name* is the resource's
    in iomem, where the caller has a choice; *block_size* is the device's own, in bytes, where it has one.
    """

    nid: int
    start: int
    size: int
    flags: int = 0
    name: str = ""
    block_size: int = 0


class Device(NamedTuple):
    """What a caller has plugged, bytes. A DIMM that could not be added is plugged all the same."""

    caller: str
    nid: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. *remove* takes memory away that is offline, *eject* offlines it first; None: it never does.

    *whole*: it ejects what was plugged as one device, whatever part is named. *resize* gives a device that grows and
    shrinks another size; the request says where it is, and stands only until the device is there. *place* is where the
    hypervisor goes on, if that is not the first gap. *grow* and *shrink* are told a size alone: the caller chooses which memory.
    *absent* names architectures that do not have it.
    """

    name: str
    text: str
    add: Callable[[Mm, Request], None] | None = None
    remove: Callable[[Mm, int, int], None] | None = None
    eject: Callable[[Mm, int, int], None] | None = None
    whole: bool = False
    place: Callable[[Mm], int | None] | None = None
    resize: Callable[[Mm, Request | None, int], None] | None = None
    grow: Callable[[Mm, Request], None] | None = None
    shrink: Callable[[Mm, int], None] | None = None
    absent: tuple[str, ...] = ()

    def adds(self, mm: Mm, request: Request) -> None:
        """Add memory, and remember it. Raises `UsageError` where the caller never does."""
        if mm.arch.name in self.absent:
            raise UsageError(f"via={self.name} adds no memory on {mm.arch.name}", hint=self.text)
        if self.add is None:
            raise self._never("adds")
        end = request.start + request.size
        device = Device(self.name, request.nid, request.start, request.size)
        try:
            self.add(mm, request)
        except KernelError:
            for start, stop in list(mm.devices.gaps(request.start, end)) if self.whole else ():
                mm.devices.set(start, stop, device)
            raise
        if request.size:
            mm.devices.set(request.start, end, device)

    def grows(self, mm: Mm, request: Request) -> None:
        """Add *request*'s size wherever the caller finds room for it, and remember it."""
        if self.grow is None:
            raise self._never("chooses")
        before = mm.blocks.copy()
        self.grow(mm, request)
        self.notes(mm, before, request.nid)

    def shrinks(self, mm: Mm, size: int) -> None:
        """Take *size* bytes away that the caller chooses. Raises `UsageError` where it takes what is named only."""
        if self.shrink is None:
            raise self._never("chooses")
        before = mm.blocks.copy()
        self.shrink(mm, size)
        self.notes(mm, before)

    def notes(self, mm: Mm, before: SortedMap[int, MemoryBlock], nid: int = 0) -> None:
        """Remember the memory blocks that have come since *before*, and forget those that went."""
        for number in before.keys_of_unshared(mm.blocks):
            if number not in mm.blocks:
                self._unplugged(mm, number * mm.block_size, mm.block_size)
        for number in mm.blocks.keys_of_unshared(before):
            if number not in before:
                start = number * mm.block_size
                mm.devices.set(start, start + mm.block_size, Device(self.name, nid, start, mm.block_size))

    def removes(self, mm: Mm, start: int, size: int) -> None:
        """Remove [start, +size) bytes, whose blocks are offline. Raises `UsageError` where it never does."""
        if self.remove is None:
            raise self._never("removes")
        self.remove(mm, start, size)
        self._unplugged(mm, start, size)

    def ejects(self, mm: Mm, start: int, size: int) -> None:
        """Offline and remove [start, +size) bytes. Raises `UsageError` where it never does."""
        if self.eject is None:
            raise self._never("ejects")
        self.eject(mm, start, size)
        self._unplugged(mm, start, size)

    def resizes(self, mm: Mm, request: Request | None, size: int) -> None:
        """Ask the device for another size, bytes. Raises `UsageError` where it has but one."""
        if self.resize is None:
            raise self._never("resizes")
        self.resize(mm, request, size)

    def _never(self, what: str) -> UsageError:
        return UsageError(f"via={self.name} never {what} memory", hint=self.text)

    def _unplugged(self, mm: Mm, start: int, size: int) -> None:
        """Forget what went; a DIMM stays plugged until it is ejected as one."""
        for a, b, device in list(mm.devices.items(start, start + size)):
            if device.caller == self.name if self.whole else not callers(mm)[device.caller].whole:
                mm.devices.delete(a, b)


def _acpi(mm: Mm, request: Request) -> None:
    acpi_bus_scan(mm, request.nid, request.start, request.size)


def _probe(mm: Mm, request: Request) -> None:
    """One write for each block; a write adds one. Raises `UsageError` for what is not whole blocks."""
    if request.size % mm.block_size:
        block = format_size(mm.block_size)
        raise UsageError(f"a write to probe adds a block of {block}", hint=f"use multiples of {block}")
    for start in range(request.start, request.start + request.size, mm.block_size):
        probe_store(mm, request.nid, start)


def _driver(mm: Mm, request: Request) -> None:
    """A driver with a static memory group that asks for the memmap on the memory, as dax/kmem does."""
    if not mm.features.mhp.driver_managed:
        add_memory(mm, request.nid, request.start, request.size)
        return
    flags = MHP_MEMMAP_ON_MEMORY
    if mm.features.memmap_on_memory.caller_checks:
        # Until v6.5 the core refuses a flag that it cannot keep, so the driver asks before; since v6.6 it falls back.
        wanted = mhp_supports_memmap_on_memory(mm, request.nid, request.start, request.size).reserve_pages
        flags = flags if wanted else 0
    group = register_group(mm, request.nid, request.size >> mm.arch.page_shift, static=True)
    try:
        add_memory_driver_managed(mm, request.nid, request.start, request.size, flags, group, request.name or DRIVER)
    except KernelError:
        unregister_group(mm, group)
        raise


def _module(mm: Mm, request: Request) -> None:
    """A module with flags of its own; before v5.7 there was but one name in iomem."""
    name = (request.name or DRIVER) if mm.features.mhp.driver_managed else "System RAM"
    add_memory(mm, request.nid, request.start, request.size, request.flags, name=name)


def _kmem(mm: Mm, request: Request) -> None:
    """The dax kmem driver; the memmap goes on the device where that is asked for and can be (since v6.8).

    What device_dax has is unbound first, once the wish is written to its attribute, as daxctl reconfigure-device does.
    """
    asked = request.flags & MHP_MEMMAP_ON_MEMORY and mm.features.dax.memmap_on_memory
    on_memory = bool(asked) and dax_memmap_on_memory(mm, request.nid, request.start, request.size)
    unbind_dax(mm, request.start, request.size)
    dev_dax_kmem_probe(mm, request.nid, request.start, request.size, memmap_on_memory=on_memory)


def _remove_kmem(mm: Mm, start: int, size: int) -> None:
    """Unbind kmem; *start* may be anywhere in the device, of which whole blocks are RAM."""
    del size
    device = find_device(mm, start)
    bound_driver(device)
    dev_dax_kmem_remove(mm, device)


def _virtio_mem(mm: Mm, request: Request | None, size: int) -> None:
    """The virtio-mem driver: the device appears with the first request."""
    if mm.virtio_mem is None and request is not None:
        refuse_device(mm, request.start, request.size, request.block_size)
        refuse_size(size, request.size, request.block_size)
        virtio_mem_init_hotplug(mm, request.nid, request.start, request.size, request.block_size)
    request_size(mm, size)


def _hv_balloon(mm: Mm, request: Request) -> None:
    hot_add_req(mm, request.nid, request.start, request.size)


def _xen(mm: Mm, request: Request) -> None:
    reserve_additional_memory(mm, request.nid, request.start, request.size)


CORE = (
    Caller(
        "acpi",
        "a DIMM that ACPI reports (QEMU's pc-dimm)",
        _acpi,
        acpi_memory_device_remove,
        acpi_scan_hot_remove,
        whole=True,
    ),
    Caller("probe", "/sys/devices/system/memory/probe, block by block", _probe),
    Caller(
        "driver", "add_memory_driver_managed(), as dax/kmem does", _driver, remove_memory, offline_and_remove_memory
    ),
    Caller("module", "a module that calls add_memory() itself", _module, remove_memory, offline_and_remove_memory),
    Caller("kmem", "the dax kmem driver: device memory as RAM", _kmem, _remove_kmem),
    Caller("virtio-mem", "the virtio-mem driver: memory that grows and shrinks", resize=_virtio_mem),
    Caller(
        "hv_balloon",
        "Hyper-V: whole blocks are added, of which the host backs a part",
        _hv_balloon,
        place=next_place,
        absent=("arm64", "powerpc", "s390"),  # drivers/hv/hv_balloon.c:hot_add_enabled for arm64
    ),
    Caller(
        "xen",
        "the Xen balloon: sections are added, whose pages it keeps until they are populated",
        _xen,
        absent=("powerpc", "s390"),
    ),
)


def callers(mm: Mm) -> Mapping[str, Caller]:
    """Return the callers that the machine has, by name: the core's and its architecture's."""
    return {one.name: one for one in (*CORE, *mm.arch.callers)}


def caller(mm: Mm, name: str) -> Caller:
    """Return the caller *name*. Raises `UsageError` for one that this machine does not have."""
    known = callers(mm)
    if name not in known:
        raise UsageError(f"via={name}: {mm.arch.name} has no such caller", hint=f"it has {', '.join(known)}")
    return known[name]


def device_at(mm: Mm, address: int) -> Device | None:
    """Return what was plugged at *address* bytes: rather what could be added than what could not."""
    return mm.devices.get(address)


def remover(mm: Mm, start: int, size: int) -> Caller:
    """Return who removes [start, +size) bytes: who added it, or else a module that calls remove_memory() itself.

    That is the case of callers that never remove memory, and of a part of what goes only as a whole.
    """
    device = device_at(mm, start)
    one = callers(mm).get(device.caller) if device is not None else None
    if one is None or one.remove is None or (one.whole and device is not None and (start, size) != device[2:]):
        return caller(mm, "module")
    return one
