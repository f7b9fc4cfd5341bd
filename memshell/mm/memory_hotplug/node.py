"""mm/memory_hotplug.c: a node comes online with its first memory and goes with its last."""

from __future__ import annotations

from memshell.mm import mirrors
from memshell.mm.mm_init import add_zones
from memshell.mm.mmzone import Node
from memshell.mm.state import Mm


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


@mirrors("mm/memory_hotplug.c:try_offline_node", "v6.12", "complete")
def try_offline_node(mm: Mm, nid: int) -> None:
    """Offline node *nid* when it has neither a span nor a block nor a CPU."""
    node = mm.nodes[nid]
    if not node.spanned and not node.has_cpu and not any(block.nid == nid for block in mm.blocks.values()):
        mm.nodes[nid] = node._replace(online=False)
