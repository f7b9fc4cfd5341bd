"""The views of /proc: zoneinfo, buddyinfo, pagetypeinfo, meminfo, vmstat, iomem, in the kernel's formats.

Each view has the text that the kernel prints, as far as its quantities are modelled, and the data for JSON.
Free pages count the per-cpu lists in: the model has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.mm.cma import total_pages
from memshell.mm.hugetlb import pool
from memshell.mm.hugetlb.boot import default_order
from memshell.mm.hugetlb.folio import folios
from memshell.mm.hugetlb.pool import pool_shifts
from memshell.mm.mmzone import MigrateType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import free_cma_pages, lowmem_reserve, nr_free_pages
from memshell.mm.page_alloc.watermarks import kernel_zones, min_free_kbytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.mmzone import Zone
    from memshell.mm.state import Mm, ZoneKey

# mm/page_alloc.c:migratetype_names
MIGRATETYPES = {
    MigrateType.UNMOVABLE: "Unmovable",
    MigrateType.MOVABLE: "Movable",
    MigrateType.RECLAIMABLE: "Reclaimable",
    MigrateType.HIGHATOMIC: "HighAtomic",
    MigrateType.ISOLATE: "Isolate",
}
CMA = {MigrateType.CMA: "CMA"}  # a line and a column where there is an area
WATERMARK_SCALE_FACTOR = 10  # of 10,000; mm/page_alloc.c:watermark_scale_factor


def migratetypes(mm: Mm) -> dict[MigrateType, str]:
    """Return the names of the migratetypes that the kernel shows, in its order."""
    names = list(MIGRATETYPES.items())
    return dict([*names[:-1], *CMA.items(), names[-1]] if mm.cma else names)


def zones(mm: Mm) -> Iterator[tuple[ZoneKey, Zone]]:
    """Yield the zones of the online nodes in /proc's order."""
    for key in sorted(mm.zones):
        node = mm.nodes.get(key[0])
        if node is not None and node.online:
            yield key, mm.zones[key]


def zoneinfo_data(mm: Mm) -> list[dict[str, Any]]:
    """Return one record a zone; everything in pages and pfns."""
    return [
        {
            "node": key[0],
            "zone": zone.type.label,
            "start_pfn": zone.start_pfn,
            "spanned": zone.spanned,
            "present": zone.present,
            "managed": zone.managed,
            "free": zone.free,
        }
        for key, zone in zones(mm)
    ]


def zoneinfo(mm: Mm) -> str:
    """Return /proc/zoneinfo. Source: mm/vmstat.c:zoneinfo_show_print."""
    pages_min = min_free_kbytes(mm) << 10 >> mm.arch.page_shift
    kinds = sorted({kind for _, kind in mm.zones})
    lines: list[str] = []
    for key, zone in zones(mm):
        low, high = watermarks(mm, zone, pages_min)
        lines.append(f"Node {key[0]}, zone {zone.type.label:>8}")
        lines.append(f"  pages free     {zone.free}")
        for name, value in (
            ("min", zone.watermark_min),
            ("low", low),
            ("high", high),
            ("spanned", zone.spanned),
            ("present", zone.present),
            ("managed", zone.managed),
        ):
            lines.append(f"        {name:<8} {value}")
        protection = ", ".join(
            str(lowmem_reserve(mm, key, kind) if kind > key[1] and zone.managed else 0) for kind in kinds
        )
        lines.append(f"        protection: ({protection})")
        if zone.present:
            lines.append(f"  start_pfn:           {zone.start_pfn}")
    return "\n".join(lines) + "\n"


def watermarks(mm: Mm, zone: Zone, pages_min: int) -> tuple[int, int]:
    """Return the low and high watermarks in pages. Source: mm/page_alloc.c:__setup_per_zone_wmarks."""
    lowmem = sum(low.managed for low in kernel_zones(mm))
    share = pages_min * zone.managed // lowmem if lowmem else 0
    gap = max(share >> 2, zone.managed * WATERMARK_SCALE_FACTOR // 10000)
    return zone.watermark_min + gap, zone.watermark_min + 2 * gap


def buddyinfo_data(mm: Mm) -> list[dict[str, Any]]:
    """Return one record a populated zone: the free blocks of each order."""
    return [
        {"node": key[0], "zone": zone.type.label, "orders": mm.free[key].counts()}
        for key, zone in zones(mm)
        if zone.present
    ]


def buddyinfo(mm: Mm) -> str:
    """Return /proc/buddyinfo. Source: mm/vmstat.c:frag_show_print."""
    lines = [
        f"Node {row['node']}, zone {row['zone']:>8} " + "".join(f"{count:6d} " for count in row["orders"])
        for row in buddyinfo_data(mm)
    ]
    return "\n".join(lines) + "\n"


def pageblocks(mm: Mm, key: ZoneKey) -> dict[MigrateType, int]:
    """Return how many pageblocks of the zone have each migratetype; those that it holds in part count."""
    size = mm.arch.pageblock_nr_pages
    zone = mm.zones[key]
    counts = dict.fromkeys(migratetypes(mm), 0)
    done = 0  # the first pageblock that is not counted yet
    for start, end, page in mm.pages.items(zone.start_pfn, zone.end_pfn):
        if (page.nid, page.zone) == key:
            for a, b, kind in mm.pageblocks.items(start, end):
                first, last = max(a // size, done), -(-b // size)
                counts[kind] += max(last - first, 0)
                done = max(done, last)
    return counts


def pagetypeinfo_data(mm: Mm) -> list[dict[str, Any]]:
    """Return, for each populated zone, free blocks per order by migratetype, and the pageblocks of each."""
    found, names = [], migratetypes(mm)
    for key, zone in zones(mm):
        if zone.present:
            free = {name: mm.free[key].counts(kind) for kind, name in names.items()}
            blocks = {names[kind]: count for kind, count in pageblocks(mm, key).items()}
            found.append({"node": key[0], "zone": zone.type.label, "free": free, "pageblocks": blocks})
    return found


def pagetypeinfo(mm: Mm) -> str:
    """Return /proc/pagetypeinfo. Source: mm/vmstat.c:pagetypeinfo_show."""
    data = pagetypeinfo_data(mm)
    orders = "".join(f"{order:6d} " for order in range(mm.arch.max_order + 1))
    lines = [
        f"Page block order: {mm.arch.pageblock_order}",
        f"Pages per block:  {mm.arch.pageblock_nr_pages}",
        "",
        f"{'Free pages count per migrate type at order':<43} {orders}",
    ]
    for row in data:
        for name, counts in row["free"].items():
            cells = "".join(f"{count:6d} " for count in counts)
            lines.append(f"Node {row['node']:4d}, zone {row['zone']:>8}, type {name:>12} {cells}")
    lines += ["", f"{'Number of blocks type ':<23}" + "".join(f"{name:>12} " for name in migratetypes(mm).values())]
    for row in data:
        cells = "".join(f"{count:12d} " for count in row["pageblocks"].values())
        lines.append(f"Node {row['node']}, zone {row['zone']:>8} {cells}")
    return "\n".join(lines) + "\n"


def meminfo_data(mm: Mm) -> dict[str, int]:
    """Return what is modelled of /proc/meminfo, in kB: memory, and what `alloc` gave to processes."""
    owners = (Owner.USER, Owner.PINNED)
    anonymous = sum(end - start for start, end, page in mm.pages.items() if page.owner in owners)
    anonymous -= sum(run.end - run.start for run in folios(mm) if run.page.owner in owners)
    pages = {"MemTotal": mm.totalram_pages, "MemFree": nr_free_pages(mm), "AnonPages": anonymous}
    if mm.cma:
        free = sum(free_cma_pages(mm, key) for key in mm.zones)
        pages |= {"CmaTotal": total_pages(mm), "CmaFree": free}
    found = {name: count << mm.arch.page_shift >> 10 for name, count in pages.items()}
    return found | hugetlb_report_meminfo(mm) if mm.hstates else found


def hugetlb_report_meminfo(mm: Mm) -> dict[str, int]:
    """Return the lines of the default pool, and what all pools hold. Source: mm/hugetlb.c:hugetlb_report_meminfo."""
    order = default_order(mm)
    assert order is not None
    found = pool.counts(mm, order)
    surplus = mm.hstates[order].surplus if order in mm.hstates else ()
    held = sum(end - start for start, end, _ in mm.hugetlb.items())
    return {
        "HugePages_Total": sum(total for total, _ in found.values()),
        "HugePages_Free": sum(free for _, free in found.values()),
        "HugePages_Rsvd": 0,
        "HugePages_Surp": sum(pages for _, pages in surplus),
        "Hugepagesize": mm.arch.page_size << order >> 10,
        "Hugetlb": held << mm.arch.page_shift >> 10,
    }


def meminfo(mm: Mm) -> str:
    """Return /proc/meminfo, once a pool of huge pages was asked for with its lines. Source: fs/proc/meminfo.c:show_val_kb."""
    return "".join(map(_show_val_kb, meminfo_data(mm).items()))


def _show_val_kb(line: tuple[str, int]) -> str:
    name, value = line
    return f"{name + ':':<15} {value:8d}{'' if '_' in name else ' kB'}\n"


def whole_meminfo(mm: Mm) -> str:
    """Return /proc/meminfo with the lines that tell how the kernel maps memory, and whether it has huge pages."""
    pools = {} if mm.hstates or not pool_shifts(mm) else hugetlb_report_meminfo(mm)
    lines = {
        **pools,
        **{name: direct_map_bytes(mm, size) >> 10 for name, size in mm.arch.direct_map_counters().items()},
    }
    return meminfo(mm) + "".join(map(_show_val_kb, lines.items()))


def direct_map_bytes(mm: Mm, leaf_size: int) -> int:
    """Return the bytes of RAM that the direct map maps with leaves of one size."""
    return sum(end - start for start, end, leaf in mm.leaves.items() if leaf.owner == "ram" and leaf.size == leaf_size)


def vmstat_data(mm: Mm) -> dict[str, int]:
    """Return what is modelled of /proc/vmstat."""
    values = {"nr_free_pages": nr_free_pages(mm)}
    values |= {name: mm.counters[name] for name in ("nr_memmap_pages", "nr_memmap_boot_pages") if name in mm.counters}
    return values


def vmstat(mm: Mm) -> str:
    """Return /proc/vmstat."""
    return "".join(f"{name} {value}\n" for name, value in vmstat_data(mm).items())


def iomem_data(mm: Mm) -> list[dict[str, Any]]:
    """Return the resources in /proc/iomem's order; *end* is inclusive, as there."""
    return [{"depth": r.depth, "start": r.start, "end": r.end, "name": r.name} for r in mm.resources]


def iomem(mm: Mm) -> str:
    """Return /proc/iomem as root sees it. Source: kernel/resource.c:r_show."""
    return "".join(f"{'  ' * r.depth}{r.start:08x}-{r.end:08x} : {r.name}\n" for r in mm.resources)
