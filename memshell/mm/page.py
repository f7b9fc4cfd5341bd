"""What one page is. Pages are kept as runs: a `Page` is the value of a pfn range, never one object per page."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from memshell.mm.mmzone import ZoneType


class Owner(Enum):
    """Who has the page, as far as the hotplug code can tell pages apart."""

    FREE = "free"  # in the buddy lists (or on a per-cpu list)
    RESERVED = "reserved"  # PG_reserved since boot: kernel image, early allocations, holes with a struct page
    KERNEL = "kernel"  # unmovable, unknown to the LRU
    SLAB = "slab"
    SLAB_PAGE = "slab of one page"  # no compound page: nothing but its type tells it from a free one
    PAGETABLE = "pagetable"
    MEMMAP = "memmap"  # struct pages of hot-added memory, taken from the buddy
    MEMMAP_SELF = "memmap_on_memory"  # struct pages in the block that they describe
    VMEMMAP = (
        "vmemmap"  # struct pages in the added range, marked in their own struct pages (the series of 2017 to 2019)
    )
    BAD = "bad"  # dropped by the buddy after "Bad page state": neither free nor in use
    LOST = "lost"  # neither free nor anybody's: a bug of the kernel freed a part only
    USER = "user"  # movable: LRU or movable_ops
    HUGETLB = "hugetlb"  # a free page of a pool of huge pages; those in use are a program's
    PINNED = "pinned"  # movable by its flags, but with a reference that migration cannot drop
    OFFLINE = "offline"  # PageOffline: inflated, unplugged, or not yet given to the buddy
    BALLOON = "balloon"  # PageOffline with a reference that its driver never drops: not backed, or not populated
    DEVICE = "device"  # ZONE_DEVICE

    __hash__ = object.__hash__  # Enum's own goes through the name, each time


class Page(NamedTuple):
    """The state that a run of pages shares. *tag* tells allocations apart from 1 on; 0 is nobody's, below are drivers' marks."""

    owner: Owner
    nid: int
    zone: ZoneType
    tag: int = 0


UNMOVABLE_OWNERS = frozenset({Owner.RESERVED, Owner.KERNEL, Owner.SLAB, Owner.SLAB_PAGE, Owner.PAGETABLE, Owner.MEMMAP})

# include/uapi/linux/kernel-page-flags.h and fs/proc/page.c
KPF_SLAB, KPF_BUDDY, KPF_NOPAGE, KPF_OFFLINE, KPF_PGTABLE = 1 << 7, 1 << 10, 1 << 20, 1 << 23, 1 << 26
KPF_RESERVED, KPF_OWNER_PRIVATE = 1 << 32, 1 << 37
KPF_DIRTY = 1 << 4  # on a PageOffline page: the buddy never had it
KPF_COMPOUND_HEAD, KPF_COMPOUND_TAIL, KPF_HUGE = 1 << 15, 1 << 16, 1 << 17
KPF_LRU, KPF_MMAP, KPF_ANON, KPF_SWAPBACKED, KPF_UPTODATE = 1 << 5, 1 << 11, 1 << 12, 1 << 14, 1 << 3

KPAGEFLAGS = {
    Owner.FREE: KPF_BUDDY,
    Owner.RESERVED: KPF_RESERVED,
    Owner.KERNEL: 0,
    Owner.SLAB: KPF_SLAB,
    Owner.SLAB_PAGE: KPF_SLAB,
    Owner.PAGETABLE: KPF_PGTABLE,
    Owner.MEMMAP: 0,
    Owner.MEMMAP_SELF: KPF_OWNER_PRIVATE,
    Owner.VMEMMAP: KPF_RESERVED,
    Owner.BAD: 0,
    Owner.LOST: 0,
    Owner.USER: KPF_UPTODATE | KPF_LRU | KPF_MMAP | KPF_ANON | KPF_SWAPBACKED,
    Owner.HUGETLB: KPF_HUGE,
    Owner.PINNED: KPF_UPTODATE | KPF_LRU | KPF_MMAP | KPF_ANON | KPF_SWAPBACKED,
    Owner.OFFLINE: KPF_OFFLINE,
    Owner.BALLOON: KPF_OFFLINE,
    Owner.DEVICE: KPF_RESERVED,
}
