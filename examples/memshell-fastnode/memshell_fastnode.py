"""A policy that no kernel has: the memmap of slow memory lies on the fastest node that has room for it.

Memory behind CXL is a node without processors, and slower than that of nodes with some. Its struct pages are
read and written by the kernel wherever it runs. So they belong on a node with processors; where none has room
they stay on the device, and where that cannot be either, the kernel takes them from where it finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memshell import Context, MemmapRequest, MiB, Placement, Policy, align_up, hookimpl

memshell_api = 2


@dataclass(frozen=True)
class FastNode:
    """Memmap on the fastest node with room, else on the device. *spare* bytes stay free on the fast node."""

    name: str = "fastnode"
    summary: str = "memmap of slow memory on the fast node with most room, else on the memory"
    parameter: str = "fastnode"
    spare: int = 64 * MiB

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Look for room on the nodes with processors, then on the memory itself."""
        if request.nid in request.cpu_nodes:
            return Placement(refusal=f"node {request.nid} is fast itself")
        needed = request.size // request.block_size * request.memmap_pages
        room = {nid: pages for nid, pages in request.free_kernel_pages if nid in request.cpu_nodes}
        best = max(room, key=lambda nid: (room[nid], -nid), default=None)
        if best is not None and room[best] - self.spare // request.page_size >= needed:
            return Placement(nodes=(best,), refusal=f"node {best} has room for {needed} pages of memmap")
        return on_device(request, f"no fast node has {needed} pages to spare")


def on_device(request: MemmapRequest, why: str) -> Placement:
    """Keep whole pageblocks at the start of each block, where the kernel can; else say why not."""
    pages = align_up(request.memmap_pages, request.pageblock_nr_pages)
    if not request.offered:
        return Placement(refusal=f"{why}, and the caller does not ask for the device")
    if not request.config or (request.single_block and request.size != request.block_size):
        return Placement(refusal=f"{why}, and this kernel cannot use the device")
    if request.arch_refusal or pages >= request.block_size // request.page_size:
        return Placement(refusal=f"{why}, and the device: {request.arch_refusal or 'a memmap would fill a block'}")
    return Placement(reserve_pages=pages)


@hookimpl
def memshell_policies(ctx: Context) -> Iterable[Policy]:
    """Offer it."""
    del ctx
    return [FastNode()]
