"""A slow reference for a state: what must follow from the constants that an architecture declares, and from nothing else.

The architecture's own functions are not asked: `Arch.leaf_sizes` and `Arch.table_levels` say what the MMU has, the rest
is arithmetic.  Each rule yields sentences that name the mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.pfn import align_down, align_up, format_size
from memshell.mm.pgtable import leaf_pfn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.arch import TableLevel
    from memshell.mm.state import Leaf, Mm
    from memshell.mm.tables import Table

Tables = dict[tuple[str, int], "Table"]
KINDS = {"ram": "direct map", "buddy": "vmemmap", "altmap": "vmemmap"}


def map_faults(mm: Mm, *, idle: bool = False) -> Iterator[str]:
    """Yield what is wrong with the maps of hot-added memory, and with the page tables above all leaves.

    With *idle*, the direct map may have tables with nothing in them: no kernel takes these back when an add fails there.
    """
    late = {key: table for key, table in mm.tables.items() if table.owner != "early"}
    for start, end, leaf in hot_leaves(mm):
        yield from _leaf_faults(mm, start, end, leaf)
    yield from _missing_tables(mm)
    yield from _impossible_tables(mm, late)
    for name, base in _empty_tables(mm, late):
        if not (idle and base < mm.arch.vmemmap_base):
            yield f"the {name} table at {base:#x} stands, and nothing hangs in it: it was not needed, or not freed"
    yield from _lost_table_pages(mm, late)


def hot_leaves(mm: Mm) -> Iterator[tuple[int, int, Leaf]]:
    """Yield the leaves that came after boot: (address, end, leaf)."""
    boot_end = mm.arch.page_offset + (mm.boot_end << mm.arch.page_shift)
    for start, end, leaf in mm.leaves.items():
        if leaf.owner in ("buddy", "altmap"):
            yield start, end, leaf
        elif leaf.owner == "ram" and end > (first := max(start, align_up(boot_end, leaf.size))):
            yield first, end, leaf


def _leaf_faults(mm: Mm, start: int, end: int, leaf: Leaf) -> Iterator[str]:
    """Yield what is wrong with a run of equal leaves: their size, where they lie, and what a direct map maps to."""
    kind, size = KINDS[leaf.owner], format_size(leaf.size)
    sizes = mm.arch.leaf_sizes()
    if leaf.size not in sizes:
        known = ", ".join(format_size(one) for one in sizes)
        yield f"the {kind} has a leaf of {size} at {start:#x}: leaf_sizes() has {known}"
        return
    if start % leaf.size or end % leaf.size:
        yield f"the {kind} has leaves of {size} at {start:#x}-{end:#x}, which is not aligned to them"
    pfn = leaf_pfn(mm, start, leaf)
    if (pfn << mm.arch.page_shift) % leaf.size:
        yield f"the leaf of {size} at {start:#x} maps pfn {pfn:#x}, which is not aligned to it"
    if leaf.owner != "ram":
        return
    right = start - mm.arch.page_offset >> mm.arch.page_shift
    if pfn != right:
        yield f"the direct map at {start:#x} leads to pfn {pfn:#x}, not to {right:#x}"
    first, last = right, end - mm.arch.page_offset >> mm.arch.page_shift
    if mm.features.bug.add_pages_no_unwind:
        return  # an add that fails leaves the direct map
    for a, b in mm.sections.gaps(first, last):
        there = range(a // mm.block_pages, -(-b // mm.block_pages))
        if not all(number in mm.blocks for number in there):
            yield f"the direct map has the pages {a:#x}-{b:#x}, and no memory is there"


def _levels_above(mm: Mm, leaf: Leaf) -> Iterator[TableLevel]:
    """Yield the levels of which a table stands above a leaf: those that span more than it maps."""
    return (level for level in mm.arch.table_levels() if level.span > leaf.size)


def _missing_tables(mm: Mm) -> Iterator[str]:
    for start, end, leaf in hot_leaves(mm):
        for level in _levels_above(mm, leaf):
            for va in range(align_down(start, level.span), end, level.span):
                if (level.name, va) not in mm.tables:
                    what = f"the {KINDS[leaf.owner]}'s leaf of {format_size(leaf.size)} at {max(va, start):#x}"
                    yield f"{what} hangs in no page table: no {level.name} table at {va:#x}"
                    return


def _impossible_tables(mm: Mm, late: Tables) -> Iterator[str]:
    """Yield tables that are of no level, between the places of a level, or where a leaf is."""
    known = {level.name: level for level in mm.arch.table_levels()}
    for name, base in late:
        level = known.get(name)
        if level is None:
            yield f"there is a {name!r} table at {base:#x}: table_levels() has {', '.join(known) or 'no tables'}"
            continue
        if base % level.span:
            yield f"there is a {name} table at {base:#x}, and one spans {format_size(level.span)}"
        leaf = mm.leaves.get(base)
        if leaf is not None and leaf.size >= level.span:
            yield f"at {base:#x} are a {name} table and a leaf of {format_size(leaf.size)}: an entry is one of them"


def _empty_tables(mm: Mm, late: Tables) -> Iterator[tuple[str, int]]:
    """Yield the tables that came after boot and have nothing in them, but for levels that stay."""
    levels = mm.arch.table_levels()
    below = {level: lower.name for level, lower in zip(levels[1:], levels, strict=False)}
    by_name = {level.name: level for level in levels if not level.stays}
    for name, base in late:
        level = by_name.get(name)
        if level is None or mm.leaves.intersects(base, base + level.span):
            continue
        if level not in below or not mm.tables.intersects(below[level], base, base + level.span):
            yield name, base


def _lost_table_pages(mm: Mm, late: Tables) -> Iterator[str]:
    """Yield pages that are page tables, and behind none."""
    known = {table.pfn for table in late.values()}
    known |= {value for name, value in mm.counters.items() if name.endswith("_frag.page")}
    for start, end, page in mm.pages.items():
        if page.owner is Owner.PAGETABLE and not any(start <= pfn < end for pfn in known):
            yield f"pages {start:#x}-{end:#x} are a page table, and no table stands in them: it was forgotten, not freed"


class Footprint(NamedTuple):
    """What an add may leave nothing of, once what it added is gone again."""

    free: int  # pages
    leaves: tuple[tuple[int, int, Leaf], ...]
    tables: frozenset[tuple[str, int]]
    sections: tuple[tuple[int, int, int], ...]
    blocks: frozenset[int]
    iomem: tuple[tuple[int, int, str], ...]


def footprint(mm: Mm, *, idle: bool = False) -> Footprint:
    """Return the footprint of a state. Page tables that stay, or share a page, are left out, with their pages.

    So are, with *idle*, those of the direct map that have nothing in them.
    """
    late = {key: table for key, table in mm.tables.items() if table.owner != "early"}
    staying = {level.name for level in mm.arch.table_levels() if level.stays}
    spare = {key for key in late if key[0] in staying}
    spare |= {key for key in _empty_tables(mm, late) if key[1] < mm.arch.vmemmap_base} if idle else set()
    shared = {table.pfn for table in late.values() if table.owner in ("fragment", "half")}
    shared |= {value for name, value in mm.counters.items() if name.endswith("_frag.page") and value}
    own = {start: end - start for start, end, page in mm.pages.items() if page.owner is Owner.PAGETABLE}
    kept = sum(own.get(late[key].pfn, 1) for key in spare if late[key].owner == "buddy")
    return Footprint(
        nr_free_pages(mm) + kept + len(shared),
        tuple(mm.leaves.items()),
        frozenset(late.keys() - spare),
        tuple(mm.sections.items()),
        frozenset(mm.blocks),
        tuple((resource.start, resource.end, resource.name) for resource in mm.resources),
    )


def remains(before: Footprint, after: Footprint, when: str) -> Iterator[str]:
    """Yield what is left of memory, or missing, *when* all that came after *before* is gone again."""
    for name, what in (("leaves", "leaf"), ("tables", "page table"), ("sections", "section"), ("blocks", "block")):
        old, new = set(getattr(before, name)), set(getattr(after, name))
        for found, word in ((new - old, "is left"), (old - new, "is gone")):
            if found:
                yield f"{when} a {what} {word}: {_told(name, min(found))}"
    if before.iomem != after.iomem:
        found = {*before.iomem} ^ {*after.iomem}
        start, end, text = min(found)
        yield f"{when} iomem is another: {start:#x}-{end:#x} {text}"
    lost = before.free - after.free
    if lost:
        yield f"{when} {abs(lost)} pages {'are not free again' if lost > 0 else 'more are free than before'}"


def _told(name: str, found: object) -> str:
    if name == "leaves" and isinstance(found, tuple):
        return f"{found[0]:#x}-{found[1]:#x}"
    if name == "tables" and isinstance(found, tuple):
        return f"{found[0]} at {found[1]:#x}"
    if name == "sections" and isinstance(found, tuple):
        return f"pfns {found[0]:#x}-{found[1]:#x}"
    return f"memory{found}"
