"""From a state of /proc and /sys to boot memory: one reader for recordings and machine files.

What a state lacks is derived here and nowhere else: RAM and zones from the memory blocks, free blocks from
a zone's free pages.
"""

from __future__ import annotations

import json
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.arch import Arch, BootBlock, BootMemory, BootZone
from memshell.errors import RecordingError, UsageError
from memshell.mm.boot import boot
from memshell.mm.hugetlb.boot import place_pool
from memshell.mm.mm_init.movable import largest
from memshell.mm.mmzone import ZONE_BY_LABEL, ZoneType
from memshell.mm.params import Params, boot_params, read_sysfs
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm

if TYPE_CHECKING:
    from memshell.mm.profile import Profile
    from memshell.policy import Policy

NODE_LIST = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
MAX_BYTES = 256 << 20  # no file comes near; a larger one is not read into memory


def read_json(path: str | Path, what: str) -> Any:
    """Return what a file holds, packed by xz or not. Raises `RecordingError` when it is no *what*."""
    path = Path(path)
    try:
        if path.is_fifo() and not path.is_relative_to("/dev/fd"):
            raise RecordingError(f"cannot read {path}: it is no file")
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise RecordingError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        return json.loads(data)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except (lzma.LZMAError, zlib.error, EOFError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path} is no {what}: {error}") from error


def boot_state(
    arch: Arch, profile: Profile, policy: Policy, state: Mapping[str, Any], cmdline: str, params: Params | None = None
) -> Mm:
    """Return a machine's memory as *state* shows it.

    Its parameters are those that the kernel was built with (*params*), those of *cmdline*, and what sysfs showed.
    """
    possible = state.get("nodes", {}).get("possible", "")
    if NODE_LIST.fullmatch(possible):  # elsewhere it holds why it was not readable
        arch = replace(arch, possible_nodes=_node_list(possible))
    mm = boot(arch, profile, policy, boot_memory(arch, state), boot_params(cmdline, profile, params))
    place_pool(mm, state.get("meminfo_kb", {}))
    mm.params = shown_params(mm.params, state)
    if "nr_memmap_pages" in mm.counters:
        mm.counters["nr_memmap_pages"] = state.get("vmstat", {}).get("nr_memmap_pages", 0)
    return mm


def shown_params(params: Params, state: Mapping[str, Any]) -> Params:
    """Return *params* with the writable module parameters and auto_online_blocks as *state* shows them."""
    given = {key: state[key] for key in ("auto_online_blocks",) if key in state}
    try:
        return read_sysfs(params, {**state.get("params", {}), **given})
    except UsageError as error:
        raise RecordingError(error.message, hint=error.hint) from error


def boot_memory(arch: Arch, state: Mapping[str, Any]) -> BootMemory:
    """Return the boot memory that a state describes. Raises `RecordingError` where no RAM lies in a zone."""
    block_pages = state["block_size_bytes"] // arch.page_size
    blocks = {int(number): _block(shown) for number, shown in state.get("memory_blocks", {}).items()}
    lines = state["zones"] if "zones" in state else zones_of_blocks(arch, blocks, block_pages)
    spanned = [
        z for z in lines if z.get("spanned") and "start_pfn" in z and ZONE_BY_LABEL[z["zone"]] is not ZoneType.DEVICE
    ]
    iomem = (
        tuple(tuple(line) for line in state["iomem"])
        if "iomem" in state
        else _iomem_of_blocks(blocks, state["block_size_bytes"])
    )
    orders = {(b["node"], b["zone"]): tuple(b["orders"]) for b in state.get("buddyinfo", ())}
    zones = tuple(
        BootZone(
            z["node"],
            ZONE_BY_LABEL[z["zone"]],
            z["start_pfn"],
            z["spanned"],
            z["present"],
            z["managed"],
            orders.get((z["node"], z["zone"]), ()) if "buddyinfo" in state else largest(z["free"], arch.max_order),
            z.get("pcp_pages", 0),
        )
        for z in spanned
    )
    ram = _ram(arch, iomem, spanned, blocks, block_pages)
    blocks = _mark_added(arch, state, ram, blocks)
    nodes = tuple(sorted({z["node"] for z in lines}))
    nomap = tuple(run for z in spanned for run in _nomap(z, ram, blocks, block_pages))
    return BootMemory(
        ram,
        zones,
        iomem,
        state["block_size_bytes"],
        nodes=nodes,
        cpu_nodes=_cpu_nodes(state, nodes),
        nr_memmap_boot_pages=state.get("vmstat", {}).get("nr_memmap_boot_pages", 0),
        blocks=blocks,
        nomap=tuple(sorted(nomap)),
    )


def _mark_added(
    arch: Arch, state: Mapping[str, Any], ram: tuple[tuple[int, int, int], ...], blocks: dict[int, BootBlock]
) -> dict[int, BootBlock]:
    """Mark the online blocks that came after boot, where /proc/vmstat counts the memmap of boot (v6.11 and later).

    The lowest sections are those of boot, as many as that memmap describes; what has holes is of boot too.
    """
    section = arch.pages_per_section
    left = state.get("vmstat", {}).get("nr_memmap_boot_pages", 0) * arch.page_size // arch.struct_page_size // section
    if not left:
        return blocks
    block_pages, marked = state["block_size_bytes"] // arch.page_size, dict(blocks)
    whole: RangeMap[int] = RangeMap()
    for start, end, nid in ram:
        whole.set(start, end, nid)
    for number, block in sorted(blocks.items()):
        if block.offline:
            continue
        first, last = number * block_pages, (number + 1) * block_pages
        if left <= 0 and whole.covers(first, last) and not block.mixed:
            marked[number] = replace(block, added=True)
        left -= sum(whole.intersects(at, at + section) for at in range(first, last, section)) or 1
    return marked


def _nomap(
    z: Mapping[str, Any], ram: tuple[tuple[int, int, int], ...], blocks: Mapping[int, BootBlock], block_pages: int
) -> Iterator[tuple[int, int, int]]:
    """Yield what is present in a zone and no System RAM, where that is all that its blocks have besides RAM."""
    low, high = z["start_pfn"], z["start_pfn"] + z["spanned"]
    missing = z["present"] - sum(max(min(b, high) - max(a, low), 0) for a, b, nid in ram if nid == z["node"])
    found: RangeMap[int] = RangeMap()
    for number, block in blocks.items():
        if not block.offline and block.zone in (None, ZONE_BY_LABEL[z["zone"]]):
            found.set(max(number * block_pages, low), min((number + 1) * block_pages, high), z["node"])
    for start, end, _ in ram:
        found.delete(start, end)
    if missing == sum(b - a for a, b, _ in found.items()):
        yield from found.items()


def _block(shown: Mapping[str, Any]) -> BootBlock:
    """Read what sysfs shows of a block. The zones of an offline one are those that it may go to."""
    offline, zones = shown["state"] == "offline", shown.get("valid_zones", "").split()
    # Before v4.13 others that it may go to follow the zone of an online block; "none": it is in holes, or in several.
    zone = ZONE_BY_LABEL.get(zones[0]) if zones and not offline else None
    return BootBlock(offline, zone, shown.get("node"), mixed=zones == ["none"] and not offline)


def _ram(
    arch: Arch,
    iomem: tuple[tuple[int, int, int, str], ...],
    zones: list[dict[str, Any]],
    blocks: Mapping[int, BootBlock],
    block_pages: int,
) -> tuple[tuple[int, int, int], ...]:
    """Return the runs of RAM that lie in a zone or an offline block, each with its node."""
    ram: RangeMap[int] = RangeMap()
    for _, start, end, name in iomem:
        if name.startswith("System RAM"):
            first, last = -(-start // arch.page_size), (end + 1) // arch.page_size
            for z in zones:
                ram.set(max(first, z["start_pfn"]), min(last, z["start_pfn"] + z["spanned"]), z["node"])
    if not ram:
        raise RecordingError("no System RAM lies in a zone")
    for number, block in blocks.items():
        first, last = number * block_pages, (number + 1) * block_pages
        if block.offline:
            ram.set(first, last, block.nid or 0)
        elif block.nid is not None:
            for start, end, _ in list(ram.items(first, last)):
                ram.set(start, end, block.nid)
    return tuple(ram.items())


def _cpu_nodes(state: Mapping[str, Any], nodes: tuple[int, ...]) -> tuple[int, ...]:
    return _node_list(state.get("nodes", {}).get("has_cpu", "")) or nodes


def _node_list(text: str) -> tuple[int, ...]:
    """Return the nodes of a mask as sysfs shows it: 0-1,3."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


# --- where a file was not readable ---


def zones_of_blocks(arch: Arch, blocks: Mapping[int, BootBlock], block_pages: int) -> list[dict[str, Any]]:
    """Return zones of the online blocks, all pages free: those that sysfs shows, else the architecture's."""
    found: dict[tuple[int, ZoneType], list[tuple[int, int]]] = {}
    for number, block in sorted(blocks.items()):
        for start, end, kind in (
            _parts(arch, number * block_pages, (number + 1) * block_pages, block) if not block.offline else ()
        ):
            found.setdefault((block.nid or 0, kind), []).append((start, end))
    zones = []
    for (nid, kind), runs in sorted(found.items()):
        pages, start = sum(b - a for a, b in runs), runs[0][0]
        counts = dict.fromkeys(("present", "managed", "free"), pages)
        zones.append({"node": nid, "zone": kind.label, "start_pfn": start, "spanned": runs[-1][1] - start, **counts})
    return zones


def _parts(arch: Arch, start: int, end: int, block: BootBlock) -> Iterator[tuple[int, int, ZoneType]]:
    """Yield a block's pages cut at the zone limits, where its one zone is not known."""
    cuts = [] if block.zone is not None else sorted(limit for _, limit in arch.zone_limits if start < limit < end)
    for a, b in zip([start, *cuts], [*cuts, end], strict=True):
        yield a, b, block.zone if block.zone is not None else arch.kernel_zone_of(a)


def _iomem_of_blocks(blocks: Mapping[int, BootBlock], block_size: int) -> tuple[tuple[int, int, int, str], ...]:
    """Return a line of System RAM for each run of blocks."""
    runs: RangeMap[bool] = RangeMap()
    for number in blocks:
        runs.set(number * block_size, (number + 1) * block_size, value=True)
    return tuple((0, start, end - 1, "System RAM") for start, end, _ in runs.items())
