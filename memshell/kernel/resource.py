"""kernel/resource.c: what /proc/iomem lists, as far as hotplug changes it."""

from __future__ import annotations

from bisect import bisect_right, insort

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.state import Mm, Resource

BUSY = ("System RAM", "Reserved", "Kernel", "ACPI")  # names that nothing is put inside of


def overlaps(mm: Mm, start: int, end: int, depth: int) -> list[Resource]:
    """Return the resources of one depth that meet [start, end] (inclusive).

    They rise by their start, a parent before its children: the search goes down from *end*, past none but those that meet.
    """
    found: list[Resource] = []
    for at in range(bisect_right(mm.resources, end, key=lambda r: r.start) - 1, -1, -1):
        r = mm.resources[at]
        if r.depth == depth and r.end >= start:
            found.append(r)
        elif r.depth == depth or (r.depth < depth and r.start <= start):
            break
    return found[::-1]


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
    insort(mm.resources, new, key=lambda r: (r.start, -r.end, r.depth))
    return new


def drop_resource(mm: Mm, resource: Resource) -> None:
    """Take one resource out again."""
    mm.resources.remove(resource)


@mirrors("kernel/resource.c:release_mem_region_adjustable", "v6.12", "complete")
def release_mem_region_adjustable(mm: Mm, start: int, size: int) -> None:
    """Take [start, start+size) out of the System RAM resource that holds it, which may shrink or split."""
    end = start + size - 1
    for r in [r for r in mm.resources if r.name.startswith("System RAM") and r.start <= start and r.end >= end]:
        mm.resources.remove(r)
        if r.start < start:
            mm.resources.append(Resource(r.start, start - 1, r.name, r.depth))
        if r.end > end:
            mm.resources.append(Resource(end + 1, r.end, r.name, r.depth))
    mm.resources.sort(key=lambda r: (r.start, -r.end, r.depth))


@mirrors("kernel/resource.c:merge_system_ram_resource", "v6.12", "complete")
def merge_system_ram_resource(mm: Mm, resource: Resource) -> None:
    """Join *resource* with neighbours of the same name and parent (MHP_MERGE_RESOURCE)."""
    for other in [r for r in mm.resources if r.name == resource.name and r.depth == resource.depth and r != resource]:
        if other.end + 1 == resource.start or resource.end + 1 == other.start:
            mm.resources.remove(other)
            mm.resources.remove(resource)
            resource = Resource(
                min(other.start, resource.start), max(other.end, resource.end), resource.name, resource.depth
            )
            mm.resources.append(resource)
    mm.resources.sort(key=lambda r: (r.start, -r.end, r.depth))
