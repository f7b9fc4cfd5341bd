"""s390: segments or pages, tables of 16K, two kernel zones, storage that is assigned while it is used."""

import pytest
from memshell_plugins.s390.sclp_mem import sclp_config_mem_store

from memshell.drivers.base.memory.state import state_store
from memshell.errors import KernelError
from memshell.machine import boot
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.mm.memremap import VmemAltmap
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_pages, nr_free_pages
from memshell.mm.pfn import GiB, MiB
from memshell.mm.sparse_vmemmap import free_vmemmap_pages
from memshell.plugins import load_plugins
from memshell.profiles import find_profile

START = 2 * GiB


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.fixture
def machine(plugins):
    def make(release="v6.12", policy="buddy", **options):
        made = boot(plugins.arches()["s390"], options, find_profile(release), plugins.policies()[policy])
        return made.mm.copy()

    return make


def spent(mm, action):
    free = nr_free_pages(mm)
    action()
    return free - nr_free_pages(mm)


@pytest.mark.parametrize(
    ("release", "policy", "size", "pages"),
    [
        ("v7.2", "buddy", 128 * MiB, 512 + 128 + 2 + 4),  # s390x-s72-addmem-N, step 4: -646
        ("v7.2", "buddy", GiB, 4096 + 1024 + 16 + 4),  # step 28: -5140
        ("v7.2", "memmap_on_memory", 128 * MiB, 128 + 2 + 4),  # s390x-s72-addmov-Y-cpumax, step 16: -134
        ("v6.12", "buddy", 256 * MiB, 1024 + 256 + 4 + 4),  # s390x-s612-addmem-N, step 4: -1289, one page of it slab
        ("v6.12", "memmap_on_memory", 256 * MiB, 256 + 4 + 4),  # s390x-s612-addmem-Y, step 4: -265
    ],
)
def test_what_an_add_costs_without_edat(machine, release, policy, size, pages):
    """Memmap, a page table a MiB of direct map and memmap, a segment table of 4 pages; all come back."""
    mm = machine(release, policy, edat="off")
    assert spent(mm, lambda: add_memory(mm, 0, START, size, MHP_MEMMAP_ON_MEMORY)) == pages
    assert spent(mm, lambda: remove_memory(mm, START, size)) == -pages


def test_with_edat_the_page_tables_go(machine):
    """A machine with EDAT maps segments: 256M costs its memmap and one segment table."""
    mm = machine(edat="1")
    assert spent(mm, lambda: add_memory(mm, 0, START, 256 * MiB)) == 1024 + 4


def test_two_page_tables_share_a_page_until_v6_6(machine):
    """Half the tables of 6.1 are on pages of their own: 256M needs 260 of them."""
    mm = machine("v6.1", edat="off")
    assert spent(mm, lambda: add_memory(mm, 0, START, 256 * MiB)) == 1024 + 130 + 4


@pytest.mark.parametrize(
    ("release", "block"), [("v6.1", 256 * MiB), ("v6.12", 256 * MiB), ("v6.18", 128 * MiB), ("v7.2", 128 * MiB)]
)
def test_sections_are_smaller_since_v6_13(machine, release, block):
    """Recorded: blocks of 128M on 7.2, of 256M before."""
    assert machine(release).block_size == block


def test_hot_added_memory_above_2g_is_normal(machine):
    """ZONE_DMA ends at 2 GiB; what is onlined above it makes ZONE_NORMAL."""
    mm = machine("v7.2")
    add_memory(mm, 0, START, 128 * MiB)
    state_store(mm, 16, "online")
    assert mm.blocks[16].zone is ZoneType.NORMAL
    assert (0, ZoneType.DMA32) not in mm.zones


@pytest.mark.parametrize(
    "release, first_too_big", [("v6.1", 0x37200000000), ("v6.6", 0x37200000000), ("v6.12", 512 * GiB)]
)
def test_what_cannot_be_mapped_is_too_big(machine, release, first_too_big):
    """Recorded on v6.12: "pluggable 0-7fffffffff"; before v6.10 VMEM_MAX_PHYS was where the vmemmap begins."""
    mm = machine(release)
    add_memory(mm, 0, first_too_big - 256 * MiB, 256 * MiB)
    with pytest.raises(KernelError) as raised:
        add_memory(mm, 0, first_too_big, 256 * MiB)
    assert raised.value.errno == "E2BIG"


def storage(mm, block):
    return mm.storage.get(block * mm.block_pages)


@pytest.mark.parametrize("release", ["v6.1", "v6.12"])
def test_standby_memory_is_there_at_boot_and_assigned_while_it_is_online(machine, release):
    """Storage that stays assigned is taken from others; storage used before it is assigned is a crash."""
    mm = machine(release, standby="1G")
    assert [b.state for b in mm.blocks.values() if not b.early] == ["offline"] * 4
    assert storage(mm, 8) == "standby"
    state_store(mm, 8, "online_movable")
    assert [storage(mm, 8), storage(mm, 9)] == ["assigned", "standby"]
    state_store(mm, 8, "offline")
    assert storage(mm, 8) == "standby"


def test_standby_memory_holds_its_memmap_since_v6_9(machine):
    """Then the first pages of the block must be assigned before they are written: MEM_PREPARE_ONLINE."""
    mm = machine(policy="memmap_on_memory", standby="1G")
    assert {b.nr_vmemmap_pages for b in mm.blocks.values() if not b.early} == {1024}
    state_store(mm, 8, "online")
    assert mm.storage.covers(8 * mm.block_pages, 9 * mm.block_pages)
    assert storage(mm, 8) == "assigned"
    mm = machine("v6.1", policy="memmap_on_memory", standby="1G")
    assert {b.nr_vmemmap_pages for b in mm.blocks.values()} == {0}


def test_since_v7_2_standby_memory_is_configured_by_hand(machine):
    """firmware/memory/memoryN/config: nothing is added at boot; an online block cannot be deconfigured."""
    mm = machine("v7.2", standby="1G")
    assert all(b.early for b in mm.blocks.values())
    sclp_config_mem_store(mm, 16, config=True)
    assert storage(mm, 16) == "assigned"
    state_store(mm, 16, "online")
    with pytest.raises(KernelError) as raised:
        sclp_config_mem_store(mm, 16, config=False)
    assert raised.value.errno == "EBUSY"
    state_store(mm, 16, "offline")
    sclp_config_mem_store(mm, 16, config=False)
    assert storage(mm, 16) == "standby"
    assert 16 not in mm.blocks


def test_a_refusing_hypervisor_leaves_the_block_offline(machine):
    """The notifier's EIO becomes EPERM (NOTIFY_BAD)."""
    mm = machine(standby="1G")
    mm.faults["sclp_assign"] = 1
    with pytest.raises(KernelError) as raised:
        state_store(mm, 8, "online")
    assert raised.value.errno == "EPERM"
    assert (mm.blocks[8].state, storage(mm, 8)) == ("offline", "standby")
    state_store(mm, 8, "online")


def test_a_block_with_standby_storage_in_it_does_not_go_offline(machine):
    """The driver's veto: such a block could not come back whole."""
    mm = machine(standby="1G")
    state_store(mm, 8, "online_movable")
    mm.storage.set(8 * mm.block_pages, 8 * mm.block_pages + 256, "standby")
    with pytest.raises(KernelError) as raised:
        state_store(mm, 8, "offline")
    assert raised.value.errno == "EPERM"
    assert mm.blocks[8].state == "online"


def test_before_v6_9_an_altmap_is_refused(machine):
    """arch_add_memory() warns and returns EINVAL."""
    mm = machine("v6.1")
    pfn = START >> 12
    with pytest.raises(KernelError) as raised:
        mm.arch.arch_add_memory(mm, 0, START, 256 * MiB, VmemAltmap(pfn, pfn + 65535, free=1024))
    assert raised.value.errno == "EINVAL"


@pytest.mark.parametrize(("bug", "alloc", "freed"), [(True, -1, 0), (False, 0, 1)])
def test_bug_the_altmap_gets_what_was_never_its_own(machine, bug, alloc, freed):
    """L9: a page that the buddy gave is counted down from the altmap, and leaks."""
    mm = machine()
    mm.profile = mm.profile.with_feature("bug.altmap_free_any", bug)
    altmap = VmemAltmap(START >> 12, (START >> 12) + 65535, free=1024)
    pfn = alloc_pages(mm, 0, Owner.MEMMAP)
    assert spent(mm, lambda: free_vmemmap_pages(mm, pfn, 1, "buddy", altmap)) == -freed
    assert altmap.alloc == alloc
