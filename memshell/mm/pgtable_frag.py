"""arch/powerpc/mm/pgtable-frag.c: page tables that are smaller than a page share one.

A page is cut into fragments, handed out one after the other; it goes back when the last of them is given out
and all are freed. Source: arch/powerpc/mm/pgtable-frag.c (v6.12): a page of 64K holds 16 PMD tables or 256
PTE tables (radix).
"""

from __future__ import annotations

from memshell.mm.page import Owner
from memshell.mm.page_alloc import alloc_pages, free_range
from memshell.mm.state import Mm, Table


def fragment_alloc(mm: Mm, level: str, fragments: int, nid: int, *, atomic: bool = False) -> int | None:
    """Return the pfn of the page that the next table of *level* lies in; None without memory."""
    page, left = f"{level}_frag.page", f"{level}_frag.left"
    if not mm.counters.get(left):
        pfn = alloc_pages(mm, 0, Owner.PAGETABLE, nid=nid, atomic=atomic)
        if pfn is None:
            return None
        mm.counters[page], mm.counters[left] = pfn, fragments
    mm.counters[left] -= 1
    return mm.counters[page]


def fragment_free(mm: Mm, level: str, table: Table) -> None:
    """Free one fragment, which is out of the tables already; its page may go with it.

    A page of halves (s390 until v6.6) goes with the second half; others not before all of it was handed out.
    """
    left = f"{level}_frag.left"
    current = bool(mm.counters.get(left)) and mm.counters.get(f"{level}_frag.page") == table.pfn
    shared = any(other.pfn == table.pfn and other.owner == table.owner for other in mm.tables.values())
    if shared or (current and table.owner != "half"):
        return
    if current:
        mm.counters[left] = 0
    free_range(mm, table.pfn, table.pfn + 1)


def set_fragments_left(mm: Mm, level: str, left: int) -> None:
    """Say that boot left a page of *level* tables with *left* fragments to hand out.

    That page is never freed: others hold it.
    """
    mm.counters[f"{level}_frag.page"], mm.counters[f"{level}_frag.left"] = 0, left
