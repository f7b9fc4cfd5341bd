"""mm/memory_hotplug.c, the half that adds and removes memory: resources, sections, memmap placement, memory blocks."""

from __future__ import annotations

from functools import partial

from memshell.errors import KernelError, PluginError
from memshell.mm import mirrors
from memshell.mm.memory_block import (
    MemoryBlock,
    create_memory_block_devices,
    memory_subsys_offline,
    memory_subsys_online,
    remove_memory_block_devices,
    set_online_type,
    walk_memory_blocks,
)
from memshell.mm.memory_hotplug_rfc import add_pages_restricted, add_restricted, remove_range, remove_section
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mmzone import MemoryGroup, Node
from memshell.mm.page import Owner
from memshell.mm.page_alloc import add_zones
from memshell.mm.pfn import align_down, format_size
from memshell.mm.resource import drop_resource, merge_system_ram_resource, release_mem_region_adjustable, request_region
from memshell.mm.sparse import sparse_add_section, sparse_remove_section
from memshell.mm.state import Mm, Resource
from memshell.policy import MemmapRequest, PerNode, Placement

HERE = "mm/memory_hotplug.c"
MHP_MERGE_RESOURCE, MHP_MEMMAP_ON_MEMORY, MHP_NID_IS_MGID = 1, 2, 4


@mirrors("mm/memory_hotplug.c:__add_pages", "v6.12", "complete")
def add_pages(mm: Mm, nid: int, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Add the sections of [pfn, +nr_pages). What was added before an error stays (bug.add_pages_no_unwind).

    Raises EINVAL for an altmap that does not fit or a range that is not whole subsections, else what sparse_add_section raises.
    """
    where = f"{HERE}:__add_pages"
    if mm.restrictions is not None:
        add_pages_restricted(mm, nid, pfn, nr_pages, altmap)
        return
    if altmap is not None:
        if altmap.base_pfn != pfn or altmap.offset > nr_pages:
            raise KernelError("memory add fail, invalid altmap", "EINVAL", where=where)
        altmap.alloc = 0
    if (pfn | nr_pages) % mm.arch.pages_per_subsection:
        raise KernelError(f"pfns {pfn:#x}+{nr_pages:#x} are not whole subsections", "EINVAL", where=where)
    end, first = pfn + nr_pages, pfn
    while pfn < end:
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        try:
            sparse_add_section(mm, nid, pfn, step, altmap)
        except KernelError:
            if pfn > first and not mm.feature("bug.add_pages_no_unwind"):
                remove_pages(mm, first, pfn - first, altmap)
            raise
        pfn += step
    source = "nothing new" if not nr_pages else "the altmap" if altmap is not None else "existing memory"
    mm.event(
        "SectionsAdded", where, f"pfns {first:#x}-{end - 1:#x}, memmap from {source}", start_pfn=first, end_pfn=end
    )


@mirrors("mm/memory_hotplug.c:__remove_pages", "v6.12", "complete")
def remove_pages(mm: Mm, pfn: int, nr_pages: int, altmap: VmemAltmap | None) -> None:
    """Remove the sections of [pfn, +nr_pages), ascending."""
    end, first = pfn + nr_pages, pfn
    while pfn < end:
        step = min(end, align_down(pfn, mm.arch.pages_per_section) + mm.arch.pages_per_section) - pfn
        if mm.feature("mhp.restrictions"):
            remove_section(mm, pfn, altmap)
        else:
            sparse_remove_section(mm, pfn, step, altmap)
        pfn += step
    mm.event("SectionsRemoved", f"{HERE}:__remove_pages", f"pfns {first:#x}-{end - 1:#x}", start_pfn=first, end_pfn=end)


@mirrors("mm/memory_hotplug.c:register_memory_resource", "v6.12", "complete")
def register_memory_resource(mm: Mm, start: int, size: int, name: str) -> Resource:
    """Claim the range in iomem. Raises E2BIG outside of what can be mapped, EEXIST where something is already."""
    low, high = mm.arch.mhp_range()
    if not (low <= start and start + size - 1 <= high):
        raise KernelError(
            f"{start:#x}-{start + size - 1:#x} is outside of {low:#x}-{high:#x}",
            "E2BIG",
            where=f"{HERE}:mhp_range_allowed",
        )
    return request_region(mm, start, size, name)


def check_hotplug_memory_range(mm: Mm, start: int, size: int) -> None:
    """Raise EINVAL unless the range is one or more whole memory blocks."""
    if not size or start % mm.block_size or size % mm.block_size:
        raise KernelError(
            f"block size {format_size(mm.block_size)}: unaligned hotplug range: start {start:#x}, size {size:#x}",
            "EINVAL",
            where=f"{HERE}:check_hotplug_memory_range",
            hint=f"use multiples of {format_size(mm.block_size)}",
        )


@mirrors("mm/memory_hotplug.c:__try_online_node", "v6.12", "complete")
def try_online_node(mm: Mm, nid: int) -> bool:
    """Make sure that node *nid* is online; return whether it was new."""
    node = mm.nodes.get(nid)
    if node is not None and node.online:
        return False
    if mm.trace is not None:
        mm.trace.leaf("hotadd_init_pgdat")
        mm.trace.leaf("build_all_zonelists")
    mm.nodes[nid] = node._replace(online=True) if node else Node(nid)
    add_zones(mm, nid)
    return True


@mirrors("mm/memory_hotplug.c:try_offline_node", "v6.12", "complete")
def try_offline_node(mm: Mm, nid: int) -> None:
    """Offline node *nid* when it has neither a span nor a block nor a CPU."""
    node = mm.nodes[nid]
    if not node.spanned and not node.has_cpu and not any(block.nid == nid for block in mm.blocks.values()):
        mm.nodes[nid] = node._replace(online=False)


def memmap_request(mm: Mm, nid: int, start: int, size: int, *, offered: bool) -> MemmapRequest:
    """Return what the policy is asked about [start, start+size) bytes."""
    block_memmap = mm.block_pages * mm.arch.struct_page_size
    free: dict[int, int] = {}
    for (node, _), zone in mm.zones.items():
        free[node] = free.get(node, 0) + zone.free
    return MemmapRequest(
        nid=nid,
        start=start,
        size=size,
        block_size=mm.block_size,
        page_size=mm.arch.page_size,
        pmd_size=1 << mm.arch.pmd_shift,
        pageblock_nr_pages=mm.arch.pageblock_nr_pages,
        struct_page_size=mm.arch.struct_page_size,
        offered=offered,
        hvo_enabled=mm.params.get("hugetlb_free_vmemmap") == "Y",
        config=mm.arch.has_memmap_on_memory(mm.profile) and not mm.feature("mhp.restrictions"),
        from_range=mm.feature("mhp.from_range"),
        predicate=mm.feature("memmap_on_memory.predicate"),
        single_block=mm.feature("memmap_on_memory.single_block"),
        needs_hvo_off=mm.feature("memmap_on_memory.needs_hvo_off"),
        force_known=mm.feature("memmap_on_memory.force"),
        arch_refusal=mm.arch.supports_memmap_on_memory(block_memmap, mm.profile),
        free_pages=tuple(sorted(free.items())),
        cpu_nodes=tuple(sorted(node for node, record in mm.nodes.items() if record.has_cpu)),
        _memmap_on=partial(memmap_on_nodes, mm),
    )


def memmap_on_nodes(mm: Mm) -> PerNode:
    """Return how many pages of each node the buddy gave for the memmap of added memory."""
    pages = dict.fromkeys(mm.nodes, 0)
    for start, end, page in mm.pages.items():
        if page.owner is Owner.MEMMAP:
            pages[page.nid] += end - start
    return tuple(sorted(pages.items()))


@mirrors("mm/memory_hotplug.c:mhp_supports_memmap_on_memory", "v6.12", "complete")
def mhp_supports_memmap_on_memory(mm: Mm, nid: int, start: int, size: int) -> Placement:
    """Ask the policy where the memmap of the range goes."""
    placement = ask_policy(mm, nid, start, size, offered=True)
    if mm.trace is not None:
        size_of = mm.arch.struct_page_size
        pages = -(-mm.block_pages * size_of // mm.arch.page_size)
        mm.note(
            f"a block's memmap: {mm.block_pages} pages x {size_of} bytes = {pages} pages; "
            f"a pageblock is {mm.arch.pageblock_nr_pages} pages"
        )
        kept = f"{placement.reserve_pages} pages of each block are kept for it, {placement.reserve_pages - pages} of them padding"
        mm.note(
            kept if placement.reserve_pages else f"from existing memory: {placement.refusal or 'that is the policy'}"
        )
    return placement


@mirrors("mm/memory_hotplug.c:get_memmap_mode", "v6.12", "complete")
def get_memmap_mode(mm: Mm) -> str:
    """Return what /sys/module/memory_hotplug/parameters/memmap_on_memory reads: the policy's N, Y or force."""
    if mm.policy.parameter == "Y" and mm.arch.big_endian and mm.feature("bug.memmap_mode_read_as_bool"):
        return "N"
    return mm.policy.parameter


def ask_policy(mm: Mm, nid: int, start: int, size: int, *, offered: bool) -> Placement:
    """Return the policy's answer about [start, start+size) bytes. Raises `PluginError` for one that cannot be."""
    placement = mm.policy.place_memmap(memmap_request(mm, nid, start, size, offered=offered))
    check_placement(mm, placement)
    return placement


def check_placement(mm: Mm, placement: object) -> None:
    """Refuse an answer that no kernel could carry out. Raises `PluginError`, which names the plugin."""
    fault = placement_fault(mm, placement)
    if fault:
        who = getattr(mm.policy, "origin", "") or f"policy {getattr(mm.policy, 'name', '?')}"
        raise PluginError(f"{who}: place_memmap: {fault}")


def placement_fault(mm: Mm, placement: object) -> str:
    """Return what is wrong with a policy's answer, or nothing."""
    if not isinstance(placement, Placement):
        return f"it returned {type(placement).__name__}, not a Placement"
    reserve, nodes = placement.reserve_pages, placement.nodes
    if not isinstance(reserve, int) or not isinstance(nodes, tuple):
        return f"reserve_pages is a number and nodes a tuple, not {reserve!r} and {nodes!r}"
    if placement.from_range and not mm.feature("mhp.from_range"):
        return f"the kernel {mm.profile.name} cannot take the memmap of a whole add from the range"
    needed = -(-mm.block_pages * mm.arch.struct_page_size // mm.arch.page_size)
    if reserve and not needed <= reserve < mm.block_pages:
        return f"reserve_pages is {reserve}; a block of {mm.block_pages} pages needs {needed} for its memmap"
    if reserve % mm.arch.pageblock_nr_pages:
        return f"reserve_pages is {reserve}, no multiple of the pageblock ({mm.arch.pageblock_nr_pages} pages)"
    strangers = [nid for nid in nodes if nid not in mm.nodes]
    return f"there is no node {strangers[0]}" if strangers else ""


@mirrors("mm/memory_hotplug.c:create_altmaps_and_memory_blocks", "v6.12", "complete")
def create_altmaps_and_memory_blocks(
    mm: Mm, nid: int, group: int | None, start: int, size: int, placement: Placement
) -> None:
    """Add the range block by block, each with an altmap of its own; an error removes the blocks before it."""
    at = start
    try:
        for at in range(start, start + size, mm.block_size):
            _add_block_with_altmap(mm, nid, group, at, placement)
    except KernelError:
        remove_memory_blocks_and_altmaps(mm, start, at - start)
        raise


def _add_block_with_altmap(mm: Mm, nid: int, group: int | None, start: int, placement: Placement) -> None:
    pfn = start >> mm.arch.page_shift
    free = mm.block_pages if mm.feature("altmap.whole_block") else placement.reserve_pages
    altmap = VmemAltmap(pfn, pfn + mm.block_pages - 1, free)
    mm.arch.arch_add_memory(mm, nid, start, mm.block_size, altmap)
    used = altmap if altmap.alloc or mm.feature("bug.ppc_premapped_waste") else None
    try:
        create_memory_block_devices(mm, start, mm.block_size, nid, used, group)
    except KernelError:
        passed = None if mm.feature("bug.error_path_frees_altmap_to_buddy") else altmap
        mm.arch.arch_remove_memory(mm, start, mm.block_size, passed)
        raise


@mirrors("mm/memory_hotplug.c:remove_memory_blocks_and_altmaps", "v6.12", "complete")
def remove_memory_blocks_and_altmaps(mm: Mm, start: int, size: int) -> None:
    """Remove the blocks of a range one by one, each memmap back to its altmap."""
    for at in range(start, start + size, mm.block_size):
        block = mm.blocks.get(at // mm.block_size)
        remove_memory_block_devices(mm, at, mm.block_size)
        if block is None:
            continue  # find_memory_block_by_id() found none: a WARN_ON_ONCE
        altmap = block.altmap.copy() if block.altmap else None
        if altmap is not None and mm.feature("bug.memory_block_reference_leak"):
            mm.counters["memory_blocks.leaked"] = mm.counters.get("memory_blocks.leaked", 0) + 1
        mm.arch.arch_remove_memory(mm, at, mm.block_size, altmap)
        if altmap is not None and altmap.alloc:
            mm.event(
                "Warning", f"{HERE}:remove_memory_blocks_and_altmaps", "Altmap not fully unmapped", alloc=altmap.alloc
            )


@mirrors("drivers/base/node.c:register_memory_blocks_under_node", "v6.12", "stubbed", "sysfs links")
def register_memory_blocks_under_node(mm: Mm, start: int, size: int) -> None:
    """Link the blocks of the range to their node."""

    def link(block: MemoryBlock) -> None:
        if mm.trace is not None:
            with mm.trace.call("register_mem_block_under_node_hotplug", "drivers/base/node.c", (block.id,)):
                mm.trace.leaf("do_register_memory_block_under_node")

    walk_memory_blocks(mm, start, size, link if mm.trace is not None else None)


@mirrors("mm/memory_hotplug.c:add_memory_resource", "v6.12", "complete")
def add_memory_resource(mm: Mm, nid: int, resource: Resource, flags: int, group: int | None) -> None:
    """Add the memory that *resource* claims. Raises EINVAL, EEXIST, ENOMEM; the range is not there then."""
    start, size = resource.start, resource.end - resource.start + 1
    check_hotplug_memory_range(mm, start, size)
    if nid not in mm.nodes and nid not in mm.arch.possible_nodes:
        raise KernelError(f"node {nid} is not possible", "EINVAL", where=f"{HERE}:add_memory_resource")
    new_node = try_online_node(mm, nid)
    try:
        _place_and_add(mm, nid, start, size, flags, group)
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
        f"{HERE}:add_memory_resource",
        f"{start:#x}-{resource.end:#x} ({format_size(size)}) on node {nid}",
        start=start,
        size=size,
        nid=nid,
    )
    if mm.params.get("auto_online_blocks", "offline") != "offline":
        walk_memory_blocks(mm, start, size, lambda block: _auto_online(mm, block))


def _place_and_add(mm: Mm, nid: int, start: int, size: int, flags: int, group: int | None) -> None:
    if mm.feature("mhp.restrictions"):
        mm.placement = mhp_supports_memmap_on_memory(mm, nid, start, size)
        add_restricted(mm, nid, start, size, from_range=mm.placement.from_range)
        return
    placement = mm.placement = choose_placement(mm, nid, start, size, flags)
    if placement.reserve_pages and size == mm.block_size and mm.feature("memmap_on_memory.single_block"):
        _add_block_with_altmap(mm, nid, group, start, placement)
    elif placement.reserve_pages:
        create_altmaps_and_memory_blocks(mm, nid, group, start, size, placement)
    else:
        mm.arch.arch_add_memory(mm, nid, start, size, None)
        try:
            create_memory_block_devices(mm, start, size, nid, None, group)
        except KernelError:
            mm.arch.arch_remove_memory(mm, start, size, None)
            raise


def choose_placement(mm: Mm, nid: int, start: int, size: int, flags: int) -> Placement:
    """Return where the memmap goes; without MHP_MEMMAP_ON_MEMORY a policy may only order the nodes.

    Until v6.5 the caller has asked before it set the flag, and a refusal here is EINVAL.
    """
    if not flags & MHP_MEMMAP_ON_MEMORY:
        return Placement(nodes=ask_policy(mm, nid, start, size, offered=False).nodes)
    if not mm.feature("memmap_on_memory.caller_checks"):
        return mhp_supports_memmap_on_memory(mm, nid, start, size)
    placement = ask_policy(mm, nid, start, size, offered=True)
    if not placement.reserve_pages:
        raise KernelError(f"memmap_on_memory: {placement.refusal}", "EINVAL", where=f"{HERE}:add_memory_resource")
    return placement


@mirrors("mm/memory_hotplug.c:online_memory_block", "v6.12", "complete")
def _auto_online(mm: Mm, block: MemoryBlock) -> None:
    """Online one block with the default online type; an error is ignored, the block stays offline."""
    try:
        set_online_type(mm, block.id, mm.params["auto_online_blocks"])
        memory_subsys_online(mm, block.id)
    except KernelError as error:
        mm.event(
            "AutoOnlineFailed",
            f"{HERE}:online_memory_block",
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
            f"{name!r} is no name for driver-managed memory", "EINVAL", where=f"{HERE}:add_memory_driver_managed"
        )
    resource = register_memory_resource(mm, start, size, name)
    try:
        add_memory_resource(mm, nid, resource, flags | MHP_NID_IS_MGID, group)
    except KernelError:
        drop_resource(mm, resource)
        raise


def register_group(mm: Mm, nid: int, pages: int, *, static: bool) -> int:
    """memory_group_register_static() or _dynamic(): return the id of a new group of *pages* (at most, or per unit)."""
    gid = mm.counters["next_group"] = mm.counters.get("next_group", 0) + 1
    mm.groups[gid] = MemoryGroup(gid, nid, static, pages)
    return gid


@mirrors("mm/memory_hotplug.c:try_remove_memory", "v6.12", "complete")
def try_remove_memory(mm: Mm, start: int, size: int) -> None:
    """Remove offline memory. Raises EBUSY while a block is online, EINVAL for a range or granularity that cannot be."""
    where = f"{HERE}:try_remove_memory"
    check_hotplug_memory_range(mm, start, size)
    online: list[int] = []

    def visit(block: MemoryBlock) -> None:
        if mm.trace is not None:
            mm.trace.leaf("check_memblock_offlined_cb")
        if block.state != "offline":
            online.append(block.id)

    walk_memory_blocks(mm, start, size, visit)
    if online:
        raise KernelError(f"memory{online[0]} is online", "EBUSY", where=where, hint="offline it first")
    blocks = [mm.blocks[i] for i in range(start // mm.block_size, (start + size) // mm.block_size) if i in mm.blocks]
    if not blocks:
        # The kernel does not look whether anything is there: it warns for each block and succeeds (recorded on s390, 6.12).
        mm.event(
            "Warning",
            where,
            f"WARNING: no memory block at {start:#x}-{start + size - 1:#x}: nothing removed",
            start=start,
            size=size,
        )
        return
    altmaps = [block for block in blocks if block.altmap is not None]
    if mm.policy.parameter != "N":
        walk_memory_blocks(mm, start, size)
    if altmaps and mm.feature("memmap_on_memory.single_block") and size != mm.block_size:
        raise KernelError("refused to remove: wrong granularity", "EINVAL", where=where, hint="remove block by block")
    if altmaps and len(altmaps) != len(blocks):
        raise KernelError("some blocks of the range have their memmap on the memory, some not", "EINVAL", where=where)
    if mm.feature("mhp.restrictions"):
        remove_range(mm, start, size)
    elif altmaps:
        remove_memory_blocks_and_altmaps(mm, start, size)
    else:
        remove_memory_block_devices(mm, start, size)
        mm.arch.arch_remove_memory(mm, start, size, None)
    release_mem_region_adjustable(mm, start, size)
    try_offline_node(mm, blocks[0].nid)
    mm.event("MemoryRemoved", where, f"{start:#x}-{start + size - 1:#x} ({format_size(size)})", start=start, size=size)


@mirrors("mm/memory_hotplug.c:__remove_memory", "v6.12", "complete")
def remove_memory(mm: Mm, start: int, size: int) -> None:
    """Remove [start, start+size) bytes; every block of it must be offline."""
    try_remove_memory(mm, start, size)


@mirrors("mm/memory_hotplug.c:offline_and_remove_memory", "v6.12", "complete")
def offline_and_remove_memory(mm: Mm, start: int, size: int) -> None:
    """Offline every block of the range and remove it; on an error the blocks that were offlined come back to their zone kind."""
    if start % mm.block_size or not size or size % mm.block_size:
        raise KernelError(
            f"{start:#x}+{size:#x} is not whole blocks", "EINVAL", where=f"{HERE}:offline_and_remove_memory"
        )
    done: list[tuple[int, str]] = []

    def offline(block: MemoryBlock) -> None:
        if block.state == "online":
            kind = "online_movable" if block.zone is not None and block.zone.label == "Movable" else "online_kernel"
            memory_subsys_offline(mm, block.id)
            done.append((block.id, kind))

    try:
        walk_memory_blocks(mm, start, size, offline)
        try_remove_memory(mm, start, size)
    except KernelError:
        for block_id, kind in done:
            set_online_type(mm, block_id, kind)
            memory_subsys_online(mm, block_id)
        raise
