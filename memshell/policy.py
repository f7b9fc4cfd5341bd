"""The policy seam: where the memmap (the struct page array) of hot-added memory comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from memshell.mm.mmzone import ZoneType

PerNode = tuple[tuple[int, int], ...]  # ((node, pages), ...)


@dataclass(frozen=True, slots=True)
class MemmapRequest:
    """What a policy is asked: a range that is about to be added, and the facts that decide. Sizes in bytes unless named pages."""

    nid: int
    start: int
    size: int
    block_size: int
    page_size: int
    pmd_size: int
    pageblock_nr_pages: int
    struct_page_size: int
    offered: bool  # the caller of add_memory() passed MHP_MEMMAP_ON_MEMORY
    hvo_enabled: bool
    config: bool  # CONFIG_MHP_MEMMAP_ON_MEMORY
    predicate: str  # the feature memmap_on_memory.predicate
    single_block: bool  # the add must be exactly one block
    needs_hvo_off: bool
    force_known: bool  # the kernel's parameter knows "force"
    arch_refusal: str | None  # what arch_supports_memmap_on_memory() says against it
    from_range: bool = (
        False  # the kernel can take the memmap of the whole add from its range (the series of 2017 to 2019)
    )
    free_pages: PerNode = ()  # of every node, ZONE_MOVABLE counted in
    free_by_zone: tuple[tuple[int, ZoneType, int], ...] = ()  # (node, zone, free pages) of every zone
    cpu_nodes: tuple[int, ...] = ()  # the nodes that have processors: memory of others is slower
    _memmap_on: Callable[[], PerNode] = field(default=tuple, repr=False, compare=False)

    @property
    def free_kernel_pages(self) -> PerNode:
        """The free pages of every node in which a memmap can lie: those of its kernel zones, without ZONE_MOVABLE."""
        pages = dict.fromkeys((nid for nid, _ in self.free_pages), 0)
        for nid, zone, free in self.free_by_zone:
            pages[nid] += free if zone < ZoneType.MOVABLE else 0
        return tuple(pages.items())

    @property
    def memmap_on(self) -> PerNode:
        """The pages of every node that hold memmap of added memory already: counted when it is asked for."""
        return self._memmap_on()

    @property
    def memmap_bytes(self) -> int:
        """memory_block_memmap_size(): bytes of struct pages of one block."""
        return self.block_size // self.page_size * self.struct_page_size

    @property
    def memmap_pages(self) -> int:
        """The pages that hold the struct pages of one block, the last one in part."""
        return -(-self.memmap_bytes // self.page_size)


@dataclass(frozen=True, slots=True)
class Placement:
    """A policy's answer.

    *reserve_pages* is 0 (memmap from existing memory) or the pages at the start of each memory block that its memmap
    takes, padding included. *nodes* orders the nodes that existing memory is taken from; empty: the kernel's own order.
    *from_range* asks for one altmap over the whole added range (needs a request with ``from_range``).
    *refusal* says why the range was not used although it was wanted.
    """

    reserve_pages: int = 0
    nodes: tuple[int, ...] = ()
    refusal: str = ""
    from_range: bool = False


class Policy(Protocol):
    """What a policy plugin offers: a name, and where the memmap of an add goes."""

    @property
    def name(self) -> str:
        """What ``policy NAME`` takes."""
        ...

    @property
    def summary(self) -> str:
        """The line that ``policy`` shows beside the name."""
        ...

    @property
    def parameter(self) -> str:
        """What the memmap_on_memory module parameter reads under this policy: N, Y or force."""
        ...

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Decide where the memmap of *request* goes."""
        ...
