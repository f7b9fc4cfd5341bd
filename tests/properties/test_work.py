"""What a command costs does not follow the machine: the work is counted in calls, never in seconds."""

import functools
import sys

import pytest

from memshell.api import Session

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
