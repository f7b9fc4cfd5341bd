"""s390: segments or pages, tables of 16K, two kernel zones, storage that is assigned while it is used."""

import pytest
from memshell_plugins.s390.sclp_mem import sclp_config_mem_store, sclp_mems

from memshell import CommandError, Machine, UsageError
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


def test_since_v6_19_standby_memory_is_configured_by_hand(machine):
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


def listed(machine):
    """What `lsmem -o STATE,BLOCK,CONFIGURED,MEMMAP-ON-MEMORY` tells apart."""
    rows = machine.data("lsmem -J -o STATE,BLOCK,CONFIGURED,MEMMAP-ON-MEMORY")["memory"]
    return [tuple(row.values()) for row in rows]


def test_lsmem_lists_what_is_deconfigured(plugins):
    """The example of the mail "[PATCH v2 0/6] chmem/lsmem: support for dynamic (de)configuration" (2025-10)."""
    del plugins
    machine = Machine.boot("s390", ram="2G", standby="2G", profile="v7.2", policy="memmap_on_memory")
    assert listed(machine) == [("online", "0-15", True, False), ("offline", "16-31", False, True)]
    footer = machine.run("lsmem").split("\n\n")[1]
    assert "Total offline memory:               2G\nMemmap on memory parameter:        yes" in footer
    machine.run("configure 128M memmap_on_memory=1")
    assert listed(machine)[1:] == [("offline", "16", True, True), ("offline", "17-31", False, True)]
    assert machine.blocks[16].nr_vmemmap_pages == 512
    machine.run("deconfigure 128M")
    assert listed(machine)[1:] == [("offline", "16-31", False, True)]
    assert machine.check() == []


def test_a_block_is_configured_once_and_its_memmap_chosen_before(plugins):
    del plugins
    machine = Machine.boot("s390", standby="1G", profile="v7.2", policy="memmap_on_memory")
    machine.run("configure 16-17 memmap_on_memory=0; configure 16-18")
    assert listed(machine)[1:] == [
        ("offline", "16-17", True, False),
        ("offline", "18", True, True),
        ("offline", "19-23", False, True),
    ]
    assert [machine.blocks[n].nr_vmemmap_pages for n in (16, 17, 18)] == [0, 0, 512]
    with pytest.raises(KernelError) as raised:
        machine.run("configure 16 memmap_on_memory=1")
    assert raised.value.errno == "EBUSY"
    machine.run("online 16 movable")
    with pytest.raises(KernelError) as raised:
        machine.run("deconfigure 16")
    assert raised.value.errno == "EBUSY"
    assert sum(1 for state, *_ in listed(machine) if state == "offline") == 3  # 17, 18, and the rest: 896M


@pytest.mark.parametrize(
    ("words", "errno"),
    [
        ("write /sys/firmware/memory/memory24/config 1", "ENOENT"),  # beyond the standby memory
        ("write memory16/memmap_on_memory 1", "EOPNOTSUPP"),  # memory_hotplug.memmap_on_memory=N
        ("write memory0/config 0", "EBUSY"),  # online
        ("write memory0/memmap_on_memory 0", "EBUSY"),  # configured
        ("write memory16/config x", "EINVAL"),
        ("write memory16/state online", "ENOENT"),  # there is no block before it is configured
        ("fault sclp_assign; configure 16", "EIO"),
    ],
)
def test_what_the_firmware_files_refuse(plugins, words, errno):
    del plugins
    machine = Machine.boot("s390", standby="1G", profile="v7.2")
    with pytest.raises(KernelError) as raised:
        machine.run(words)
    assert raised.value.errno == errno
    assert machine.check() == []


def test_writing_the_state_that_is_there_is_no_error(plugins):
    del plugins
    machine = Machine.boot("s390", standby="1G", profile="v7.2")
    assert machine.run("write memory16/config 0") == "memory16 is deconfigured\n"
    assert machine.run("write memory16/config 1; write memory16/config y") == "memory16 offline\n" * 2


def test_the_memory_of_boot_can_be_deconfigured(plugins):
    del plugins
    machine = Machine.boot("s390", profile="v7.2")
    machine.run("offline 15; deconfigure 15")
    assert listed(machine) == [("online", "0-14", True, False), ("offline", "15", False, False)]
    machine.run("configure 15; online 15")
    assert listed(machine) == [("online", "0-15", True, False)]
    assert machine.check() == []


@pytest.mark.parametrize(
    ("standby", "blocks"), [("100M", []), ("128M", [16]), ("300M", [16, 17]), ("1G", list(range(16, 24)))]
)
def test_standby_increments_are_cut_to_whole_blocks(plugins, standby, blocks):
    del plugins
    machine = Machine.boot("s390", standby=standby, profile="v7.2")
    assert [n for n in sclp_mems(machine.mm) if n > 15] == blocks


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("configure 2G", "only 8 blocks are deconfigured; 16 were asked for"),
        ("configure 100M", "100M is not whole memory blocks"),
        ("configure x", "'x' names no memory block"),
        ("use x86_64; configure 16", "x86_64 has no standby memory"),
        ("use x86_64; write memory0/config 1", "x86_64 with kernel v6.12 has no /sys/firmware/memory/memory0/config"),
    ],
)
def test_what_cannot_be_configured_is_one_line(plugins, words, text):
    del plugins
    with pytest.raises((UsageError, CommandError)) as raised:
        Machine.boot("s390", standby="1G", profile="v7.2").run(words)
    assert text in str(raised.value)


def test_before_v6_19_nothing_is_configured(plugins):
    del plugins
    machine = Machine.boot("s390", standby="1G", profile="v6.12")
    assert listed(machine) == [("online", "0-7", None, None), ("offline", "8-11", None, None)]
    with pytest.raises(KernelError) as raised:
        machine.run("configure 8")
    assert raised.value.errno == "ENOENT"
