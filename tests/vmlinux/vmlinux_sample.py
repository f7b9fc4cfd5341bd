"""A small made-up kernel: the types that memshell reads, with numbers of its own.

The numbers are no kernel's; what counts is that every format of every target says the same.
"""

from __future__ import annotations

import vmlinux_build as b

TARGETS = {"x86_64": ("<", 62), "ppc64le": ("<", 21), "ppc64": (">", 21), "s390x": (">", 22)}
FLAGS = {"PG_locked": 0, "PG_writeback": 1, "PG_referenced": 2, "PG_alias": 2, "__NR_PAGEFLAGS": 3}
MIGRATE = {"MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_ISOLATE": 2, "MIGRATE_TYPES": 3}
ZONES = {"ZONE_NORMAL": 0, "ZONE_MOVABLE": 1, "__MAX_NR_ZONES": 2}
BANNER = b"Linux version 6.99.0-sample (somebody@example) #1 SMP\n\0"
BANNER_ADDRESS = 0x81000000


def types(page_size=64, longs=1, orders=11):
    """The roots: struct page with a union and a typedef in it, and what is around it."""
    ulong = b.Int("long unsigned int", 8)
    uint = b.Int("unsigned int", 4)
    list_head = b.Record("struct", "list_head", 16)
    list_head.members = [("next", b.Ptr(list_head), 0), ("prev", b.Ptr(list_head), 8)]
    atomic = b.Typedef("atomic_t", b.Record("struct", "", 4, [("counter", uint, 0)]))
    inner = b.Record("struct", "", 40, [("lru", list_head, 0), ("mapping", b.Ptr(None), 16), ("index", ulong, 24)])
    union = b.Record("union", "", 40, [("", inner, 0), ("compound_head", ulong, 0)])
    page = b.Record("struct", "page", page_size, [("flags", ulong, 0), ("", union, 8)])
    page.members += [("_mapcount", atomic, 48), ("_refcount", atomic, 52)]
    if page_size > 56:
        page.members += [("memcg_data", b.Array(ulong, (page_size - 56) // 8), 56)]
    usage = b.Record("struct", "mem_section_usage", 8 * longs)
    usage.members = [("subsection_map", b.Array(ulong, longs), 0), ("pageblock_flags", b.Array(ulong, 0), 8 * longs)]
    section = b.Record("struct", "mem_section", 16, [("section_mem_map", ulong, 0), ("usage", b.Ptr(usage), 8)])
    area = b.Record("struct", "free_area", 56, [("free_list", b.Array(list_head, 3), 0), ("nr_free", ulong, 48)])
    zone = b.Record("struct", "zone", 56 * orders + 8, [("free_area", b.Array(area, orders), 0)])
    zone.members += [("first", uint, 448 * orders, 3), ("second", uint, 448 * orders + 3, 5)]
    node = b.Record("struct", "pglist_data", 2 * zone.size, [("node_zones", b.Array(zone, 2), 0)])
    enums = [b.Enumeration(n, v) for n, v in (("pageflags", FLAGS), ("migratetype", MIGRATE), ("zone_type", ZONES))]
    return [page, usage, section, node, *enums]


EXAMPLE_FLAGS = {  # the numbers of Debian's 6.12.107 for x86_64, some of them
    "PG_locked": 0, "PG_uptodate": 3, "PG_dirty": 4, "PG_lru": 5, "PG_head": 6, "PG_owner_priv_1": 10,
    "PG_vmemmap_self_hosted": 10, "PG_reserved": 13, "PG_swapbacked": 17, "__NR_PAGEFLAGS": 24,
}  # fmt: skip
EXAMPLE_MIGRATE = {
    "MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_RECLAIMABLE": 2, "MIGRATE_PCPTYPES": 3,
    "MIGRATE_HIGHATOMIC": 3, "MIGRATE_ISOLATE": 4, "MIGRATE_TYPES": 5,
}  # fmt: skip


def example(target="x86_64", release="6.12.0-example", page=4096, section=16, flags=None, **sizes):
    """The "vmlinux" of the commands' examples; *sizes* as for `types`, *page* and *section* in bytes."""
    kept = [kind for kind in types(**sizes) if kind.name not in {"pageflags", "migratetype"}]
    enums = [b.Enumeration("pageflags", flags or EXAMPLE_FLAGS), b.Enumeration("migratetype", EXAMPLE_MIGRATE)]
    next(kind for kind in kept if kind.name == "mem_section").size = section
    name = "empty_zero_page" if target == "x86_64" else "vdso_data_store"
    made = image(target, more=[(name, 0x81010000, page, 1, 1)] if page else [], roots=[*kept, *enums])
    banner = f"Linux version {release} (somebody@example) #1 SMP\n".encode()
    return made.replace(BANNER, banner[: len(BANNER) - 1].ljust(len(BANNER), b"\0"))


def regs(*names):
    """A struct pt_regs that tells the architecture."""
    ulong = b.Int("long unsigned int", 8)
    return b.Record("struct", "pt_regs", 8 * len(names), [(name, ulong, 8 * i) for i, name in enumerate(names)])


def btf(target="x86_64", roots=None):
    """A BTF blob."""
    return b.btf(roots or types(), TARGETS[target][0])


def symbols(*more):
    """The usual ones: the banner, one global and one local of a name, and *more*."""
    return [
        ("linux_banner", BANNER_ADDRESS, len(BANNER), 1, 1),
        ("online_pages", 0x81002000, 64, 1, 1),
        ("twice", 0x81003000, 8, 0, 1),
        ("twice", 0x81004000, 8, 1, 1),
        ("unclear", 0x81005000, 8, 0, 1),
        ("unclear", 0x81006000, 8, 0, 1),
        *more,
    ]


def image(target="x86_64", debug="btf", more=(), roots=None, kind=2, **options):
    """A whole vmlinux: .rodata with the banner, symbols, and *debug*: btf, dwarf, or sections by name."""
    order, machine = TARGETS[target]
    roots = roots or types()
    if debug == "btf":
        sections = {".BTF": b.btf(roots, order)}
    elif debug == "dwarf":
        sections = b.Dwarf(roots, order, **options).sections()
    else:
        sections = debug
    rodata = b.Section(BANNER, addr=BANNER_ADDRESS)
    return b.elf({".rodata": rodata, **sections}, order, machine, kind, symbols(*more))
