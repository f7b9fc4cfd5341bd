"""drivers/nvdimm/pfn_devs.c: namespaces that keep a part of the device for its memmap."""

from __future__ import annotations

from dataclasses import dataclass

from memshell.errors import KernelError
from memshell.mm.memremap import VmemAltmap, memremap_pages
from memshell.mm.pfn import KiB, align_up, format_size
from memshell.mm.state import Mm

SUPERBLOCK = 8 * KiB  # drivers/nvdimm/pfn_devs.c: the info block at the start of a pfn device

MAX_STRUCT_PAGE_SIZE = 64  # what the geometry is made for, whatever sizeof(struct page) is


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
    # The memmap has room in front of the data only with map=dev.
    pages = (size - SUPERBLOCK) // page_size if on_device else 0
    dataoff = align_up(start + SUPERBLOCK + MAX_STRUCT_PAGE_SIZE * pages, align) - start
    if dataoff >= size - end_trunc:
        raise KernelError(
            f"{format_size(size)} at {start:#x} has no room for data behind {dataoff} bytes",
            "ENXIO",
            where="drivers/nvdimm/pfn_devs.c:nd_pfn_init",
        )
    return PfnGeometry(
        dataoff, info // page_size, (dataoff - info) // page_size, (size - dataoff - end_trunc) // page_size
    )


def pfn_device(mm: Mm, nid: int, start: int, size: int, *, align: int, on_device: bool) -> PfnGeometry:
    """Bind a pfn (fsdax) or dax device: memremap_pages() with the altmap of its geometry, or with the memmap in memory."""
    geometry = nd_pfn_geometry(start, size, align=align, page_size=mm.arch.page_size, on_device=on_device)
    altmap = None
    if on_device:
        pfn = start >> mm.arch.page_shift
        altmap = VmemAltmap(pfn, pfn + (size >> mm.arch.page_shift) - 1, geometry.free, reserve=geometry.reserve)
    memremap_pages(mm, nid, start, size, altmap)
    return geometry
