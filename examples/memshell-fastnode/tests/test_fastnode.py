"""Where the memmap of slow memory goes, on whole machines."""

import pytest
from memshell_fastnode import FastNode

from memshell import KernelError
from memshell.testing import policy_conformance, run_scenario


def test_it_conforms():
    policy_conformance(FastNode(), examples=2).assert_ok()


def test_slow_memory_takes_its_memmap_from_the_fast_node():
    run_scenario("""
        use x86_64 ram=4G
        policy fastnode
        add 8G node=2
        online all movable
        expect zone.0.Normal.free < zone.0.Normal.managed - 128M
        expect zone.2.Movable.present == 8G
        expect zone.2.Movable.managed == 8G
        expect memmap.altmap == 0
    """).assert_ok()


def test_no_room_on_the_fast_node_leaves_the_memmap_on_the_device(machine):
    guest = machine("x86_64", ram="1G", policy="fastnode")
    told = guest.run("add 0x100000000 64G node=2 --explain")
    assert "512 pages of each block are kept for it" in told
    guest.run("online all movable")
    assert guest.zones[2, "Movable"].managed == (64 << 18) - 512 * 512


def test_memory_of_a_fast_node_is_not_touched(machine):
    guest = machine("x86_64", ram="4G", policy="fastnode")
    assert "from existing memory: node 0 is fast itself" in guest.run("add 1G --explain")


def test_the_spare_memory_stays_free(machine):
    guest = machine("x86_64", ram="1G", policy="fastnode")
    blocks = 0
    while "kept for it" not in guest.run(f"add {0x100000000 + blocks * (128 << 20)} 128M node=2 --explain"):
        blocks += 1
    assert blocks > 100
    assert guest.mem_free >= FastNode().spare - (2 << 20)


@pytest.mark.parametrize("kernel", ["v6.1", "v6.12"])
def test_where_the_kernel_cannot_use_the_device_the_kernel_decides(machine, kernel):
    guest = machine("powerpc", mmu="hash", ram="1G", policy="fastnode", profile=kernel)
    with pytest.raises(KernelError) as refused:
        guest.run("add 0x40000000 1T node=2")  # its memmap is as large as all that there is
    assert refused.value.errno == "ENOMEM"
