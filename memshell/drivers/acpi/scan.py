"""drivers/acpi/scan.c: a DIMM is plugged, and ejected."""

from __future__ import annotations

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_add, acpi_memory_device_remove
from memshell.drivers.base.memory.blocks import blocks_within
from memshell.drivers.base.memory.state import memory_subsys_offline, memory_subsys_online
from memshell.errors import KernelCrash, KernelError
from memshell.mm.state import Mm


def acpi_bus_scan(mm: Mm, nid: int, start: int, size: int) -> None:
    """Plug a DIMM. Since v6.12 (recorded) each plug also tries the DIMMs again whose add failed before.

    Raises what the add of this DIMM raises; it stays plugged then, without memory. Source: drivers/acpi/scan.c:acpi_bus_scan.
    """
    mm.failed_dimms = tuple(dimm for dimm in mm.failed_dimms if dimm[1:] != (start, size))  # plugged anew
    if mm.features.acpi.retries_failed:
        for dimm in mm.failed_dimms:
            try:
                acpi_memory_device_add(mm, *dimm)
                mm.failed_dimms = tuple(d for d in mm.failed_dimms if d != dimm)
            except KernelError as error:
                mm.event(
                    "AddFailed",
                    "drivers/acpi/acpi_memhotplug.c:acpi_memory_device_add",
                    str(error),
                    start=dimm[1],
                    size=dimm[2],
                )
    try:
        acpi_memory_device_add(mm, nid, start, size)
    except KernelError:
        mm.failed_dimms = (*mm.failed_dimms, (nid, start, size))
        raise


def acpi_scan_hot_remove(mm: Mm, start: int, size: int) -> None:
    """Eject a DIMM: offline its online blocks, two passes, and remove it.

    When a block stays online after both passes, the blocks that were offlined come back with the default online type
    (``online``: the zone may be another one) and the eject is rejected. Raises the errno of the block.
    Source: drivers/acpi/scan.c:acpi_scan_try_to_offline, acpi_bus_offline, acpi_bus_online.
    """
    put_online: list[int] = []
    failed: KernelError | None = None
    for second_pass in (False, True):
        if not second_pass or failed:
            failed = _bus_offline(mm, start, size, put_online, second_pass=second_pass)
    if failed:
        for block_id in put_online:
            try:
                memory_subsys_online(mm, block_id)
            except KernelError as error:
                mm.event(
                    "OnlineFailed", "drivers/acpi/scan.c:acpi_bus_online", f"memory{block_id}: {error}", block=block_id
                )
        raise failed
    acpi_memory_device_remove(mm, start, size)
    mm.failed_dimms = tuple(dimm for dimm in mm.failed_dimms if dimm[1:] != (start, size))


def _bus_offline(mm: Mm, start: int, size: int, put_online: list[int], *, second_pass: bool) -> KernelError | None:
    failed: KernelError | None = None
    for block_id in blocks_within(mm, start, size):
        block = mm.blocks.get(block_id)
        if block is None or block.state == "offline":
            continue
        try:
            memory_subsys_offline(mm, block_id)
            put_online.append(block_id)
        except KernelError as error:
            if error.errno == "EINTR":
                raise KernelCrash(
                    "hang", "acpi_hotplug_work_fn", None, f"no signal ever reaches the worker: {error.message}"
                ) from error
            failed = error
            if second_pass:
                break
    return failed
