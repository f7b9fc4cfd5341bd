"""mm/page_alloc.c: min_free_kbytes and the watermarks of the zones."""

from __future__ import annotations

from math import isqrt

from memshell.mm import mirrors
from memshell.mm.khugepaged import set_recommended_min_free_kbytes
from memshell.mm.mmzone import Zone, ZoneType
from memshell.mm.state import Mm

ULONG_MAX = (1 << 64) - 1  # counts of pages are unsigned long: what is taken off too often wraps


def kernel_zones(mm: Mm) -> list[Zone]:
    """Return the populated zones below ZONE_MOVABLE."""
    return [zone for (_, kind), zone in mm.zones.items() if kind < ZoneType.MOVABLE and zone.managed]


@mirrors("mm/page_alloc.c:calculate_min_free_kbytes", "v6.12", "complete")
def calculate_min_free_kbytes(mm: Mm, low: int) -> int:
    """Return min_free_kbytes for *low* managed pages of the kernel zones: the square root of 16 times their kB, 128 to 262144."""
    return min(max(isqrt((low << mm.arch.page_shift >> 10) * 16 & ULONG_MAX), 128), 262144)


@mirrors("mm/page_alloc.c:setup_per_zone_wmarks", "v6.12", "simplified", "only the min watermark; no watermark boost")
def setup_per_zone_wmarks(mm: Mm, min_free_kbytes: int, low: int) -> None:
    """Spread *min_free_kbytes* over the zones in proportion to their managed pages; ZONE_MOVABLE keeps 32 to 128 pages."""
    pages_min = min_free_kbytes << 10 >> mm.arch.page_shift
    for key, zone in mm.zones.items():
        if key[1] >= ZoneType.MOVABLE:
            mark = min(max((zone.managed & ULONG_MAX) // 1024, 32), 128) if key[1] is ZoneType.MOVABLE else 0
        else:
            mark = pages_min * (zone.managed & ULONG_MAX) // low if low else 0
        if zone.watermark_min != mark:
            mm.zones[key] = zone._replace(watermark_min=mark)


def min_free_kbytes(mm: Mm) -> int:
    """Return what /proc/sys/vm/min_free_kbytes reads."""
    zones = kernel_zones(mm)
    low = sum(zone.managed for zone in zones) & ULONG_MAX
    kilobytes = calculate_min_free_kbytes(mm, low)
    if not mm.features.config.transparent_hugepage or mm.params.transparent_hugepage == "never":
        return kilobytes
    if mm.trace is not None:  # overwritten at once; only a trace can tell
        setup_per_zone_wmarks(mm, kilobytes, low)
    return set_recommended_min_free_kbytes(mm, kilobytes, low, len(zones))


@mirrors("mm/page_alloc.c:init_per_zone_wmark_min", "v6.12", "complete")
def init_per_zone_wmark_min(mm: Mm) -> None:
    """Recompute the watermarks after the managed pages changed."""
    kilobytes = min_free_kbytes(mm)
    setup_per_zone_wmarks(mm, kilobytes, sum(zone.managed for zone in kernel_zones(mm)) & ULONG_MAX)
