"""What a command costs does not follow the machine: the work is counted in calls, never in seconds."""

import functools
import sys

import pytest

from memshell.api import Session
from memshell.mm.mmzone import MigrateType
from memshell.mm.page_alloc.free_area import FreeArea

FIRST = 8192  # the block at 1T


@functools.cache
def machine_with(blocks, policy):
    """A machine with so many blocks of 128M online, beside those of boot."""
    session = Session()
    session.run(
        f"use x86_64 ram=24G; policy {policy}; add 1T {blocks * 128}M; online {FIRST}-{FIRST + blocks - 1} movable"
    )
    return session


def work_of(action):
    """Return how many functions were called, those written in C too."""
    calls = 0

    def count(_frame, event, _arg):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def life_of_a_block(session, blocks):
    """Take the last block away, and return the work of adding it, onlining, offlining and removing it."""
    number = FIRST + blocks - 1
    session.run(f"offline {number}; remove {number}")
    commands = (f"add {number << 27:#x} 128M", f"online {number} movable", f"offline {number}", f"remove {number}")
    for command in commands:
        session.run(command)
    return [work_of(lambda command=command: session.run(command)) for command in commands]


@pytest.mark.parametrize("policy", ["memmap_on_memory", "buddy"])
def test_a_block_costs_the_same_on_a_small_and_on_a_large_machine(policy):
    small, large = (life_of_a_block(machine_with(n, policy), n) for n in (8, 8192))
    assert sum(large) <= 1.2 * sum(small), (small, large)


MACHINES = {
    "powerpc": ("powerpc ram=16G", 4096, 256),
    "powerpc hash": ("powerpc ram=16G mmu=hash", 4096, 256),
    "arm64": ("arm64 ram=16G", 8192, 128),
    "x86_64, blocks of 2G": ("x86_64 ram=64G block=2G", 512, 2048),
    "auto-movable": ("x86_64 ram=16G block=128M online_policy=auto-movable auto_movable_ratio=1000", 8192, 128),
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["memmap_on_memory", "buddy"])
@pytest.mark.parametrize("name", MACHINES)
def test_a_block_costs_the_same_on_any_machine(name, policy):
    use, first, megabytes = MACHINES[name]
    works = []
    for blocks in (8, 512):
        session = Session()
        last = first + blocks - 1
        lines = (f"add {last * megabytes}M {megabytes}M", f"online {last} movable", f"offline {last}", f"remove {last}")
        session.run(f"use {use} policy={policy}; add {first * megabytes}M {(blocks - 1) * megabytes}M")
        session.run(f"online {first}-{last - 1} movable")
        for line in lines:
            session.run(line)
        works.append([work_of(lambda line=line, session=session: session.run(line)) for line in lines])
    small, large = works
    assert sum(large) <= 1.2 * sum(small), works


GROWING = {
    "virtio-mem": ("use x86_64 ram=16G block=128M auto_online=online_movable", "virtio-mem {size}M region=128G"),
    "kmem": ("use x86_64 ram=16G block=128M", "probe 1T {size}M mode=kmem; online offline movable"),
    "a DIMM onlined by itself": ("use x86_64 ram=16G block=128M auto_online=online_movable", "add 1T {size}M"),
    "standby": ("use s390 ram=64G standby={size}M policy=memmap_on_memory", "true"),
    "standby without memory left": ("use s390 ram=1G standby={size}M", "true"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GROWING)
def test_each_block_of_a_growing_device_costs_the_same(name):
    def work(blocks):
        session, size = Session(), blocks * 256
        use, grow = (line.format(size=size) for line in GROWING[name])
        return work_of(lambda: (session.run(use), session.run(grow)))

    work(8)
    base, small, large = work(8), work(72), work(264)
    assert (large - base) / 256 <= 1.2 * (small - base) / 64, (base, small, large)


def test_ranges_that_come_to_the_list_heads_cost_the_same_each():
    """As blocks of which each failed to go offline do: their free memory lies in as many ranges."""

    def work(count):
        area, size = FreeArea(10), 1 << 10
        for at in range(0, 2 * size * count, 2 * size):
            area.free_range(at, at + size, MigrateType.MOVABLE)
        return work_of(lambda: [area.to_head(at, at + size) for at in range(0, 2 * size * count, 2 * size)]) / count

    assert work(2048) <= 1.2 * work(256)


def test_a_row_of_blocks_costs_less_than_its_blocks_alone():
    session = Session()
    session.run("use x86_64 ram=24G block=128M")
    row = f"{FIRST}-{FIRST + 1023}"
    commands = ("add 1T 128G", f"online {row} movable", f"offline {row}", f"remove {row}")
    works = [work_of(lambda command=command: session.run(command)) / 1024 for command in commands]
    alone = life_of_a_block(machine_with(9, "buddy"), 9)
    assert all(10 * row <= one for row, one in zip(works, alone, strict=True)), (works, alone)


def test_copy_undo_and_diff_do_not_follow_the_machine():
    works = []
    for blocks in (1024, 8192):
        machine = machine_with(blocks, "memmap_on_memory").shell.machine
        with machine.transaction("touch") as mm:
            mm.blocks[FIRST] = mm.blocks[FIRST]._replace(online_type="online")
        last = len(machine.steps) - 1
        found = []
        works.append(
            (
                work_of(machine.mm.copy),
                work_of(lambda m=machine, n=last, f=found: f.extend(m.diff(n - 1, n))),
                work_of(machine.undo),
            )
        )
        assert [change.path for change in found] == [f"memory.{FIRST}.online_type"]
    small, large = works
    assert all(b <= 1.2 * a for a, b in zip(small, large, strict=True)), works
