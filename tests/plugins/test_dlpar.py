"""drmgr's words: LMBs by count, by DRC index, and by both; the pool of a partition; who passes over what.

Sources: arch/powerpc/platforms/pseries/hotplug-memory.c and dlpar.c (v5.4 to v6.12); powerpc-utils 60; recorded: LMB
0x80000008 of 256M lies at 0x80000000.
"""

import pytest

from memshell import CommandError, KernelError, Machine, UsageError

MiB = 1 << 20


def partition(**options):
    return Machine.boot("powerpc", **({"ram": "2G", "max": "4G"} | options))


def added(machine):
    return [n for n, block in machine.blocks.items() if not block.early]


def einval(machine, words):
    with pytest.raises(KernelError) as refused:
        machine.run(words)
    assert refused.value.errno == "EINVAL"
    return refused.value.message


def test_by_count_the_lowest_free_lmbs_come():
    machine = partition()
    assert machine.run("dlpar memory add count 3") == "3 LMBs of 256M: 0x80000008 0x80000009 0x8000000a\n"
    machine.run("dlpar memory remove index 0x80000009; dlpar memory add count 2")
    assert added(machine) == [8, 9, 10, 11], "the hole is filled first"
    assert {machine.blocks[n].state for n in added(machine)} == {"online"}
    assert machine.check() == []


def test_the_pool_ends_with_the_partitions_maximum():
    machine = partition()
    assert "(8 of 9)" in einval(machine, "dlpar memory add count 9")
    machine.run("dlpar memory add count 8")
    assert "(0 of 1)" in einval(machine, "dlpar memory add count 1")
    assert len(added(machine)) == 8
    Machine.boot("powerpc").run("dlpar memory add count 20")


def test_by_index_one_lmb_comes_and_goes():
    machine = partition()
    machine.run("dlpar memory add index 0x8000000c")
    assert added(machine) == [12]
    assert "assigned already" in einval(machine, "dlpar memory add index 0x8000000c")
    machine.run("dlpar memory remove index 0x8000000c")
    assert "no LMB is assigned" in einval(machine, "dlpar memory remove index 0x8000000c")
    for index in ("0x80000010", "0x8", "8", "0x180000008"):
        assert "no LMB has the DRC index" in einval(machine, f"dlpar memory add index {index}")


def test_by_index_and_count_what_is_there_is_passed_over():
    machine = partition()
    machine.run("dlpar memory add index 0x80000009; dlpar memory add indexed-count 4 0x80000008")
    assert added(machine) == [8, 9, 10, 11]
    machine.run("dlpar memory remove index 0x80000009; dlpar memory remove indexed-count 4 0x80000008")
    assert added(machine) == []


def test_by_count_what_does_not_go_is_passed_over():
    machine = partition()
    machine.run("dlpar memory add count 4; hold kernel=0x8000; dlpar memory remove count 2")  # a page of memory8
    assert added(machine) == [8, 11], "memory9 and memory10 went, the lowest that can"


def test_by_count_too_few_bring_all_of_them_back():
    machine = partition()
    machine.run("dlpar memory add count 3; hold kernel=0x8000; hold kernel=0xa000")
    assert "1 of 3 LMBs, which are taken back" in einval(machine, "dlpar memory remove count 3")
    assert {n: machine.blocks[n].state for n in added(machine)} == {8: "online", 9: "online", 10: "online"}
    assert machine.check() == []


def test_by_count_an_lmb_that_fails_is_passed_over_and_the_next_comes():
    machine = partition()
    machine.run("fault MEM_GOING_ONLINE; dlpar memory add count 2")
    assert added(machine) == [9, 10]


def test_by_index_its_own_errno_comes_back():
    machine = partition()
    machine.run("dlpar memory add count 1; hold kernel=0x8000")
    with pytest.raises(KernelError) as refused:
        machine.run("dlpar memory remove index 0x80000008")
    assert refused.value.errno == "EBUSY"
    assert "(EBUSY" in einval(machine, "dlpar memory remove indexed-count 1 0x80000008")


def test_the_memory_of_boot_goes_on_powervm_only():
    machine = partition()
    assert "QEMU reserves it" in einval(machine, "dlpar memory remove index 0x80000007")
    assert "(0 of 1)" in einval(machine, "dlpar memory remove count 1")
    machine = partition(hypervisor="phyp")
    machine.run("dlpar memory remove count 1")
    assert len(machine.blocks) == 7
    machine.run("dlpar memory add count 1")
    assert len(machine.blocks) == 8
    with pytest.raises(KernelError) as refused:  # where the kernel lies
        machine.run("dlpar memory remove index 0x80000000")
    assert refused.value.errno == "EBUSY"


@pytest.mark.parametrize("words", ["add 1G via=dlpar", "add 0x80000000 1G via=dlpar", "dlpar memory add count 4"])
@pytest.mark.parametrize(
    "back", ["eject 1G via=dlpar", "dlpar memory remove count 4", "eject 8-11", "eject 8-11 via=dlpar"]
)
def test_a_size_is_as_many_lmbs(words, back):
    machine = partition()
    machine.run(words)
    assert added(machine) == [8, 9, 10, 11]
    machine.run(back)
    assert added(machine) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("eject 100M via=dlpar", "100M is not whole LMBs; an LMB has 256M"),
        ("add 100M via=dlpar", "100M is not whole LMBs"),
        ("dlpar memory add count four", "'four' is no number"),
        ("dlpar cpu add count 1", "'cpu add count 1' is nothing that the file takes"),
        ("dlpar memory add 4", "memory add|remove count N, index DRC_INDEX"),
        ("use x86_64; dlpar", "x86_64 has no LMBs"),
        ("use powerpc ram=4G max=2G", "max=2G is less than ram=4G"),
    ],
)
def test_what_cannot_be_is_one_line(words, text):
    with pytest.raises((UsageError, CommandError)) as refused:
        partition().run(words)
    assert text in str(refused.value)


def test_the_lmbs_are_listed():
    machine = partition(max="3G")
    machine.run("dlpar memory add count 1")
    states = [row["state"] for row in machine.data("dlpar")]
    assert states == ["reserved"] * 8 + ["online"] + ["free"] * 3
