"""What several commands take is read in one place: what one refuses, all refuse."""

import pytest

from memshell.commands.builtin import COMMANDS
from memshell.shell.types import ADDING_NODE, COUNT, INT, NODE

ADDS = (
    "add 1G",
    "add 1G via=driver",
    "add 1G via=module",
    "add 1G via=probe",
    "add 1G via=hv_balloon",
    "add 1G via=xen",
)
ADDING = (*ADDS, "probe 0x100000000 1G mode=kmem", "virtio-mem 1G")
PLACED = ("raw", "fsdax", "devdax")
LOOKING = (*(f"probe 0x100000000 1G mode={mode}" for mode in PLACED), "alloc 4M", "hugepages 2M=4", "migrate 1")


def test_every_key_of_one_name_is_read_in_one_way():
    """A node or a count that a command reads by itself is one that it forgets to check."""
    seen = [(item.name, argument) for item in COMMANDS for argument in item.arguments]
    assert {argument.type for _, argument in seen if argument.name == "node="} == {NODE, ADDING_NODE}
    free = [(name, a.name) for name, a in seen if a.is_key and a.type is INT]
    says = {("alloc", "order="), ("map", "section="), ("export", "step="), ("export", "since=")}
    assert set(free) <= says  # these say themselves what they go from and to
    assert len([1 for _, argument in seen if argument.type is COUNT]) > 8


@pytest.mark.parametrize("node", ["9", "-1"])
@pytest.mark.parametrize("command", ADDING)
def test_memory_is_added_only_to_a_node_that_there_can_be(prompt, command, node):
    message = prompt.fails(f"{command} node={node}")
    assert f"node {node} is not possible (EINVAL from " in message
    assert message.endswith("there can be: 0, 1, 2, 3")


@pytest.mark.parametrize("command", ADDING)
def test_nodes_that_are_given_are_all_that_there_can_be(prompt, command):
    prompt("use x86_64 ram=2G nodes=2")
    assert prompt.fails(f"{command} node=2").endswith("there can be: 0, 1")
    prompt(f"use x86_64 ram=2G nodes=2; {command} node=1")


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("node", ["9", "5", "-1"])
def test_what_needs_a_node_that_is_online_says_which_are(prompt, command, node):
    prompt("use x86_64 ram=2G nodes=2; alloc 4M")
    steps = len(prompt.machine.steps)
    assert prompt.fails(f"{command} node={node}") == f"there is no node {node}; nodes: 0, 1"
    assert len(prompt.machine.steps) == steps


@pytest.mark.parametrize(
    "command, told",
    [
        ("undo -1", "-1 cannot be"),
        ("redo 0", "0 cannot be"),
        ("explore depth=-1", "depth=-1 cannot be"),
        ("explore blocks=0", "blocks=0 cannot be"),
        ("explore limit=0", "limit=0 cannot be"),
        ("touch times=-1", "times=-1 cannot be"),
        ("put 0x100 times=0", "times=0 cannot be"),
        ("fault memmap_page at=-1", "at=-1 cannot be"),
        ("mutate experiments/E1 jobs=0", "jobs=0 cannot be"),
        ("put 0x100 times=x", "times='x' is not a whole number"),
    ],
)
def test_a_count_is_a_whole_number_from_1_on(prompt, command, told):
    assert prompt.fails(command).startswith(told)


@pytest.mark.parametrize("command", ["page -1", "put -1", "put 0x10000000000000"])
def test_a_page_is_one_that_the_architecture_can_have(prompt, command):
    prompt("use x86_64 profile=rfc-2018")
    assert "x86_64 has pfns below 0x400000000" in prompt.fails(command)


@pytest.mark.parametrize("mode", PLACED)
@pytest.mark.parametrize("place", ["0xffffffffffffffff000 1G", "0x100000000 1E"])
def test_a_device_lies_where_it_can_be_mapped(prompt, mode, place):
    """pagemap_range() asks mhp_range_allowed(), as add_memory() does."""
    message = prompt.fails(f"probe {place} mode={mode}")
    assert "is outside of 0x0-0x3fffffffffff (EINVAL from mm/memory_hotplug.c:mhp_range_allowed)" in message


def test_huge_pages_of_no_size(prompt):
    assert prompt.fails("alloc 4K huge=0") == "huge=0 cannot be; huge pages here: 2M, 1G"


@pytest.mark.parametrize(
    "command", ["remove 0x100000000 8E", "eject 0x100000000 8E", "eject 0x180000000 0xffffffffffffffff"]
)
def test_a_range_ends_where_addresses_do(prompt, command):
    prompt("add 1G")
    assert prompt.fails(command).endswith("ends beyond what can be; this machine has addresses of 46 bits")


@pytest.mark.parametrize("command", ["remove 0x180000000 60T", "eject 0x180000000 60T"])
def test_a_range_without_blocks_costs_nothing(prompt, command):
    assert "there was no memory block to remove" in prompt(command)
