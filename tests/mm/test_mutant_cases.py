"""Rules that a change of one line in the model broke without any other test to notice (tests/mutants.py)."""

import pytest

from memshell.api import Session
from memshell.errors import KernelError
from memshell.mm.invariants import violations
from memshell.mm.mmzone import MigrateType, ZoneType
from memshell.mm.state import SECTION_ONLINE


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
