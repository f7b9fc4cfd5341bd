"""mm/memremap.c, drivers/nvdimm/pfn_devs.c, drivers/dax/kmem.c: device memory with struct pages, and device memory as RAM."""

from __future__ import annotations

from dataclasses import dataclass

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import (
    MHP_MEMMAP_ON_MEMORY,
    add_memory_driver_managed,
    mhp_supports_memmap_on_memory,
    register_group,
    try_remove_memory,
)
from memshell.mm.memory_hotplug_online import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.pfn import KiB, align_down, align_up, format_size
from memshell.mm.resource import drop_resource, request_region
from memshell.mm.state import Mm, Resource

SUPERBLOCK = 8 * KiB  # drivers/nvdimm/pfn_devs.c: the info block at the start of a pfn device
PAGEMAP_RANGE = "mm/memremap.c:pagemap_range"
MAX_STRUCT_PAGE_SIZE = 64  # what the geometry is made for, whatever sizeof(struct page) is


@dataclass(frozen=True, slots=True)
class Pagemap:
    """struct dev_pagemap of one range; *altmap* where its memmap is on the device. Bytes."""

    start: int
    size: int
    nid: int
    altmap: VmemAltmap | None = None
    vmemmap_shift: int = 0  # order of the device's compound pages


@dataclass(frozen=True, slots=True)
class PfnGeometry:
    """What a pfn device keeps for itself: bytes before the data, and the altmap in pages."""

    dataoff: int
    reserve: int
    free: int
    npfns: int


def nd_pfn_geometry(start: int, size: int, *, align: int, page_size: int, on_device: bool) -> PfnGeometry:
    """Return the layout of an fsdax or devdax namespace of [start, start+size) bytes.

    Raises ENXIO when nothing is left for data. Source: drivers/nvdimm/pfn_devs.c:nd_pfn_init, __nvdimm_setup_pfn.
    """
    info = align_up(SUPERBLOCK, page_size)
    end_trunc = (start + size) % align
    pages = (size - SUPERBLOCK) // page_size if on_device else 0
    dataoff = align_up(start + SUPERBLOCK + MAX_STRUCT_PAGE_SIZE * pages, align) - start
    if dataoff >= size - end_trunc:
        raise KernelError(
            f"{format_size(size)} at {start:#x} has no room for data behind {dataoff} bytes",
            "ENXIO",
            where="drivers/nvdimm/pfn_devs.c:nd_pfn_init",
            hint="a smaller align, or the memmap in memory",
        )
    return PfnGeometry(
        dataoff, info // page_size, (dataoff - info) // page_size, (size - dataoff - end_trunc) // page_size
    )


def refuse_conflicts(mm: Mm, start: int, end: int) -> None:
    """Raise ENXIO where [start, end) meets System RAM, ENOMEM where another device is mapped."""
    where = PAGEMAP_RANGE
    if any(r.name.startswith("System RAM") and r.start < end and r.end >= start for r in mm.resources):
        raise KernelError(f"{start:#x}-{end - 1:#x} meets System RAM", "ENXIO", where=where)
    if any(p.start < end and p.start + p.size > start for p in mm.pagemaps.values()):
        raise KernelError(f"{start:#x}-{end - 1:#x} is mapped already", "ENOMEM", where=where)


@mirrors("mm/memremap.c:memremap_pages", "v6.12", "complete")
def memremap_pages(
    mm: Mm, nid: int, start: int, size: int, altmap: VmemAltmap | None = None, vmemmap_shift: int = 0
) -> None:
    """Give device memory struct pages in ZONE_DEVICE; its span grows, present and managed do not.

    With *vmemmap_shift*, in compound pages of that order, as device-dax does.

    Raises ENXIO where it meets System RAM, ENOMEM where another device is mapped, EINVAL when it is not whole subsections.
    """
    end = start + size
    refuse_conflicts(mm, start, end)
    mm.pgmap = pagemap = Pagemap(start, size, nid, altmap, vmemmap_shift)
    try:
        mm.arch.arch_add_memory(mm, nid, start, size, altmap)
    finally:
        mm.pgmap = None
    pfn, nr_pages, key = start >> mm.arch.page_shift, size >> mm.arch.page_shift, (nid, ZoneType.DEVICE)
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.MOVABLE)
    memmap_init_zone_device(mm, pfn, nr_pages, nid)
    mm.pagemaps[start] = pagemap
    mm.event("DeviceMapped", PAGEMAP_RANGE, f"{start:#x}-{end - 1:#x} ({format_size(size)})", start=start, size=size)


@mirrors("mm/mm_init.c:memmap_init_zone_device", "v6.12", "complete")
def memmap_init_zone_device(mm: Mm, pfn: int, nr_pages: int, nid: int) -> None:
    """Initialise the struct pages of device memory."""
    mm.pages.set(pfn, pfn + nr_pages, Page(Owner.DEVICE, nid, ZoneType.DEVICE))


@mirrors("mm/memremap.c:memunmap_pages", "v6.12", "complete")
def memunmap_pages(mm: Mm, start: int) -> None:
    """Take the struct pages of the device memory at *start* away; the zone's span stays. Raises EINVAL when nothing is mapped."""
    pagemap = mm.pagemaps.get(start)
    if pagemap is None:
        raise KernelError(f"no device memory is mapped at {start:#x}", "EINVAL", where="mm/memremap.c:memunmap_pages")
    pfn, nr_pages = start >> mm.arch.page_shift, pagemap.size >> mm.arch.page_shift
    remove_pfn_range_from_zone(mm, (pagemap.nid, ZoneType.DEVICE), pfn, nr_pages)
    altmap = pagemap.altmap.copy() if pagemap.altmap else None
    mm.pgmap = pagemap
    mm.arch.arch_remove_memory(mm, start, pagemap.size, altmap)
    mm.pgmap = None
    mm.pages.delete(pfn, pfn + nr_pages)
    mm.pageblocks.delete(pfn, pfn + nr_pages)
    del mm.pagemaps[start]
    if altmap is not None and altmap.alloc:
        mm.event("Warning", "mm/memremap.c:pageunmap_range", "failed to free all reserved pages", alloc=altmap.alloc)


def pfn_device(mm: Mm, nid: int, start: int, size: int, *, align: int, on_device: bool) -> PfnGeometry:
    """Bind a pfn (fsdax) or dax device: memremap_pages() with the altmap of its geometry, or with the memmap in memory."""
    geometry = nd_pfn_geometry(start, size, align=align, page_size=mm.arch.page_size, on_device=on_device)
    altmap = None
    if on_device:
        pfn = start >> mm.arch.page_shift
        altmap = VmemAltmap(pfn, pfn + (size >> mm.arch.page_shift) - 1, geometry.free, reserve=geometry.reserve)
    memremap_pages(mm, nid, start, size, altmap)
    return geometry


def dax_memmap_on_memory(mm: Mm, nid: int, start: int, size: int) -> bool:
    """Write 1 to a dax device's memmap_on_memory attribute; return whether it took (v6.8 and later)."""
    return bool(mhp_supports_memmap_on_memory(mm, nid, start, size).reserve_pages)


def dev_dax_kmem_probe(mm: Mm, nid: int, start: int, size: int, name: str, *, memmap_on_memory: bool) -> Resource:
    """Make the whole memory blocks inside [start, start+size) bytes RAM; return the device's resource.

    Raises EINVAL when no whole block is inside. Source: drivers/dax/kmem.c:dev_dax_kmem_probe.
    """
    first, last = align_up(start, mm.block_size), align_down(start + size, mm.block_size)
    if first >= last:
        raise KernelError(
            f"no whole memory block of {format_size(mm.block_size)} in {start:#x}-{start + size - 1:#x}",
            "EINVAL",
            where="drivers/dax/kmem.c:dev_dax_kmem_probe",
        )
    group = register_group(mm, nid, last - first >> mm.arch.page_shift, static=True)
    outer = request_region(mm, first, last - first, name)
    try:
        add_memory_driver_managed(
            mm, nid, first, last - first, MHP_MEMMAP_ON_MEMORY if memmap_on_memory else 0, group, "System RAM (kmem)"
        )
    except KernelError:
        drop_resource(mm, outer)
        del mm.groups[group]
        raise
    return outer


def dev_dax_kmem_remove(mm: Mm, outer: Resource) -> None:
    """Unbind kmem: remove the memory, whose blocks must be offline. Raises EBUSY; the memory stays RAM then."""
    remove_memory(mm, outer.start, outer.end - outer.start + 1)
    drop_resource(mm, outer)


@mirrors("mm/memory_hotplug.c:remove_memory", "v6.12", "complete")
def remove_memory(mm: Mm, start: int, size: int) -> None:
    """Remove memory and hand its error to the driver."""
    try_remove_memory(mm, start, size)
