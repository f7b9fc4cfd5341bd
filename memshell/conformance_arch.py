"""What can be read off an architecture: its constants, what it boots with, the maps of boot memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from memshell.arch import Arch
from memshell.mm.invariants import violations
from memshell.mm.mmzone import ZoneType
from memshell.mm.pfn import format_size
from memshell.mm.ranges import RangeMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.arch import BootMemory
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


def boot_faults(mm: Mm, memory: BootMemory) -> Iterator[str]:
    """Yield what is wrong with a machine that has just booted with *memory*."""
    yield from _constants(mm)
    yield from _levels(mm)
    yield from _answers(mm)
    yield from _ram_and_iomem(mm, memory)
    yield from _ram_and_zones(mm, memory)
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


def _levels(mm: Mm) -> Iterator[str]:
    """Yield what is wrong with the page tables as they are declared."""
    levels, sizes = mm.arch.table_levels(), mm.arch.leaf_sizes()
    spans = [level.span for level in levels]
    if any(span & (span - 1) for span in spans) or spans != sorted(set(spans)):
        yield f"table_levels() spans {spans}: powers of two, the lowest level first"
    if any(size & (size - 1) for size in sizes) or list(sizes) != sorted(set(sizes)) or not sizes:
        yield f"leaf_sizes() is {sizes}: powers of two, the smallest first"
    if levels and levels[0].span != 1 << mm.arch.pmd_shift:
        yield f"a {levels[0].name} table spans {format_size(levels[0].span)}, and pmd_shift says {mm.arch.pmd_shift}"


def _answers(mm: Mm) -> Iterator[str]:
    """Yield answers that are of the wrong kind."""
    arch, memmap = mm.arch, mm.block_pages * mm.arch.struct_page_size
    refusal: object = arch.supports_memmap_on_memory(memmap, mm.profile)
    if refusal is not None and (not isinstance(refusal, str) or not refusal):
        yield f"supports_memmap_on_memory() returned {refusal!r}: None, or the reason against it in words"
    config: object = arch.has_memmap_on_memory(mm.profile)
    if not isinstance(config, bool):
        yield f"has_memmap_on_memory() returned {config!r}: True or False"


def _ram_and_iomem(mm: Mm, memory: BootMemory) -> Iterator[str]:
    """Yield RAM that iomem does not list, and System RAM that is no RAM."""
    shift = mm.arch.page_shift
    listed: RangeMap[bool] = RangeMap()
    ram: RangeMap[bool] = RangeMap()
    for _, start, end, name in memory.iomem:
        if name.startswith("System RAM"):
            listed.set(start >> shift, -(-(end + 1) >> shift), value=True)
    for first, last, _ in (*memory.ram, *memory.nomap):
        ram.set(first, last, value=True)
    for first, last, _ in memory.ram:
        for a, b in listed.gaps(first, last):
            yield f"boot_memory(): iomem has no System RAM for the pages {a:#x}-{b:#x} of ram"
            return
    for start, end, _ in listed.items():
        for a, b in ram.gaps(start, end):
            if b - a > 1:  # a page of which a part is System RAM is none
                yield f"boot_memory(): iomem has System RAM at the pages {a:#x}-{b:#x}, which are not in ram"
                return


def _ram_and_zones(mm: Mm, memory: BootMemory) -> Iterator[str]:
    """Yield zones whose sums are not those of the RAM in them, and nodes that cannot be."""
    for nid in sorted({*memory.nodes} - {*mm.arch.possible_nodes}):
        yield f"boot_memory(): node {nid} boots, and possible_nodes has {mm.arch.possible_nodes}"
    for nid in sorted({nid for _, _, nid in memory.ram}):
        pages = sum(last - first for first, last, node in (*memory.ram, *memory.nomap) if node == nid)
        present = sum(zone.present for zone in memory.zones if zone.nid == nid)
        if pages != present:
            yield f"boot_memory(): node {nid} has {pages} pages of RAM, its zones have {present} present"
    for zone in memory.zones:
        free = sum(count << order for order, count in enumerate(zone.orders)) + zone.pcp
        name = f"node {zone.nid} {zone.type.label}"
        if not zone.spanned >= zone.present >= zone.managed >= free:
            counts = f"{zone.spanned} spanned, {zone.present} present, {zone.managed} managed, {free} free"
            yield f"boot_memory(): {name} has {counts}"
        if len(zone.orders) > mm.arch.max_order + 1:
            yield f"boot_memory(): {name} has free blocks of order {len(zone.orders) - 1}, above max_order"
        if zone.present and zone.type is not ZoneType.MOVABLE and mm.arch.kernel_zone_of(zone.start_pfn) != zone.type:
            right = mm.arch.kernel_zone_of(zone.start_pfn).label
            yield f"boot_memory(): {name} begins at pfn {zone.start_pfn:#x}, which zone_limits puts in {right}"


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
