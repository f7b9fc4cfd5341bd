"""The machine is reset, and boots the same kernel again: what comes back of what was plugged.

DIMMs stay plugged, and ACPI adds them while it boots. A virtio-mem device unplugs everything at the reset, or its driver has it
unplugged before it begins (VIRTIO_MEM_REQ_UNPLUG_ALL), and then plugs what is requested. What a module, a driver or a write
to probe had added is not there; a dax device that was RAM has no driver. Sources: QEMU hw/virtio/virtio-mem.c,
drivers/virtio/virtio_mem.c:virtio_mem_init_hotplug, cloud-hypervisor 1593.
"""

from __future__ import annotations

from dataclasses import fields, replace

from memshell.drivers.acpi.scan import acpi_bus_scan
from memshell.drivers.callers import Device
from memshell.drivers.dax.bus import DRVDATA, devices
from memshell.drivers.virtio.virtio_mem.device import VirtioMem
from memshell.drivers.virtio.virtio_mem.probe import virtio_mem_init_hotplug
from memshell.drivers.virtio.virtio_mem.work import request
from memshell.errors import KernelError, UsageError
from memshell.mm.state import Mm

GONE = ("module", "driver", "probe", "kmem")  # their memory is nobody's any more, or its device's


def reset(mm: Mm, booted: Mm) -> list[str]:
    """Boot again: *booted* is the state after the first boot. Return what failed while devices came back.

    Kernel and policy are those of now. Raises `UsageError` for memory of callers whose firmware is not modelled.
    """
    dimms, vm, dax = _dimms(mm), mm.virtio_mem, _without_drivers(mm)
    kernel, policy, events, trace = mm.profile, mm.policy, mm.events, mm.trace
    fresh = booted.copy()
    for item in fields(mm):
        setattr(mm, item.name, getattr(fresh, item.name))
    mm.profile, mm.policy, mm.events, mm.trace = kernel, policy, events, trace
    if dax:
        mm.drvdata[DRVDATA] = dax
    failed = [text for device in dimms if (text := _plug(mm, device))]
    if vm is not None and (text := _take_over(mm, vm)):
        failed.append(text)
    return failed


def _dimms(mm: Mm) -> list[Device]:
    others = sorted({d.caller for *_, d in mm.devices.items()} - {"acpi", *GONE})
    if others:
        text = f"what via={others[0]} has plugged is not followed through a reboot"
        raise UsageError(text, hint="what its firmware says to the next kernel is not modelled")
    return list(dict.fromkeys(d for *_, d in mm.devices.items() if d.caller == "acpi"))


def _without_drivers(mm: Mm) -> tuple[object, ...]:
    bound = [d for d in devices(mm) if d.driver and d.driver != "kmem"]
    if bound:
        text = f"{bound[0].name} is bound to {bound[0].driver}, which is not followed through a reboot"
        raise UsageError(text, hint=f"unbind it before: probe {bound[0].start:#x} --off")
    return tuple(replace(d, driver="", stuck=False) for d in devices(mm))


def _plug(mm: Mm, device: Device) -> str:
    mm.devices.set(device.start, device.start + device.size, device)
    try:
        acpi_bus_scan(mm, device.nid, device.start, device.size)
    except KernelError as error:
        return str(error)
    return ""


def _take_over(mm: Mm, vm: VirtioMem) -> str:
    virtio_mem_init_hotplug(mm, vm.nid, vm.start, vm.size, vm.block_size)
    try:
        request(mm, vm.requested)
    except KernelError as error:
        return str(error)
    return ""
