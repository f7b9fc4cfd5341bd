"""The views of single things: a page, a section, the altmaps, the mappings of vmemmap and direct map."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from memshell.drivers.base.memory.blocks import block_start
from memshell.mm.page import (
    KPAGEFLAGS,
    KPF_COMPOUND_HEAD,
    KPF_COMPOUND_TAIL,
    KPF_HUGE,
    KPF_NOPAGE,
    KPF_OFFLINE,
    KPF_RESERVED,
    Owner,
)
from memshell.mm.pfn import align_down, format_size
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.state import SECTION_DEVICE, SECTION_EARLY, SECTION_HAS_MEM_MAP, SECTION_ONLINE, SECTION_PRESENT
from memshell.views.series import content_line, range_altmaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memshell.mm.memremap import Altmap, VmemAltmap
    from memshell.mm.mmzone import MigrateType
    from memshell.mm.page import Page
    from memshell.mm.page_alloc.free_area import Chunk
    from memshell.mm.state import Leaf, Mm

# include/uapi/linux/kernel-page-flags.h: bit -> name, as tools/mm/page-types has them
FLAG_NAMES = {
    3: "uptodate",
    5: "lru",
    7: "slab",
    10: "buddy",
    11: "mmap",
    12: "anonymous",
    14: "swapbacked",
    15: "compound_head",
    16: "compound_tail",
    17: "huge",
    20: "nopage",
    23: "offline",
    26: "pgtable",
    32: "reserved",
    37: "owner_private",
}
# fs/proc/page.c:stable_page_flags: bit of /proc/kpageflags -> the flag of struct page behind it, by name.
# The other bits (buddy, offline, pgtable, mmap, anonymous) are told by the page's type and its mapping.
STRUCT_PAGE_FLAGS = {
    3: ("PG_uptodate",),
    4: ("PG_dirty",),
    5: ("PG_lru",),
    7: ("PG_slab",),
    14: ("PG_swapbacked",),
    32: ("PG_reserved",),
    37: ("PG_vmemmap_self_hosted", "PG_owner_priv_1"),
}
SECTION_NAMES = (
    (SECTION_PRESENT, "present"),
    (SECTION_HAS_MEM_MAP, "has_mem_map"),
    (SECTION_ONLINE, "online"),
    (SECTION_EARLY, "early"),
    (SECTION_DEVICE, "device"),
)
PFN_TYPES = {  # what a page is to people
    Owner.FREE: "free",
    Owner.RESERVED: "reserved since boot",
    Owner.KERNEL: "in use by the kernel",
    Owner.SLAB: "slab",
    Owner.SLAB_PAGE: "slab",
    Owner.PAGETABLE: "page table",
    Owner.MEMMAP: "memmap of hot-added memory",
    Owner.MEMMAP_SELF: "memmap of its own memory block",
    Owner.VMEMMAP: "memmap of the range that it was added with",
    Owner.BAD: "bad: dropped by the buddy",
    Owner.LOST: "lost: nobody has it, and it is not free",
    Owner.USER: "movable, in use",
    Owner.HUGETLB: "a free huge page of a pool",
    Owner.PINNED: "movable, pinned",
    Owner.OFFLINE: "PageOffline",
    Owner.BALLOON: "PageOffline, referenced by its driver",
    Owner.DEVICE: "device memory",
}


def kpageflags(mm: Mm, pfn: int) -> int:
    """Return what /proc/kpageflags has for *pfn*. Source: fs/proc/page.c:stable_page_flags."""
    page = mm.pages.get(pfn)
    if page is None:
        return KPF_NOPAGE
    flags = KPAGEFLAGS[page.owner]
    if page.owner is Owner.MEMMAP_SELF and mm.features.memmap_self.reserved:
        flags |= KPF_RESERVED
    flags |= huge_flags(mm, pfn)
    return flags & ~KPF_OFFLINE if page.owner is Owner.DEVICE else flags


def huge_flags(mm: Mm, pfn: int) -> int:
    """Return the flags that the page *pfn* has for being a part of a huge page; 0 where it is of none."""
    order = mm.hugetlb.get(pfn)
    if order is None:
        return 0
    return KPF_HUGE | (KPF_COMPOUND_TAIL if pfn % (1 << order) else KPF_COMPOUND_HEAD)


def flag_names(flags: int) -> list[str]:
    """Return the names of the bits of *flags*, lowest bit first."""
    return [FLAG_NAMES.get(bit, f"bit{bit}") for bit in range(flags.bit_length()) if flags >> bit & 1]


def struct_page_flags(flags: int, numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the flags of struct page behind the kpageflags *flags*: name -> its bit in the enum *numbers*.

    A flag that this kernel does not have (slab, since it is a page type) is left out.
    """
    names = [STRUCT_PAGE_FLAGS[bit] for bit in STRUCT_PAGE_FLAGS if flags >> bit & 1]
    known = [next((name for name in either if name in numbers), None) for either in names]
    return dict(sorted(((name, numbers[name]) for name in known if name), key=lambda item: item[1]))


def backing(mm: Mm, pfn: int) -> dict[str, Any]:
    """Return where the struct page of *pfn* is: its address, the leaf that maps it, the page behind it."""
    va = mm.arch.vmemmap_address(pfn)
    leaf = mm.leaves.get(va)
    if leaf is None:
        return {"va": va, "leaf_bytes": None, "pfn": None, "from": None}
    known = None if leaf.owner == "early" else leaf_pfn(mm, va, leaf)
    return {"va": va, "leaf_bytes": leaf.size, "pfn": known, "from": leaf.owner}


def free_block(mm: Mm, pfn: int, page: Page) -> Chunk | None:
    """Return the buddy block that the free page *pfn* is in; None while it is isolated."""
    area = mm.free[page.nid, page.zone]
    first = pfn - (1 << mm.arch.max_order) + 1
    return next((chunk for chunk in area.chunks(first, pfn + 1) if pfn < chunk.pfn + (1 << chunk.order)), None)


def page_data(mm: Mm, pfn: int, numbers: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return everything about one page, for `page`; *numbers* is a kernel's ``enum pageflags``."""
    page, bits = mm.pages.get(pfn), mm.sections.get(pfn)
    block = mm.blocks.get(pfn // mm.block_pages)
    kind: MigrateType | None = mm.pageblocks.get(pfn)
    flags = kpageflags(mm, pfn)
    run = mm.pages.run_at(pfn)
    return {
        "pfn": pfn,
        "address": pfn << mm.arch.page_shift,
        "valid": bits is not None,
        "owner": page.owner.value if page else None,
        "tag": page.tag if page and page.tag > 0 else None,
        "flags": flags,
        "flag_names": flag_names(flags),
        "struct_page_flags": None if numbers is None or page is None else struct_page_flags(flags, numbers),
        "node": page.nid if page else None,
        "zone": page.zone.label if page else None,
        "migratetype": kind.name.capitalize() if kind is not None else None,
        "block": block.id if block else None,
        "block_state": block.state if block else None,
        "section": pfn // mm.arch.pages_per_section,
        "section_flags": _section_flags(bits or 0),
        "run": [run[0], run[1]] if run else None,
        "buddy": _buddy(mm, pfn, page),
        "struct_page": backing(mm, pfn) if bits is not None else None,
    }


def _buddy(mm: Mm, pfn: int, page: Page | None) -> list[int] | None:
    chunk = free_block(mm, pfn, page) if page is not None and page.owner is Owner.FREE else None
    return [chunk.pfn, chunk.order] if chunk else None


def _section_flags(bits: int) -> list[str]:
    return [name for bit, name in SECTION_NAMES if bits & bit]


def _absent(data: Mapping[str, Any], *, marked: bool) -> str:
    """Say why the page is nobody's; *marked*: its struct page holds something."""
    if not data["valid"]:
        return "no memory here"
    if "early" in data["section_flags"] and data["block_state"] == "online":
        return "a hole in the memory of boot: no RAM, its struct page is reserved"
    return "offline" if marked else "offline: the struct page is there and means nothing yet"


def page_text(mm: Mm, pfn: int, numbers: Mapping[str, int] | None = None, kernel: str = "") -> str:
    """Return the view of `page`; *numbers* is the ``enum pageflags`` of *kernel*."""
    data, page = page_data(mm, pfn, numbers), mm.pages.get(pfn)
    lines = [f"page:{pfn:#x} at {data['address']:#x}, {_place(mm, pfn)}"]
    content = content_line(mm, pfn)
    if page is None:
        lines.append(_absent(data, marked=content is not None))
    else:
        tag = f" (alloc {page.tag})" if page.tag > 0 else ""
        start, end = data["run"]
        lines.append(f"{PFN_TYPES[page.owner]}{tag}; the same: pfns {start:#x} to {end - 1:#x} ({end - start} pages)")
        lines += _flags(data, kernel)
        lines.append(f"node:{page.nid} zone:{page.zone.label} migratetype:{data['migratetype']}")
        if data["buddy"]:
            lines.append(f"buddy: in a free block of order {data['buddy'][1]} at pfn {data['buddy'][0]:#x}")
    if content is not None:
        lines.append(content)
    lines.append(_struct_page(data["struct_page"]))
    return "\n".join(lines) + "\n"


def _flags(data: dict[str, Any], kernel: str) -> list[str]:
    """Return the flags of struct page where a kernel numbers them, and those of /proc/kpageflags."""
    shown = f"{data['flags']:#x}({'|'.join(data['flag_names']) or 'none'})"
    found = data["struct_page_flags"]
    if found is None:
        return [f"flags: {shown}"]
    names = "|".join(name.removeprefix("PG_") for name in found) or "none"
    value = sum(1 << bit for bit in found.values())
    return [f"flags: {value:#x}({names}), bits of {kernel}", f"kpageflags: {shown}"]


def _place(mm: Mm, pfn: int) -> str:
    section, block = pfn // mm.arch.pages_per_section, mm.blocks.get(pfn // mm.block_pages)
    return f"section {section}, " + (f"memory{block.id} ({block.state})" if block else "no memory block")


def _struct_page(found: dict[str, Any] | None) -> str:
    if found is None:
        return "no struct page"
    if found["leaf_bytes"] is None:
        return f"struct page at {found['va']:#x}: not mapped"
    source = {"early": "boot memory", "altmap": "the memory itself (altmap)", "buddy": "existing memory (buddy)"}
    where = "" if found["pfn"] is None else f" at pfn {found['pfn']:#x}"
    leaf = f"a {format_size(found['leaf_bytes'])} leaf on {source[found['from']]}{where}"
    return f"struct page at {found['va']:#x}, in {leaf}"


# --- section ---


def section_data(mm: Mm, number: int) -> dict[str, Any]:
    """Return everything about one section, for `section`."""
    size = mm.arch.pages_per_section
    start, end = number * size, (number + 1) * size
    runs = list(mm.sections.items(start, end))
    low, high = mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)
    return {
        "section": number,
        "start_pfn": start,
        "end_pfn": end,
        "root": number * mm.arch.mem_section_size // mm.arch.page_size,
        "flags": _section_flags(runs[0][2]) if runs else [],
        "subsections": sum(b - a for a, b, _ in runs) // mm.arch.pages_per_subsection,
        "subsections_of": size // mm.arch.pages_per_subsection,
        "block": start // mm.block_pages if start // mm.block_pages in mm.blocks else None,
        "memmap": [low, high],
        "leaves": leaves(mm, low, high),
    }


def section_text(mm: Mm, number: int) -> str:
    """Return the view of `section`."""
    data = section_data(mm, number)
    first, last = data["start_pfn"] << mm.arch.page_shift, (data["end_pfn"] << mm.arch.page_shift) - 1
    low, high = data["memmap"]
    pfns = f"{data['start_pfn']:#x}-{data['end_pfn'] - 1:#x}"
    lines = [f"section {number}: {first:#x}-{last:#x}, pfns {pfns}, root {data['root']}"]
    if not data["subsections"]:
        return lines[0] + "\nnot present\n"
    block = "none" if data["block"] is None else f"memory{data['block']} ({mm.blocks[data['block']].state})"
    lines.append(
        f"flags: {' '.join(data['flags'])}; "
        f"subsections: {data['subsections']} of {data['subsections_of']}; block: {block}"
    )
    lines.append(f"memmap: {low:#x}-{high - 1:#x} ({format_size(high - low)})")
    return "\n".join(lines) + "\n" + leaf_table(mm, data["leaves"])


# --- altmaps and mappings ---


def altmaps(mm: Mm) -> list[dict[str, Any]]:
    """Return the altmaps of memory blocks, and of devices that hold their own memmap.

    Bytes for start and size, else pages; head is of the 2018 series only.
    """
    shift = mm.arch.page_shift
    owners: list[tuple[int, int, Altmap | VmemAltmap | None]]
    owners = [(block_start(mm, n) << shift, mm.block_size, block.altmap) for n, block in mm.blocks.items()]
    owners += [(start, device.size, device.altmap) for start, device in mm.pagemaps.items()]
    found = [_altmap(start, size, altmap) for start, size, altmap in owners if altmap is not None]
    return sorted(found, key=lambda row: row["start"]) + range_altmaps(mm)


def _altmap(start: int, size: int, altmap: Altmap | VmemAltmap) -> dict[str, Any]:
    first = altmap.base_pfn + altmap.reserve
    return {
        "start": start,
        "size": size,
        "base_pfn": altmap.base_pfn,
        "reserve": altmap.reserve,
        "free": altmap.free,
        "align": altmap.align,
        "alloc": altmap.alloc,
        "nr_sects": None,
        "vmemmap_pages": altmap.alloc,
        "first_pfn": first,
        "last_pfn": first + altmap.alloc + altmap.align - 1,
        "head": None,
        "head_refcount": None,
    }


def leaves(mm: Mm, start: int, end: int) -> list[list[int | None]]:
    """Return [va, n, bytes, pfn] for the leaves that meet [start, end); pfns of boot memory are not known."""
    found: list[list[int | None]] = []
    widest = max((leaf.size for _, _, leaf in mm.leaves.items(start, end)), default=1)
    for a, b, leaf in mm.leaves.items(align_down(start, widest), -(-end // widest) * widest):
        low, high = max(a, align_down(start, leaf.size)), min(b, -(-end // leaf.size) * leaf.size)
        if low < high:
            found.append(
                [
                    low,
                    -(-(high - low) // leaf.size),
                    leaf.size,
                    None if leaf.owner == "early" else leaf_pfn(mm, low, leaf),
                ]
            )
    return found


def mapping_data(mm: Mm, blocks: list[int] | None, *, direct: bool = False) -> dict[str, Any]:
    """Return leaves and tables of the vmemmap, or of the *direct* map, for some *blocks* or for all."""
    ranges = _address_ranges(mm, blocks, direct=direct)
    found = _once(mm, [leaf for start, end in ranges for leaf in leaves(mm, start, end)])
    tables: dict[str, list[list[int | None]]] = {}
    for (level, address), table in mm.tables.items():
        if any(address < end and address + table.span > start for start, end in ranges):
            tables.setdefault(level, []).append([address, None if table.owner == "early" else table.pfn])
    return {"leaves": found, "tables": tables}


def _once(mm: Mm, found: list[list[Any]]) -> list[list[int | None]]:
    """Leave out what a range before has shown: neighbouring blocks may share a leaf."""
    kept: list[list[int | None]] = []
    shown = 0
    for va, count, size, pfn in found:
        skip = min(count, max(0, -(-(shown - va) // size)))
        shown = va + count * size
        if skip < count:
            moved = None if pfn is None else pfn + (skip * size >> mm.arch.page_shift)
            kept.append([va + skip * size, count - skip, size, moved])
    return kept


def _address_ranges(mm: Mm, blocks: list[int] | None, *, direct: bool) -> list[tuple[int, int]]:
    if blocks is None:
        pfns = [(0, max((end for _, end, _ in mm.sections.items()), default=0))]
    else:
        pfns = [(block_start(mm, number), block_start(mm, number + 1)) for number in sorted(blocks)]
    if direct:
        base, shift = mm.arch.page_offset, mm.arch.page_shift
        return [(base + (a << shift), base + (b << shift)) for a, b in pfns]
    return [(mm.arch.vmemmap_address(a), mm.arch.vmemmap_address(b)) for a, b in pfns]


def mapping_text(mm: Mm, data: dict[str, Any]) -> str:
    """Return the view of `vmemmap` for what `mapping_data` found."""
    text = leaf_table(mm, data["leaves"])
    counts = [f"{len(tables)} {level}" for level, tables in data["tables"].items()]
    return text + f"tables: {', '.join(counts) or 'none'}\n"


_MOST = 32  # lines of leaves; -F json has all


def leaf_table(mm: Mm, found: list[list[int | None]]) -> str:
    """Return leaves as a table, one line for each run of equal leaves."""
    lines = [f"{'ADDRESS':<18} {'LEAVES':>6} {'SIZE':>4} {'PFN':>12}  FROM"]
    for va, count, size, pfn in islice(found, _MOST):
        assert va is not None
        assert size is not None
        owner = mm.leaves.get(va)
        where = "?" if pfn is None else f"{pfn:#x}"
        lines.append(f"{va:#018x} {count:>6} {format_size(size):>4} {where:>12}  {leaf_source(owner)}")
    if len(found) > _MOST:
        lines.append(f"... and {len(found) - _MOST} more runs; -F json has them all")
    return "\n".join(lines) + "\n"


def leaf_source(leaf: Leaf | None) -> str:
    """Return where the page behind a leaf came from, in a word."""
    return (
        {"early": "boot", "buddy": "buddy", "altmap": "altmap", "ram": "direct map"}.get(leaf.owner, leaf.owner)
        if leaf
        else ""
    )
