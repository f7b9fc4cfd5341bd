"""mm/huge_memory.c: transparent huge pages, as far as they change what is kept free."""

from __future__ import annotations

from dataclasses import replace

from memshell.mm import mirrors
from memshell.mm.state import Mm

SMALL = 512 << 20  # bytes


@mirrors("mm/huge_memory.c:hugepage_init", "v6.12", "simplified", "whether they are on, and nothing else of them")
def hugepage_init(mm: Mm) -> None:
    """Turn transparent huge pages off on a machine with less than 512M, whatever the command line says."""
    if mm.totalram_pages < SMALL >> mm.arch.page_shift:
        mm.params = replace(mm.params, transparent_hugepage="never")
