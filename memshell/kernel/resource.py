"""kernel/resource.c: what /proc/iomem lists, as far as hotplug changes it."""

from __future__ import annotations

from collections.abc import Iterator

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.state import Mm, Resource

BUSY = ("System RAM", "Reserved", "Kernel", "ACPI")  # names that nothing is put inside of


def overlaps(mm: Mm, start: int, end: int, depth: int) -> list[Resource]:
    """Return the resources of one depth that meet [start, end] (inclusive).

    They rise by their start, a parent before its children: the search goes down from *end*, past none but those that meet.
    """
    found: list[Resource] = []
    for r in mm.resources.down_from(end):
        if r.depth == depth and r.end >= start:
            found.append(r)
        elif r.depth == depth or (r.depth < depth and r.start <= start):
            break
    return found[::-1]


def holders(mm: Mm, start: int, end: int) -> Iterator[Resource]:
    """Yield the resources that span [start, end] (inclusive), the innermost first."""
    for r in mm.resources.down_from(start):
        if r.end >= end:
            yield r
        if not r.depth:
            return


def is_system_ram(mm: Mm, start: int, end: int) -> bool:
    """Whether all of [start, end) bytes is System RAM: what walk_system_ram_range() walks over."""
    for r in mm.resources.down_from(end - 1):
        if r.name.startswith("System RAM") and r.end >= end - 1:
            end = min(end, r.start)
        if end <= start:
            return True
        if not r.depth and r.start <= start:
            break
    return False


@mirrors("kernel/resource.c:__request_region", "v6.12", "complete")
def request_region(mm: Mm, start: int, size: int, name: str) -> Resource:
    """Insert [start, start+size) as *name*, inside whatever device already spans it. Raises EEXIST on a conflict."""
    end, depth = start + size - 1, 0
    while conflict := overlaps(mm, start, end, depth):
        other = conflict[0]
        if other.name.startswith(BUSY) or other.start > start or other.end < end:
            raise KernelError(
                f"{start:#x}-{end:#x} overlaps {other.name} at {other.start:#x}-{other.end:#x}",
                "EEXIST",
                where="mm/memory_hotplug.c:register_memory_resource",
            )
        depth += 1
    new = Resource(start, end, name, depth)
    mm.resources.add(new)
    return new


def drop_resource(mm: Mm, resource: Resource) -> None:
    """Take one resource out of iomem again, as an add that failed does."""
    mm.resources.remove(resource)


@mirrors("kernel/resource.c:release_mem_region_adjustable", "v6.12", "complete")
def release_mem_region_adjustable(mm: Mm, start: int, size: int) -> None:
    """Take [start, start+size) out of the System RAM resource that holds it, which may shrink or split."""
    end = start + size - 1
    for r in [r for r in holders(mm, start, end) if r.name.startswith("System RAM")]:
        mm.resources.remove(r)
        if r.start < start:
            mm.resources.add(r._replace(end=start - 1))
        if r.end > end:
            mm.resources.add(r._replace(start=end + 1))


@mirrors("kernel/resource.c:merge_system_ram_resource", "v6.12", "complete")
def merge_system_ram_resource(mm: Mm, resource: Resource) -> None:
    """Join *resource* with neighbours of the same name and parent (MHP_MERGE_RESOURCE)."""
    below = next((r for r in mm.resources.down_from(resource.start - 1) if r.depth <= resource.depth), None)
    above = next((r for r in mm.resources.from_address(resource.end + 1) if r.depth <= resource.depth), None)
    for other in (below, above):
        if other is None or (other.name, other.depth) != (resource.name, resource.depth):
            continue
        if other.end + 1 == resource.start or resource.end + 1 == other.start:
            mm.resources.remove(other)
            mm.resources.remove(resource)
            start, end = min(other.start, resource.start), max(other.end, resource.end)
            resource = resource._replace(start=start, end=end)
            mm.resources.add(resource)
