"""Zones, nodes and their counters, as include/linux/mmzone.h has them."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from memshell.mm.records import often_replaced


class ZoneType(IntEnum):
    """enum zone_type, in the order that the zonelists walk down."""

    DMA = 0
    DMA32 = 1
    NORMAL = 2
    MOVABLE = 3
    DEVICE = 4

    @property
    def label(self) -> str:
        """The name that /proc/zoneinfo prints."""
        return ZONE_LABELS[self]


ZONE_LABELS = {
    ZoneType.DMA: "DMA",
    ZoneType.DMA32: "DMA32",
    ZoneType.NORMAL: "Normal",
    ZoneType.MOVABLE: "Movable",
    ZoneType.DEVICE: "Device",
}
ZONE_BY_LABEL = {label: zone for zone, label in ZONE_LABELS.items()}


class MigrateType(IntEnum):
    """enum migratetype, as far as it has lists of its own here."""

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    ISOLATE = 4
    CMA = 5


@often_replaced
class Zone(NamedTuple):
    """struct zone: pfns and page counts. ``free`` is NR_FREE_PAGES with the per-cpu lists counted in."""

    nid: int
    type: ZoneType
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    managed: int = 0
    free: int = 0
    present_early: int = 0
    nr_isolate_pageblock: int = 0
    initialized: bool = False  # init_currently_empty_zone() has run
    pageset: bool = False  # setup_zone_pageset() has run, and zone_pcp_reset() not since
    watermark_min: int = 0
    taken_twice: int = 0  # PageOffline pages that bug.offline_counts_page_offline took off managed once more

    @property
    def end_pfn(self) -> int:
        """The first pfn behind the span."""
        return self.start_pfn + self.spanned

    def intersects(self, start_pfn: int, nr_pages: int) -> bool:
        """zone_intersects(): an empty span intersects nothing."""
        return bool(self.spanned) and start_pfn < self.end_pfn and start_pfn + nr_pages > self.start_pfn


@often_replaced
class Node(NamedTuple):
    """struct pglist_data and the node's place in the node masks."""

    nid: int
    online: bool = True
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    n_memory: bool = False
    has_cpu: bool = False

    @property
    def end_pfn(self) -> int:
        """The first pfn behind the span."""
        return self.start_pfn + self.spanned


@often_replaced
class MemoryGroup(NamedTuple):
    """struct memory_group: static (a DIMM: max_pages) or dynamic (a virtio-mem device: unit_pages)."""

    gid: int
    nid: int
    static: bool
    pages: int  # max_pages of a static group, unit_pages of a dynamic one
    present_kernel: int = 0
    present_movable: int = 0
    nr_blocks: int = 0  # on its list memory_blocks
