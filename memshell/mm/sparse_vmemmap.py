"""mm/sparse-vmemmap.c: map the struct pages of a section, and the page tables behind every kernel mapping.

A page-table page is a `Table` at (level, first address); a leaf is a run of `Leaf` in the address map. Levels are
named for what the entries of the table are: a "pmd" table holds pmds.
"""

from __future__ import annotations

from memshell.errors import OutOfMemory
from memshell.mm import mirrors
from memshell.mm.memremap import VmemAltmap
from memshell.mm.page import Owner
from memshell.mm.page_alloc import alloc_pages, free_range
from memshell.mm.pfn import align_down, format_size
from memshell.mm.pgtable_frag import fragment_alloc, fragment_free
from memshell.mm.state import Leaf, Mm, Table
from memshell.mm.struct_page import page_fault


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
    *per_page* tables share a page (see `memshell.mm.pgtable_frag`); 0: the table is a slab object, which is not modelled.
    Raises `OutOfMemory`.
    """
    key = (level, align_down(address, span))
    if key in mm.tables:
        return False
    if early:
        mm.tables[key] = Table(0, "early")
        return True
    if not per_page:
        mm.tables[key] = Table(0, "slab")
        return True
    if per_page > 1:
        pfn = fragment_alloc(mm, level, per_page, nid, atomic=atomic)
    else:
        pfn = alloc_pages(mm, order, Owner.PAGETABLE, nid=nid, atomic=atomic)
    if pfn is None:
        raise OutOfMemory(
            f"no page for a {level} table at {key[1]:#x}", where="mm/sparse-vmemmap.c:vmemmap_alloc_block_zero"
        )
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
    if below and any((below[0], at) in mm.tables for at in range(base, base + span, below[1])):
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
        _count_buddy_pages(mm, end - address >> mm.arch.page_shift)


def _count_buddy_pages(mm: Mm, pages: int) -> None:
    """Count what the buddy gave, and only that, in nr_memmap_pages (bug.nr_memmap_pages_counts_altmap off)."""
    if mm.feature("vmstat.nr_memmap_pages") and not mm.feature("bug.nr_memmap_pages_counts_altmap"):
        mm.counters["nr_memmap_pages"] = mm.counters.get("nr_memmap_pages", 0) + pages


def set_early_leaves(mm: Mm, start: int, end: int, size: int) -> None:
    """Map what is not mapped yet of [start, end) with leaves of boot memory; their pfns are not known."""
    for a, b in list(mm.leaves.gaps(start, end)):
        mm.leaves.set(a, b, Leaf(size, 0, "early"))


def leaf_pfn(mm: Mm, address: int, leaf: Leaf) -> int:
    """Return the pfn that *leaf* maps at *address*."""
    return (address >> mm.arch.page_shift) + leaf.shift


@mirrors("mm/sparse-vmemmap.c:vmemmap_alloc_block", "v6.12", "complete")
def vmemmap_alloc_block(mm: Mm, size: int, nid: int) -> int | None:
    """Return the first pfn of *size* bytes from the buddy, of the node first, or None. GFP_KERNEL | __GFP_RETRY_MAYFAIL."""
    order = (size >> mm.arch.page_shift).bit_length() - 1
    nodes = mm.placement.nodes if mm.placement else ()
    if not mm.feature("bug.memmap_off_node"):
        nodes = (nid,)
    pfn = alloc_pages(mm, order, Owner.MEMMAP, nid=nid, nodes=nodes or None)
    if mm.trace is not None:
        page = None if pfn is None else mm.pages.get(pfn)
        mm.note(
            f"order {order}: "
            + (f"pfn {pfn:#x} of node {page.nid} {page.zone.label}" if page else "no zone can give it")
        )
    return pfn


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


def free_vmemmap_pages(mm: Mm, pfn: int, nr_pages: int, owner: str, altmap: VmemAltmap | None) -> None:
    """Give the pages of a vanished mapping back: with an altmap all count as its own (bug.altmap_free_any), else as they came."""
    if altmap is not None and (owner == "altmap" or mm.feature("bug.altmap_free_any")):
        altmap.free_block(nr_pages)
    elif owner == "buddy":
        free_range(mm, pfn, pfn + nr_pages)
        _count_buddy_pages(mm, -nr_pages)
    elif owner == "altmap" and mm.feature("bug.error_path_frees_altmap_to_buddy"):
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
    bit = ((pfn + nr_pages // 2) % arch.pages_per_section >> arch.pageblock_order) * features["pageblock.flag_bits"]
    flags = (16 if features["sparse.usage_rcu"] else 0) + 8 * -(-subsections // 64)
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
        if mm.leaves.intersects(va, va + size):
            continue  # a neighbour section's struct pages reach into this leaf
        pfn = vmemmap_alloc_block_buf(mm, size, nid, altmap)
        if pfn is not None:
            if mm.trace is not None:
                mm.trace.leaf("vmemmap_set_pmd")
            set_leaf(mm, va, va + size, size, pfn, "altmap" if altmap else "buddy")
        elif altmap is not None:
            raise OutOfMemory(
                f"the altmap has no aligned {format_size(size)} left",
                where="mm/sparse-vmemmap.c:vmemmap_populate_hugepages",
            )
        else:
            vmemmap_populate_basepages(mm, max(va, start), min(va + size, end), nid, None)


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
            raise OutOfMemory(
                f"no page for the memmap at {va:#x}",
                where="mm/sparse-vmemmap.c:vmemmap_populate_basepages",
                hint="add in smaller steps, online them in between, or put the memmap on the memory: policy memmap_on_memory",
            )
        set_leaf(mm, va, va + page, page, pfn, "altmap" if altmap else "buddy")
