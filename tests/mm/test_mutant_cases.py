"""Rules that a change of one line in the model broke without any other test to notice (tests/mutants.py)."""

import pytest

from memshell.api import Session
from memshell.errors import KernelError
from memshell.mm.invariants import violations
from memshell.mm.memory_hotplug.add import add_sections
from memshell.mm.memory_hotplug.online_policy import _room
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mmzone import MemoryGroup, MigrateType, ZoneType
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import _steal, alloc_pages, free_range
from memshell.mm.page_alloc.contig import alloc_contig_range
from memshell.mm.page_alloc.free_area import Chunk
from memshell.mm.page_alloc.watermarks import calculate_min_free_kbytes
from memshell.mm.page_isolation import has_unmovable_pages
from memshell.mm.page_isolation import test_pages_isolated as pages_isolated
from memshell.mm.pgtable import free_empty_table
from memshell.mm.sparse import sparse_add_section
from memshell.mm.sparse_vmemmap import vmemmap_populate_hugepages
from memshell.mm.state import SECTION_ONLINE
from memshell.mm.tables import Table


def played(text):
    session = Session()
    session.run(text)
    return session


def state(text):
    return played(text).shell.machine.mm


def error_of(session, line):
    with pytest.raises(KernelError) as found:
        session.run(line)
    return found.value.errno


WHOLE = "use powerpc page=4K block=1G ram=2G policy=memmap_on_memory; add 1G via=driver; online all movable"


def test_a_memmap_of_a_whole_section_is_online_and_offline_with_its_block():
    session = played(WHOLE)
    mm = session.shell.machine.mm
    block = mm.blocks[mm.blocks.last()]
    start = block.id * mm.block_pages
    assert block.nr_vmemmap_pages >= mm.arch.pages_per_section
    assert mm.sections.get(start) & SECTION_ONLINE
    session.run("offline last")
    assert not session.shell.machine.mm.sections.get(start) & SECTION_ONLINE


@pytest.mark.parametrize(("profile", "kind"), [("v6.12", MigrateType.MOVABLE), ("v6.17", MigrateType.UNMOVABLE)])
def test_a_failed_offline_leaves_pageblocks_movable_until_isolation_is_a_bit_of_its_own(profile, kind):
    session = played(f"use x86_64 ram=512M profile={profile}; add 128M; online 32 kernel; alloc 1M unmovable; free 1")
    mm = session.shell.machine.mm
    (pfn,) = (a for a, _, found in mm.pageblocks.items(32 << 15, 33 << 15) if found is MigrateType.UNMOVABLE)
    session.run("fault MEM_GOING_OFFLINE")
    assert error_of(session, "offline 32") == "EPERM"
    assert session.shell.machine.mm.pageblocks.get(pfn) is kind


def test_a_range_of_mixed_memmaps_is_einval():
    session = played("use x86_64; policy memmap_on_memory; add 128M; policy buddy; add 128M")
    assert error_of(session, "remove 0x100000000 256M via=module") == "EINVAL"
    assert len(session.shell.machine.mm.blocks) == 18


@pytest.mark.parametrize(("ratio", "zone"), [(25, ZoneType.MOVABLE), (24, ZoneType.NORMAL)])
def test_the_auto_movable_ratio_may_be_met_exactly(ratio, zone):
    mm = state(f"use powerpc ram=1G online_policy=auto-movable; set auto_movable_ratio={ratio}; add 256M; online last")
    assert mm.blocks[mm.blocks.last()].zone is zone


@pytest.mark.parametrize(("word", "zone"), [("kernel", ZoneType.NORMAL), ("movable", ZoneType.MOVABLE)])
def test_what_an_eject_took_offline_comes_back_to_the_kind_of_its_zone(word, zone):
    session = played(
        f"use x86_64; add 0x100000000 256M via=driver; online 32 {word}; online 33 movable; alloc 64M pinned at=0x108000000"
    )
    assert error_of(session, "eject 0x100000000 256M") in {"EINTR", "EBUSY"}
    assert session.shell.machine.mm.blocks[32].zone is zone


def test_a_leaf_of_the_vmemmap_stays_while_another_block_uses_it():
    session = played("use powerpc block=256M; add 512M via=driver")
    mm = session.shell.machine.mm
    first = mm.blocks.last() - 1
    va = mm.arch.vmemmap_address((first + 1) * mm.block_pages)
    leaf = mm.leaves.get(va)
    assert leaf.size == 2 << 20
    session.run(f"remove {first}")
    after = session.shell.machine.mm
    assert after.leaves.get(va) == leaf
    assert violations(after) == []
    session.run("remove last")
    assert session.shell.machine.mm.leaves.get(va) is None


X, P = 32, 1 << 15  # the first block behind 4 GiB of x86_64, and pages of a block


def zone(mm, kind, nid=0):
    return mm.zones[nid, kind]


def owners(mm, owner):
    return sum(b - a for a, b, page in mm.pages.items() if page.owner is owner)


def after_error(text, line, errno):
    """Play *text*, then *line*, which fails with *errno*; return the session."""
    session = played(text)
    assert error_of(session, line) == errno
    assert violations(session.shell.machine.mm) == []
    return session


# --- auto-movable


def test_kernel_memory_of_a_dynamic_group_makes_room_for_movable_memory():
    mm = state("use powerpc ram=1G online_policy=auto-movable; set auto_movable_ratio=100").copy()
    group = mm.groups[7] = MemoryGroup(7, 0, static=False, pages=4096, present_kernel=4096)
    assert _room(mm, None, 16384 + 4096, group)
    assert not _room(mm, None, 16384 + 4097, group)


def test_only_boot_memory_counts_against_movable_memory():
    mm = state("use powerpc ram=1G; add 1G; online last kernel; set auto_movable_ratio=100")
    assert _room(mm, None, 16384, None)
    assert not _room(mm, None, 16385, None)


def test_a_dimm_that_is_kernel_memory_in_part_stays_so():
    mm = state(
        "use x86_64 online_policy=auto-movable; set auto_movable_ratio=900; add 256M; online 32 kernel; online 33"
    )
    assert mm.blocks[33].zone is ZoneType.NORMAL


# --- what an add leaves


def test_an_altmap_begins_where_the_memory_does():
    mm = state("use x86_64").copy()
    with pytest.raises(KernelError) as found:
        add_sections(mm, 0, X * P, P, VmemAltmap(X * P + 512, (X + 1) * P - 1, free=512))
    assert found.value.errno == "EINVAL"


def test_a_node_that_got_no_memory_is_not_online():
    mm = after_error("use x86_64; fault section_usage", "add 128M node=1", "ENOMEM").shell.machine.mm
    assert not mm.nodes[1].online


@pytest.mark.parametrize("at", [1, 2])
def test_blocks_that_cannot_be_made_leave_nothing(at):
    session = after_error(f"use x86_64; fault add_memory_block at={at}", "add 256M", "ENOMEM")
    mm = session.shell.machine.mm
    assert X not in mm.blocks
    assert mm.sections.get(X * P) is None
    assert "memory32-33" in session.run("add 0x100000000 256M")


def test_a_section_is_added_once():
    mm = state("use x86_64").copy()
    sparse_add_section(mm, 0, X * P, P, None)
    with pytest.raises(KernelError) as found:
        sparse_add_section(mm, 0, X * P, P, None)
    assert found.value.errno == "EEXIST"


def test_sections_share_a_page_of_roots():
    before, after = state("use x86_64"), state("use x86_64; add 1G")
    assert len(after.section_roots) - len(before.section_roots) <= 1
    assert owners(after, Owner.SLAB) - owners(before, Owner.SLAB) <= 1


def test_a_memmap_that_failed_is_not_counted():
    text = "use powerpc page=4K mmu=hash large_pages=off profile=v7.1; fault memmap_page"
    mm = after_error(text, "add 256M", "ENOMEM").shell.machine.mm
    assert mm.counters.get("nr_memmap_pages", 0) == 0


def test_the_memmap_of_boot_memory_counts_as_that_of_boot():
    before, after = state("use powerpc profile=v7.1"), state("use powerpc profile=v7.1; offline 7; remove 7")
    assert after.counters["nr_memmap_boot_pages"] < before.counters["nr_memmap_boot_pages"]
    assert after.counters.get("nr_memmap_pages", 0) == before.counters.get("nr_memmap_pages", 0)


# --- remove


def test_until_v6_7_blocks_with_altmaps_go_one_by_one():
    text = "use x86_64 profile=v6.1 policy=memmap_on_memory; add 128M; add 128M"
    after_error(text, "remove 0x100000000 256M via=module", "EINVAL")
    assert X not in state(f"{text}; remove 0x100000000 128M via=module").blocks


def test_a_node_stays_while_it_has_a_block():
    assert state("use x86_64; add 256M node=1 via=driver; remove 32").nodes[1].online
    assert not state("use x86_64; add 256M node=1 via=driver; remove 32; remove 33").nodes[1].online


# --- online and offline


def test_a_refused_online_leaves_neither_pages_nor_a_span():
    mm = after_error("use x86_64; add 128M; fault MEM_GOING_ONLINE", "online 32 movable", "EPERM").shell.machine.mm
    assert mm.pages.get(X * P) is None
    assert zone(mm, ZoneType.MOVABLE).spanned == 0


@pytest.mark.parametrize(("switch", "errno"), [("on", "EINTR"), ("off", "EBUSY")])
def test_a_pinned_page_keeps_offline_trying(switch, errno):
    text = f"use x86_64; set bug.offline_retries_forever {switch}; add 128M; online 32 movable; alloc 1M pinned at=0x100000000"
    after_error(text, "offline 32", errno)


def test_memory_with_holes_does_not_go_offline():
    after_error("use x86_64 ram=2000M", "offline 15", "EINVAL")


def test_a_node_without_memory_is_not_in_n_memory():
    text = "use x86_64; add 128M node=1; online 32 movable"
    assert state(text).nodes[1].n_memory
    assert not state(f"{text}; offline 32").nodes[1].n_memory


def test_pages_are_migrated_to_another_node():
    text = "use x86_64; add 256M node=1; online 32-33 movable; alloc 32M at=0x100000000"
    mm = state(f"{text}; offline 32")
    assert {page.nid for _, _, page in mm.pages.items() if page.tag == 1} == {0}


@pytest.mark.parametrize("kind", ["movable", "kernel"])
def test_a_notifier_that_refuses_leaves_the_free_pages(kind):
    text = f"use x86_64; add 128M; online 32 {kind}; fault MEM_GOING_OFFLINE"
    before = state(text)
    mm = after_error(text, "offline 32", "EPERM").shell.machine.mm
    assert {key: z.free for key, z in mm.zones.items()} == {key: z.free for key, z in before.zones.items()}


def test_a_zone_begins_and_ends_with_its_pages():
    text = "use x86_64; add 384M; online 32-34 movable"
    spans = [
        (text, 32, 35),
        (f"{text}; offline 32", 33, 35),
        (f"{text}; offline 34", 32, 34),
        (f"{text}; offline 33", 32, 35),
    ]
    for played_text, first, last in spans:
        movable = zone(state(played_text), ZoneType.MOVABLE)
        assert (movable.start_pfn, movable.end_pfn) == (first * P, last * P)


def test_memory_that_came_later_is_not_early():
    before, after = state("use x86_64"), state("use x86_64; add 1G; online all kernel")
    early = [sum(z.present_early for z in mm.zones.values()) for mm in (before, after)]
    assert early[0] == early[1]


def test_the_memmap_of_a_block_leaves_present_with_it():
    text = "use x86_64 policy=memmap_on_memory; add 128M; online 32 movable"
    assert zone(state(text), ZoneType.MOVABLE).present == P
    assert zone(state(f"{text}; offline 32"), ZoneType.MOVABLE).present == 0


def test_a_state_that_is_there_already_is_einval():
    after_error("use x86_64; add 128M; online 32", "write memory32/state online", "EINVAL")


# --- isolation


def test_reserved_pages_are_unmovable():
    session = after_error("use powerpc", "offline 0", "EBUSY")
    with pytest.raises(KernelError, match=r"unmovable \(reserved\)"):
        session.run("offline 0")


def test_a_kernel_page_in_zone_movable_is_found_after_isolation_only():
    text = "use x86_64; add 128M; online 32 {}; hold kernel=0x100000"
    after_error(text.format("kernel"), "offline 32", "EBUSY")
    after_error(text.format("movable"), "offline 32", "EINTR")


def test_what_a_balloon_holds_is_isolated_for_offline_alone():
    mm = state("use x86_64; add 128M; online 32 movable; alloc 128M ballooned at=0x100000000")
    assert pages_isolated(mm, X * P, (X + 1) * P, offline=True) is None
    assert pages_isolated(mm, X * P, (X + 1) * P, offline=False) == X * P


def test_a_contiguous_range_that_cannot_be_had_is_given_back():
    text = "use x86_64 auto_online=online_movable; virtio-mem 128M; alloc 64M pinned"
    after_error(text, "virtio-mem 0", "EBUSY")


# --- the vmemmap and its tables


def test_neighbours_share_a_leaf():
    assert violations(state("use x86_64 struct_page=56; add 1G; add 1G")) == []


def test_an_altmap_without_room_is_enomem():
    mm = state("use x86_64").copy()
    start = mm.arch.vmemmap_address(X * P)
    with pytest.raises(KernelError) as found:
        vmemmap_populate_hugepages(mm, start, start + (2 << 20), 0, VmemAltmap(X * P, (X + 1) * P - 1, free=1))
    assert found.value.errno == "ENOMEM"


def test_base_pages_fill_no_more_than_was_asked_for():
    mm = state("use x86_64").copy()
    mm.faults["memmap_page"] = 1
    start = mm.arch.vmemmap_address(X * P)
    vmemmap_populate_hugepages(mm, start + (1 << 20), start + (2 << 20), 0, None)
    assert mm.leaves.get(start) is None
    assert mm.leaves.get(start + (1 << 20)) is not None


def test_a_dax_device_has_two_real_pages_a_compound_page():
    assert "(1032 pages)" in Session().run("use x86_64; probe 0x100000000 1G mode=devdax")


def test_a_table_stays_while_a_leaf_hangs_on_it_and_one_of_boot_always():
    mm = state("use x86_64; fault memmap_page; add 128M").copy()
    (address,) = [at for (level, at), table in mm.tables.items() if level == "pte" and table.owner == "buddy"][:1]
    assert not free_empty_table(mm, "pte", address, 2 << 20)
    mm.leaves.delete(address, address + (2 << 20))
    assert free_empty_table(mm, "pte", address, 2 << 20)
    mm.tables["pte", address] = Table(0, "early", 2 << 20)
    assert not free_empty_table(mm, "pte", address, 2 << 20)


# --- the buddy


def exhausted(kind):
    """Take page after page of node 0 until none can be had; return what is left of each zone, and its mark."""
    mm = state("use powerpc ram=512M").copy()
    while alloc_pages(mm, 0, Owner.KERNEL, atomic=kind == "atomic") is not None:
        pass
    left = zone(mm, ZoneType.NORMAL)
    return left.free, left.watermark_min


def test_the_min_watermark_is_kept_and_atomic_goes_below_it():
    free, mark = exhausted("unmovable")
    assert free == mark
    free, mark = exhausted("atomic")
    assert free == mark - mark // 2 - (mark - mark // 2) // 4


def test_a_large_block_that_is_stolen_changes_its_pageblocks():
    mm = state("use x86_64; add 128M; online 32 kernel; alloc 1M unmovable")
    (pfn,) = (a for a, _, page in mm.pages.items() if page.tag == 1)
    assert mm.pageblocks.get(pfn) is MigrateType.UNMOVABLE


def test_what_is_freed_merges_up_to_the_largest_order():
    mm = state("use x86_64; add 128M; online 32 movable; alloc 1M; free 1")
    assert violations(mm) == []
    assert mm.free[0, ZoneType.MOVABLE].counts() == [0] * 10 + [32]


def test_min_free_kbytes_is_128_at_least():
    assert calculate_min_free_kbytes(state("use x86_64"), 1) == 128


def test_the_mark_of_zone_movable_is_of_its_own():
    assert zone(state("use x86_64; add 1G; online all movable"), ZoneType.MOVABLE).watermark_min == 128


# --- drivers and programs


def test_an_eject_tries_twice():
    assert X not in state("use x86_64; add 256M; online 32-33 movable; fault MEM_GOING_OFFLINE; eject 32").blocks


def test_an_eject_that_fails_brings_back_what_it_took():
    text = "use x86_64; add 256M; online 32-33 kernel; hold kernel=0x108000"
    mm = after_error(text, "eject 32", "EBUSY").shell.machine.mm
    assert [mm.blocks[number].state for number in (32, 33)] == ["online", "online"]


def test_a_device_that_goes_takes_its_pages_along():
    mm = state("use x86_64; probe 0x100000000 1G mode=devdax; probe 0x100000000 --off")
    assert mm.pages.get(X * P) is None


def test_pin_and_balloon():
    mm = state("use x86_64; alloc 1M; pin 1")
    assert owners(mm, Owner.PINNED) == 256
    assert mm.totalram_pages - state("use x86_64; alloc 1M ballooned").totalram_pages == 256


def test_a_reserved_page_is_unmovable_in_zone_movable_too():
    mm = state("use x86_64; add 128M; online 32 movable").copy()
    mm.pages.set(X * P + 7, X * P + 8, Page(Owner.RESERVED, 0, ZoneType.MOVABLE))
    assert has_unmovable_pages(mm, X * P, (X + 1) * P) == X * P + 7


def test_a_leaf_that_a_neighbour_mapped_needs_no_table():
    mm = state("use x86_64 struct_page=56; add 1G; add 1G")
    assert not any(level == "pte" and table.owner == "buddy" for (level, _), table in mm.tables.items())


def test_a_contiguous_range_that_is_pinned_gives_its_free_pages_back():
    mm = state("use x86_64; add 128M; online 32 movable; alloc 1M pinned at=0x100000000").copy()
    free = zone(mm, ZoneType.MOVABLE).free
    with pytest.raises(KernelError):
        alloc_contig_range(mm, X * P, (X + 1) * P, (0, ZoneType.MOVABLE))
    assert zone(mm, ZoneType.MOVABLE).free == free
    assert violations(mm) == []


def test_what_was_onlined_last_is_used_first():
    mm = state("use powerpc; add 768M; online 8 movable; online 10 movable")
    assert mm.free[0, ZoneType.MOVABLE].first(mm.arch.max_order, MigrateType.MOVABLE) >= 10 * mm.block_pages


def test_a_small_steal_leaves_the_pageblock_its_type():
    mm, key = state("use x86_64; add 128M; online 32 kernel").copy(), (0, ZoneType.NORMAL)
    pfn = X * P
    mm.free[key].take_range(pfn, pfn + 512)
    mm.pages.set(pfn, pfn + 512, Page(Owner.USER, *key))
    free_range(mm, pfn + 5, pfn + 6)
    assert _steal(mm, key, Chunk(pfn + 5, 0, MigrateType.MOVABLE), 0, MigrateType.UNMOVABLE) == pfn + 5
    assert mm.pageblocks.get(pfn) is MigrateType.MOVABLE
