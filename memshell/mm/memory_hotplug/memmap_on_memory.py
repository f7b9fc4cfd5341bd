"""mm/memory_hotplug.c: where the memmap of added memory goes, and the pages that a block keeps for its own."""

from __future__ import annotations

from functools import partial

from memshell.errors import KernelError, PluginError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.zone import move_pfn_range_to_zone, remove_pfn_range_from_zone
from memshell.mm.mmzone import MigrateType
from memshell.mm.page import Owner, Page
from memshell.mm.ranges import RangeMap
from memshell.mm.sparse import offline_mem_sections, online_mem_sections
from memshell.mm.state import Mm, ZoneKey
from memshell.policy import Configured, MemmapRequest, PerNode, Placement

PREDICATE = "mm/memory_hotplug.c:mhp_supports_memmap_on_memory"


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
        hvo_enabled=mm.params.hugetlb_free_vmemmap,
        config=mm.arch.has_memmap_on_memory(mm.profile)
        and mm.features.memmap_on_memory.exists
        and mm.features.config.mhp_memmap_on_memory,
        from_range=mm.seam.memmap_from_range,
        predicate=mm.features.memmap_on_memory.predicate,
        single_block=mm.features.memmap_on_memory.single_block,
        needs_hvo_off=mm.features.memmap_on_memory.needs_hvo_off,
        force_known=mm.features.memmap_on_memory.force,
        arch_refusal=mm.arch.supports_memmap_on_memory(block_memmap, mm.profile),
        free_pages=tuple(sorted(free.items())),
        free_by_zone=tuple((node, kind, zone.free) for (node, kind), zone in sorted(mm.zones.items())),
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


def memmap_grown(before: Mm, mm: Mm) -> PerNode:
    """Return by how many pages that grew on each node, of two states of which one is a copy: what they share is not looked at."""
    touched: RangeMap[bool] = RangeMap()
    for low, high in (*mm.pages.unshared(before.pages), *before.pages.unshared(mm.pages)):
        touched.set(low, high, value=True)
    grown = dict.fromkeys(mm.nodes, 0)
    for low, high, _ in touched.items():
        for sign, state in ((1, mm), (-1, before)):
            for start, end, page in state.pages.items(low, high):
                if page.owner is Owner.MEMMAP:
                    grown[page.nid] += sign * (end - start)
    return tuple(sorted(grown.items()))


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
    if mm.policy.parameter == "Y" and mm.arch.big_endian and mm.features.bug.memmap_mode_read_as_bool:
        return "N"
    return mm.policy.parameter


def ask_policy(mm: Mm, nid: int, start: int, size: int, *, offered: bool) -> Placement:
    """Return the policy's answer about [start, start+size) bytes. Raises `PluginError` for one that cannot be."""
    request = memmap_request(mm, nid, start, size, offered=offered)
    placement = mm.policy.place_memmap(request)
    check_placement(mm, placement, refusal_of(request))
    if placement.refusal and mm.policy.parameter != "N":
        text = f"the memmap comes from existing memory: {placement.refusal}"
        mm.event("MemmapFallback", PREDICATE, text, reason=placement.refusal)
    return placement


def refusal_of(request: MemmapRequest) -> str:
    """Return why the kernel cannot keep the memmap in the blocks, whatever the policy says; "" where it can."""
    if not request.offered:
        return ""  # nobody looks at reserve_pages
    if not request.config:
        return "this kernel is built without CONFIG_MHP_MEMMAP_ON_MEMORY (request.config)"
    # arch_supports_memmap_on_memory() came with v6.6, when the test for whole PMDs went out of the core.
    asks_arch = request.arch_refusal is not None and request.predicate != "pmd"
    return f"the architecture refuses (request.arch_refusal): {request.arch_refusal}" if asks_arch else ""


def check_placement(mm: Mm, placement: object, refusal: str = "") -> None:
    """Refuse an answer that no kernel could carry out. Raises `PluginError`, which names the plugin.

    *refusal* says why the kernel cannot keep the memmap in the blocks.
    """
    fault = placement_fault(mm, placement)
    if not fault and refusal and isinstance(placement, Placement) and placement.reserve_pages:
        fault = f"it keeps {placement.reserve_pages} pages of each block, and {refusal}"
    if fault:
        own = mm.policy.own if isinstance(mm.policy, Configured) else mm.policy
        who = f"plugin {type(own).__module__}: policy {own.name}"
        raise PluginError(f"{who}: place_memmap: {fault}")


def placement_fault(mm: Mm, placement: object) -> str:
    """Return what is wrong with a policy's answer, or nothing."""
    if not isinstance(placement, Placement):
        return f"it returned {type(placement).__name__}, not a Placement"
    reserve, nodes = placement.reserve_pages, placement.nodes
    if not isinstance(reserve, int) or not isinstance(nodes, tuple):
        return f"reserve_pages is a number and nodes a tuple, not {reserve!r} and {nodes!r}"
    if not isinstance(placement.refusal, str) or not isinstance(placement.from_range, bool):
        return f"refusal is a text and from_range a bool, not {placement.refusal!r} and {placement.from_range!r}"
    if placement.from_range and not mm.seam.memmap_from_range:
        return f"the kernel {mm.profile.name} cannot take the memmap of a whole add from the range"
    needed = -(-mm.block_pages * mm.arch.struct_page_size // mm.arch.page_size)
    if reserve and not needed <= reserve < mm.block_pages:
        return f"reserve_pages is {reserve}; a block of {mm.block_pages} pages needs {needed} for its memmap"
    if reserve % mm.arch.pageblock_nr_pages:
        return f"reserve_pages is {reserve}, no multiple of the pageblock ({mm.arch.pageblock_nr_pages} pages)"
    strangers = [nid for nid in nodes if nid not in mm.nodes]
    return f"there is no node {strangers[0]}" if strangers else ""


def choose_placement(mm: Mm, nid: int, start: int, size: int, flags: int) -> Placement:
    """Return where the memmap goes; without MHP_MEMMAP_ON_MEMORY a policy may only order the nodes.

    Until v6.5 the caller has asked before it set the flag, and a refusal here is EINVAL.
    """
    if not flags & MHP_MEMMAP_ON_MEMORY:
        return Placement(nodes=ask_policy(mm, nid, start, size, offered=False).nodes)
    if not mm.features.memmap_on_memory.caller_checks:
        return mhp_supports_memmap_on_memory(mm, nid, start, size)
    placement = ask_policy(mm, nid, start, size, offered=True)
    if not placement.reserve_pages:
        raise KernelError(
            f"memmap_on_memory: {placement.refusal}", "EINVAL", where="mm/memory_hotplug.c:add_memory_resource"
        )
    return placement


@mirrors("mm/memory_hotplug.c:mhp_init_memmap_on_memory", "v6.12", "complete")
def mhp_init_memmap_on_memory(mm: Mm, pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """Give the pages that hold a block's memmap to the zone, as in use and unmovable."""
    move_pfn_range_to_zone(mm, key, pfn, nr_pages, MigrateType.UNMOVABLE)
    mm.pages.set(pfn, pfn + nr_pages, Page(Owner.MEMMAP_SELF, *key))
    whole = nr_pages - nr_pages % mm.arch.pages_per_section
    if whole:
        online_mem_sections(mm, pfn, pfn + whole)


@mirrors("mm/memory_hotplug.c:mhp_deinit_memmap_on_memory", "v6.12", "complete")
def mhp_deinit_memmap_on_memory(mm: Mm, pfn: int, nr_pages: int, key: ZoneKey) -> None:
    """Take the pages that hold a block's memmap out of the zone again."""
    whole = nr_pages - nr_pages % mm.arch.pages_per_section
    if whole:
        offline_mem_sections(mm, pfn, pfn + whole)
    mm.pages.delete(pfn, pfn + nr_pages)
    mm.pageblocks.delete(pfn, pfn + nr_pages)
    remove_pfn_range_from_zone(mm, key, pfn, nr_pages)
