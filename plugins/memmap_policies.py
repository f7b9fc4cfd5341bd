"""Where the memmap of hot-added memory goes in released kernels: the three values of memory_hotplug.memmap_on_memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memshell import MemmapRequest, Placement, Policy, align_up, hookimpl

memshell_api = 2


@dataclass(frozen=True)
class Buddy:
    """memmap_on_memory=N: the memmap comes from memory that is online already."""

    name: str = "buddy"
    summary: str = "memmap from existing memory (memmap_on_memory=N)"
    parameter: str = "N"

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Return a placement that takes nothing from the range."""
        del request
        return Placement()


@dataclass(frozen=True)
class MemmapOnMemory:
    """memmap_on_memory=Y: each block holds its own memmap, where that fills whole pageblocks."""

    name: str = "memmap_on_memory"
    summary: str = "memmap at the start of each block, if it fills whole pageblocks (memmap_on_memory=Y)"
    parameter: str = "Y"

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """mhp_supports_memmap_on_memory() of the kernel that is modelled."""
        return on_memory(request, pad=False)


@dataclass(frozen=True)
class MemmapOnMemoryForce:
    """memmap_on_memory=force: as Y, but padded to whole pageblocks."""

    name: str = "memmap_on_memory_force"
    summary: str = "memmap at the start of each block, padded to pageblocks (memmap_on_memory=force)"
    parameter: str = "force"

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """mhp_supports_memmap_on_memory() in force mode. Kernels before v6.6 do not know the value and read it as N."""
        if not request.force_known:
            return Placement(refusal="this kernel does not know 'force'")
        return on_memory(request, pad=True)


def on_memory(request: MemmapRequest, *, pad: bool) -> Placement:
    """Return the pages kept in each block, or the first reason against it, in the kernel's order."""
    pages = request.memmap_pages
    reserve = align_up(pages, request.pageblock_nr_pages) if pad else pages
    reason = refusal(request, reserve)
    return Placement(refusal=reason) if reason else Placement(reserve_pages=reserve)


def refusal(request: MemmapRequest, reserve: int) -> str:
    """mhp_supports_memmap_on_memory(): the first test that fails, or "". Sources: v5.15 and v6.1 (pmd), v6.6 (pageblock)."""
    memmap, block = request.memmap_bytes, request.block_size
    if not request.offered:
        return "the caller does not ask for it"
    if request.needs_hvo_off and request.hvo_enabled:
        return "hugetlb_free_vmemmap is on"
    if not request.config:
        return "arch not enabled"
    if request.single_block and request.size != block:
        return f"the range is not one memory block of {block >> 20}M"
    if request.predicate == "pmd":
        if memmap % request.pmd_size:
            return f"vmemmap {memmap} not PMD aligned"
        if (block - memmap) % (request.pageblock_nr_pages * request.page_size):
            return "remaining not pageblock aligned"
        return ""
    if memmap % request.page_size:
        return "vmemmap_size not PAGE_SIZE aligned"
    if reserve % request.pageblock_nr_pages:
        return f"memmap_pages {reserve} not pageblock({request.pageblock_nr_pages}) aligned"
    if reserve == block // request.page_size:
        return "memmap would fill whole block"
    return request.arch_refusal or ""


@hookimpl
def memshell_policies(ctx: object) -> Iterable[Policy]:
    """Offer the policies of released kernels: ``buddy``, ``memmap_on_memory``, ``memmap_on_memory_force``."""
    del ctx
    return [Buddy(), MemmapOnMemory(), MemmapOnMemoryForce()]
