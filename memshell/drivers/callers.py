"""Who adds and removes memory: one registry of the callers of add_memory() and remove_memory().

The core's callers stand here; an architecture brings its own (`Arch.callers`). Everything that adds or removes memory,
at the prompt, in a scenario or in the replay of a recording, goes through `caller`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_remove
from memshell.drivers.acpi.scan import acpi_bus_scan, acpi_scan_hot_remove
from memshell.drivers.base.memory.blocks import register_group
from memshell.drivers.base.memory.probe import probe_store
from memshell.errors import KernelError, UsageError
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory, add_memory_driver_managed
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory, remove_memory
from memshell.mm.pfn import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memshell.mm.state import Mm


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller is asked to add: [start, +size) bytes on node *nid*.

    *flags* are the MHP_* of a module that calls add_memory() itself, *name* its resource in iomem.
    """

    nid: int
    start: int
    size: int
    flags: int = 0
    name: str = "System RAM (driver)"


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. *remove* takes memory away that is offline, *eject* offlines it first; None: it never does.

    *whole*: it ejects what was plugged as one device, whatever part is named.
    """

    name: str
    text: str
    add: Callable[[Mm, Request], None]
    remove: Callable[[Mm, int, int], None] | None = None
    eject: Callable[[Mm, int, int], None] | None = None
    whole: bool = False

    def removes(self, mm: Mm, start: int, size: int) -> None:
        """Remove [start, +size) bytes, whose blocks are offline. Raises `UsageError` where it never does."""
        self._can(self.remove, "removes")(mm, start, size)

    def ejects(self, mm: Mm, start: int, size: int) -> None:
        """Offline and remove [start, +size) bytes. Raises `UsageError` where it never does."""
        self._can(self.eject, "ejects")(mm, start, size)

    def _can(self, action: Callable[[Mm, int, int], None] | None, what: str) -> Callable[[Mm, int, int], None]:
        if action is None:
            raise UsageError(f"via={self.name} never {what} memory", hint=self.text)
        return action


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
        wanted = mhp_supports_memmap_on_memory(mm, request.nid, request.start, request.size).reserve_pages
        flags = flags if wanted else 0
    group = register_group(mm, request.nid, request.size >> mm.arch.page_shift, static=True)
    try:
        add_memory_driver_managed(mm, request.nid, request.start, request.size, flags, group, request.name)
    except KernelError:
        del mm.groups[group]
        raise


def _module(mm: Mm, request: Request) -> None:
    add_memory(mm, request.nid, request.start, request.size, request.flags, name=request.name)


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
