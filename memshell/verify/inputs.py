"""What a replay takes from a finished step instead of predicting it: who has which pages, and written parameters.

All of it is text, as a user would type it: it holds for the steps that follow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from memshell.capture.reader import shown_params
from memshell.mm.held import FIXED, HOLDERS, HUGE_HOLDERS, used_ranges
from memshell.mm.mmzone import ZONE_BY_LABEL, ZoneType
from memshell.mm.page import (
    KPF_ANON,
    KPF_BUDDY,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_HUGE,
    KPF_LRU,
    KPF_MMAP,
    KPF_NOPAGE,
    KPF_OFFLINE,
    KPF_PGTABLE,
    KPF_SLAB,
    UNMOVABLE_OWNERS,
    Owner,
    Page,
)
from memshell.mm.pfn import align_down, format_size
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm
from memshell.verify import series

Runs = list[list[int]]
Used = list[tuple[int, int, Page]]

HUGE_NAMES = {owner: name for name, owner in HUGE_HOLDERS.items()}
KERNELS = (Owner.MEMMAP, Owner.PAGETABLE, Owner.KERNEL)  # what reads as nothing in /proc/kpageflags
WIDTH = 6  # ranges in a word of `hold`
WORDS = 4  # words in a line


def owner_of(flags: int) -> Owner:
    """Return who owns a page with these /proc/kpageflags."""
    if flags & KPF_BUDDY:
        return Owner.FREE
    if flags & KPF_OFFLINE:
        return Owner.OFFLINE
    if flags & (KPF_LRU | KPF_ANON):
        return Owner.USER
    if flags & KPF_SLAB:
        return Owner.SLAB if flags & (KPF_COMPOUND_HEAD | KPF_COMPOUND_TAIL) else Owner.SLAB_PAGE
    return Owner.PAGETABLE if flags & KPF_PGTABLE else Owner.KERNEL


def written(mm: Mm, step: dict[str, Any]) -> Iterator[str]:
    """Yield a `set` for each parameter that the step's state shows with another value: somebody wrote it."""
    texts = shown_params(mm.params, step["state"]).texts()
    yield from (f"set {name}={text}" for name, text in texts.items() if text != mm.params.text(name))


def held(mm: Mm, step: dict[str, Any]) -> str | None:
    """Return the `hold` that makes pages as the step's kpageflags show them; None where they are so.

    Pages without any flag may be the kernel's or wait on a per-cpu list. The zone's pcp count is given to the pageblocks
    that hold fewest of them; the rest are the kernel's.
    """
    changed: dict[str, list[str]] = {}
    names = {owner: name for name, owner in HOLDERS.items()}
    for start, end, owner in _owners(mm, step).items():
        for a, b, page in mm.pages.items(start, end):
            if _differs(mm, a, b, page.owner, owner):
                changed.setdefault(names[owner], []).append(_pfns(a, b))
    for start, end, order, owner in _huge_pages(mm, step):
        pages = mm.pages.items(start, end)
        if mm.hugetlb.get(start) != order or any(page.owner is not owner for *_, page in pages):
            size = format_size(mm.arch.page_size << order)
            changed.setdefault(f"{HUGE_NAMES[owner]}:{size}", []).append(_pfns(start, end))
    words = [f"{name}={','.join(part)}" for name, found in changed.items() for part in _parts(found, WIDTH)]
    return "hold " + " \\\n  ".join(" ".join(part) for part in _parts(words, WORDS)) if words else None


def _differs(mm: Mm, start: int, end: int, is_: Owner, wanted: Owner) -> bool:
    if is_ is not wanted:
        return not (wanted is Owner.KERNEL and is_ in KERNELS)
    return mm.hugetlb.intersects(start, end)


def _pfns(start: int, end: int) -> str:
    return f"{start:#x}" if end == start + 1 else f"{start:#x}-{end - 1:#x}"


def _huge_pages(mm: Mm, step: dict[str, Any]) -> Iterator[tuple[int, int, int, Owner]]:
    """Yield the whole huge pages that the step shows, with their order: a head, and as many tails as the rest of one has."""
    for (pfn, count, flags), (_, tails, more) in pairwise(step.get("kpageflags_runs") or ()):
        if flags & KPF_HUGE and flags & KPF_COMPOUND_HEAD and count == 1 and more & KPF_COMPOUND_TAIL:
            order = tails.bit_length()
            whole = not tails & (tails + 1)  # not where what is shown ends inside of one
            if whole and mm.pages.covers(pfn, pfn + (1 << order)):
                yield pfn, pfn + (1 << order), order, Owner.USER if flags & KPF_MMAP else Owner.HUGETLB


def _parts(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _owners(mm: Mm, step: dict[str, Any]) -> RangeMap[Owner]:
    """Return who has the pages that the step shows and that somebody can have."""
    found: RangeMap[Owner] = RangeMap()
    runs = step.get("kpageflags_runs")
    if not runs:
        return found
    if mm.seam.marks_memmap:
        runs = series.reveal(mm, runs)
    used = [*_used_at_boot(mm, runs), *used_ranges(mm)]
    pcp = _pcp_pageblocks(mm, used, runs, step["state"]["zones"])
    size = mm.arch.pageblock_nr_pages
    for start, end, _ in used:
        for a, b, flags in _clip(runs, start, end):
            owner = owner_of(flags)
            if flags & (KPF_NOPAGE | KPF_HUGE):
                continue
            found.set(a, b, owner)
            for c in range(a - a % size, b, size) if owner is Owner.KERNEL else ():
                if c in pcp:
                    found.set(max(a, c), min(b, c + size), Owner.FREE)
    _pins(mm, found, str(step["op"].get("what", "")))
    return found


def _used_at_boot(mm: Mm, runs: Runs) -> Used:
    """Return the runs of boot memory that are shown, and that somebody can have got since."""
    shown: RangeMap[bool] = RangeMap()
    for pfn, count, _ in runs:
        if pfn < mm.boot_end:
            shown.set(pfn, min(pfn + count, mm.boot_end), value=True)
    online = (
        (start, end)
        for a, b, _ in shown.items()
        for start, end in _by_block(mm, a, b)
        if (block := mm.blocks.get(start // mm.block_pages)) is not None and block.early and block.state == "online"
    )
    return [run for start, end in online for run in mm.pages.items(start, end) if run[2].owner not in FIXED]


def _by_block(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int]]:
    size = mm.block_pages
    return ((max(start, a), min(end, a + size)) for a in range(start - start % size, end, size))


def _pins(mm: Mm, found: RangeMap[Owner], what: str) -> None:
    """Keep what is pinned pinned until the guest unpins; a step that pins pins the user pages that it made."""
    if what.startswith("unpin"):
        return
    for start, end, owner in list(found.items()):
        for a, b, page in mm.pages.items(start, end) if owner is Owner.USER else ():
            if page.owner is Owner.PINNED or (what.startswith("pin ") and page.owner is not Owner.USER):
                found.set(a, b, Owner.PINNED)


def _pcp_pageblocks(mm: Mm, used: Used, runs: Runs, zones: list[dict[str, Any]]) -> set[int]:
    """Return the pageblocks whose flagless pages are taken to be on per-cpu lists."""
    size = mm.arch.pageblock_nr_pages
    bare: dict[tuple[int, ZoneType], dict[int, int]] = {}
    kernel: set[int] = set()
    for start, end, page in used:
        for a, b, flags in _clip(runs, start, end):
            owner = owner_of(flags)
            for c in range(a - a % size, b, size) if not flags & KPF_NOPAGE and owner is not Owner.FREE else ():
                if owner is Owner.KERNEL:
                    counts = bare.setdefault((page.nid, page.zone), {})
                    counts[c] = counts.get(c, 0) + min(b, c + size) - max(a, c)
                elif owner in UNMOVABLE_OWNERS:
                    kernel.add(c)
    chosen: set[int] = set()
    kernel |= {pfn - pfn % size for pfn in _backing_pfns(mm)} if bare else set()
    for z in zones:
        left = z.get("pcp_pages", 0)
        counts = bare.get((z["node"], ZONE_BY_LABEL[z["zone"]]), {})
        for c in sorted(counts, key=lambda c: (c in kernel, counts[c], c)):
            if counts[c] > left:
                break
            left -= counts[c]
            chosen.add(c)
    return chosen


def _backing_pfns(mm: Mm) -> Iterator[int]:
    """Yield a pfn of each pageblock in which a page table or a piece of memmap lies that came from the buddy."""
    size = mm.arch.pageblock_nr_pages
    for _, low, high, run in mm.tables.all_runs():
        first, last = run.pfns(low, high) or (0, 0)
        yield from range(align_down(first, size), last, size)
    for start, end, leaf in mm.leaves.items():
        if leaf.owner == "buddy":
            first = leaf_pfn(mm, start, leaf)
            yield from range(align_down(first, size), first + (end - start >> mm.arch.page_shift), size)


def _clip(runs: Runs, start: int, end: int) -> Iterable[tuple[int, int, int]]:
    """Yield the parts of *runs*, which rise, inside [start, end)."""
    for at in range(max(bisect_right(runs, start, key=lambda run: run[0]) - 1, 0), len(runs)):
        pfn, count, flags = runs[at]
        if pfn >= end:
            break
        if pfn + count > start:
            yield max(pfn, start), min(pfn + count, end), flags
