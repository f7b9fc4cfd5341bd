"""Every rule finds what it is there to find: a state is broken in one place, and the rule for it speaks."""

import functools

import pytest
from memshell_plugins.memmap_policies import Buddy, MemmapOnMemory
from memshell_plugins.x86_64 import X86

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_add
from memshell.drivers.base.memory.state import state_store
from memshell.machine import boot
from memshell.mm.invariants import rules, violations
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.page import Owner
from memshell.mm.state import SECTION_ONLINE
from memshell.profiles import PROFILES

MOVABLE = (0, ZoneType.MOVABLE)
PFN = 0x100000  # memory32: memmap on itself; memory33 comes from the buddy


@functools.cache
def _plugged():
    mm = boot(X86(), {"ram": "512M"}, PROFILES["v6.12"], MemmapOnMemory()).mm.copy()
    acpi_memory_device_add(mm, 0, PFN << 12, 128 << 20)
    mm.policy = Buddy()
    acpi_memory_device_add(mm, 0, (PFN << 12) + (128 << 20), 256 << 20)
    state_store(mm, 32, "online_movable")
    state_store(mm, 33, "online_movable")
    return mm


@pytest.fixture
def mm():
    return _plugged().copy()


def lose_present(mm):
    mm.change_zone(MOVABLE, present=mm.zones[MOVABLE].present - 1)


def shrink_the_span(mm):
    mm.change_zone(MOVABLE, spanned=mm.zones[MOVABLE].spanned - 512)


def lose_node_pages(mm):
    mm.nodes[0] = mm.nodes[0]._replace(present=1)


def free_twice(mm):
    mm.free[MOVABLE].add(PFN + 1024, 9, MigrateType.MOVABLE)


def forget_to_free(mm):
    mm.free[MOVABLE].take_range(PFN + 1024, PFN + 2048)


def forget_to_merge(mm):
    mm.free[MOVABLE].take_range(PFN + 0x4000, PFN + 0x4400)
    for half in (PFN + 0x4000, PFN + 0x4200):
        mm.free[MOVABLE].add(half, 9, MigrateType.MOVABLE)


def free_a_memmap(mm):
    start, end, page = next(run for run in mm.pages.items() if run[2].owner is Owner.MEMMAP)
    mm.pages.set(start, end, page._replace(owner=Owner.KERNEL))


def unmap_struct_pages(mm):
    va = mm.arch.vmemmap_address(PFN + 0x8000)
    mm.leaves.delete(va, va + (2 << 20))


def unmap_the_direct_map(mm):
    va = mm.arch.page_offset + (PFN << 12)
    mm.leaves.delete(va, va + (2 << 20))


def lose_a_table(mm):
    table = next(table for table in mm.tables.values() if table.owner == "buddy")
    mm.pages.set(table.pfn, table.pfn + 1, mm.pages.get(table.pfn)._replace(owner=Owner.KERNEL))


def miscount_an_altmap(mm):
    block = mm.blocks[32]
    altmap = block.altmap.copy()
    altmap.alloc -= 1
    mm.blocks[32] = block._replace(altmap=altmap)


def leave_a_section_online(mm):
    start, end, bits = mm.sections.run_at(PFN + 2 * 0x8000)
    mm.sections.set(start, end, bits | SECTION_ONLINE)


def forget_a_group(mm):
    mm.groups.clear()


def lose_a_resource(mm):
    mm.resources.remove(next(mm.resources.from_address(PFN << 12)))


def overlap_resources(mm):
    last = list(mm.resources)[-1]
    mm.resources.add(last._replace(end=last.end - 1))


def free_half_a_huge_page(mm):
    mm.hugetlb.set(PFN + 0x400, PFN + 0x600, 9)


def stop_a_removal_halfway(mm):
    mm.profile = PROFILES["rfc-2018"]
    mm.vmemmap_head = mm.arch.vmemmap_address(PFN)


def remove_the_frames_of_a_memmap(mm):
    mm.profile = PROFILES["rfc-2018"]
    mm.sections.delete(PFN, PFN + 0x8000)


def forget_the_blocks(mm):
    mm.blocks.clear()


def forget_a_block_of_boot(mm):
    del mm.blocks[0]


def leave_an_online_section(mm):
    mm.sections.set(0x200000, 0x208000, SECTION_ONLINE)


BREAKS = {
    forget_the_blocks: "there are pages of memory0, and no such block",
    forget_a_block_of_boot: "there are pages of memory0, and no such block",
    leave_an_online_section: "there are online sections of memory64, and no such block",
    lose_present: "present is",
    shrink_the_span: "outside of the span",
    lose_node_pages: "node 0: present is 1",
    free_twice: "on the free lists twice",
    forget_to_free: "free and on no list",
    forget_to_merge: "not merged with its buddy",
    free_a_memmap: "hold the memmap",
    unmap_struct_pages: "are not mapped",
    unmap_the_direct_map: "is not in the direct map",
    lose_a_table: "table at",
    miscount_an_altmap: "its altmap gave 511 pages, leaves map 512",
    leave_a_section_online: "has an online section",
    forget_a_group: "does not exist",
    lose_a_resource: "is in no System RAM resource",
    free_half_a_huge_page: "are of a huge page and are",
    stop_a_removal_halfway: "though no removal goes on",
    remove_the_frames_of_a_memmap: "which are gone",
    overlap_resources: "overlaps the one before it",
}


def test_a_machine_that_was_plugged_holds_together(mm):
    assert violations(mm) == []


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_damage_is_found(mm, damage):
    damage(mm)
    assert any(BREAKS[damage] in sentence for sentence in violations(mm))


def test_every_rule_is_tried(mm):
    spoke = set()
    for damage in BREAKS:
        broken = _plugged().copy()
        damage(broken)
        spoke |= {rule for rule in rules(broken) if any(rule(broken))}
    broken.profile = PROFILES["rfc-2018"]
    assert spoke == set(rules(broken))
