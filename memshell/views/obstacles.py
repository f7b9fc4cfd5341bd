"""What the pages of a memory block are, whose they are, and which keep it from going offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memshell.mm.hugetlb.folio import is_unmovable as is_unmovable_huge
from memshell.mm.mmzone import MigrateType
from memshell.mm.page import Owner
from memshell.mm.pgtable import leaf_pfn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memshell.mm.page import Page
    from memshell.mm.state import Mm

KINDS = {
    Owner.FREE: "free",
    Owner.RESERVED: "reserved",
    Owner.KERNEL: "unmovable",
    Owner.SLAB: "slab",
    Owner.SLAB_PAGE: "slab",
    Owner.PAGETABLE: "page table",
    Owner.MEMMAP: "memmap",
    Owner.MEMMAP_SELF: "memmap",
    Owner.VMEMMAP: "memmap",
    Owner.BAD: "bad",
    Owner.LOST: "lost",
    Owner.USER: "movable",
    Owner.HUGETLB: "huge page",
    Owner.PINNED: "pinned",
    Owner.OFFLINE: "PageOffline",
    Owner.BALLOON: "PageOffline",
    Owner.DEVICE: "device",
}
NOBODY = {
    Owner.FREE: "the buddy's",
    Owner.RESERVED: "boot's, until the next one",
    Owner.KERNEL: "the kernel's",
    Owner.SLAB: "the kernel's",
    Owner.SLAB_PAGE: "the kernel's",
    Owner.PAGETABLE: "the kernel's",
    Owner.MEMMAP_SELF: "this block's own",
    Owner.USER: "a program's",
    Owner.PINNED: "a program's",
    Owner.HUGETLB: "the pool's",
    Owner.OFFLINE: "its driver's",
    Owner.BALLOON: "its driver's",
}
# What leaves with the block, or is moved away; the rest keeps it. A page of the kernel's in ZONE_MOVABLE passes the
# isolation, and no migration takes it away.
PASSING = frozenset(
    {Owner.FREE, Owner.USER, Owner.HUGETLB, Owner.OFFLINE, Owner.MEMMAP_SELF, Owner.VMEMMAP, Owner.DEVICE}
)


class Held(NamedTuple):
    """The pages of a block that one owner has: what kind, whose, the first pfn, how many in how many runs.

    *stays* says that they keep the block from going offline; *tag* is the number of their allocation, 0 for none.
    """

    kind: str
    whose: str
    first: int
    pages: int
    runs: int
    stays: bool
    tag: int


def held(mm: Mm, block_id: int) -> list[Held]:
    """Return what the pages of a block are, by kind and owner, those in the way of an offline first, then by pfn."""
    start, end = block_id * mm.block_pages, (block_id + 1) * mm.block_pages
    found: dict[tuple[str, str, bool, int], Held] = {}
    for first, last, kind, whose, page in _runs(mm, start, end):
        stays = kind == "CMA area" or _stays(mm, first, page)
        key = (kind, whose, stays, page.tag)
        known = found.get(key)
        if known is None:
            found[key] = Held(kind, whose, first, last - first, 1, stays, page.tag)
        else:
            found[key] = known._replace(pages=known.pages + last - first, runs=known.runs + 1)
    block = mm.blocks[block_id]
    if block.state != "online" and block.nr_vmemmap_pages:
        return [Held("memmap", NOBODY[Owner.MEMMAP_SELF], start, block.nr_vmemmap_pages, 1, stays=False, tag=0)]
    holes = list(mm.pages.gaps(start, end)) if block.state == "online" else []
    if holes:
        missing = sum(b - a for a, b in holes)
        found["hole", "", True, 0] = Held("hole", "no memory", holes[0][0], missing, len(holes), stays=True, tag=0)
    return sorted(found.values(), key=lambda one: (not one.stays, one.first))


def whose_page(mm: Mm, pfn: int) -> str:
    """Return what the page *pfn* is and whose, in words; nothing where there is no page."""
    return next((f"{kind}, {whose}" for _, _, kind, whose, _ in _runs(mm, pfn, pfn + 1)), "")


def _runs(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int, str, str, Page]]:
    for first, last, page in mm.pages.items(start, end):
        if mm.cma:
            for a, b, kind in mm.pageblocks.items(first, last):
                if kind is MigrateType.CMA:
                    yield a, b, "CMA area", "the command line's, cma=", page
        if page.owner is Owner.MEMMAP:
            yield from ((a, b, "memmap", _of_blocks(ids), page) for a, b, ids in _backed(mm, first, last))
        else:
            yield first, last, _kind(mm, first, page), _whose(page), page


def _kind(mm: Mm, pfn: int, page: Page) -> str:
    order = mm.hugetlb.get(pfn) if mm.hugetlb else None
    kind = KINDS[page.owner]
    return kind if order is None or page.owner is Owner.HUGETLB else f"{kind} huge page"


def _whose(page: Page) -> str:
    return f"alloc {page.tag}" if page.tag and page.owner is not Owner.OFFLINE else NOBODY.get(page.owner, "nobody's")


def _stays(mm: Mm, pfn: int, page: Page) -> bool:
    if mm.hugetlb and is_unmovable_huge(mm, pfn, page):
        return True
    return page.owner not in PASSING or (page.owner is Owner.VMEMMAP and mm.seam.is_unmovable(mm, page, pfn))


def _backed(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Split pages that hold a memmap by the blocks that it describes: (first, end, their ids)."""
    shift, known = mm.arch.page_shift, []
    for low, high, leaf in mm.leaves.items(mm.arch.vmemmap_base, None):
        pfn = leaf_pfn(mm, low, leaf)
        a, b = max(pfn, start), min(pfn + (high - low >> shift), end)
        if leaf.owner == "buddy" and a < b:
            known.append((a, b, _described(mm, low + (a - pfn << shift), low + (b - pfn << shift))))
    at = start
    for a, b, ids in sorted(known):
        if at < a:
            yield at, a, ()
        yield a, b, ids
        at = max(at, b)
    if at < end:
        yield at, end, ()


def _described(mm: Mm, low: int, high: int) -> tuple[int, ...]:
    """Return the blocks whose struct pages lie at the addresses [low, high)."""
    base, size = mm.arch.vmemmap_base, mm.arch.struct_page_size
    first, last = (low - base) // size, (high - 1 - base) // size
    return tuple(mm.blocks.between(first // mm.block_pages, last // mm.block_pages + 1))


def _of_blocks(ids: Iterable[int]) -> str:
    named = sorted(ids)
    if not named:
        return "of memory without blocks"
    return f"of memory{named[0]}" + (f"-{named[-1]}" if len(named) > 1 else "")


def orphans(before: Mm, after: Mm) -> list[tuple[int, int]]:
    """Return the runs of pfns that have sections after the failure, had none before, and are in no memory block."""
    size, found = after.arch.pages_per_section, []
    for start, end, _ in after.sections.items():
        for a, b in before.sections.gaps(start, end):
            first, last = a // after.block_pages, -(-b // after.block_pages)
            known = [number for number in after.blocks.between(first, last) if number not in before.blocks]
            if not known:
                found.append((a, b))
                continue
            outside = (pfn for pfn in range(a, b, size) if pfn // after.block_pages not in after.blocks)
            found += [(pfn, min(pfn + size, b)) for pfn in outside]
    return found
