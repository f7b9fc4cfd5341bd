"""The page tables behind every kernel mapping.

A page-table page is a `Table` at (level, first address); a leaf is a run of `Leaf` in the address map. Levels are
named for what the entries of the table are: a "pmd" table holds pmds. Tables that are smaller than a page share
one: a page is cut into fragments, handed out one after the other; it goes back when the last of them is given out
and all are freed. Source: arch/powerpc/mm/pgtable-frag.c (v6.12): a page of 64K holds 16 PMD tables or 256 PTE
tables (radix).
"""

from __future__ import annotations

from memshell.errors import OutOfMemory
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_pages, free_range
from memshell.mm.pfn import align_down
from memshell.mm.state import Leaf, Mm, Table


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
        mm.tables[key] = Table(0, "early")
        return True
    if mm.fault("vmemmap_table" if address >= mm.arch.vmemmap_base else "direct_map_table"):
        raise no_table(level, key[1])
    if not per_page:
        mm.tables[key] = Table(0, "slab")
        return True
    if per_page > 1:
        pfn = fragment_alloc(mm, level, per_page, nid, atomic=atomic)
    else:
        pfn = alloc_pages(mm, order, Owner.PAGETABLE, nid=nid, atomic=atomic)
    if pfn is None:
        raise no_table(level, key[1])
    # A fragment at pfn 0 is of a page that boot began, whose place is not known.
    mm.tables[key] = Table(pfn, {1: "buddy", 2: "half"}.get(per_page, "fragment") if pfn else "slab")
    return True


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
    if below and mm.tables.between((below[0], base), (below[0], base + span)):
        return False
    del mm.tables[level, base]
    if table.owner in ("half", "fragment"):
        fragment_free(mm, level, table)
    elif table.owner == "buddy":
        free_range(mm, table.pfn, table.pfn + (1 << order))
    return True


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
