"""What a scenario is on a real machine."""

import subprocess

import pytest

from memshell.errors import MemshellError
from memshell.lab.plan import Action, make_plan
from memshell.lab.script import script
from memshell.scenario.suite import shared_plugins


def plan(text):
    return make_plan("a.mem", text, shared_plugins)


def actions(text):
    return [step for boot in plan(text).boots for step in boot.steps if isinstance(step, Action)]


def test_words_are_blocks_and_a_dimm_has_its_place():
    found = plan("use x86_64 ram=2G; add 256M; add 0x180000000 128M node=0; online all movable").boots[0]
    ops = [step.op for step in found.steps]
    assert [(op["dimm"], op["start"], op["fixed"]) for op in ops[:2]] == [("d0", 4 << 30, False), ("d1", 6 << 30, True)]
    assert ops[2] == {"op": "online_movable", "value": "online_movable", "blocks": [32, 33, 48]}


def test_the_model_says_how_a_command_ends():
    add, again, *_ = actions("use x86_64 ram=2G; add 128M; ! add 0x100000000 128M; ! online memory3")
    assert (add.errno, again.errno, again.must_fail) == (None, "EEXIST", True)


def test_a_policy_is_a_word_of_the_next_boot():
    boots = plan("use x86_64 ram=2G; add 128M; remove 32; policy memmap_on_memory; add 128M").boots
    assert [(boot.policy, len(boot.steps)) for boot in boots] == [("N", 2), ("Y", 1)]
    assert plan("use x86_64 ram=2G; set memmap_on_memory=force; add 128M").boots[0].policy == "force"


def test_what_only_the_model_can_do_is_named():
    texts = {
        "policy memmap_on_memory": "read at boot",
        "remove 32": "a part of a DIMM",
        "alloc 4M pinned": "takes movable pages",
        "fault direct_map_table": "no such command",
        "add 1G via=driver": "a driver of its own",
        "set node_notifier on": "no kernel has a switch",
    }
    for text, why in texts.items():
        last = actions(f"use x86_64 ram=2G; add 256M; {text}")[-1]
        assert why in last.cannot, text


def test_an_eject_is_a_removal_of_what_is_offline():
    ops = [step.op for step in actions("use x86_64 ram=2G; add 256M; add 128M; remove 32-33; eject 34")]
    assert [op["dimm"] for op in ops if op["op"] == "eject"] == ["d0", "d1"]
    online = actions("use x86_64 ram=2G; add 128M; online 32; ! remove 32")[-1]
    assert "an eject offlines first" in online.cannot


def test_a_subtest_begins_on_a_boot_with_what_was_done():
    boots = plan("use x86_64 ram=2G; add 128M\nsubtest a\n online 32\nend\nexpect block.32.state == offline\n").boots
    assert [[step.text for step in boot.steps] for boot in boots] == [
        ["add 128M"],
        ["add 128M", "online 32"],
        ["add 128M", "expect block.32.state == offline"],
    ]


def test_parameters_are_words_of_the_kernel():
    hardware = plan(
        "use x86_64 ram=4G nodes=2 auto_online=online_movable online_policy=auto-movable movable_node=Y"
    ).boots
    assert hardware[0].hardware.words == (
        "memhp_default_state=online_movable",
        "memory_hotplug.online_policy=auto-movable",
        "movable_node=on",
    )
    assert (hardware[0].hardware.ram, hardware[0].hardware.nodes) == (4 << 30, 2)


@pytest.mark.parametrize(
    "text, error", [("true", "a.mem has no machine: nothing can boot"), ("add 1G", "there is no machine yet")]
)
def test_what_cannot_boot_is_told(text, error):
    with pytest.raises(MemshellError, match=error):
        plan(text)


def test_a_virtio_mem_device_is_there_from_boot_on():
    boot = plan("use x86_64 ram=2G auto_online=online; virtio-mem 256M; virtio-mem 0").boots[0]
    assert (boot.hardware.virtio_at, boot.hardware.virtio_mem) == (4 << 30, 4 << 30)
    assert [step.op for step in boot.steps] == [
        {"op": "virtio_mem_request", "size": 256 << 20},
        {"op": "virtio_mem_request", "size": 0},
    ]


def test_a_script_has_the_machine_the_commands_and_the_answers(tmp_path):
    text = "use x86_64 ram=2G nodes=2; add 256M node=1; online 32 movable; ! online 32; alloc 4M pinned; eject 32"
    lines = script(plan(text)).splitlines()
    line = next(line for line in lines if line.startswith("boot qemu-system-x86_64"))
    assert "-numa node,nodeid=1" in line
    assert '"$KERNEL"' in line
    assert "guest 'echo online_movable > /sys/devices/system/memory/memory32/state'" in lines
    assert "#    the model: EINVAL" in lines
    assert (
        "#    not on a real machine: a program of the guest takes movable pages, wherever the kernel has them" in lines
    )
    assert any(line.startswith("qmp ") and '"device_del"' in line for line in lines)
    path = tmp_path / "a.sh"
    path.write_text(script(plan(text)))
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0


def test_a_program_takes_movable_pages_and_gives_them_back():
    found = actions("use x86_64 ram=2G; alloc 64K unmovable; alloc 80M; alloc 4K; free 1; free 2 3")
    assert [(step.op.get("tag"), step.op.get("size"), bool(step.cannot)) for step in found] == [
        (None, None, True),
        (2, 80 << 20, False),
        (3, 4096, False),
        (None, None, True),
        (2, 0, False),
        (3, 0, False),
    ]
    assert "guest 'take 2 81920'" in script(plan("use x86_64 ram=2G; alloc 64K unmovable; alloc 80M")).splitlines()


def test_the_sizes_of_another_kernel_cannot_boot():
    assert plan("use x86_64 ram=256M preset=kata; add 1G").boots[0].cannot == "preset=kata is of another kernel"


def test_what_no_kernel_here_can_boot_is_passed_over():
    machines = ("x86_64 profile=rfc-2018", "powerpc", "x86_64 profile=v6.12", "x86_64 profile=rfc-2017 policy=buddy")
    made = plan("\n".join(f"use {machine}\nadd 1G" for machine in machines))
    boots, passed = made.playable("x86_64")
    assert boots == [made.boots[2]]
    assert passed == [
        "boot 1 is passed over: rfc-2018 is no released kernel",
        "boot 2 is passed over: it is for powerpc",
        "boot 4 is passed over: rfc-2017 is no released kernel",
    ]
    with pytest.raises(MemshellError, match="nothing for a kernel of s390: rfc-2018 is no released kernel"):
        made.playable("s390")


def test_there_is_room_for_what_is_plugged():
    boot = plan("use x86_64 ram=8G\nrepeat 40\nadd 1G\nend\n").boots[0]
    assert boot.hardware.slots == 40
    assert boot.hardware.maxmem >= 48 << 30
    assert plan("use powerpc ram=2G mmu=hash; add 256M via=probe").boots[0].dimms == {}
