"""The page tables behind every kernel mapping.

A page-table page is a `Table` at (level, first address); a leaf is a run of `Leaf` in the address map. Levels are
named for what the entries of the table are: a "pmd" table holds pmds. Tables that are smaller than a page share
one: a page is cut into fragments, handed out one after the other; it goes back when the last of them is given out
and all are freed. Source: arch/powerpc/mm/pgtable-frag.c (v6.12): a page of 64K holds 16 PMD tables or 256 PTE
tables (radix).
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from memshell.errors import OutOfMemory
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_pages, alloc_some, free_range
from memshell.mm.pfn import align_down, align_up
from memshell.mm.state import Leaf, Mm
from memshell.mm.tables import FRAGMENTS, Table


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
    if mm.tables.shares(table.pfn) or (current and table.owner != "half"):
        return
    if current:
        mm.counters[left] = 0
    free_range(mm, table.pfn, table.pfn + 1)


def set_fragments_left(mm: Mm, level: str, left: int) -> None:
    """Say that boot left a page of *level* tables with *left* fragments to hand out.

    That page is never freed: others hold it.
    """
    mm.counters[f"{level}_frag.page"], mm.counters[f"{level}_frag.left"] = 0, left


def no_table(level: str, address: int) -> OutOfMemory:
    """Return the error for a table that cannot be had."""
    text = f"no page for a {level} table at {address:#x}"
    return OutOfMemory(text, where="mm/sparse-vmemmap.c:vmemmap_alloc_block_zero")


def ensure_table(
    mm: Mm,
    level: str,
    address: int,
    span: int,
    nid: int,
    *,
    early: bool = False,
    atomic: bool = False,
    order: int = 0,
    per_page: int = 1,
) -> bool:
    """Allocate the table of *level* that covers *address* (it spans *span* bytes) unless it stands; return whether it was new.

    Table pages always come from the buddy, never from an altmap; *early* ones were there at boot and cost nothing now.
    *per_page* tables share a page; 0: the table is a slab object, which is not modelled.
    Raises `OutOfMemory`.
    """
    key = (level, align_down(address, span))
    if key in mm.tables:
        return False
    if early:
        mm.tables[key] = Table(0, "early", span)
        return True
    if mm.fault("vmemmap_table" if address >= mm.arch.vmemmap_base else "direct_map_table"):
        raise no_table(level, key[1])
    if not per_page:
        mm.tables[key] = Table(0, "slab", span)
        return True
    if per_page > 1:
        pfn = fragment_alloc(mm, level, per_page, nid, atomic=atomic)
    else:
        pfn = alloc_pages(mm, order, Owner.PAGETABLE, nid=nid, atomic=atomic)
    if pfn is None:
        raise no_table(level, key[1])
    # A fragment at pfn 0 is of a page that boot began, whose place is not known.
    owner = {1: "buddy", 2: "half"}.get(per_page, "fragment") if pfn else "slab"
    mm.tables[key] = Table(pfn, owner, span, 1 << order)
    return True


def ensure_tables(
    mm: Mm, level: str, start: int, end: int, span: int, nid: int, *, early: bool = False, order: int = 0
) -> int:
    """Allocate the tables of *level* over [start, end) that do not stand, all at once where `Mm.in_rows` allows it.

    Those of a page (of 2^*order* pages) each. Returns the address up to which they stand: a table that cannot be had
    at once is for `ensure_table`.
    """
    low, high = align_down(start, span), align_up(end, span)
    for at, stop in list(mm.tables.gaps(level, low, high)):
        reached = at
        if early:
            mm.tables.set_run(level, at, stop, Table(0, "early", span))
            continue
        wanted = (stop - at) // span if mm.in_rows else 0
        for first, last in alloc_some(mm, wanted, order, Owner.PAGETABLE, nid=nid):
            behind = reached + (last - first >> order) * span
            mm.tables.set_run(level, reached, behind, Table(first, "buddy", span, 1 << order))
            reached = behind
        if reached < stop:
            return max(reached, start)
    return end


def free_empty_table(
    mm: Mm, level: str, address: int, span: int, below: tuple[str, int] | None = None, order: int = 0
) -> bool:
    """Free the table of *level* around *address* when nothing hangs on it; return whether it went.

    *below* is (level, span) of the tables that its entries can point to.
    """
    base = align_down(address, span)
    table = mm.tables.get((level, base))
    if table is None or table.owner == "early" or mm.leaves.intersects(base, base + span):
        return False
    if below and mm.tables.intersects(below[0], base, base + span):
        return False
    del mm.tables[level, base]
    if table.owner in FRAGMENTS:
        fragment_free(mm, level, table)
    elif table.owner == "buddy":
        free_range(mm, table.pfn, table.pfn + (1 << order))
    return True


def free_unused_tables(
    mm: Mm, level: str, start: int, end: int, span: int, below: tuple[str, int] | None = None, order: int = 0
) -> int:
    """Do as `free_empty_table` for each table of *level* that covers any of [start, end); return how many went."""
    low, high, freed = align_down(start, span), align_up(end, span), 0
    for a, b, run in list(mm.tables.runs(level, low, high)):
        if run.owner != "buddy":
            freed += sum(free_empty_table(mm, level, at, span, below, order) for at in range(a, b, span))
            continue
        for x, y in _empty(mm, a, b, span, below):
            first, last = run.pfns(x, y) or (0, 0)
            mm.tables.delete_run(level, x, y)
            freed += (y - x) // span
            for start_pfn, end_pfn, _ in list(mm.pages.items(first, last)):  # a run can reach into another zone
                free_range(mm, start_pfn, end_pfn)
    return freed


def _empty(mm: Mm, start: int, end: int, span: int, below: tuple[str, int] | None) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, end), in whole tables, in which no leaf and no table of *below* hangs."""
    at = start
    while at < end:
        held = next(mm.leaves.items(at, end), None)
        under = next(mm.tables.runs(below[0], at, end), None) if below else None
        full = min((run for run in (held, under) if run is not None), key=itemgetter(0), default=(end, end))
        first, last = align_down(full[0], span), align_up(full[1], span)
        if at < first:
            yield at, first
        at = max(last, at + span) if full[0] < end else end


def set_leaf(mm: Mm, address: int, end: int, size: int, pfn: int, owner: str) -> None:
    """Map [address, end) with leaves of *size* bytes to the pages from *pfn* on."""
    mm.leaves.set(address, end, Leaf(size, pfn - (address >> mm.arch.page_shift), owner))
    if owner == "buddy":
        count_buddy_pages(mm, end - address >> mm.arch.page_shift)


def count_buddy_pages(mm: Mm, pages: int) -> None:
    """Count what the buddy gave, and only that, in nr_memmap_pages (bug.nr_memmap_pages_counts_altmap off)."""
    if mm.features.vmstat.nr_memmap_pages and not mm.features.bug.nr_memmap_pages_counts_altmap:
        mm.counters["nr_memmap_pages"] = mm.counters.get("nr_memmap_pages", 0) + pages


def set_early_leaves(mm: Mm, start: int, end: int, size: int) -> None:
    """Map what is not mapped yet of [start, end) with leaves of boot memory; their pfns are not known."""
    for a, b in list(mm.leaves.gaps(start, end)):
        mm.leaves.set(a, b, Leaf(size, 0, "early"))


def leaf_pfn(mm: Mm, address: int, leaf: Leaf) -> int:
    """Return the pfn that *leaf* maps at *address*."""
    return (address >> mm.arch.page_shift) + leaf.shift
