"""What can be read off an architecture: its constants, what it boots with, the maps of boot memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from memshell.arch import Arch
from memshell.mm.invariants import violations
from memshell.mm.pfn import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.state import Mm


def form_faults(arch: Any) -> Iterator[str]:
    """Yield what is wrong with the object as the plugin offers it."""
    if not isinstance(arch, Arch):
        yield f"it is a {type(arch).__name__}, not a memshell.Arch"
        return
    if not re.fullmatch(r"[\w.-]+", arch.name):
        yield f"name has to be one word (what `use NAME` takes), it is {arch.name!r}"
    names = [option.name for option in arch.options]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"the option {name} is there twice"
    for option in arch.options:
        if option.name in {"profile", "policy"}:
            yield f"the option {option.name} is memshell's own"
        if option.choices and option.default not in option.choices:
            yield f"the option {option.name} has the default {option.default!r}, none of its choices"
    if "ram" not in names:
        yield "there is no option ram: people type `use NAME ram=4G`"


def boot_faults(mm: Mm) -> Iterator[str]:
    """Yield what is wrong with a machine that has just booted."""
    yield from _constants(mm)
    yield from violations(mm)
    yield from _boot_maps(mm)
    unplaced = [number for number, block in mm.blocks.items() if block.nid not in mm.nodes]
    if unplaced:
        yield f"memory{unplaced[0]} is on node {mm.blocks[unplaced[0]].nid}, which did not boot"
    for zone in mm.zones.values():
        if zone.present and not zone.free:
            yield f"node {zone.nid} {zone.type.label} boots without a free page: nothing can be tried on it"


def _constants(mm: Mm) -> Iterator[str]:
    arch, block = mm.arch, mm.block_size
    if not 12 <= arch.page_shift <= 18:
        yield f"page_shift {arch.page_shift} is not that of pages from 4K to 256K"
    if arch.max_order + arch.page_shift > arch.section_size_bits:
        yield (
            f"max_order {arch.max_order} makes blocks larger than a section of 2^{arch.section_size_bits} "
            "bytes (include/linux/mmzone.h refuses to build that)"
        )
    if arch.pageblock_order > arch.max_order:
        yield f"pageblock_order {arch.pageblock_order} is above max_order {arch.max_order}"
    if block & (block - 1) or block % (1 << arch.section_size_bits):
        yield f"a memory block of {format_size(block)} is not a power of two of whole sections"
    if arch.vmemmap_base % arch.page_size or arch.page_offset % arch.page_size:
        yield "vmemmap_base and page_offset have to be at whole pages"
    if arch.struct_page_size % 8 or not 56 <= arch.struct_page_size <= 96:
        yield f"struct_page_size {arch.struct_page_size} is no multiple of 8 from 56 to 96 (linux/mm.h)"
    low, high = arch.mhp_range()
    if not 0 <= low < high < 1 << arch.max_physmem_bits:
        yield f"mhp_range() {low:#x}-{high:#x} is not inside of 2^{arch.max_physmem_bits} bytes"
    yield from _overlap(mm)


def _overlap(mm: Mm) -> Iterator[str]:
    """Yield when the direct map and the vmemmap of what can be added lie over each other."""
    arch = mm.arch
    low, high = arch.mhp_range()
    direct = arch.page_offset + low, arch.page_offset + high
    pages = arch.vmemmap_address(low >> arch.page_shift), arch.vmemmap_address(high >> arch.page_shift)
    if direct[0] <= pages[1] and pages[0] <= direct[1]:
        yield f"the vmemmap {pages[0]:#x}-{pages[1]:#x} lies in the direct map {direct[0]:#x}-{direct[1]:#x}"


def _boot_maps(mm: Mm) -> Iterator[str]:
    """Yield the System RAM that the early direct map does not cover."""
    base, shift = mm.arch.page_offset, mm.arch.page_shift
    for resource in mm.resources:
        start, end = -(-resource.start >> shift) << shift, resource.end + 1 >> shift << shift
        if resource.name.startswith("System RAM") and not mm.leaves.covers(base + start, base + end):
            pages = f"{start >> shift:#x}-{end >> shift:#x}"
            yield f"boot_mappings() left the pages {pages} out of the direct map"
            return
