"""Compare recorded pages with the model's: flags, buddy chunks, page tables, the memmap's place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memshell.drivers.virtio.virtio_mem.pages import NEVER_ONLINE
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import KPAGEFLAGS, KPF_DIRTY, KPF_RESERVED, Owner, Page
from memshell.mm.state import Mm
from memshell.verify import series
from memshell.verify.quantity import Quantity, compare

Runs = list[list[int]]


def page_quantities(step: dict[str, Any], mm: Mm) -> Iterator[Quantity]:
    """Yield the quantities of one step that are about single pages and mappings."""
    quiet = quiet_ranges(step, mm)
    if step.get("kpageflags_runs"):
        recorded = _clip_runs(step["kpageflags_runs"], quiet)
        if recorded:
            yield compare(step, "kpageflags", recorded, predicted_flags(mm, quiet))
    for entry in step.get("buddy", ()):
        start, end = entry["range"]
        inside = [(max(a, start), min(b, end)) for a, b in quiet if a < end and b > start]
        if inside:
            yield compare(step, "buddy.chunks", _chunks_in(entry["chunks"], inside), model_chunks(mm, inside))
    yield from _page_tables(step, mm)
    if "vmemmap_pages" in step and "page_tables" in step:
        ranges = [tuple(entry["range"]) for entry in step["page_tables"]]
        total, inside_pages = vmemmap_pages(mm, ranges)
        yield compare(step, "vmemmap_pages", step["vmemmap_pages"], total)
        yield compare(step, "vmemmap_pages_inside_ranges", step["vmemmap_pages_inside_ranges"], inside_pages)


def quiet_ranges(step: dict[str, Any], mm: Mm) -> list[tuple[int, int]]:
    """Return the pfn ranges of recorded memory that no program can have touched: not online, or in a wholly free ZONE_MOVABLE."""
    free = {z["node"] for z in step["state"]["zones"] if z["zone"] == "Movable" and z["free"] == z["managed"]}
    found: list[tuple[int, int]] = []
    for first, count, _ in step.get("kpageflags_runs", ()):
        for start in range(first // mm.block_pages, -(-(first + count) // mm.block_pages)):
            block = mm.blocks.get(start)
            span = (max(first, start * mm.block_pages), min(first + count, (start + 1) * mm.block_pages))
            if block is None or block.state == "offline" or (block.zone is ZoneType.MOVABLE and block.nid in free):
                if found and found[-1][1] == span[0]:
                    found[-1] = (found[-1][0], span[1])
                else:
                    found.append(span)
    return found


def _clip_runs(runs: Runs, ranges: list[tuple[int, int]]) -> Runs:
    clipped: Runs = []
    for start, end in ranges:
        for pfn, count, flags in runs:
            a, b = max(pfn, start), min(pfn + count, end)
            if a < b:
                _append(clipped, a, b, flags)
    return clipped


def _append(runs: Runs, start: int, end: int, flags: int) -> None:
    if runs and runs[-1][0] + runs[-1][1] == start and runs[-1][2] == flags:
        runs[-1][1] += end - start
    else:
        runs.append([start, end - start, flags])


def page_flags(mm: Mm, page: Page) -> int:
    """Return what /proc/kpageflags shows for a page that nobody uses."""
    if page.owner is Owner.DEVICE:
        return int(mm.features.kpageflags.absent)  # its section is not online
    flags = KPAGEFLAGS[page.owner]
    if page.owner is Owner.MEMMAP_SELF and mm.features.memmap_self.reserved:
        flags |= KPF_RESERVED
    if page.owner is Owner.OFFLINE and page.tag == NEVER_ONLINE:
        flags |= KPF_DIRTY
    return flags


def predicted_flags(mm: Mm, ranges: list[tuple[int, int]]) -> Runs:
    """Return the flags of *ranges* as runs; pages that are not online have what that kernel shows."""
    absent = mm.features.kpageflags.absent
    if mm.seam.marks_memmap:
        return series.kpageflags(mm, ranges, absent)
    runs: Runs = []
    for start, end in ranges:
        at = start
        for a, b, page in mm.pages.items(start, end):
            if at < a:
                _append(runs, at, a, absent)
            _append(runs, a, b, page_flags(mm, page))
            at = b
        if at < end:
            _append(runs, at, end, absent)
    return runs


def _chunks_in(chunks: Runs, ranges: list[tuple[int, int]]) -> Runs:
    single = [(pfn + (k << order), order) for pfn, order, count in chunks for k in range(count)]
    return _pack([c for c in single if any(a <= c[0] < b for a, b in ranges)])


def _pack(chunks: list[tuple[int, int]]) -> Runs:
    packed: Runs = []
    for pfn, order in chunks:
        if packed and packed[-1][1] == order and packed[-1][0] + (packed[-1][2] << order) == pfn:
            packed[-1][2] += 1
        else:
            packed.append([pfn, order, 1])
    return packed


def model_chunks(mm: Mm, ranges: list[tuple[int, int]]) -> Runs:
    """Return the model's free blocks that begin in *ranges*, equal neighbours packed."""
    found = [(c.pfn, c.order) for area in mm.free.values() for a, b in ranges for c in area.chunks(a, b)]
    if mm.seam.marks_memmap:
        found = series.with_images(mm, found, ranges)
    return _pack(sorted(found))


def _page_tables(step: dict[str, Any], mm: Mm) -> Iterator[Quantity]:
    direct: list[Any] = []
    vmemmap: list[Any] = []
    recorded: tuple[list[Any], list[Any]] = ([], [])
    for entry in step.get("page_tables", ()):
        start, end = entry["range"]
        size = mm.arch.page_size
        direct.append(mapping(mm, mm.arch.page_offset + start * size, mm.arch.page_offset + end * size))
        vmemmap.append(mapping(mm, mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)))
        recorded[0].append(_recorded_mapping(entry["direct_map"], mm))
        recorded[1].append(_recorded_mapping(entry["vmemmap"], mm))
    if direct:
        yield compare(step, "page_tables.direct_map", recorded[0], direct)
        yield compare(step, "page_tables.vmemmap", recorded[1], vmemmap)


SPANS = {"p4d_pud": 1 << 39, "pmd": 1 << 30, "pte": 1 << 21}


def mapping(mm: Mm, start: int, end: int) -> dict[str, Any]:
    """Return leaves [address, n, bytes, pfn or null] and tables {level: [address]} of the addresses [start, end).

    The pfn stands only where it can be predicted, in the direct map and for pages from an altmap. For other struct pages
    it is "hot-added" or "boot": which memory the page came from.
    """
    leaves: list[list[Any]] = []
    for a, b, leaf in mm.leaves.items(start, end):
        pfn = (a >> mm.arch.page_shift) + leaf.shift
        place = pfn if leaf.owner == "ram" else _place(mm, pfn)
        _append_leaf(leaves, a, (b - a) // leaf.size, leaf.size, place, mm.arch.page_shift)
    tables = {
        level: [base for base in range(start - start % span, end, span) if (level, base) in mm.tables]
        for level, span in SPANS.items()
    }
    return {"leaves": leaves, "tables": tables}


def _place(mm: Mm, pfn: int) -> int | str:
    """Return the pfn of a struct page's page when it lies in its block's altmap, else what kind of memory it is."""
    block = mm.blocks.get(pfn // mm.block_pages)
    size = mm.arch.page_shift
    if any(p.start >> size <= pfn < p.start + p.size >> size for p in mm.pagemaps.values()):
        return pfn
    if block is None or block.early:
        return "boot"
    return pfn if block.altmap is not None and pfn < block.id * mm.block_pages + block.nr_vmemmap_pages else "hot-added"


def _append_leaf(leaves: list[list[Any]], va: int, count: int, size: int, pfn: int | str, shift: int) -> None:
    if leaves:
        last = leaves[-1]
        follows = last[0] + last[1] * size == va and last[2] == size
        expected = last[3] if isinstance(last[3], str) else last[3] + (last[1] * size >> shift)
        if follows and expected == pfn:
            last[1] += count
            return
    leaves.append([va, count, size, pfn])


def _recorded_mapping(entry: dict[str, Any], mm: Mm) -> dict[str, Any]:
    leaves: list[list[Any]] = []
    for va, count, size, pfn in entry["leaves"]:
        place = pfn if mm.arch.page_offset <= va < mm.arch.vmemmap_base else _place(mm, pfn)
        _append_leaf(leaves, va, count, size, place, mm.arch.page_shift)
    return {"leaves": leaves, "tables": {level: [va for va, _ in entry["tables"].get(level, ())] for level in SPANS}}


def vmemmap_pages(mm: Mm, ranges: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the backing pages of the memmap of *ranges*, and how many of them lie inside *ranges*."""
    total = inside = 0
    for start, end in ranges:
        for a, b, leaf in mm.leaves.items(mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)):
            pages = b - a >> mm.arch.page_shift
            pfn = (a >> mm.arch.page_shift) + leaf.shift
            total += pages
            if leaf.owner != "early" and any(low <= pfn < high for low, high in ranges):
                inside += pages
    return total, inside
