"""What happened, as typed records: one stream feeds traces, ``--explain``, timelines, journals and observers."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from memshell.errors import MemshellError
from memshell.mm.pfn import format_size

# Kernel functions that a trace names and the model has no function for, with their files.
LEAVES = {
    "__drain_all_pages": "mm/page_alloc.c",
    "build_all_zonelists": "mm/page_alloc.c",
    "check_memblock_offlined_cb": "mm/memory_hotplug.c",
    "clear_zone_contiguous": "mm/page_alloc.c",
    "dissolve_free_huge_pages": "mm/hugetlb.c",
    "dissolve_free_hugetlb_folios": "mm/hugetlb.c",
    "do_migrate_range": "mm/memory_hotplug.c",
    "do_register_memory_block_under_node": "drivers/base/node.c",
    "free_pagetable": "arch/x86/mm/init_64.c",
    "hotadd_init_pgdat": "mm/memory_hotplug.c",
    "kcompactd_run": "mm/compaction.c",
    "kcompactd_stop": "mm/compaction.c",
    "kswapd_run": "mm/vmscan.c",
    "kswapd_stop": "mm/vmscan.c",
    "lru_cache_disable": "mm/swap.c",
    "mhp_get_pluggable_range": "mm/memory_hotplug.c",
    "node_notify": "drivers/base/node.c",
    "register_mem_block_under_node_hotplug": "drivers/base/node.c",
    "set_zone_contiguous": "mm/mm_init.c",
    "setup_zone_pageset": "mm/page_alloc.c",
    "sync_global_pgds": "arch/x86/mm/init_64.c",
    "virtio_mem_clear_fake_offline": "drivers/virtio/virtio_mem.c",
    "virtio_mem_send_plug_request": "drivers/virtio/virtio_mem.c",
    "virtio_mem_send_unplug_request": "drivers/virtio/virtio_mem.c",
    "vmemmap_p4d_populate": "mm/sparse-vmemmap.c",
    "vmemmap_pgd_populate": "mm/sparse-vmemmap.c",
    "vmemmap_pud_populate": "mm/sparse-vmemmap.c",
    "vmemmap_set_pmd": "arch/x86/mm/init_64.c",
    "writeback_set_ratelimit": "mm/page-writeback.c",
    "zone_pcp_disable": "mm/page_alloc.c",
    "zone_pcp_enable": "mm/page_alloc.c",
    "zone_pcp_reset": "mm/page_alloc.c",
}


class Event(NamedTuple):
    """One effect of a model function.

    *kind* names the effect (``SectionsAdded``, ``BlockOnlined``, ...), *function* the kernel function that had it
    (``mm/memory_hotplug.c:online_pages``), *text* says it in one line; *data* holds the numbers (pfns, pages, bytes).
    """

    kind: str
    function: str
    text: str
    data: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text} [{self.function}]"


class Call(NamedTuple):
    """One call of a modelled kernel function, in order; *ret* is the errno name when it failed."""

    depth: int
    name: str
    where: str
    args: tuple[object, ...]
    ret: str | None


class TraceFull(MemshellError):
    """A trace has all the calls that were wanted: what runs is to be dropped."""


class Trace:
    """The call tree of one command, with the arithmetic notes that the functions left.

    With *limit*, the call behind that many raises `TraceFull`: who wants the beginning need not play the rest.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self.calls: list[Call] = []
        self.notes: list[tuple[int, str]] = []  # (index of the call that the note belongs to, text)
        self._stack: list[int] = []

    def call(self, name: str, where: str, args: tuple[object, ...]) -> Self:
        """Record a call of *name* around a ``with`` block."""
        if self._limit is not None and len(self.calls) >= self._limit:
            raise TraceFull(f"the trace has {self._limit} calls")
        self._stack.append(len(self.calls))
        self.calls.append(Call(len(self._stack) - 1, name, where, args, None))
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        index = self._stack.pop()
        if isinstance(error, Exception):
            self.calls[index] = self.calls[index]._replace(ret=getattr(error, "errno", None) or type(error).__name__)

    def leaf(self, name: str, args: tuple[object, ...] = ()) -> None:
        """Record a call of one of `LEAVES`: the kernel enters it, and nothing that is modelled changes."""
        self.calls.append(Call(len(self._stack), name, f"{LEAVES[name]}:{name}", args, None))

    def note(self, text: str) -> None:
        """Leave a line of arithmetic at the call that is running."""
        self.notes.append((self._stack[-1] if self._stack else -1, text))


def pages_text(nr_pages: int, page_size: int) -> str:
    """Return a number of pages with its size, as ``512 pages (2M)``."""
    return f"{nr_pages} pages ({format_size(nr_pages * page_size)})"
