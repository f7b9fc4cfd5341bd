"""An error tells: what was asked for, what was there and where, what is left behind, and only advice that works."""

import re
import subprocess
import sys

import pytest

from memshell import KernelError, Machine


def advice(message):
    """Return the commands that an error advises."""
    found = re.search(r"`([^`]+)` works$", message)
    return None if found is None else found[1]


def test_an_add_that_does_not_fit(prompt):
    """512G have 8G of struct pages: 64 bytes for each of 134,217,728 pages of 4K."""
    prompt("use x86_64 ram=8G")
    message = prompt.fails("add 512G")
    assert message.startswith(
        "the memmap of 512G needs 8G, 7.7G was free in kernel zones; it ended after 487G (ENOMEM from "
    )
    assert (
        "; left until the next reboot: sections of 487G without memory blocks at 0x280000000-0x7c3fffffff, and 7.6G of"
        in message
    )
    assert "; the DIMM stays plugged; " in message
    assert advice(message) == "undo; policy memmap_on_memory; add 512G"
    assert "\n" not in message
    prompt(advice(message))
    assert sum(not block.early for block in prompt.mm.blocks.values()) == 4096


def test_on_a_terminal_the_error_is_one_line_too():
    done = subprocess.run(
        [sys.executable, "-m", "memshell", "--no-rc", "-c", "use x86_64 ram=8G; add 512G"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("`undo; policy memmap_on_memory; add 512G` works")


def test_what_would_leave_nothing_behind_says_nothing_of_it(prompt):
    prompt("use x86_64 ram=512M; set bug.add_pages_no_unwind off")
    message = prompt.fails("add 64G")
    assert "left until the next reboot" not in message
    assert advice(message) == "policy memmap_on_memory; add 64G"  # no undo is needed


def test_movable_memory_is_apart_from_that_of_kernel_zones(prompt):
    """50G are online and Movable, where no memmap can lie."""
    prompt("add 50G; online offline movable")
    assert "needs 8G, 1G was free in kernel zones, 50G in Movable; " in prompt.fails("add 512G")


@pytest.mark.parametrize(
    "command, advised",
    [
        (
            "probe 0x2000000000 512G mode=kmem",
            "undo; policy memmap_on_memory; probe 0x2000000000 512G mode=kmem map=dev",
        ),
        ("probe 0x2000000000 512G mode=fsdax", "undo; probe 0x2000000000 512G mode=fsdax map=dev"),
        ("probe 0x2000000000 512G mode=raw", None),  # a raw namespace has no room for its memmap
        ("add 0x2000000000 512G via=driver", "undo; policy memmap_on_memory; add 0x2000000000 512G via=driver"),
        ("add 512G via=module", "undo; policy memmap_on_memory; add 512G via=module flags=memmap_on_memory"),
    ],
)
def test_whoever_adds_memory_is_told_what_works_for_it(prompt, command, advised):
    message = prompt.fails(command)
    assert message.startswith("the memmap of 512G needs 8G, 1.8G was free in kernel zones; it ended after ")
    assert "left until the next reboot: sections of " in message
    assert advice(message) == advised
    if advised:
        prompt(advised)


def test_a_caller_that_never_asks_the_policy_goes_on_step_by_step(prompt):
    """/sys/devices/system/memory/probe adds block by block: what was added before it failed stays."""
    prompt("use x86_64 ram=512M")
    message = prompt.fails("add 32G via=probe")
    assert "; 21.6G of it was added: memory32-204; " in message
    assert advice(message).startswith("online offline kernel; add 0x")
    prompt(advice(message))
    assert sum(not block.early for block in prompt.mm.blocks.values()) == 256


def test_virtio_mem_says_how_far_it_came(prompt):
    """It never puts the memmap on the memory: a policy is no advice."""
    prompt("use x86_64 ram=512M auto_online=online_movable policy=memmap_on_memory")
    message = prompt.fails("virtio-mem 40G region=200G")
    assert message.startswith("the memmap of 40G needs 640M, ")
    assert "; plugged 2" in message
    assert "M of 40G, region " in message
    assert "policy" not in message
    assert advice(message) == "undo; set auto_online_blocks=online_kernel; virtio-mem 40G region=200G"
    prompt(advice(message))


def test_virtio_mem_that_cannot_shrink_shows_what_holds_it(prompt):
    prompt("use x86_64 ram=4G auto_online=online_movable; virtio-mem 512M; alloc 600M; pin 1")
    message = prompt.fails("virtio-mem 0")
    assert "plugged" in message
    assert message.count("512M of 0") == 1
    assert "memory48 EINTR 0x180000 pinned, alloc 1 unpin 1 " in " ".join(prompt.out.text.split())
    assert advice(message) == "unpin 1; virtio-mem 0"
    prompt(advice(message))


@pytest.mark.parametrize(
    "before, command, advised",
    [
        ("add 1G; online all kernel; alloc 400M unmovable", "offline 32", "free 1; offline 32"),
        (
            "add 1G; online all kernel; alloc 400M unmovable",
            "write memory32/state offline",
            "free 1; write memory32/state offline",
        ),
        ("add 1G; online all kernel; alloc 400M unmovable", "eject 32", "free 1; eject 32"),
        ("add 1G; online all kernel; alloc 400M unmovable", "remove 32", None),  # it stays in use
        ("add 128M; online 32 movable", "remove 32", "offline 32; remove 32"),
        ("add 1G; online 32 movable", "remove 32", None),  # the kernel dies of a 1G leaf that is removed in part
        ("add 1G; online all", "remove 32-39", "offline 32-39; remove 32-39"),
        ("add 1G", "alloc 2500M", "online offline; alloc 2500M"),
        ("", "alloc 2500M", None),
        ("", "alloc 4M huge=2M", "hugepages 2M=2; alloc 4M huge=2M"),
        ("", "alloc 40G huge=1G", None),
        (
            "probe 0x100000000 1G mode=kmem; online all movable",
            "probe 0x100000000 --off",
            "undo; offline 32-39; probe 0x100000000 --off",
        ),
        ("", "probe 4G 1G mode=fsdax map=dev align=1G", "probe 4G 1G mode=fsdax map=dev align=2M"),
        ("", "probe 4G 2M mode=fsdax map=dev align=2M", None),
        ("", "eject 3", "offline 3; remove 3"),
        ("", "eject 0", None),  # it cannot go offline
        ("", "add 0 128M", None),
        ("", "add 1G node=9", None),
        ("", "offline 0", None),
        ("", "offline 1", None),
    ],
)
def test_advice_is_what_was_tried_and_worked(prompt, before, command, advised):
    prompt(before)
    assert advice(prompt.fails(command)) == advised
    if advised:
        prompt(advised)


def test_no_page_of_the_order(prompt):
    prompt("use x86_64 ram=256M; alloc 80M unmovable; alloc 10M; free 1")
    message = prompt.fails("alloc 96M order=10")
    assert message.startswith("only ")
    assert " of 96M can be had, in blocks of 1024 pages (ENOMEM from mm/page_alloc.c:__alloc_pages); " in message
    assert "was free in kernel zones" in message


def test_what_is_looked_for_changes_nothing(prompt):
    prompt("add 1G; online all")
    before = prompt.mm.copy()
    prompt.fails("remove 32-39")
    assert len(prompt.machine.steps) == 4
    assert prompt.machine.diff(2, 3) == []
    assert prompt.mm.blocks == before.blocks


def test_a_failure_that_is_expected_looks_for_nothing(prompt, monkeypatch):
    monkeypatch.setattr("memshell.commands.advice.works", lambda *_: pytest.fail("it was tried"))
    prompt("add 1G; online all; ! remove 32-39; ! add 512G")


def test_an_observer_does_not_see_what_is_only_tried(prompt):
    prompt("add 1G; online all")
    seen = []
    plugins = prompt.player.shell.plugins
    class_event = type(plugins).event
    try:
        type(plugins).event = lambda self, mm, events: seen.append(events)
        prompt.fails("remove 32-39")
        prompt("compare buddy -- add 1G")
    finally:
        type(plugins).event = class_event
    assert seen in ([], [prompt.machine.steps[-1].events])


@pytest.mark.parametrize(
    "before, command, advised",
    [
        ("configure 16-17; online 16", "deconfigure 16", "offline 16; deconfigure 16"),
        ("configure 16-17; online 16 kernel; alloc 2000M unmovable", "deconfigure 16", None),  # it would be EBUSY
        (
            "policy memmap_on_memory; configure 16",
            "configure 16 memmap_on_memory=1",
            "deconfigure 16; configure 16 memmap_on_memory=1",
        ),
        ("", "configure 16 memmap_on_memory=1", "policy memmap_on_memory; configure 16 memmap_on_memory=1"),
    ],
)
def test_a_command_that_a_plugin_hints_at_is_tried_too(prompt, before, command, advised):
    prompt(f"use s390 ram=2G standby=1G profile=v7.2; {before}")
    message = prompt.fails(command)
    assert advice(message) == advised
    assert "; offline 16" not in message.partition("`")[0]
    if advised:
        prompt(advised)


@pytest.mark.parametrize(
    "use, typed, done",
    [
        ("x86_64", "add 1G; online all kernel; alloc 400M unmovable; offline 32-39", "memory36-39 went offline"),
        (
            "s390 standby=1G profile=v7.2",
            "configure 16-19; online 18; deconfigure 16-19",
            "256M of it was removed: memory16-17",
        ),
        ("x86_64 ram=512M", "add 32G via=probe", "21.6G of it was added: memory32-204"),
        ("x86_64", "add 1G; fault MEM_GOING_ONLINE at=3; online 32-39", "memory32-33, memory35-39 went online"),
    ],
)
def test_a_success_in_part_says_how_much_was_done(prompt, use, typed, done):
    prompt(f"use {use}")
    *before, last = typed.split("; ")
    prompt("; ".join(before))
    assert f"; {done}" in prompt.fails(last)


def test_an_eject_that_hangs_shows_what_holds_it(prompt):
    """acpi_hotplug_work_fn() waits for pages that are pinned: no signal reaches it."""
    prompt("add 1G; online all kernel; alloc 300M pinned")
    message = prompt.fails("eject 32")
    assert message.startswith("hang in acpi_hotplug_work_fn: ")
    assert "memory32 EINTR 0x100000 pinned, alloc 1 unpin 1 " in " ".join(prompt.out.text.split())
    assert advice(message) == "undo; unpin 1; eject 32"
    prompt(advice(message))
    assert 32 not in prompt.mm.blocks


def test_who_does_not_wait_for_advice_gets_the_error(prompt, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    prompt("add 1G; online all")
    monkeypatch.setattr("memshell.commands.advice.works", interrupt)
    assert prompt.fails("remove 32-39") == "memory32 is online (EBUSY from mm/memory_hotplug.c:try_remove_memory)"


def test_a_crash_without_advice_says_how_to_go_back(prompt):
    prompt("add 1G; online 32 movable; offline 32")
    assert prompt.fails("remove 32").endswith("; undo brings the machine back")


def test_a_program_that_only_looks_at_the_errno_waits_for_no_advice(monkeypatch):
    """A loop that tries sizes would play each failure again, and throw the advice away."""
    monkeypatch.setattr("memshell.commands.advice.works", lambda *_: pytest.fail("it was tried"))
    machine = Machine.boot("x86_64", ram="512M")
    with pytest.raises(KernelError) as caught:
        machine.run("add 64G")
    assert caught.value.errno == "ENOMEM"
