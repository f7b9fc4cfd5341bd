"""The dax devices of /sys/bus/dax, as daxctl reads them: device_dax's and kmem's. Source: drivers/dax/bus.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.drivers.dax.bus import devices

if TYPE_CHECKING:
    from memshell.drivers.dax.bus import DevDax
    from memshell.mm.state import Mm

MAJOR = 254  # the first that the kernel hands out. Source: fs/char_dev.c:find_dynamic_major


def known(mm: Mm) -> dict[int, DevDax]:
    """Return the devices by the number of their region: dax0.0 is the one of region 0."""
    names = {f"dax{number}.0": number for number in range(len(devices(mm)))}
    return {names[device.name]: device for device in devices(mm) if device.name in names}


def driver(mm: Mm, number: int) -> str:
    """Return the driver that has the device, "" where none has."""
    return known(mm)[number].driver


def values(mm: Mm, number: int) -> dict[str, object]:
    """Return the attributes of a device."""
    one = known(mm)[number]
    return {
        "dev": f"{MAJOR}:{number}",
        "size": one.size,
        "resource": f"{one.start:#x}",
        "align": one.align,
        "numa_node": one.nid,
        "target_node": one.nid,
        "modalias": "dax:t0",
    }


def region(mm: Mm, number: int) -> dict[str, object]:
    """Return the attributes of a device's region: it fills it."""
    one = known(mm)[number]
    return {"id": number, "size": one.size, "align": one.align, "available_size": 0}
