"""powerpc: memmap leaves that blocks share, LMBs one by one, fragments of page tables, bugs of altmaps."""

from dataclasses import replace

import pytest
from memshell_plugins.powerpc.hotplug_memory import dlpar_memory_add_by_ic, dlpar_memory_remove_by_ic

from memshell.drivers.base.memory.state import state_store
from memshell.errors import KernelError
from memshell.machine import boot
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.pfn import GiB, MiB
from memshell.plugins import load_plugins
from memshell.profiles import find_profile

LMB = 256 * MiB
START = 2 * GiB


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.fixture
def machine(plugins):
    def make(release="v6.12", policy="buddy", bugs=None, **options):
        profile = find_profile(release)
        for name, value in (bugs or {}).items():
            profile = profile.with_feature(name, value)
        made = boot(plugins.arches()["powerpc"], options, profile, plugins.policies()[policy])
        return made.mm.copy()

    return make


def cost(mm, action):
    """Pages that leave the buddy, but for those that the action onlines."""
    free, total = nr_free_pages(mm), mm.totalram_pages
    action()
    return (mm.totalram_pages - total) - (nr_free_pages(mm) - free)


def test_one_leaf_holds_the_memmap_of_eight_lmbs(machine):
    """Recorded (6.12, 64K): the first 256M costs 32 pages, the next none; the last one gives them back."""
    mm = machine()
    assert cost(mm, lambda: dlpar_memory_add_by_ic(mm, 0, START, LMB)) == 32
    assert cost(mm, lambda: dlpar_memory_add_by_ic(mm, 0, START + LMB, LMB)) == 0
    assert cost(mm, lambda: dlpar_memory_remove_by_ic(mm, START, LMB)) == 0
    assert cost(mm, lambda: dlpar_memory_remove_by_ic(mm, START + LMB, LMB)) == -32


@pytest.mark.parametrize(
    ("mmu", "policy", "usable"),
    [
        ("radix", "buddy", 4096),
        ("radix", "memmap_on_memory", 4096),
        ("radix", "memmap_on_memory_force", 4064),
        ("hash", "memmap_on_memory_force", 4096),
    ],
)
def test_what_a_256m_lmb_of_64k_pages_gives(machine, mmu, policy, usable):
    """Recorded (6.12):

    Y is silently not used, force keeps 32 pages where 4 are needed, and hash knows neither.
    """
    mm = machine(policy=policy, mmu=mmu, **({"large_pages": "off"} if mmu == "hash" else {}))
    before = mm.totalram_pages
    dlpar_memory_add_by_ic(mm, 0, START, LMB)
    assert mm.totalram_pages - before == usable


def test_hash_maps_the_memmap_by_pages_and_remembers_each_in_a_list_that_never_shrinks(machine):
    """Recorded (6.12, 4K, hash): 256M costs 1024 pages and 6 or 7 of nodes; removal gives the 1024 back."""
    mm = machine(mmu="hash", large_pages="off", page="4K")
    nodes = -(-(1024 - mm.counters["vmemmap_list.left"]) // 170)
    assert cost(mm, lambda: add_memory(mm, 0, START, LMB)) == 1024 + nodes
    assert cost(mm, lambda: remove_memory(mm, START, LMB)) == -1024
    assert cost(mm, lambda: add_memory(mm, 0, START, LMB)) == 1024


def test_dlpar_onlines_whatever_the_default_says(machine):
    """Recorded: memhp_default_state=offline has no effect on pseries; online_movable has."""
    mm = machine()
    dlpar_memory_add_by_ic(mm, 0, START, GiB)
    assert {mm.blocks[i].zone for i in range(8, 12)} == {ZoneType.NORMAL}
    mm = machine()
    mm.params = replace(mm.params, auto_online_blocks="online_movable")
    dlpar_memory_add_by_ic(mm, 0, START, GiB)
    assert {mm.blocks[i].zone for i in range(8, 12)} == {ZoneType.MOVABLE}


def test_an_lmb_that_cannot_come_takes_the_earlier_ones_with_it(machine):
    """Half of a DIMM that stays would be memory that the hypervisor believes it has."""
    mm = machine()
    mm.faults["MEM_GOING_ONLINE"] = 3
    free, total = nr_free_pages(mm), mm.totalram_pages
    with pytest.raises(KernelError) as raised:
        dlpar_memory_add_by_ic(mm, 0, START, GiB)
    assert raised.value.errno == "EINVAL"
    assert "EPERM" in str(raised.value)
    assert not [b for b in mm.blocks.values() if not b.early]
    assert (nr_free_pages(mm), mm.totalram_pages) == (free, total)


def test_an_lmb_that_cannot_go_brings_the_earlier_ones_back(machine):
    """Recorded:

    "indexed-count-remove failed, adding any removed LMBs"; they come back online, in the zone that is chosen
    then.
    """
    mm = machine()
    mm.params = replace(mm.params, auto_online_blocks="online_movable")
    dlpar_memory_add_by_ic(mm, 0, START, GiB)
    mm.params = replace(mm.params, auto_online_blocks="offline")
    pfn = 10 * mm.block_pages
    mm.free[0, ZoneType.MOVABLE].take_range(pfn, pfn + 1)
    mm.pages.set(pfn, pfn + 1, mm.pages.get(pfn)._replace(owner=Owner.RESERVED))
    with pytest.raises(KernelError) as raised:
        dlpar_memory_remove_by_ic(mm, START, GiB)
    assert raised.value.errno == "EINVAL"
    assert "EBUSY" in str(raised.value)
    assert [mm.blocks[i].state for i in range(8, 12)] == ["online"] * 4
    assert [mm.blocks[i].zone for i in (8, 9)] == [ZoneType.NORMAL] * 2


@pytest.mark.parametrize(
    ("release", "policy", "stuck"),
    [("v6.12", "buddy", True), ("v6.1", "buddy", False), ("v6.12", "memmap_on_memory", False)],
)
def test_a_later_lmb_puts_its_memmap_into_an_earlier_one(machine, release, policy, stuck):
    """Recorded (6.12, 4K pages, N): such an LMB can never go again.

    The memmap on the memory itself avoids it.
    """
    mm = machine(release, policy, page="4K")
    dlpar_memory_add_by_ic(mm, 0, START, 2 * GiB)
    hot = [page for _, _, page in mm.pages.items(START >> 12, 4 * GiB >> 12) if page.owner is Owner.MEMMAP]
    assert bool(hot) == stuck
    if stuck:
        with pytest.raises(KernelError) as raised:
            dlpar_memory_remove_by_ic(mm, START, 2 * GiB)
        assert raised.value.errno == "EINVAL"
        assert "EBUSY" in str(raised.value)
    else:
        dlpar_memory_remove_by_ic(mm, START, 2 * GiB)
        assert max(mm.blocks) == 7


def test_sixteen_pmd_tables_share_a_page(machine):
    """A page of fragments goes back when all of it was handed out and freed, not before."""
    mm = machine(ram="64G")
    start = 64 * GiB
    for i in range(15 + 17):  # boot's page has room for 15 more
        add_memory(mm, 0, start + i * GiB, GiB)
    pages = {table.pfn for (level, _), table in mm.tables.items() if level == "pmd" and table.owner == "fragment"}
    assert len(pages) == 2
    full = next(
        table.pfn
        for (level, at), table in mm.tables.items()
        if (level, at) == ("pmd", mm.arch.page_offset + start + 15 * GiB)
    )
    for i in range(15, 31):
        assert mm.pages.get(full).owner is Owner.PAGETABLE
        remove_memory(mm, start + i * GiB, GiB)
    assert mm.pages.get(full).owner is Owner.FREE


@pytest.mark.parametrize(
    ("gib", "block"), [(4, GiB), (2, GiB), (2.5, 256 * MiB), (2.25, 256 * MiB), (2.0625, 64 * MiB)]
)
def test_block_size_where_there_are_no_lmbs(machine, gib, block):
    """Since v6.6 the size is quartered from 1G until it divides the memory."""
    assert machine(ram=str(int(gib * GiB)), block="auto").block_size == block


def test_bug_a_leaf_may_begin_in_its_middle(machine):
    """B14 (v6.6 to 6.12.27): an LMB that is not first in its 2 GiB takes a whole leaf; since, 4 pages."""
    for bug, sizes in ((True, {2 * MiB}), (False, {65536})):
        mm = machine(bugs={"bug.ppc_unaligned_pmd_leaf": bug})
        add_memory(mm, 0, 4 * GiB + LMB, LMB)
        va = mm.arch.vmemmap_address(4 * GiB + LMB >> 16)
        assert {leaf.size for _, _, leaf in mm.leaves.items(va, va + 4 * 65536)} == sizes
        assert cost(mm, lambda mm=mm: remove_memory(mm, 4 * GiB + LMB, LMB)) == (-32 if bug else -4)


@pytest.mark.parametrize(("bug", "taken"), [(False, 32), (True, 31)])
def test_bug_the_last_unit_is_not_taken_from_the_altmap(machine, bug, taken):
    """B13 (until v6.4.10): the mapping that ends with the altmap's range counts as crossing its end."""
    mm = machine("v6.6", bugs={"bug.ppc_altmap_cross_boundary": bug})
    start = 4 * GiB
    pfn = start >> 16
    altmap = VmemAltmap(pfn, pfn + (2 * GiB >> 16) - 1, free=32)
    mm.arch.arch_add_memory(mm, 0, start, 2 * GiB, altmap)
    assert altmap.alloc == taken


def test_bug_a_block_keeps_pages_although_its_memmap_is_elsewhere(machine):
    """L3: force keeps 32 pages of an LMB whose struct pages lie in a leaf that an earlier LMB brought."""
    for bug, kept in ((True, 32), (False, 0)):
        mm = machine(policy="buddy", bugs={"bug.ppc_premapped_waste": bug})
        add_memory(mm, 0, START, LMB)  # takes the 2M leaf from the buddy
        mm.policy = machine(policy="memmap_on_memory_force").policy
        dlpar_memory_add_by_ic(mm, 0, START + LMB, LMB)
        assert mm.blocks[9].nr_vmemmap_pages == kept
        state_store(mm, 9, "offline")
        remove_memory(mm, START + LMB, LMB)


def test_no_memory_for_the_linear_map_is_efault(machine):
    """powerpc hides ENOMEM of its direct map behind EFAULT."""
    mm = machine(page="4K")
    for key in mm.zones:
        mm.change_zone(key, watermark_min=1 << 40)
    with pytest.raises(KernelError) as raised:
        add_memory(mm, 0, START, LMB)
    assert raised.value.errno == "EFAULT"
    assert 8 not in mm.blocks
