"""The files of /sys/devices/system/node, in the formats of drivers/base/node.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.mm.mmzone import ZoneType
from memshell.views import kernel

if TYPE_CHECKING:
    from memshell.mm.state import Mm

LOCAL, REMOTE = 10, 20  # include/linux/topology.h: LOCAL_DISTANCE, REMOTE_DISTANCE
NUMASTAT = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")


def online(mm: Mm) -> list[int]:
    """Return the nodes that are online."""
    return [nid for nid, node in sorted(mm.nodes.items()) if node.online]


def with_memory(mm: Mm) -> list[int]:
    """Return the nodes that have memory."""
    return [nid for nid in online(mm) if mm.nodes[nid].present]


def with_normal_memory(mm: Mm) -> list[int]:
    """Return the nodes that have memory which the kernel itself can use."""
    kinds = {nid for (nid, kind), zone in mm.zones.items() if kind <= ZoneType.NORMAL and zone.present}
    return [nid for nid in online(mm) if nid in kinds]


def cpus_of(mm: Mm, nid: int) -> list[int]:
    """Return the CPUs of a node."""
    return [cpu for cpu, home in enumerate(kernel.cpus(mm)) if home == nid]


def distance(mm: Mm, nid: int) -> str:
    """Return how far the nodes are, as a machine without a SLIT has it."""
    return " ".join(str(LOCAL if other == nid else REMOTE) for other in online(mm))


def meminfo(mm: Mm, nid: int) -> str:
    """Return the node's meminfo: total, free and used memory. Source: node_read_meminfo."""
    zones = [zone for (home, _), zone in mm.zones.items() if home == nid]
    total, free = sum(zone.managed for zone in zones), sum(zone.free for zone in zones)
    pages = {"MemTotal": total, "MemFree": free, "MemUsed": total - free}
    lines = ((name, count << mm.arch.page_shift >> 10) for name, count in pages.items())
    return "".join(f"Node {nid} {name + ':':<15} {value:8d} kB\n" for name, value in lines)


def numastat(mm: Mm, nid: int) -> str:
    """Return the node's numastat, all zero: allocations are not counted."""
    del mm, nid
    return "".join(f"{name} 0\n" for name in NUMASTAT)


def vmstat(mm: Mm, nid: int) -> str:
    """Return the node's vmstat, as far as it is modelled. Source: node_read_vmstat."""
    return f"nr_free_pages {sum(zone.free for (home, _), zone in mm.zones.items() if home == nid)}\n"
