"""drivers/dax/bus.c: devices of memory, the drivers that are bound to them, and what is left when one lets go.

A device keeps its own range whatever a driver makes of it: kmem cuts it to memory blocks, a namespace keeps a part for its
info block and its memmap. Here stand namespaces of persistent memory too, whose driver is nd_pmem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memshell.errors import KernelError
from memshell.kernel.resource import BUSY
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.pfn import format_size
from memshell.mm.state import Mm

DRVDATA = "dax"
RESERVE = {
    "nd_pmem": "pmem.c:pmem_attach_disk",
    "device_dax": "device.c:dev_dax_probe",
    "kmem": "kmem.c:dev_dax_kmem_probe",
}


@dataclass(frozen=True, slots=True)
class DevDax:
    """One device: bytes [start, +size), what it is used as, and its driver, "" where none is bound.

    *data_start*, *data_size*: what is left for data, or what kmem made RAM, in group *group*. *stuck*: kmem was unbound
    and could not remove its memory. *own*: the range of the dax device that a devdax namespace holds, where it has one.
    """

    name: str
    mode: str  # raw, fsdax, devdax or kmem
    start: int
    size: int
    nid: int
    align: int
    driver: str
    data_start: int
    data_size: int
    stuck: bool = False
    group: int = 0
    own: tuple[int, int] = (0, 0)

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


def devices(mm: Mm) -> tuple[DevDax, ...]:
    """Return the devices, the oldest first."""
    found = mm.drvdata.get(DRVDATA, ())
    assert isinstance(found, tuple)
    return found


def find_device(mm: Mm, address: int) -> DevDax:
    """Return the device at *address*, which may be anywhere inside. Raises ENODEV where there is none."""
    for device in devices(mm):
        if device.start <= address < device.end:
            return device
    raise KernelError(f"there is no device at {address:#x}", "ENODEV", where="drivers/dax/bus.c", hint=_known(mm))


def _known(mm: Mm) -> str:
    found = ", ".join(f"{device.name} at {device.start:#x}" for device in devices(mm))
    return f"there is {found}" if found else "probe ADDRESS SIZE brings one"


def new_name(mm: Mm, mode: str) -> str:
    """Return the name of the next device of *mode*: regions are counted, as libnvdimm and dax do."""
    kind = "dax" if mode in ("devdax", "kmem") else "namespace"
    return f"{kind}{sum(device.name.startswith(kind) for device in devices(mm))}.0"


def unbound_device(mm: Mm, start: int, size: int) -> DevDax | None:
    """Return the device of exactly this range that no driver has, or None."""
    ranges = (start, size)
    return next((d for d in devices(mm) if not d.driver and ranges in ((d.start, d.size), d.own)), None)


def set_device(mm: Mm, device: DevDax) -> None:
    """Enter *device*, in the place of the one with its range if there is one."""
    others = tuple(d for d in devices(mm) if (d.start, d.size) != (device.start, device.size))
    mm.drvdata[DRVDATA] = (*others, device)


def unbind(mm: Mm, device: DevDax, *, stuck: bool = False) -> None:
    """Take the driver away; the device stays, to be bound again."""
    set_device(mm, replace(device, driver="", stuck=stuck))


def claim(mm: Mm, driver: str, start: int, size: int) -> None:
    """request_mem_region() of a driver that is about to use [start, +size) bytes.

    Raises EBUSY over anything that is busy: memory that is RAM, and what another driver has.
    """
    end = start + size
    other = next((r.name for r in mm.resources if r.start < end and r.end >= start and r.name.startswith(BUSY)), None)
    if other is None:
        other = next((d.name for d in devices(mm) if d.driver and d.start < end and d.end > start), None)
    if other is not None:
        folder = "nvdimm" if driver == "nd_pmem" else "dax"
        raise KernelError(
            f"could not reserve region {start:#x}-{end - 1:#x}: {other} is there",
            "EBUSY",
            where=f"drivers/{folder}/{RESERVE[driver]}",
        )


def dax_memmap_on_memory(mm: Mm, nid: int, start: int, size: int) -> bool:
    """Write 1 to a dax device's memmap_on_memory attribute; return whether it took (v6.8 and later)."""
    return bool(mhp_supports_memmap_on_memory(mm, nid, start, size).reserve_pages)


def bound_driver(device: DevDax) -> str:
    """Return the driver that is bound. Raises ENODEV where there is none, and says what became of its memory."""
    if device.driver:
        return device.driver
    left = f"; {format_size(device.data_size)} of it stay RAM until the next reboot" if device.stuck else ""
    raise KernelError(f"no driver is bound to {device.name}{left}", "ENODEV", where="drivers/dax/bus.c")
