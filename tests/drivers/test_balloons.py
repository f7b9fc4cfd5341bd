"""Hyper-V and Xen: whole blocks or sections are added, only a part of them is memory.

Sources: minikube 1403 and lis-test pull request 381 (4000M, then 1000M); QubesOS 7956 (sections of the Xen balloon).
"""

import pytest

from memshell import KernelError, Machine

MiB = 1 << 20


def pages(machine, zone="Normal"):
    found = machine.zones[0, zone]
    return found.present, found.managed


@pytest.fixture
def hyperv():
    machine = Machine.boot("x86_64", ram="2G", profile="v6.12")
    machine.run("add 4000M via=hv_balloon")
    return machine


def test_whole_blocks_are_added_and_the_backed_part_is_onlined(hyperv):
    assert len([n for n, block in hyperv.blocks.items() if not block.early]) == 32  # 4000M in blocks of 128M
    hyperv.run("online offline")
    assert pages(hyperv) == (4096 * MiB >> 12, 4000 * MiB >> 12)
    assert hyperv.check() == []


def test_the_next_request_fills_the_last_block_at_once(hyperv):
    hyperv.run("online offline; add 1000M via=hv_balloon")
    assert pages(hyperv) == (4096 * MiB >> 12, 4096 * MiB >> 12)  # its 96M came online without being asked
    hyperv.run("online offline")
    assert pages(hyperv) == (5120 * MiB >> 12, 5000 * MiB >> 12)
    assert hyperv.check() == []


def test_a_block_that_is_backed_in_part_does_not_go_offline(hyperv):
    hyperv.run("online offline movable; offline 32")
    with pytest.raises(KernelError) as refused:
        hyperv.run("offline 63")
    assert refused.value.errno == "EBUSY"
    assert "scan_movable_pages" in refused.value.where
    assert hyperv.check() == []


def test_before_v6_10_chunks_are_128m_and_larger_blocks_refuse_them():
    machine = Machine.boot("x86_64", ram="2G", block="256M", profile="v6.6")
    with pytest.raises(KernelError) as refused:
        machine.run("add 512M via=hv_balloon")
    assert refused.value.errno == "EINVAL"


def test_the_host_may_begin_inside_of_a_block():
    machine = Machine.boot("x86_64", ram="2G", profile="v6.12")
    machine.run("add 0x102000000 200M via=hv_balloon; online offline")
    assert pages(machine) == (256 * MiB >> 12, 200 * MiB >> 12)
    with pytest.raises(KernelError):
        machine.run("offline 32")  # its first 32M are a gap


def test_the_xen_balloon_adds_sections_and_populates_what_the_target_says():
    machine = Machine.boot("x86_64", ram="2G", profile="v6.12")
    machine.run("add 300M via=xen; online offline")
    assert pages(machine) == (384 * MiB >> 12, 300 * MiB >> 12)
    with pytest.raises(KernelError) as refused:
        machine.run("offline 34")
    assert refused.value.errno == "EBUSY"
    assert machine.check() == []


def test_a_section_is_no_whole_block_where_blocks_are_larger():
    machine = Machine.boot("x86_64", ram="2G", block="2G", profile="v6.12")
    with pytest.raises(KernelError) as refused:
        machine.run("add 300M via=xen")
    assert refused.value.errno == "EINVAL"
