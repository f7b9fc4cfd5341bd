"""What a command decided without being asked: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.memory_hotplug.memmap_on_memory import memmap_grown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memshell.mm.state import Mm


def about_add(mm: Mm, before: Mm, new: Sequence[int], size: int) -> Iterator[str]:
    """Yield what an add of *size* bytes decided: where the memmap went and why, whole blocks, who went online."""
    reason = fallback(mm)
    if reason:
        yield reason
    yield from _other_node(mm, before, new)
    total = len(new) * mm.block_size
    if total > size:
        from memshell.mm.pfn import format_size

        block = format_size(mm.block_size)
        yield f"whole blocks of {block}: {format_size(total)} was added, {format_size(total - size)} of it has nothing behind it"
    yield from _auto_online(mm)


def fallback(mm: Mm) -> str:
    """Return why the memmap is not where the policy wants it; nothing where it is, or where the policy wants nothing."""
    found = next((event for event in mm.events if event.kind == "MemmapFallback"), None)
    return f"{mm.policy.name} is not followed: {found.data['reason']}" if found is not None else ""


def _other_node(mm: Mm, before: Mm, new: Sequence[int]) -> Iterator[str]:
    """Say whose memory holds the memmap, where that is not the node's of the memory."""
    from memshell.mm.pfn import format_size

    nid = mm.blocks[new[0]].nid
    for node, pages in memmap_grown(before, mm):
        if node != nid and pages > 0:
            yield f"{format_size(pages << mm.arch.page_shift)} of the memmap is on node {node}"


def _auto_online(mm: Mm) -> Iterator[str]:
    value = mm.params.auto_online_blocks
    if value == "offline":
        return
    zones = f"; {zones_by(mm)}" if value == "online" and mm.params.online_policy != "contig-zones" else ""
    yield f"onlined by auto_online_blocks={value}{zones}"
    failed = [event for event in mm.events if event.kind == "AutoOnlineFailed"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        yield f"it failed for {failed[0].text}{more}"


def zones_by(mm: Mm) -> str:
    """Return what chose the zones of blocks that were onlined without one."""
    params = mm.params
    ratio = f", auto_movable_ratio={params.auto_movable_ratio}" if params.online_policy == "auto-movable" else ""
    return f"zones by online_policy={params.online_policy}{ratio}"
