"""drivers/nvdimm/: a driver is bound to a namespace of persistent memory, which gets struct pages in ZONE_DEVICE."""

from __future__ import annotations

from dataclasses import replace

from memshell.drivers.callers import DAX
from memshell.drivers.nvdimm.pfn_devs import pfn_device
from memshell.errors import KernelError
from memshell.kernel.resource import drop_resource, request_region
from memshell.mm.memremap import memremap_pages, memunmap_pages, refuse_conflicts
from memshell.mm.state import Mm, Resource

REGION = "Persistent Memory"  # in iomem; the firmware's may have a word behind it


def region_of(mm: Mm, start: int, size: int) -> Resource | None:
    """Return the persistent memory that holds [start, +size) bytes, or None where iomem shows none."""
    end = start + size - 1
    return next((r for r in mm.resources if r.name.startswith(REGION) and r.start <= start and r.end >= end), None)


def bind_namespace(mm: Mm, mode: str, nid: int, start: int, size: int, *, align: int, on_device: bool) -> Resource:
    """Bind [start, +size) bytes as a raw, fsdax or devdax namespace; return the range of all that it is.

    The memmap goes on the device itself with *on_device*; a raw namespace has no room for it. Where iomem shows no persistent
    memory there, the device brings it along. Raises what `memremap_pages` does, and ENXIO where no room for data is left.
    """
    refuse_conflicts(mm, start, start + size)
    region = region_of(mm, start, size)
    made = () if region is not None else (request_region(mm, start, size, REGION),)
    try:
        if mode != "raw" and on_device:
            dataoff = pfn_device(mm, nid, start, size, align=align, on_device=True).dataoff
        else:
            shift = (align // mm.arch.page_size).bit_length() - 1 if mode == "devdax" else 0
            memremap_pages(mm, nid, start, size, vmemmap_shift=shift)
            dataoff = 0
        if mode == "devdax":
            made = (*made, request_region(mm, start + dataoff, size - dataoff, DAX))
    except KernelError:
        for resource in made:
            drop_resource(mm, resource)
        raise
    mm.pagemaps[start] = replace(mm.pagemaps[start], regions=made)
    return Resource(start, start + size - 1, REGION)


def unbind_namespace(mm: Mm, start: int) -> Resource:
    """Take the struct pages of the namespace at *start* bytes away again; return its range. Raises EINVAL where none is bound."""
    pagemap = mm.pagemaps.get(start)
    memunmap_pages(mm, start)
    assert pagemap is not None  # memunmap_pages() has looked
    for resource in pagemap.regions:
        drop_resource(mm, resource)
    return Resource(start, start + pagemap.size - 1, REGION)
