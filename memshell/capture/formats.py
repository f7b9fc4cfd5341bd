"""The text formats of /proc, each to the records of a recorded state. Other lines are passed over."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

ZONE = re.compile(r"Node +(\d+), zone +(\w+)(.*)")
COUNT = re.compile(r" +(min|low|high|spanned|present|managed) +(\d+)$")
PCP = re.compile(r" +count: +(\d+)$")
FREE = re.compile(r" +pages free +(\d+)$")
START = re.compile(r" +start_pfn: +(\d+)$")
IOMEM = re.compile(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$")


def zoneinfo(text: str) -> list[dict[str, Any]]:
    """Return a record a zone: pages and pfns; *pcp_pages* is the sum over the CPUs.

    Source: mm/vmstat.c:zoneinfo_show_print.
    """
    zones: list[dict[str, Any]] = []
    for line in text.splitlines():
        if head := ZONE.match(line):
            zones.append(
                {
                    "node": int(head[1]),
                    "zone": head[2],
                    "spanned": 0,
                    "present": 0,
                    "managed": 0,
                    "free": 0,
                    "pcp_pages": 0,
                }
            )
        elif not zones:
            continue
        elif found := COUNT.match(line):
            zones[-1][found[1]] = int(found[2])
        elif found := FREE.match(line):
            zones[-1]["free"] = int(found[1])
        elif found := PCP.match(line):
            zones[-1]["pcp_pages"] += int(found[1])
        elif found := START.match(line):
            zones[-1]["start_pfn"] = int(found[1])
    return zones


def buddyinfo(text: str) -> list[dict[str, Any]]:
    """Return the free blocks of each order of every populated zone. Source: mm/vmstat.c:frag_show_print."""
    found = [match for line in text.splitlines() if (match := ZONE.match(line))]
    return [{"node": int(m[1]), "zone": m[2], "orders": [int(n) for n in m[3].split() if n.isdecimal()]} for m in found]


def pagetypeinfo(text: str) -> tuple[int | None, list[dict[str, Any]]]:
    """Return the pageblock order, and how many pageblocks each zone has of each type.

    Source: mm/vmstat.c:pagetypeinfo_show.
    """
    order = re.search(r"^Page block order: *(\d+)", text, re.MULTILINE)
    _, _, table = text.partition("Number of blocks type")
    header, *lines = table.splitlines() or [""]
    blocks = [
        {"node": int(m[1]), "zone": m[2], **dict(zip(header.split(), map(int, m[3].split()), strict=False))}
        for line in lines
        if (m := ZONE.match(line)) and re.fullmatch(r"[ \d]+", m[3])
    ]
    return int(order[1]) if order else None, blocks


def iomem(text: str) -> list[list[Any]]:
    """Return [depth, start, end inclusive, name] a line; where the kernel's own image lies is left out.

    Source: kernel/resource.c:r_show.
    """
    found = [match for line in text.splitlines() if (match := IOMEM.match(line))]
    return [[len(m[1]) // 2, int(m[2], 16), int(m[3], 16), m[4]] for m in found if not m[4].startswith("Kernel ")]


def counters(text: str) -> dict[str, int]:
    """Return the numbers of /proc/meminfo (kB, where it says so) and /proc/vmstat by name."""
    words = [line.split() for line in text.splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) >= 2 and line[1].isdecimal()}


def cpuinfo(text: str, keys: Collection[str]) -> dict[str, str]:
    """Return what tells the architecture and its MMU: the first line of each of *keys*."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() in keys:
            found.setdefault(key.strip(), value.strip())
    return found


def config(text: str) -> dict[str, str]:
    """Return the options of a kernel configuration that concern memory; those that are not set are absent."""
    pairs = (line.split("=", 1) for line in text.splitlines() if MEMORY_CONFIG.match(line))
    return {key: value.strip('"') for key, value in pairs}


MEMORY_CONFIG = re.compile(
    r"CONFIG_(MEMCG|SPARSEMEM\w*|MEMORY_HOT\w*|MHP_\w*|ARCH_(MHP_\w*|(ENABLE_)?MEMORY_\w*|FORCE_MAX_ORDER)|EXCLUSIVE_SYSTEM_RAM"
    r"|COMPACTION|CONTIG_ALLOC|CMA|TRANSPARENT_HUGEPAGE(_(ALWAYS|MADVISE|NEVER))?|HUGETLB_PAGE\w*|DEFERRED_STRUCT_PAGE_INIT|SHUFFLE_PAGE_ALLOCATOR|ZONE_\w+"
    r"|NUMA|NODES_SHIFT|DEBUG_VM\w*|X86_5LEVEL|PAGE_(SIZE_\w+|EXTENSION|BLOCK_\w+)|\w+_\d+K_PAGES|PPC_(64S_HASH_MMU|RADIX_MMU\w*)|KFENCE(_SAMPLE_INTERVAL)?)="
)
MEMORY_WORD = re.compile(
    r"(mem|memmap|memhp_\w+|memory_hotplug\.\w+|movable_node|movablecore|kernelcore|hugepages\w*|(default_)?hugepagesz|hugetlb_\w+|nogbpages"
    r"|gbpages|no[45]lvl|rodata|kfence\.\w+|numa\w*|crashkernel|disable_radix|cma|transparent_hugepage|thp_\w+|page_alloc\.\w+|min_free_kbytes|efi)(=|$)"
)


def memory_words(cmdline: str) -> str:
    """Return the words of a kernel command line that concern memory: the others may be nobody's business."""
    return " ".join(word for word in cmdline.split() if MEMORY_WORD.match(word))
