"""What documents have for a shell of a Linux machine is understood, shown as the command that it is, and never done here."""

import pytest

from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session

MEMORY = "/sys/devices/system/memory"
MODULE = "/sys/module/memory_hotplug/parameters"
PASTED = [
    (f"echo online_movable > {MEMORY}/memory32/state", "online 32 movable"),
    (f"echo online_kernel > {MEMORY}/memory32/state", "online 32 kernel"),
    (f"echo online > {MEMORY}/memory32/state", "online 32"),
    (f"echo offline > {MEMORY}/memory3/state", "offline 3"),
    (f"echo -n online > {MEMORY}/memory32/state", "online 32"),
    (f"echo 'online' > {MEMORY}/memory32/state", "online 32"),
    (f"echo onlin > {MEMORY}/memory32/state", "write memory32/state onlin"),
    (f"echo 1 > {MEMORY}/memory32/online", "write memory32/online 1"),
    (f"echo 0x100000000 > {MEMORY}/soft_offline_page", f"write {MEMORY}/soft_offline_page 0x100000000"),
    ("echo 0 > /sys/bus/memory/devices/memory3/online", "write memory3/online 0"),
    ("echo online > /sys/devices/system/node/node0/memory32/state", "online 32"),
    (f"echo online_movable > {MEMORY}/auto_online_blocks", "set auto_online_blocks=online_movable"),
    (f"echo 0x140000000 > {MEMORY}/probe", "add 0x140000000 128M via=probe"),
    (f"echo auto-movable > {MODULE}/online_policy", "set online_policy=auto-movable"),
    (f"echo 200 > {MODULE}/auto_movable_ratio", "set auto_movable_ratio=200"),
    (f"echo N > {MODULE}/auto_movable_numa_aware", "set auto_movable_numa_aware=N"),
    ("echo 10 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "hugepages 2M=10"),
    ("echo 1 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "hugepages 2M=1 node=0"),
    ("echo 10 > /proc/sys/vm/nr_hugepages", "hugepages 2M=10"),
    ("echo never > /sys/kernel/mm/transparent_hugepage/enabled", "set transparent_hugepage=never"),
    (f"% echo online > {MEMORY}/memory32/state", "online 32"),
    (f"$ echo online > {MEMORY}/memory32/state", "online 32"),
    (f"echo online | sudo tee {MEMORY}/memory32/state", "online 32"),
    (f"echo online | tee {MEMORY}/memory32/state > /dev/null", "online 32"),
    (f"sudo sh -c 'echo online > {MEMORY}/memory32/state'", "online 32"),
]


@pytest.fixture
def session():
    made = Session(shared_plugins)
    made.type("use x86_64 ram=2G")
    made.type("add 256M")
    return made


@pytest.mark.parametrize("line, meant", PASTED)
def test_it_is_shown_as_the_command_that_it_is(session, line, meant):
    other = Session(shared_plugins)
    other.type("use x86_64 ram=2G")
    other.type("add 256M")
    assert session.type(line) == [f"that is: {meant}", *other.type(meant)]
    steps = [step.command for step in session.player.shell.machine.steps]
    assert steps == [step.command for step in other.player.shell.machine.steps]


@pytest.mark.parametrize(
    "line, said",
    [
        (f"echo Y > {MODULE}/memmap_on_memory", "at boot: use ARCH memmap_on_memory=Y"),
        (f"echo 3 > {MODULE}/auto_movable_ratoi", "did you mean auto_movable_ratio?"),
        (f"echo online > {MEMORY}/memory99/state", "there is no block memory99"),
        (f"echo online > {MEMORY}/auto_online_block", f"did you mean {MEMORY}/auto_online_blocks?"),
        (f"echo online > {MEMORY}/memoryXXX/state", "is no file that can be written here"),
        (f"echo > {MEMORY}/memory32/state", "nothing is written"),
        ("echo 1 > /sys/foo", "help /sys lists the files"),
        ("lsmem > /proc/foo", "only echo writes to /proc/foo"),
        ("echo hello", "help echo shows"),
        ("sudo ofline 3", "did you mean offline?"),
        ("cat /sys/devices/system/memory/auto_online_block", f"did you mean {MEMORY}/auto_online_blocks?"),
    ],
)
def test_what_is_not_understood_is_one_line(session, line, said):
    lines = session.type(line)
    assert said in lines[-1]
    assert len(lines) <= 2
    assert len(session.player.shell.machine.steps) == 2


def test_a_failure_has_the_kernels_errno(session):
    session.type(f"! echo onlin > {MEMORY}/memory32/state")
    assert session.type("expect error == EINVAL") == []
    session.type(f"! echo maybe > {MEMORY}/memory32/online")
    assert session.type("expect error == EINVAL") == []


def test_online_takes_the_state_that_there_is(session):
    for value, state in (("1", "online"), ("1", "online"), ("0", "offline"), ("off", "offline"), ("yes", "online")):
        session.type(f"echo {value} > {MEMORY}/memory32/online")
        assert session.player.shell.machine.mm.blocks[32].state == state


def test_a_file_of_the_kernel_can_be_read(session):
    assert session.type(f"cat {MEMORY}/memory32/state {MEMORY}/block_size_bytes") == ["offline", "8000000"]
    assert session.type("cat /proc/meminfo")[0].startswith("MemTotal:")
    assert session.type(f"cat {MEMORY}/memory32/valid_zones | tr a-z A-Z") == ["NORMAL MOVABLE"]
