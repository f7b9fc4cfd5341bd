"""The machine as a tree of files: /sys and /proc as tools such as ``lsmem --sysroot`` read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.drivers.base.memory.state import valid_zones
from memshell.mm.params import MEMMAP_ON_MEMORY, PARAMETERS
from memshell.views.proc import buddyinfo, iomem, meminfo, pagetypeinfo, vmstat, zoneinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.state import Mm

MEMORY = "sys/devices/system/memory"
FIRMWARE = "sys/firmware/memory"  # s390 since v6.19
NODE = "sys/devices/system/node"
MODULE = "sys/module/memory_hotplug/parameters"


def files(mm: Mm) -> Iterator[tuple[str, str]]:
    """Yield (path, content) of every file. Sources: drivers/base/memory.c, drivers/base/node.c, fs/proc."""
    yield f"{MEMORY}/block_size_bytes", f"{mm.block_size:x}\n"
    yield f"{MEMORY}/auto_online_blocks", mm.params.auto_online_blocks + "\n"
    for number, block in sorted(mm.blocks.items()):
        folder = f"{MEMORY}/memory{number}"
        yield f"{folder}/phys_index", f"{number:08x}\n"
        yield f"{folder}/state", f"{block.state}\n"
        yield f"{folder}/online", f"{int(block.state == 'online')}\n"
        yield f"{folder}/phys_device", "0\n"
        # Whether CONFIG_MEMORY_HOTREMOVE is set, since v5.8 (commit 53cdc1cb29e8).
        yield f"{folder}/removable", "1\n"
        yield f"{folder}/valid_zones", valid_zones(mm, number) + "\n"
    for number, switches in (mm.arch.firmware_memory(mm) or {}).items():
        for name, value in zip(("config", "memmap_on_memory"), switches, strict=True):
            yield f"{FIRMWARE}/memory{number}/{name}", f"{int(value)}\n"
    yield from _parameters(mm)
    nodes = [nid for nid, node in sorted(mm.nodes.items()) if node.online]
    yield f"{NODE}/online", _list(nodes) + "\n"
    yield f"{NODE}/has_memory", _list([nid for nid in nodes if mm.nodes[nid].present]) + "\n"
    yield from _proc(mm)


def _parameters(mm: Mm) -> Iterator[tuple[str, str]]:
    yield f"{MODULE}/{MEMMAP_ON_MEMORY}", mm.policy.parameter + "\n"
    for name, parameter in PARAMETERS.items():
        if parameter.module:
            yield f"{MODULE}/{name}", mm.params.text(name) + "\n"


def _proc(mm: Mm) -> Iterator[tuple[str, str]]:
    views = {"meminfo": meminfo, "zoneinfo": zoneinfo, "buddyinfo": buddyinfo, "pagetypeinfo": pagetypeinfo}
    views |= {"vmstat": vmstat, "iomem": iomem}
    for name, view in views.items():
        text = view(mm)
        yield f"proc/{name}", text if text.endswith("\n") else text + "\n"


def links(mm: Mm) -> Iterator[tuple[str, str]]:
    """Yield (path, target) of every symbolic link: a block under its node, and the node under the block."""
    for number, block in sorted(mm.blocks.items()):
        yield f"{MEMORY}/memory{number}/node{block.nid}", f"../../node/node{block.nid}"
        yield f"{NODE}/node{block.nid}/memory{number}", f"../../memory/memory{number}"


def _list(numbers: list[int]) -> str:
    """Return numbers as the kernel writes a node mask: 0-1,3."""
    parts: list[str] = []
    for at, number in enumerate(numbers):
        if at and numbers[at - 1] == number - 1:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{number}"
        else:
            parts.append(str(number))
    return ",".join(parts)
