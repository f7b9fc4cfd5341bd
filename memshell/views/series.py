"""What a memmap in the added range looks like (the series of 2017 to 2019): its altmap, and its marks."""

from __future__ import annotations

from typing import Any

from memshell.mm.state import Mm
from memshell.series.features import series
from memshell.series.struct_page import any_of, marked_runs, physical, read_pfn, runs


def range_altmaps(mm: Mm) -> list[dict[str, Any]]:
    """Return the altmap of every added range that holds its own memmap, as mark_vmemmap_pages() left it.

    Bytes for start and size, else pages. The kernel keeps none of it but the marks and the head's count.
    """
    if not mm.seam.marks_memmap:
        return []
    return [row for r in mm.resources if r.depth == 0 if (row := _range(mm, r.start, r.end + 1)) is not None]


def _range(mm: Mm, start: int, end: int) -> dict[str, Any] | None:
    shift = mm.arch.page_shift
    first, last = start >> shift, end >> shift
    here = physical(mm, mm.arch.vmemmap_address(first))
    marks = marked_runs(mm, first, last) if here is not None else []
    if not marks or marks[0][0] != first or here != start:
        return None
    pages, count = marks[0][1] - first, read_pfn(mm, first, "altmap").refcount
    period = mm.arch.struct_page_size
    if not series(mm).bug.nr_sects_uses_sizeof_page:
        period = mm.arch.page_size // mm.arch.struct_page_size
    return {
        "start": start,
        "size": end - start,
        "base_pfn": first + pages,
        "reserve": 0,
        "free": last - first - pages,
        "align": 0,
        "alloc": 0,
        "nr_sects": count // period if series(mm).vmemmap.head_count == "increment" else 0,
        "vmemmap_pages": pages,
        "first_pfn": first,
        "last_pfn": first + pages - 1,
        "head": mm.arch.vmemmap_address(first),
        "head_refcount": count,
    }


def content_line(mm: Mm, pfn: int) -> str | None:
    """Return what the struct page of *pfn* holds, in kernels that keep it, or None."""
    content = next((found for _, _, found in runs(mm, pfn, pfn + 1)), None)
    if not mm.seam.marks_memmap or content is None:
        return None
    page = any_of(content)
    mark = "PageVmemmap: " if page.vmemmap else ""
    return f"{mark}flags {page.flags:#x} mapping {page.mapping:#x} refcount {page.refcount}"
