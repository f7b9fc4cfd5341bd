"""What a command decided and nobody asked for is one line of its result."""

import pytest


@pytest.mark.parametrize(
    "use, command, line",
    [
        (
            "powerpc ram=8G policy=memmap_on_memory",
            "add 4G",
            "memmap_on_memory is not followed: memmap_pages 4 not pageblock(32) aligned",
        ),
        (
            "s390 ram=2G policy=memmap_on_memory profile=v6.6",
            "add 1G",
            "memmap_on_memory is not followed: arch not enabled",
        ),
        (
            "x86_64 ram=2G policy=memmap_on_memory profile=v6.1",
            "add 1G",
            "memmap_on_memory is not followed: the range is not one memory block of 128M",
        ),
        (
            "x86_64 ram=2G policy=memmap_on_memory",
            "add 1G via=probe",
            "memmap_on_memory is not followed: the caller does not ask for it",
        ),
        (
            "x86_64 ram=2G policy=memmap_on_memory",
            "virtio-mem 256M",
            "memmap_on_memory is not followed: the caller does not ask for it",
        ),
        (
            "x86_64 ram=2G policy=memmap_on_memory_force profile=v6.1",
            "add 128M",
            "memmap_on_memory_force is not followed: this kernel does not know 'force'",
        ),
        ("x86_64 ram=2G nodes=2", "add 1G node=1", "16M of the memmap is on node 0"),
        (
            "x86_64 ram=2G",
            "add 300M via=hv_balloon",
            "whole blocks of 128M: 384M was added, 84M of it has nothing behind it",
        ),
        ("x86_64 ram=2G", "add 300M via=xen", "whole blocks of 128M: 384M was added, 84M of it has nothing behind it"),
        ("x86_64 ram=2G auto_online=online_movable", "add 1G", "onlined by auto_online_blocks=online_movable"),
        (
            "x86_64 ram=2G auto_online=online online_policy=auto-movable",
            "add 1G",
            "onlined by auto_online_blocks=online; zones by online_policy=auto-movable, auto_movable_ratio=301",
        ),
        (
            "x86_64 ram=2G online_policy=auto-movable",
            "add 1G; online all",
            "zones by online_policy=auto-movable, auto_movable_ratio=301",
        ),
    ],
)
def test_it_is_the_last_line(prompt, use, command, line):
    prompt(f"use {use}")
    assert prompt(command).splitlines()[-1] == line


def test_an_auto_online_that_fails(prompt):
    prompt("set auto_online_blocks=online_movable; fault MEM_GOING_ONLINE")
    assert prompt("add 1G").splitlines()[-2:] == [
        "onlined by auto_online_blocks=online_movable",
        "it failed for memory32: a notifier refused MEM_GOING_ONLINE (EPERM from drivers/base/memory.c:memory_notify)",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "add 1G",
        "policy memmap_on_memory; add 1G",
        "online_policy",
        "probe 0x100000000 1G mode=devdax",
        "virtio-mem 256M",
    ],
)
def test_what_was_asked_for_is_no_decision(prompt, command):
    if command == "online_policy":
        command = "add 1G; online all movable"
    text = prompt(command)
    assert "followed" not in text
    assert "onlined by" not in text
    assert "whole blocks" not in text


def test_the_reason_is_an_event_too(prompt):
    prompt("use powerpc ram=8G policy=memmap_on_memory; add 4G")
    (event,) = [event for event in prompt.json("events") if event["kind"] == "MemmapFallback"]
    assert event["function"] == "mm/memory_hotplug.c:mhp_supports_memmap_on_memory"
    assert event["reason"] == "memmap_pages 4 not pageblock(32) aligned"


def test_compare_says_why_two_columns_are_alike(prompt):
    text = prompt("use powerpc ram=8G; compare buddy memmap_on_memory -- add 4G")
    assert text.splitlines()[-1] == (
        "memmap_on_memory: the memmap comes from existing memory: memmap_pages 4 not pageblock(32) aligned"
    )


@pytest.mark.parametrize(
    "use, said",
    [
        ("x86_64 ram=2G policy=memmap_on_memory", "memmap on the device, 1008M usable; truncated by 76M"),
        ("x86_64 ram=2G", "memmap in memory (policy buddy allows no other); truncated by 76M"),
        (
            "x86_64 ram=2G policy=memmap_on_memory profile=v6.6",
            "memmap in memory (a dax device of v6.6 cannot be told); truncated by 76M",
        ),
        (
            "powerpc ram=2G policy=memmap_on_memory",
            "memmap in memory (memmap_on_memory is not followed: memmap_pages 4 not pageblock(32) aligned)",
        ),
    ],
)
def test_a_device_says_what_is_left_of_it(prompt, use, said):
    """The kernel: "DAX region truncated by 76.00 MiB due to alignment"."""
    assert said in prompt(f"use {use}; probe 0x100000000 1100M mode=kmem map=dev")


def test_what_a_namespace_keeps_for_data(prompt):
    """64 bytes for each 4K of 1G are 16M; with the info block and the alignment the data begins after 18M."""
    text = prompt("probe 0x100000000 1G mode=fsdax map=dev")
    assert "memmap on the device, data 1006M at 0x101200000" in text
    prompt("probe 0x140000000 1100M mode=kmem")
    shown = [line.split() for line in prompt("devices").splitlines()]
    assert [line[5:7] for line in shown[1:]] == [["1G", "1006M"], ["1100M", "1G"]]
