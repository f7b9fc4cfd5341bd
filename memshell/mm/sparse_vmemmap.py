"""mm/sparse-vmemmap.c: the struct pages of a section are mapped.

Of a compound page of a DAX device two pages of memmap are real: the one with the head, and the first of tail pages
only; all others map that second one. A page that is shared is a leaf with the owner "shared".
"""

from __future__ import annotations

from collections.abc import Iterator

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.fault import page_fault
from memshell.mm.memremap import VmemAltmap
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_pages, alloc_some, free_range
from memshell.mm.pfn import align_down, format_size
from memshell.mm.pgtable import count_buddy_pages, ensure_table, leaf_pfn, set_leaf
from memshell.mm.state import Leaf, Mm


@mirrors("mm/sparse-vmemmap.c:vmemmap_alloc_block", "v6.12", "complete")
def vmemmap_alloc_block(mm: Mm, size: int, nid: int) -> int | None:
    """Return the first pfn of *size* bytes from the buddy, of the node first, or None. GFP_KERNEL | __GFP_RETRY_MAYFAIL."""
    order = (size >> mm.arch.page_shift).bit_length() - 1
    pfn = None
    if not mm.fault("memmap_page"):
        pfn = alloc_pages(mm, order, Owner.MEMMAP, nid=nid, nodes=_nodes(mm, nid))
    if mm.trace is not None:
        page = None if pfn is None else mm.pages.get(pfn)
        mm.note(
            f"order {order}: "
            + (f"pfn {pfn:#x} of node {page.nid} {page.zone.label}" if page else "no zone can give it")
        )
    return pfn


def _nodes(mm: Mm, nid: int) -> tuple[int, ...] | None:
    """Return the nodes that give the memmap, the first first; None: those of the zonelist."""
    if not mm.features.bug.memmap_off_node:
        return (nid,)
    return mm.placement.nodes or None if mm.placement else None


@mirrors("mm/sparse-vmemmap.c:vmemmap_alloc_block_buf", "v6.12", "complete")
def vmemmap_alloc_block_buf(mm: Mm, size: int, nid: int, altmap: VmemAltmap | None) -> int | None:
    """Return the first pfn of *size* bytes for struct pages: from the altmap when there is one, else from the buddy."""
    if altmap is not None:
        return altmap_alloc_block_buf(mm, size, altmap)
    return vmemmap_alloc_block(mm, size, nid)


@mirrors("mm/sparse-vmemmap.c:altmap_alloc_block_buf", "v6.12", "complete")
def altmap_alloc_block_buf(mm: Mm, size: int, altmap: VmemAltmap) -> int | None:
    """Take *size* bytes from the altmap, or None. See `VmemAltmap.alloc_block`."""
    pfn = altmap.alloc_block(size >> mm.arch.page_shift)
    if mm.trace is not None:
        got = "no room" if pfn is None else f"pfn {pfn:#x}"
        mm.note(
            f"altmap: {size >> mm.arch.page_shift} pages, {got}; alloc {altmap.alloc}, align {altmap.align} of free {altmap.free}"
        )
    return pfn


def struct_pages_in_use(mm: Mm, start: int, end: int) -> bool:
    """Whether the addresses [start, end) hold the struct page of any valid pfn: vmemmap_populated()."""
    base, size = mm.arch.vmemmap_base, mm.arch.struct_page_size
    return mm.sections.intersects((start - base) // size, -(-(end - base) // size))


def free_vmemmap_leaf(mm: Mm, va: int, size: int, altmap: VmemAltmap | None) -> bool:
    """Unmap the leaf of *size* bytes at *va* as the kernel that is modelled does; return whether it went.

    For the architectures' vmemmap_free(): what backed it is freed. One that still holds the struct page of a valid pfn stays.
    """
    return mm.seam.free_vmemmap_leaf(mm, va, size, altmap)


def free_unused_leaf(mm: Mm, va: int, size: int, altmap: VmemAltmap | None) -> bool:
    """Unmap the leaf at *va* unless it holds the struct page of a valid pfn; return whether it went."""
    leaf = mm.leaves.get(va)
    if leaf is None or struct_pages_in_use(mm, va, va + size):
        return False
    mm.leaves.delete(va, va + size)
    free_vmemmap_pages(mm, leaf_pfn(mm, va, leaf), size >> mm.arch.page_shift, leaf.owner, altmap)
    return True


def free_vmemmap_pages(mm: Mm, pfn: int, nr_pages: int, owner: str, altmap: VmemAltmap | None) -> None:
    """Give the pages of a vanished mapping back: with an altmap all count as its own (bug.altmap_free_any), else as they came."""
    if altmap is not None and (owner == "altmap" or mm.features.bug.altmap_free_any):
        altmap.free_block(nr_pages)
    elif owner == "buddy":
        freed = mm.arch.vmemmap_pages_freed(mm, nr_pages)
        for start, end, page in list(mm.pages.items(pfn + freed, pfn + nr_pages)):
            mm.pages.set(start, end, page._replace(owner=Owner.LOST))
        free_range(mm, pfn, pfn + freed)
        count_buddy_pages(mm, -nr_pages)
    elif owner == "altmap" and mm.features.bug.error_path_frees_altmap_to_buddy:
        _free_never_initialised(mm, pfn, nr_pages)


def _free_never_initialised(mm: Mm, pfn: int, nr_pages: int) -> None:
    """__free_pages() of a block whose struct pages were never initialised, while its section is being removed.

    Their refcount is 0 and becomes -1: a single page goes nowhere. Of a larger block the parts behind the first page
    go on to the buddy, which asks for the migratetype of their pageblock; the usage of the section is NULL by now.
    Raises `KernelCrash`. Sources: mm/page_alloc.c:__free_pages, mm/sparse.c:section_deactivate.
    """
    if nr_pages == 1:
        return
    arch, features = mm.arch, mm.profile.features
    subsections = arch.pages_per_section // arch.pages_per_subsection
    bit = ((pfn + nr_pages // 2) % arch.pages_per_section >> arch.pageblock_order) * features.pageblock.flag_bits
    # Offset of pageblock_flags in struct mem_section_usage: behind rcu_head and subsection_map, in whole longs.
    flags = (16 if features.sparse.usage_rcu else 0) + 8 * -(-subsections // 64)
    why = f"the memmap in the block is freed to the buddy, pfn {pfn:#x}"
    raise page_fault(flags + bit // 64 * 8, "get_pfnblock_flags_mask", why)


@mirrors("mm/sparse-vmemmap.c:vmemmap_populate_hugepages", "v6.12", "complete")
def vmemmap_populate_hugepages(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map [start, end) with PMD leaves; without an altmap a block that cannot be had falls back to base pages.

    With an altmap there is no fallback: raises `OutOfMemory`.
    """
    size = 1 << mm.arch.pmd_shift
    for va in range(align_down(start, size), end, size):
        if mm.trace is not None:
            for name in ("vmemmap_pgd_populate", "vmemmap_p4d_populate", "vmemmap_pud_populate"):
                mm.trace.leaf(name)
        mm.arch.vmemmap_tables(mm, va, nid)
        leaf = next(mm.leaves.items(va, va + size), None)
        if leaf is not None and leaf[2].size == size:
            continue  # a neighbour section's struct pages reach into this leaf
        if leaf is not None or ("pte", va) in mm.tables:  # or it had to take base pages: so does this one
            vmemmap_populate_basepages(mm, max(va, start), min(va + size, end), nid, altmap)
            continue
        pfn = vmemmap_alloc_block_buf(mm, size, nid, altmap)
        if pfn is not None:
            mm.enter("vmemmap_set_pmd")
            set_leaf(mm, va, va + size, size, pfn, "altmap" if altmap else "buddy")
        elif altmap is not None:
            raise OutOfMemory(
                f"the altmap has no aligned {format_size(size)} left",
                where="mm/sparse-vmemmap.c:vmemmap_populate_hugepages",
            )
        else:
            vmemmap_populate_basepages(mm, max(va, start), min(va + size, end), nid, None)


def table_span(mm: Mm) -> int:
    """Return how many bytes of addresses the table of PMD entries covers: entries of 8 bytes, each for a PMD."""
    return mm.arch.page_size // 8 << mm.arch.pmd_shift


def populate_leaves(mm: Mm, start: int, end: int, size: int, nid: int, altmap: VmemAltmap | None) -> int:
    """Map [start, end), under one table of such entries, with leaves of *size* bytes, all at once.

    Goes as far as nothing is mapped and leaves can be had; returns where that is.
    """
    gap = next(mm.leaves.gaps(start, end), None)
    if gap is None or gap[0] != start:
        return start
    nr_leaves, nr_pages = (gap[1] - start) // size, size >> mm.arch.page_shift
    if altmap is not None:
        runs = altmap.alloc_blocks(nr_pages, nr_leaves)
    else:
        order = nr_pages.bit_length() - 1
        runs = alloc_some(mm, nr_leaves, order, Owner.MEMMAP, nid=nid, nodes=_nodes(mm, nid))
    owner, shift = "altmap" if altmap is not None else "buddy", mm.arch.page_shift
    leaves: list[tuple[int, int, Leaf]] = []
    at = start
    for first, last in runs:
        leaf, low = Leaf(size, first - (at >> shift), owner), at
        at += last - first << shift
        if leaves and leaves[-1][2] == leaf:
            low = leaves.pop()[0]
        leaves.append((low, at, leaf))
    mm.leaves.set_runs(leaves)
    if owner == "buddy":
        count_buddy_pages(mm, at - start >> shift)
    return at


def free_leaves(mm: Mm, start: int, end: int, altmap: VmemAltmap | None) -> bool:
    """Unmap all leaves at [start, end) at once, and free what backed them, if that is what one after the other does.

    Returns whether it was: nothing looks at one of them, and none holds the struct page of a valid pfn.
    """
    leaves = list(mm.leaves.items(start, end))
    if not mm.in_rows or struct_pages_in_use(mm, start, end) or not freed_alike(mm, leaves, altmap):
        return False
    mm.leaves.delete(start, end)
    for first, last, owner in _backing(mm, leaves):
        if altmap is not None and (owner == "altmap" or mm.features.bug.altmap_free_any):
            altmap.free_block(last - first)
        elif owner == "buddy":
            count_buddy_pages(mm, first - last)
            for a, b, _ in list(mm.pages.items(first, last)):  # a run can reach from one zone into the next
                free_range(mm, a, b)
    return True


def freed_alike(mm: Mm, leaves: list[tuple[int, int, Leaf]], altmap: VmemAltmap | None) -> bool:
    """Whether what is freed of a run of leaves follows from its pages: none are lost with each leaf."""
    # What becomes of pages of an altmap without it follows their number; an altmap counts what is shared too.
    strange = "altmap" if altmap is None else "shared"
    for owner, size in {(leaf.owner, leaf.size) for _, _, leaf in leaves}:
        pages = size >> mm.arch.page_shift
        if owner == strange or (owner == "buddy" and mm.arch.vmemmap_pages_freed(mm, pages) != pages):
            return False
    return True


def _backing(mm: Mm, leaves: list[tuple[int, int, Leaf]]) -> list[tuple[int, int, str]]:
    """Return the runs of pages that back *leaves*, in their order, neighbours of one owner joined; shared ones have none."""
    runs: list[tuple[int, int, str]] = []
    for a, b, leaf in leaves:
        if leaf.owner == "shared":
            continue
        pfn = leaf_pfn(mm, a, leaf)
        last = pfn + (b - a >> mm.arch.page_shift)
        if runs and runs[-1][1:] == (pfn, leaf.owner):
            runs[-1] = (runs[-1][0], last, leaf.owner)
        else:
            runs.append((pfn, last, leaf.owner))
    return runs


@mirrors("mm/sparse-vmemmap.c:vmemmap_populate_basepages", "v6.12", "complete")
def vmemmap_populate_basepages(mm: Mm, start: int, end: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map [start, end) with single pages behind PTE tables that each cover a PMD. Raises `OutOfMemory`."""
    page, span = mm.arch.page_size, 1 << mm.arch.pmd_shift
    for va in range(align_down(start, page), end, page):
        mm.arch.vmemmap_tables(mm, va, nid)
        ensure_table(mm, "pte", va, span, nid)
        if mm.leaves.intersects(va, va + page):
            continue
        pfn = vmemmap_alloc_block_buf(mm, page, nid, altmap)
        if pfn is None:
            raise _no_page(mm, va, "vmemmap_populate_basepages")
        set_leaf(mm, va, va + page, page, pfn, "altmap" if altmap else "buddy")


RESERVED_PAGES = 2  # VMEMMAP_RESERVE_NR: the pages of the head and of the first tails


@mirrors("mm/sparse-vmemmap.c:__populate_section_memmap", "v6.12", "complete")
def populate_section_memmap(mm: Mm, pfn: int, nr_pages: int, nid: int, altmap: VmemAltmap | None) -> None:
    """Map the struct pages of *nr_pages* pages (whole subsections) from *pfn* on."""
    start = mm.arch.vmemmap_address(pfn)
    end = start + nr_pages * mm.arch.struct_page_size
    if vmemmap_can_optimize(mm, altmap):
        mm.arch.vmemmap_populate_compound_pages(mm, pfn, start, end, nid)
    else:
        mm.arch.vmemmap_populate(mm, start, end, nid, altmap)


@mirrors("include/linux/mm.h:vmemmap_can_optimize", "v6.12", "complete")
def vmemmap_can_optimize(mm: Mm, altmap: VmemAltmap | None) -> bool:
    """Whether the mapped device shares memmap: compound pages of more than two pages of it; no altmap."""
    if mm.pgmap is None or not mm.pgmap.vmemmap_shift or altmap is not None or not mm.arch.dax_vmemmap(mm.profile):
        return False
    size = mm.arch.struct_page_size
    return not size & (size - 1) and (size << mm.pgmap.vmemmap_shift) // mm.arch.page_size > RESERVED_PAGES


@mirrors("mm/sparse-vmemmap.c:vmemmap_populate_compound_pages", "v6.12", "complete")
def vmemmap_populate_compound_pages(mm: Mm, pfn: int, start: int, end: int, nid: int) -> None:
    """Map head and first tail of each compound page; a section that lies inside of one has tails only."""
    assert mm.pgmap is not None
    compound = 1 << mm.pgmap.vmemmap_shift
    offset = pfn - (mm.pgmap.start >> mm.arch.page_shift)
    if offset % compound and compound > mm.arch.pages_per_subsection:
        _share(mm, start, end, nid)
        return
    size = min(end - start, compound * mm.arch.struct_page_size)
    if mm.in_rows and end <= align_down(start, 1 << mm.arch.pmd_shift) + (1 << mm.arch.pmd_shift):
        _map_compound_pages(mm, start, end, size, nid)
        return
    for at in range(start, end, size):
        _map_compound_page(mm, at, size, nid)


def _map_compound_pages(mm: Mm, start: int, end: int, size: int, nid: int) -> None:
    """Map the compound pages of [start, end), *size* bytes of memmap each, which are under one PTE table, at once."""
    page = mm.arch.page_size
    mm.arch.vmemmap_pte_table(mm, start, nid)
    if mm.leaves.intersects(start, end):
        for at in range(start, end, size):
            _map_compound_page(mm, at, size, nid)
        return
    wanted = (end - start) // size * RESERVED_PAGES
    runs = alloc_some(mm, wanted, 0, Owner.MEMMAP, nid=nid, nodes=_nodes(mm, nid))
    pfns = [pfn for first, last in runs for pfn in range(first, last)]
    mm.leaves.set_runs(list(_compound_leaves(mm, start, size, pfns)))
    count_buddy_pages(mm, len(pfns))
    if len(pfns) < wanted:
        n = len(pfns)
        raise _no_page(mm, start + n // RESERVED_PAGES * size + n % RESERVED_PAGES * page, "vmemmap_populate_address")


def _compound_leaves(mm: Mm, start: int, size: int, pfns: list[int]) -> Iterator[tuple[int, int, Leaf]]:
    """Yield the leaves of compound pages from *start* on, each with the next of *pfns* and what it shares of them."""
    page, own, shared = mm.arch.page_size, RESERVED_PAGES * mm.arch.page_size, Leaf(mm.arch.page_size, 0, "shared")
    at = start
    for n in range(0, len(pfns), RESERVED_PAGES):
        real = pfns[n : n + RESERVED_PAGES]
        shift = real[0] - (at >> mm.arch.page_shift)
        if real[-1] == real[0] + RESERVED_PAGES - 1:  # they lie side by side, as always but at the end of a free block
            yield at, at + own, Leaf(page, shift, "buddy")
        else:
            for va, pfn in zip(range(at, at + own, page), real, strict=False):
                yield va, va + page, Leaf(page, pfn - (va >> mm.arch.page_shift), "buddy")
        if len(real) == RESERVED_PAGES and own < size:
            yield at + own, at + size, shared
        at += size


def _map_compound_page(mm: Mm, at: int, size: int, nid: int) -> None:
    page = mm.arch.page_size
    for va in range(at, at + RESERVED_PAGES * page, page):
        _real(mm, va, nid)
    _share(mm, at + RESERVED_PAGES * page, at + size, nid)


def _no_page(mm: Mm, va: int, function: str) -> OutOfMemory:
    pfn = (va - mm.arch.vmemmap_base) // mm.arch.struct_page_size
    return OutOfMemory(f"no page for the memmap at {va:#x}", where=f"mm/sparse-vmemmap.c:{function}", pfn=pfn)


def _real(mm: Mm, va: int, nid: int) -> None:
    """vmemmap_populate_address(): map one page of its own, unless one is there. Raises `OutOfMemory`."""
    mm.arch.vmemmap_pte_table(mm, va, nid)
    if mm.leaves.get(va) is not None:
        return
    pfn = vmemmap_alloc_block_buf(mm, mm.arch.page_size, nid, None)
    if pfn is None:
        raise _no_page(mm, va, "vmemmap_populate_address")
    set_leaf(mm, va, va + mm.arch.page_size, mm.arch.page_size, pfn, "buddy")


def _share(mm: Mm, start: int, end: int, nid: int) -> None:
    for va in range(align_down(start, 1 << mm.arch.pmd_shift), end, 1 << mm.arch.pmd_shift):
        mm.arch.vmemmap_pte_table(mm, max(va, start), nid)
    if start < end:
        mm.leaves.set(start, end, Leaf(mm.arch.page_size, 0, "shared"))
