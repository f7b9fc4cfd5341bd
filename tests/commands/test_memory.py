"""alloc, free, pin, migrate: where memory comes from, and what offline makes of it."""

import pytest

from memshell.mm.invariants import violations
from memshell.mm.mmzone import ZoneType
from memshell.mm.page_alloc.allocation import lowmem_reserve


def where(prompt):
    return [(row["id"], row["size"], row["kind"], row["where"]) for row in prompt.json("alloc")]


def test_movable_memory_prefers_zone_movable_and_other_memory_the_highest_kernel_zone(prompt):
    """Source: mm/page_alloc.c:build_zonelists, gfp_zone()."""
    prompt("add 512M; online 32-33 movable; online 34-35 kernel; alloc 8M; alloc 8M unmovable")
    assert where(prompt) == [(1, "8M", "movable", "node 0 Movable 8M"), (2, "8M", "unmovable", "node 0 Normal 8M")]


def test_free_gives_everything_back(prompt):
    free = sum(zone.free for zone in prompt.mm.zones.values())
    prompt("alloc 100M; alloc 60M unmovable; alloc 4M order=10; free 2 3; free 1")
    assert sum(zone.free for zone in prompt.mm.zones.values()) == free
    assert where(prompt) == []
    assert violations(prompt.mm) == []


def test_what_cannot_be_had_changes_nothing(prompt):
    before = prompt.mm
    assert "ENOMEM from mm/page_alloc.c" in prompt.fails("alloc 3G")
    assert {key: zone.free for key, zone in prompt.mm.zones.items()} == {
        key: zone.free for key, zone in before.zones.items()
    }


@pytest.mark.parametrize(
    "kind, errno", [("unmovable", "EBUSY"), ("pinned", "EINTR"), ("movable", None)]
)  # fmt: skip
def test_what_offline_makes_of_each_kind(prompt, kind, errno):
    """Recordings x86_64-k612-N-kernel-in-use (16), -movable-pinned (4), -movable-migrate (0)."""
    prompt(f"add 128M; online 32 kernel; alloc 4M {kind} at=4G")
    if errno is None:
        prompt("offline 32")
        assert where(prompt) == [(1, "4M", "movable", "node 0 DMA32 4M")]
    else:
        assert f"({errno} from " in prompt.fails("offline 32")


def test_a_pin_holds_until_it_is_dropped(prompt):
    prompt("add 128M; online 32 movable; alloc 4M; pin 1")
    assert "EINTR" in prompt.fails("offline 32")
    prompt("unpin 1; offline 32")
    assert prompt.mm.blocks[32].state == "offline"


def test_migrate_moves_to_another_node(prompt):
    prompt("use x86_64 ram=2G nodes=2; add 128M node=1; online 32 movable; alloc 4M; migrate 1 node=1")
    assert where(prompt) == [(1, "4M", "movable", "node 1 Movable 4M")]
    assert "ENOMEM" in prompt.fails("alloc 512M; migrate 2 node=1")
    assert violations(prompt.mm) == []


@pytest.mark.parametrize(
    "command, hint",
    [
        ("alloc 100", "whole pages"),
        ("alloc 1M order=11", "orders go from 0 to 10"),
        ("alloc 1M pined", "did you mean pinned?"),
        ("alloc 1M node=7", "there is no node 7"),
        ("free 3", "there is no allocation"),
        ("alloc 4K at=100", "not the start of a page"),
    ],
)
def test_what_is_typed_wrong_is_told(prompt, command, hint):
    assert hint in prompt.fails(command)
    assert len(prompt.machine.steps) == 1


def test_a_place_that_is_taken_is_busy(prompt):
    prompt("add 128M; online 32; alloc 4M at=4G")
    assert "pfn 0x100000 is in use" in prompt.fails("alloc 4K at=4G")
    assert "not all online" in prompt.fails("alloc 4K at=8G")


def test_an_interrupt_takes_five_eighths_of_the_min_watermark_too(prompt):
    """Source: mm/page_alloc.c:__zone_watermark_ok; with nothing left, x86 has no table for the direct map (neon 1391)."""
    zones = {key: zone for key, zone in prompt.mm.zones.items() if zone.managed}
    reserve = {key: lowmem_reserve(prompt.mm, key, ZoneType.NORMAL) for key in zones}
    room = sum(zone.free - zone.watermark_min - reserve[key] for key, zone in zones.items())
    prompt(f"alloc {room * 4}K unmovable")
    assert "ENOMEM" in prompt.fails("alloc 4K unmovable")
    more = sum(zone.watermark_min - (zone.watermark_min + 1) // 2 * 3 // 4 for zone in zones.values())
    prompt(f"alloc {more * 4 - 32}K atomic")
    assert "ENOMEM" in prompt.fails("alloc 64K atomic")
    prompt("alloc 4K atomic; " * 4)
    assert violations(prompt.mm) == []


@pytest.mark.parametrize("arch, errno", [("x86_64", "crash"), ("powerpc", "EFAULT"), ("s390", "ENOMEM")])
def test_a_table_of_the_direct_map_that_cannot_be_had(prompt, arch, errno):
    prompt(f"use {arch} ram=2G; fault direct_map_table")
    said = prompt.fails("add 256G 512M")
    assert ("NULL pointer" if errno == "crash" else errno) in said


@pytest.mark.parametrize("arch, at", [("x86_64", "6T"), ("powerpc", "6T"), ("s390", "256G")])
def test_a_table_or_a_piece_of_the_memmap_that_cannot_be_had(prompt, arch, at):
    prompt(f"use {arch} ram=2G; fault vmemmap_table")
    assert "ENOMEM" in prompt.fails(f"add {at} 256M")
    assert violations(prompt.mm) == []
    prompt(f"use {arch} ram=2G; fault memmap_page; add {at} 256M")  # a leaf that cannot be had: smaller pages
    assert violations(prompt.mm) == []
