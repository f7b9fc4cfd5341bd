"""mm/memory_hotplug.c: memory is added: resource, node, sections with their memmap, memory blocks."""

from __future__ import annotations

from memshell.drivers.base.memory.blocks import (
    MemoryBlock,
    create_memory_block_devices,
    set_online_type,
    walk_memory_blocks,
)
from memshell.drivers.base.memory.state import memory_subsys_online
from memshell.drivers.base.node import register_memory_blocks_under_node
from memshell.errors import KernelError
from memshell.kernel.resource import drop_resource, merge_system_ram_resource, request_region
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MERGE_RESOURCE, MHP_NID_IS_MGID
from memshell.mm.memory_hotplug.memmap_on_memory import choose_placement
from memshell.mm.memory_hotplug.remove import (
    check_hotplug_memory_range,
    remove_memory_blocks_and_altmaps,
    remove_pages,
    try_offline_node,
)
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mm_init.zones import add_zones
from memshell.mm.mmzone import Node
from memshell.mm.page_alloc.allocation import has_pages_above_mark
from memshell.mm.pfn import align_down, format_size
from memshell.mm.sparse import blocks_in_rows, end_of_tables, sparse_add_section, sparse_add_sections
from memshell.mm.state import Mm, Resource
from memshell.policy import Placement


@mirrors("mm/memory_hotplug.c:register_memory_resource", "v6.12", "complete")
def register_memory_resource(mm: Mm, start: int, size: int, name: str) -> Resource:
    """Claim the range in iomem. Raises E2BIG outside of what can be mapped, EEXIST where something is already."""
    low, high = mm.arch.mhp_range()
    if not (low <= start and start + size - 1 <= high):
        raise KernelError(
            f"{start:#x}-{start + size - 1:#x} is outside of {low:#x}-{high:#x}",
            "E2BIG",
            where="mm/memory_hotplug.c:mhp_range_allowed",
        )
    return request_region(mm, start, size, name)


@mirrors("mm/memory_hotplug.c:__try_online_node", "v6.12", "complete")
def try_online_node(mm: Mm, nid: int) -> bool:
    """Make sure that node *nid* is online; return whether it was new."""
    node = mm.nodes.get(nid)
    if node is not None and node.online:
        return False
    mm.enter("hotadd_init_pgdat")
    mm.enter("build_all_zonelists")
    mm.nodes[nid] = node._replace(online=True) if node else Node(nid)
    add_zones(mm, nid)
    return True


def add_pages(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """__add_pages(), for the architectures: add the sections of [pfn, +nr_pages) as the kernel that is modelled does."""
    mm.seam.add_pages(mm, nid, pfn, nr_pages, altmap)


@mirrors("mm/memory_hotplug.c:__add_pages", "v6.12", "complete")
def add_sections(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections of [pfn, +nr_pages). What was added before an error stays (bug.add_pages_no_unwind).

    Raises EINVAL for an altmap that does not fit or a range that is not whole subsections, else what sparse_add_section raises.
    """
    where = "mm/memory_hotplug.c:__add_pages"
    if altmap is not None:
        if altmap.base_pfn != pfn or altmap.offset > nr_pages:
            raise KernelError("memory add fail, invalid altmap", "EINVAL", where=where)
        altmap.alloc = 0
    if (pfn | nr_pages) % mm.arch.pages_per_subsection:
        raise KernelError(f"pfns {pfn:#x}+{nr_pages:#x} are not whole subsections", "EINVAL", where=where)
    end, first = pfn + nr_pages, pfn
    while (pfn := sparse_add_sections(mm, nid, pfn, end, altmap)) < end:
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        try:
            sparse_add_section(mm, nid, pfn, step, altmap)
        except KernelError:
            if pfn > first and not mm.features.bug.add_pages_no_unwind:
                remove_pages(mm, first, pfn - first, altmap)
            raise
        pfn += step
    source = "nothing new" if not nr_pages else "the altmap" if altmap is not None else "existing memory"
    for low, high in altmap.parts(first, end) if altmap is not None else [(first, end)]:
        text = f"pfns {low:#x}-{high - 1:#x}, memmap from {source}"
        mm.event("SectionsAdded", where, text, start_pfn=low, end_pfn=high)


@mirrors("mm/memory_hotplug.c:create_altmaps_and_memory_blocks", "v6.12", "complete")
def create_altmaps_and_memory_blocks(
    mm: Mm, nid: int, group: int | None, start: int, size: int, placement: Placement
) -> None:
    """Add the range block by block, each with an altmap of its own; an error removes the blocks before it."""
    at, end = start, start + size
    try:
        while at < end:
            count = _row_of_altmaps(mm, at, end) if at > start else 1  # the first shows what they are like
            _add_blocks_with_altmaps(mm, nid, group, at, placement, count)
            at += count * mm.block_size
    except KernelError:
        remove_memory_blocks_and_altmaps(mm, start, at - start)
        raise


def _row_of_altmaps(mm: Mm, start: int, end: int) -> int:
    """Return how many blocks from *start* on, before *end*, can be added as the one before them was, all at once.

    Where its memmap is one leaf or more, nothing is at theirs, and whatever page tables they need, there is memory.
    """
    pfn, nr_pages = start >> mm.arch.page_shift, mm.block_pages
    if not blocks_in_rows(mm, pfn - nr_pages, end >> mm.arch.page_shift):
        return 1
    before = mm.blocks.get(start // mm.block_size - 1)
    memmap = nr_pages * mm.arch.struct_page_size >> mm.arch.page_shift
    last = min(end >> mm.arch.page_shift, end_of_tables(mm, pfn - nr_pages))
    count = (last - pfn) // nr_pages
    if before is None or before.altmap is None or before.altmap.alloc != memmap or count < 2:
        return 1
    low, high = mm.arch.vmemmap_address(pfn), mm.arch.vmemmap_address(pfn + count * nr_pages)
    there = mm.sections.intersects(pfn, pfn + count * nr_pages) or mm.leaves.intersects(low, high)
    numbers = range(before.id + 1, before.id + 1 + count)
    taken = there or any(number in mm.blocks for number in numbers)
    return 1 if taken or not has_pages_above_mark(mm, 2 * count) else count


def _add_blocks_with_altmaps(
    mm: Mm, nid: int, group: int | None, start: int, placement: Placement, count: int = 1
) -> None:
    pfn, size = start >> mm.arch.page_shift, count * mm.block_size
    # altmap->free: the whole block until v6.5, since v6.6 memmap_on_memory_pages(), the padding of force included.
    free = mm.block_pages if mm.features.altmap.whole_block else placement.reserve_pages
    altmap = VmemAltmap(pfn, pfn + mm.block_pages - 1, free).row(count)
    mm.arch.arch_add_memory(mm, nid, start, size, altmap)
    # Nothing is taken where the struct pages are mapped already: on powerpc one 2M leaf holds those of 2 GiB.
    # The kernel keeps the pages in the block all the same (bug.ppc_premapped_waste).
    used = altmap if altmap.alloc or mm.features.bug.ppc_premapped_waste else None
    try:
        create_memory_block_devices(mm, start, size, nid, used, group)
    except KernelError:
        passed = None if mm.features.bug.error_path_frees_altmap_to_buddy else altmap
        mm.arch.arch_remove_memory(mm, start, size, passed)
        raise


@mirrors("mm/memory_hotplug.c:add_memory_resource", "v6.12", "complete")
def add_memory_resource(mm: Mm, nid: int, resource: Resource, flags: int, group: int | None) -> None:
    """Add the memory that *resource* claims. Raises EINVAL, EEXIST, ENOMEM; the range is not there then."""
    mm.profile.need_built(mm.features.config.memory_hotplug, "MEMORY_HOTPLUG")
    start, size = resource.start, resource.end - resource.start + 1
    check_hotplug_memory_range(mm, start, size)
    if nid not in mm.nodes and nid not in mm.arch.possible_nodes:
        possible = ", ".join(map(str, sorted({*mm.nodes, *mm.arch.possible_nodes})))
        where, hint = "mm/memory_hotplug.c:add_memory_resource", f"there can be: {possible}"
        raise KernelError(f"node {nid} is not possible", "EINVAL", where=where, hint=hint)
    new_node = try_online_node(mm, nid)
    try:
        mm.seam.place_and_add(mm, nid, start, size, flags, group)
    except KernelError:
        if new_node:
            try_offline_node(mm, nid)
        raise
    finally:
        mm.placement = None
    register_memory_blocks_under_node(mm, start, size)
    if flags & MHP_MERGE_RESOURCE:
        merge_system_ram_resource(mm, resource)
    mm.event(
        "MemoryAdded",
        "mm/memory_hotplug.c:add_memory_resource",
        f"{start:#x}-{resource.end:#x} ({format_size(size)}) on node {nid}",
        start=start,
        size=size,
        nid=nid,
    )
    if mm.params.auto_online_blocks != "offline":
        walk_memory_blocks(mm, start, size, lambda block: _auto_online(mm, block))


def place_and_add(mm: Mm, nid: int, start: int, size: int, flags: int, group: int | None) -> None:
    """Choose where the memmap goes, and add the sections and blocks with it."""
    placement = mm.placement = choose_placement(mm, nid, start, size, flags)
    if placement.reserve_pages and size == mm.block_size and mm.features.memmap_on_memory.single_block:
        _add_blocks_with_altmaps(mm, nid, group, start, placement)
    elif placement.reserve_pages:
        create_altmaps_and_memory_blocks(mm, nid, group, start, size, placement)
    else:
        mm.arch.arch_add_memory(mm, nid, start, size, None)
        try:
            create_memory_block_devices(mm, start, size, nid, None, group)
        except KernelError:
            mm.arch.arch_remove_memory(mm, start, size, None)
            raise


@mirrors("mm/memory_hotplug.c:online_memory_block", "v6.12", "complete")
def _auto_online(mm: Mm, block: MemoryBlock) -> None:
    """Online one block with the default online type; an error is ignored, the block stays offline."""
    try:
        set_online_type(mm, block.id, mm.params.auto_online_blocks)
        memory_subsys_online(mm, block.id)
    except KernelError as error:
        mm.event(
            "AutoOnlineFailed",
            "mm/memory_hotplug.c:online_memory_block",
            f"memory{block.id}: {error}",
            block=block.id,
            errno=error.errno,
        )


@mirrors("mm/memory_hotplug.c:__add_memory", "v6.12", "complete")
def add_memory(
    mm: Mm, nid: int, start: int, size: int, flags: int = 0, *, group: int | None = None, name: str = "System RAM"
) -> None:
    """Add [start, start+size) bytes of RAM to node *nid*, offline unless auto-online says otherwise.

    Raises E2BIG, EEXIST, EINVAL, ENOMEM as the kernel does, in its order; *name* is the iomem resource's.
    """
    resource = register_memory_resource(mm, start, size, name)
    try:
        add_memory_resource(mm, nid, resource, flags, group)
    except KernelError:
        drop_resource(mm, resource)
        raise


@mirrors("mm/memory_hotplug.c:add_memory_driver_managed", "v6.12", "complete")
def add_memory_driver_managed(
    mm: Mm, nid: int, start: int, size: int, flags: int, group: int | None, name: str
) -> None:
    """Add RAM that a driver manages: *name*, as "System RAM (kmem)", stands in iomem; the firmware's map does not get it.

    Raises EINVAL for a name of another form.
    """
    if not (name.startswith("System RAM (") and name.endswith(")")):
        raise KernelError(
            f"{name!r} is no name for driver-managed memory",
            "EINVAL",
            where="mm/memory_hotplug.c:add_memory_driver_managed",
        )
    resource = register_memory_resource(mm, start, size, name)
    try:
        add_memory_resource(mm, nid, resource, flags | MHP_NID_IS_MGID, group)
    except KernelError:
        drop_resource(mm, resource)
        raise
