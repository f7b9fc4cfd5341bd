"""drivers/nvdimm/pmem.c and drivers/dax/device.c: a driver maps a device, which gets struct pages in ZONE_DEVICE."""

from __future__ import annotations

from dataclasses import replace

from memshell.drivers.dax.bus import DevDax, claim, devices, new_name, set_device, unbind, unbound_device
from memshell.drivers.nvdimm.pfn_devs import nd_pfn_geometry, pfn_device
from memshell.errors import KernelError
from memshell.kernel.resource import drop_resource, request_region
from memshell.mm.memremap import memremap_pages, memunmap_pages
from memshell.mm.pfn import format_size
from memshell.mm.state import Mm, Resource

REGION = "Persistent Memory"  # in iomem; the firmware's may have a word behind it


def region_of(mm: Mm, start: int, size: int) -> Resource | None:
    """Return the persistent memory that holds [start, +size) bytes, or None where iomem shows none."""
    end = start + size - 1
    return next((r for r in mm.resources if r.name.startswith(REGION) and r.start <= start and r.end >= end), None)


def bind_namespace(mm: Mm, mode: str, nid: int, start: int, size: int, *, align: int, on_device: bool) -> DevDax:
    """Bind [start, +size) bytes as a raw, fsdax or devdax namespace; return the device.

    The driver claims the range before it maps it: EBUSY over anything busy. The memmap goes on the device itself with
    *on_device*; a raw namespace has no room for it. Where iomem shows no persistent memory there, the device brings it
    along. Raises what `memremap_pages` does, and ENXIO where no room for data is left.
    """
    driver = "device_dax" if mode == "devdax" else "nd_pmem"
    claim(mm, driver, start, size)
    old = unbound_device(mm, start, size)
    name = old.name if old is not None and old.name.startswith("dax") == (mode == "devdax") else new_name(mm, mode)
    region = region_of(mm, start, size)
    made = () if region is not None else (request_region(mm, start, size, REGION),)
    try:
        data = _map(mm, mode, nid, start, size, align=align, on_device=on_device)
        if mode == "devdax":
            made = (*made, request_region(mm, *data, name))
    except KernelError:
        for resource in made:
            drop_resource(mm, resource)
        raise
    mm.pagemaps[start] = replace(mm.pagemaps[start], regions=made)
    own = data if mode == "devdax" else (0, 0)
    device = DevDax(name, mode, start, size, nid, align, driver, *data, own=own)
    set_device(mm, device)
    return device


def _map(mm: Mm, mode: str, nid: int, start: int, size: int, *, align: int, on_device: bool) -> tuple[int, int]:
    """Map the device; return where its data begins and how much that is, in bytes."""
    if mode != "raw" and on_device:
        geometry = pfn_device(mm, nid, start, size, align=align, on_device=True)
        return start + geometry.dataoff, geometry.npfns * mm.arch.page_size
    if mode == "devdax" and size % align:
        raise KernelError(
            f"an alignment of {format_size(align)} does not apply to {format_size(size)}",
            "EINVAL",
            where="drivers/dax/bus.c:dev_dax_set_align",
            hint="a size of whole align=, which is 2M where it is not given",
        )
    shift = (align // mm.arch.page_size).bit_length() - 1 if mode == "devdax" else 0
    memremap_pages(mm, nid, start, size, vmemmap_shift=shift)
    if mode != "fsdax":
        return start, size
    geometry = nd_pfn_geometry(start, size, align=align, page_size=mm.arch.page_size, on_device=False)
    return start + geometry.dataoff, geometry.npfns * mm.arch.page_size


def unbind_namespace(mm: Mm, device: DevDax) -> None:
    """Take the struct pages of a namespace away again; the device stays."""
    pagemap = mm.pagemaps[device.start]
    memunmap_pages(mm, device.start)
    for resource in pagemap.regions:
        drop_resource(mm, resource)
    unbind(mm, device)


def unbind_dax(mm: Mm, start: int, size: int) -> None:
    """Take device_dax from the device of exactly [start, +size) bytes, if it has that driver."""
    for device in devices(mm):
        if device.driver == "device_dax" and (start, size) in ((device.start, device.size), device.own):
            unbind_namespace(mm, device)
