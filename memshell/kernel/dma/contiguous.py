"""kernel/dma/contiguous.c: the word cma= of the command line."""

from __future__ import annotations

from memshell.errors import UsageError
from memshell.mm import mirrors
from memshell.mm.cma import cma_declare_contiguous
from memshell.mm.pfn import align_up, format_size, memparse
from memshell.mm.state import Mm


def early_cma(text: str) -> tuple[int, int, int]:
    """Read cma=SIZE@START-END: the size, where it is to begin and to end at the latest, in bytes, 0 where not given.

    A place without an end is exact. Raises `UsageError`. Source: kernel/dma/contiguous.c:early_cma.
    """
    size, at, place = text.partition("@")
    start, dash, end = place.partition("-")
    if (at and not start) or (dash and not end):
        raise UsageError(f"cma={text} cannot be", hint="SIZE, SIZE@START or SIZE@START-END")
    return memparse(size), memparse(start) if start else 0, memparse(end) if end else 0


@mirrors(
    "kernel/dma/contiguous.c:dma_contiguous_reserve", "v6.12", "simplified", "of the RAM that nothing else took at boot"
)
def dma_contiguous_reserve(mm: Mm) -> None:
    """Make the area that cma= asks for. Raises `UsageError` where it cannot be."""
    if not mm.params.cma or not mm.features.config.cma:
        return
    size, start, end = early_cma(mm.params.cma)
    page, unit = mm.arch.page_size, mm.arch.pageblock_nr_pages
    pages = align_up(-(-size // page), unit)
    if pages and not cma_declare_contiguous(mm, pages, start // page, end // page, fixed=bool(start and not end)):
        text = f"cma={mm.params.cma}: {format_size(pages * page)} cannot be reserved"
        raise UsageError(text, hint=f"a place of free memory, aligned to {format_size(unit * page)}")


def read_areas(mm: Mm) -> None:
    """Mark the area of a machine that was read while it ran, where its command line says the place."""
    try:
        size, start, end = early_cma(mm.params.cma) if mm.params.cma else (0, 0, 0)
    except UsageError:
        return
    if start and not end:
        cma_declare_contiguous(mm, size // mm.arch.page_size, start // mm.arch.page_size, 0, fixed=True, running=True)
