"""The worked tables of the 2018 series beyond the vectors: content, orders, powerpc, s390, failures, partial removals.

Sources: the recordings of a 4.20 kernel with the series (x86_64), and for powerpc and s390 the table that was
computed from its mails.
"""

import pytest
from series_machines import GIB, MIB, add, cycle, data, events, histogram, machine, remove, run, states, unpatched

from memshell.mm.mmzone import ZoneType
from memshell.series.invariants import memmap_frames
from memshell.series.page_alloc import put_page
from memshell.series.processes import process_runs

SECTION = 128 * MIB
BASE = 0xFFFFEA0004000000  # the struct page of pfn 0x100000


@pytest.mark.parametrize(
    "size, blocks, refcount, nr_sects, pages, tens, nines, misaligned, visits",
    [  # recordings B-128M, B-512M, B-1G, B-8G, B-10G; the spec's 9 GiB row
        (SECTION, 1, 1, 0, 32256, 31, 1, 31, 32769),
        (512 * MIB, 4, 4, 0, 129024, 126, 0, 0, 131073),
        (GIB, 8, 8, 0, 258048, 252, 0, 0, 262145),
        (8 * GIB, 64, 64, 1, 2064384, 2016, 0, 0, 2097153),
        (9 * GIB, 72, 72, 1, 2322432, 2268, 0, 0, 2359298),
        (10 * GIB, 80, 80, 1, 2580480, 2520, 0, 0, 2621442),
    ],
)
def test_a_whole_cycle(size, blocks, refcount, nr_sects, pages, tens, nines, misaligned, visits):
    target = machine()
    before = target.mm.totalram_pages
    assert add(target, size) is None
    assert data(target, "VmemmapMarked", "refcount", "nr_sects")[-1] == (refcount, nr_sects)
    assert states(target, "online_movable", size=size) is None
    zone = target.mm.zones[0, ZoneType.MOVABLE]
    assert (zone.spanned, zone.present, zone.managed) == (blocks * 32768, pages, pages)
    assert target.mm.totalram_pages - before == pages
    assert histogram(target) == {order: count for order, count in ((10, tens), (9, nines)) if count}
    assert sum(n for (n,) in data(target, "PagesOnlined", "misaligned")) == misaligned
    assert sum(n for (n,) in data(target, "RangeOnlined", "visits")) == visits
    assert states(target, "offline", size=size) is None
    assert remove(target, size) is None
    frees = data(target, "VmemmapFreed", "start", "end")
    assert frees == [(BASE + k * 2 * MIB, BASE + (k + 1) * 2 * MIB) for k in range(blocks - 1, -1, -1)]
    assert not target.mm.vmemmap_head
    assert target.mm.totalram_pages == before


def test_the_published_log_of_10_gib():
    """80 sections, the head with 80, struct pages to ffffea000427ffc0, frees from ffffea000de00000 down."""
    target = machine()
    add(target, 10 * GIB)
    marks = [event.data for event in events(target, "VmemmapMarked")]
    assert {mark["head"] for mark in marks} == {BASE}
    assert (marks[62]["pfn"], marks[62]["refcount"], marks[62]["nr_sects"]) == (0x107C00, 63, 0)
    assert (marks[63]["pfn"], marks[63]["refcount"], marks[63]["nr_sects"]) == (0x107E00, 64, 1)
    assert (marks[64]["pfn"], marks[64]["refcount"]) == (0x108000, 65)
    assert (marks[79]["pfn"], marks[79]["refcount"], marks[79]["free"]) == (0x109E00, 80, 2580480)
    last = marks[-1]["pfn"] + marks[-1]["nr"] - 1
    assert target.mm.arch.vmemmap_address(last) == 0xFFFFEA000427FFC0
    remove(target, 10 * GIB)
    frees = data(target, "VmemmapFreed", "start", "end")
    assert len(frees) == 80
    assert frees[0] == (0xFFFFEA000DE00000, 0xFFFFEA000E000000)
    assert frees[-1] == (0xFFFFEA0004000000, 0xFFFFEA0004200000)
    assert [count for (count,) in data(target, "HeadPut", "after")] == list(range(79, -1, -1))


@pytest.mark.parametrize(
    "features, size, freed, address",
    [  # the recordings C-*: calls of vmemmap_free(), the faulting one among them
        ({"bug__ascending_free": True}, GIB, 2, 0xFFFFEA0004008000),
        ({"bug__ascending_free": True}, 10 * GIB, 2, 0xFFFFEA0004008000),
        ({"bug__ascending_free": True}, SECTION, 1, None),
        ({"vmemmap__free_order": "host0-last"}, GIB, 8, None),
        ({"vmemmap__free_order": "host0-last"}, 8 * GIB, 64, None),
        ({"vmemmap__free_order": "host0-last"}, 10 * GIB, 64, 0xFFFFEA0004200000),
        ({"vmemmap__free_order": "host1-host0-last"}, GIB, 8, None),
        ({"vmemmap__free_order": "host1-host0-last"}, 10 * GIB, 80, None),
        ({"check____kfree_section_memmap": False}, GIB, 2, 0xFFFFEA0004008000),
        ({"check____kfree_section_memmap": False}, SECTION, 1, None),
    ],
)
def test_the_order_of_frees(features, size, freed, address):
    target = machine(**features)
    error = cycle(target, size)
    assert len(events(target, "VmemmapFreed")) == freed
    assert (error.address if error else None) == address
    assert (error.function if error else None) == ("free_pagetable" if address else None)
    assert bool(target.mm.crashed) == bool(address)


def test_2017_frees_at_once_and_faults_from_two_sections_on():
    """ "2GB memblocks just crashed", M. Hocko, 2018-10-31; one section works."""
    assert cycle(machine(profile="rfc-2017"), SECTION) is None
    assert cycle(machine(profile="rfc-2017"), 2 * SECTION).address == 0xFFFFEA0004008000


@pytest.mark.parametrize("profile", ["rfc-v2-2019", "patch-v1-2019"])
@pytest.mark.parametrize("sections", [1, 3, 8, 65, 80])
def test_2019_counts_once_and_is_clean(profile, sections):
    target = machine(profile=profile)
    assert add(target, sections * SECTION) is None
    (mark,) = events(target, "VmemmapMarked")
    assert (mark.data["refcount"], mark.data["nr"]) == (sections, 512 * sections)
    assert states(target, "online_movable", size=sections * SECTION) is None
    zone = target.mm.zones[0, ZoneType.MOVABLE]
    assert (zone.present, zone.managed) == (32768 * sections, 32256 * sections)
    misaligned = sum(n for (n,) in data(target, "PagesOnlined", "misaligned"))
    assert (misaligned > 0) == (profile == "rfc-v2-2019" and sections % 2 == 1)
    assert sum(n for (n,) in data(target, "RangeOnlined", "visits")) == sections  # one struct page a block
    assert states(target, "offline", size=sections * SECTION) is None
    assert remove(target, sections * SECTION) is None
    assert not target.mm.struct_pages or not any(
        getattr(page, "vmemmap", False) for _, _, page in target.mm.struct_pages.items()
    )


@pytest.mark.parametrize(
    "content, size, address",
    [  # recordings E-*: 0xff and a first count of 63 oops at the second section, 62 does not
        ("poison", GIB, 0xFFFFEA0003E00034),
        ("count:63", GIB, 0xFFFFEA0003E00034),
        ("count:62", GIB, None),
        ("zero", GIB, None),
        ("poison", SECTION, None),
    ],
)
def test_initial_content(content, size, address):
    target = machine(content=content)
    error = add(target, size)
    assert (error.address if error else None) == address
    assert (error.function if error else None) == ("mark_vmemmap_pages" if address else None)


def test_the_count_that_starts_clean_does_not_care_about_content():
    assert cycle(machine(content="poison", bug__mark_counts_garbage=False), GIB).errno == "EINTR"
    assert cycle(machine(content="random:7", profile="patch-v1-2019"), GIB) is None


@pytest.mark.parametrize("check, outcome", [(True, "EINTR"), (False, "hang")])
def test_garbage_flags_make_offline_endless(check, outcome):
    """Recordings E-poison-128M-nokpf (a signal ends it) and D-9-128M-poison-nokpf (it does not)."""
    target = machine(content="poison", check__do_migrate_range=check)
    add(target, SECTION)
    states(target, "online_movable", size=SECTION)
    error = states(target, "offline", size=SECTION)
    assert getattr(error, "kind", error.errno) == outcome


@pytest.mark.parametrize(
    "first, second, lost",
    [(10 * GIB, 5 * GIB, 20480), (GIB, 512 * MIB, 2048), (10 * GIB, 10 * GIB, 0)],  # recordings B-stale-*
)
def test_stale_marks_keep_memory_offline(first, second, lost):
    target = machine()
    assert cycle(target, first) is None
    add(target, second)
    states(target, "online_movable", size=second)
    expected = second // 4096 - second // 4096 // 64 - lost
    assert target.mm.zones[0, ZoneType.MOVABLE].present == expected
    assert states(target, "offline", size=second) is None
    assert remove(target, second) is None
    assert cycle(machine(bug__stale_marks=False), first) is None


def test_debug_vm_refuses_misaligned_frees():
    """Recordings G-debugvm-*: an odd number of sections is a BUG at the first online, an even one clean."""
    target = machine(content="zero", config__debug_vm=True)
    add(target, SECTION)
    assert states(target, "online_movable", size=SECTION).function == "__free_one_page"
    assert cycle(machine(content="zero", config__debug_vm=True), 512 * MIB) is None
    assert add(machine(config__debug_vm=True), GIB).address == 0xFFFFEA0003E00034


def test_reserve_that_was_never_set():
    """Recording E-reserve1-1G."""
    target = machine(altmap__reserve=1)
    assert add(target, GIB).errno == "EINVAL"
    assert not [block for block in target.mm.blocks.values() if not block.early]


def failing_add(target, at):
    target.mm.faults["section_usage"] = at
    return add(target, GIB)


def test_a_failed_add_leaves_sections_that_cannot_be_onlined():
    """Recording F-usemap-then-del."""
    target = machine()
    assert failing_add(target, 6).errno == "ENOMEM"
    assert [block.id for block in target.mm.blocks.values() if not block.early] == [32, 33, 34, 35, 36]
    assert states(target, "online_movable", [32]).errno == "EPERM"
    assert remove(target, 5 * SECTION) is None
    frees = data(target, "VmemmapFreed", "start", "direct")
    assert frees == [(BASE + 5 * 2 * MIB, True)] + [(BASE + k * 2 * MIB, False) for k in (4, 3, 2, 1, 0)]


def test_a_retry_maps_two_memmaps_on_one_frame():
    """Recording F-usemap-retry: blocks 32 and 37 share struct pages; a walk of the free lists never ends."""
    target = machine()
    failing_add(target, 6)
    assert add(target, GIB) is None
    assert [mark[:2] for mark in data(target, "VmemmapMarked", "pfn", "refcount")[5:]] == [
        (0x100000, 1),
        (0x100200, 2),
        (0x100400, 3),
    ]
    assert states(target, "online_movable", size=GIB) is None
    pieces = {pfn: (nr, misaligned) for pfn, nr, misaligned in data(target, "PagesOnlined", "pfn", "nr", "misaligned")}
    assert pieces[0x100A00] == pieces[0x128A00] == (30208, 29)
    assert run(target, "look", process_runs).kind == "hang"
    again = machine(bug__retry_restarts_altmap=False)
    failing_add(again, 6)
    assert add(again, GIB).errno == "EEXIST"
    clean = machine(bug__failed_add_stays=False)
    failing_add(clean, 6)
    assert add(clean, GIB) is None
    assert states(clean, "online_movable", size=GIB) is None
    assert run(clean, "look", process_runs) is None


def test_2019_sets_the_count_of_an_add_that_failed():
    target = machine(profile="rfc-v2-2019")
    failing_add(target, 6)
    assert data(target, "VmemmapMarked", "refcount") == [(8,)]  # of 8 sections, and only 5 exist
    remove(target, 5 * SECTION)
    assert target.mm.vmemmap_head is not None  # never 0
    fixed = machine(profile="rfc-v2-2019", bug__count_set_after_failed_add=False)
    failing_add(fixed, 6)
    remove(fixed, 5 * SECTION)
    assert fixed.mm.vmemmap_head is None


def test_partial_removal():
    """Recordings F-half-then-B, F-half-then-C, F-half-then-below, F-half-1G-look."""
    rest = machine()
    add(rest, 2 * SECTION)
    assert remove(rest, SECTION) is None
    assert remove(rest, SECTION, 4 * GIB + SECTION) is None
    assert [after for (after,) in data(rest, "HeadPut", "after")] == [1, 0]
    above = machine()
    add(above, 2 * SECTION)
    add(above, GIB, 5 * GIB)
    remove(above, SECTION)
    assert remove(above, GIB, 5 * GIB).address == 0xFFFFEA0005008000
    assert len(events(above, "VmemmapFreed")) == 10
    below = machine()
    add(below, SECTION)
    add(below, 2 * SECTION, 5 * GIB)
    remove(below, SECTION, 5 * GIB)
    assert remove(below, SECTION) is None
    assert not events(below, "VmemmapFreed")
    leaf = machine()
    add(leaf, GIB)
    states(leaf, "online_movable", range(33, 40))
    remove(leaf, SECTION)
    assert run(leaf, "look", process_runs).function == "__pagevec_lru_add_fn"
    refused = machine(bug__partial_remove=False)
    add(refused, 2 * SECTION)
    assert remove(refused, SECTION).errno == "EINVAL"


def test_one_put_too_many():
    """Recordings D-*-put: without DEBUG_VM the page is handed out and written over, check 7 or not."""
    for check in (True, False):
        target = machine(check__free_pages_check=check)
        add(target, GIB)
        states(target, "online_movable", size=GIB)
        assert run(target, "put", lambda mm: put_page(mm, 0x100100)) is None
        assert run(target, "look", process_runs).function == "pagetypeinfo_show"
    late, early = (
        machine(content="zero", config__debug_vm=True, check__free_pages_check=check) for check in (True, False)
    )
    for target in (late, early):
        add(target, GIB)
        states(target, "online_movable", size=GIB)
        run(target, "put", lambda mm: put_page(mm, 0x100100))
        assert run(target, "look", process_runs) is None
        assert data(target, "BadPageState", "pfn") == [(0x100100,)]
    assert states(late, "offline", [32]).errno == "EINTR"
    assert states(early, "offline", [32]) is None


POWERPC = {"ram": "16G"}


@pytest.mark.parametrize(
    "options, size, flagged, leaked, freed, warnings",
    [  # the table of 64K pages: 256 MiB LMB and 1 GiB at 16 GiB
        ({"mmu": "hash"}, 256 * MIB, 256, 1, 1, 0),
        ({"vmemmap": "64K"}, 256 * MIB, 4, 4, 4, 12),
        ({"vmemmap": "64K"}, GIB, 16, 16, 16, 48),
    ],
)
def test_powerpc_removal(options, size, flagged, leaked, freed, warnings):
    """As written, ``continue`` leaves the mappings.

    Fixed, they go, and each further visit of a unit warns.
    """
    written = machine("powerpc", options={**POWERPC, **options})
    add(written, size, 16 * GIB)
    assert sum(nr for (nr,) in data(written, "VmemmapMarked", "nr")) == flagged
    remove(written, size, 16 * GIB)
    assert len(events(written, "MappingLeaked")) == leaked
    fixed = machine("powerpc", options={**POWERPC, **options}, bug__powerpc_vmemmap_continue=False)
    add(fixed, size, 16 * GIB)
    units = sum((end - start) // leaf.size for start, end, leaf in fixed.mm.leaves.items() if leaf.owner == "altmap")
    remove(fixed, size, 16 * GIB)
    assert units == freed
    assert not [leaf for _, _, leaf in fixed.mm.leaves.items() if leaf.owner not in ("early", "ram")]
    assert len(events(fixed, "Warning")) == len(events(written, "Warning")) == warnings


def test_powerpc_hash_needs_backwards_from_16_gib_on():
    """20 GiB at 16 GiB: two mappings.

    The second's frame is described in the first, which goes with section 1023.
    """
    target = machine("powerpc", options={**POWERPC, "mmu": "hash"}, bug__powerpc_vmemmap_continue=False)
    add(target, 20 * GIB, 16 * GIB)
    assert sum(nr for (nr,) in data(target, "VmemmapMarked", "nr")) == 512
    error = remove(target, 20 * GIB, 16 * GIB)
    assert error.address == target.mm.arch.vmemmap_address(0x40100)


def test_powerpc_first_lmb_removed_first():
    """The first memory block of a 16 GiB window holds the second one's struct pages, and nothing counts that."""
    target = machine("powerpc", options={**POWERPC, "mmu": "hash"})
    add(target, 256 * MIB, 16 * GIB)
    add(target, 256 * MIB, 16 * GIB + 256 * MIB)
    assert remove(target, 256 * MIB, 16 * GIB) is None
    assert any("which are gone" in sentence for sentence in memmap_frames(target.mm))


def test_powerpc_shared_window_takes_nothing_from_the_range():
    target = machine("powerpc", options={"ram": "4G", "mmu": "hash"})
    add(target, 256 * MIB)
    assert sum(nr for (nr,) in data(target, "VmemmapMarked", "nr")) == 0
    assert data(target, "VmemmapMarked", "refcount")[-1] == (16,)  # on an ordinary page
    assert not events(
        machine("powerpc", options={"ram": "4G", "mmu": "hash"}, bug__stray_refcount=False), "VmemmapMarked"
    )


def test_powerpc_overshoot_against_the_reserved_test():
    """A chunk that reaches over the section clears PG_reserved of the next one, which is then never onlined.

    The table of the vectors has 4096 pages with 4 freed twice: the rule without the test of PageReserved().
    """
    target = machine("powerpc", options={**POWERPC, "vmemmap": "64K"})
    add(target, 256 * MIB, 16 * GIB)
    states(target, "online_movable", size=256 * MIB, start=16 * GIB)
    assert histogram(target) == {8: 15}
    assert not events(target, "DoubleFree")


@pytest.mark.parametrize("parentheses, blocks, marks", [(True, 0, 0), (False, 4, 0)])
def test_s390_veto(parentheses, blocks, marks):
    """The macro without parentheses clears MHP_MEMBLOCK_API too: no memory block, nothing to online."""
    target = machine("s390", bug__mhp_macro_parentheses=parentheses)
    size = 4 * target.mm.block_size
    start = 16 * GIB
    assert add(target, size, start) is None
    assert len([block for block in target.mm.blocks.values() if not block.early]) == blocks
    assert len(events(target, "VmemmapMarked")) == marks
    if blocks:
        assert remove(target, size, start).errno == "EBUSY"  # s390 could not remove until v5.3


def test_s390_constructor_of_january_2019():
    """Read from the mail of 2019-01-22: init() returns early, and the constructor runs all the same."""
    target = machine("s390", profile="rfc-v2-2019", bug__mhp_macro_parentheses=False)
    assert add(target, 4 * target.mm.block_size, 16 * GIB).function == "mark_vmemmap_pages"
    fixed = machine("s390", profile="rfc-v2-2019", bug__constructor_without_altmap=False)
    assert add(fixed, 4 * fixed.mm.block_size, 16 * GIB) is None


def test_s390_without_the_veto_counts_an_ordinary_page():
    target = machine("s390", check__s390_veto=False)
    size = 4 << target.mm.arch.section_size_bits
    add(target, size, 16 * GIB)
    assert sum(nr for (nr,) in data(target, "VmemmapMarked", "nr")) == 0
    assert data(target, "VmemmapMarked", "refcount")[-1] == (4,)


def test_the_unpatched_kernel_pays_from_existing_memory():
    """Recordings A-1G (-4096 memmap) and B-1G."""
    plain, series = unpatched(), machine()
    before = sum(zone.free for zone in plain.mm.zones.values())
    for target in (plain, series):
        add(target, GIB)
    assert before - sum(zone.free for zone in plain.mm.zones.values()) == 4096
    assert before - sum(zone.free for zone in series.mm.zones.values()) == 0
