"""What the command line and the keys of ``use`` decide at boot: zones, CMA areas, limits, what a small kernel takes."""

import pytest

from memshell.mm.invariants import violations
from memshell.mm.mmzone import ZoneType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk


def movable(prompt):
    zone = prompt.mm.zones[0, ZoneType.MOVABLE]
    return zone.start_pfn, zone.spanned, zone.present


@pytest.mark.parametrize(
    "words, start, pages",
    [
        ("ram=2G movablecore=1G", 262144, 262112),  # all of the RAM, 524270 pages, less 1G: rounded up to 4M
        ("ram=2G kernelcore=50%", 263168, 261088),  # 262135 pages of RAM from pfn 1 on, with a hole of 97: up to 4M
        ("ram=8G kernelcore=3G", 1311744, 1309696),  # 524158 pages lie below 4G, the rest of 3G above
        ("ram=4G kernelcore=1G", 1048576, 524288),  # what lies below the highest kernel zone is never movable
    ],
)
def test_zone_movable_at_boot(prompt, words, start, pages):
    """Source: mm/mm_init.c:find_zone_movable_pfns_for_nodes."""
    prompt(f"use x86_64 {words}")
    assert movable(prompt) == (start, pages, pages)
    assert violations(prompt.mm) == []
    total = prompt.mm.totalram_pages
    prompt(f"use x86_64 {words.split()[0]}")
    assert prompt.mm.totalram_pages == total


def test_blocks_of_zone_movable_go_offline_but_for_what_boot_took_of_them(prompt):
    prompt("use x86_64 ram=4G kernelcore=1G; offline 40")
    assert "unmovable (reserved)" in prompt.fails("offline 47")


@pytest.mark.parametrize(
    "words, says",
    [
        ("kernelcore=mirror", "not played"),
        ("kernelcore=4G", "kernelcore=4G makes no ZONE_MOVABLE on this machine"),
        ("movablecore=1G movable_node=Y", "movablecore=1G makes no ZONE_MOVABLE with movable_node"),
        ("kernelcore=10M", "more in use than is left outside of ZONE_MOVABLE"),
        ("kernelcore=101%", "a size, or N% of the memory"),
        ("mem=8G", "mem=8G cannot be; whole MiB, 128M or more, below the end of the RAM"),
        ("cma=64M@1M", "cma=64M@1M: 64M cannot be reserved"),
        ("cma=64M@", "SIZE, SIZE@START or SIZE@START-END"),
        ("cma=64G", "64G cannot be reserved"),
        ("reserved=1M", "memmap and holes alone take"),
        ("used=4G", "4G in use of a MemTotal of"),
        ("used=1", "used=1 cannot be; whole pages of 4K"),
        ("preset=firecracker", "does not say what is in use; give used=SIZE too"),
        ("preset=kvm", "one of cloud-hypervisor, kata, firecracker"),
    ],
)
def test_what_cannot_be(prompt, words, says):
    assert says in prompt.fails(f"use x86_64 {words}")


def test_mem_cuts_the_memory_off(prompt):
    prompt("use x86_64 ram=4G mem=1G")
    assert sorted(prompt.mm.blocks) == list(range(8))
    assert not prompt.mm.zones[0, ZoneType.NORMAL].present
    prompt("add 128M")  # only what boot adds is limited


def test_a_cma_area_holds_movable_pages_only_and_its_blocks_stay_online(prompt):
    """Found with cma=256M@1G on 7.3.4: offline of memory8 is EBUSY. Source: mm/page_isolation.c:has_unmovable_pages."""
    prompt("use x86_64 ram=2G cma=256M@1G")
    shown = prompt.json("meminfo")
    assert (shown["CmaTotal"], shown["CmaFree"]) == (256 << 10, 256 << 10)
    assert "pfn 0x40000 is unmovable (of a CMA area)" in prompt.fails("offline 8")
    free = shown["MemFree"]
    assert "ENOMEM" in prompt.fails(f"alloc {free - (100 << 10)}K unmovable")
    prompt(f"alloc {free - (100 << 10)}K")  # the same, movable
    assert prompt.json("meminfo")["CmaFree"] < 256 << 10
    assert violations(prompt.mm) == []
    prompt("free all")
    assert prompt.json("meminfo")["CmaFree"] == 256 << 10
    assert "EBUSY" in prompt.fails("offline 9")


def test_movable_pages_come_from_an_area_while_it_has_half_of_what_is_free(prompt):
    """Source: mm/page_alloc.c:__rmqueue."""
    prompt("use x86_64 ram=1G cma=512M; alloc 64M")
    assert prompt.json("meminfo")["CmaFree"] == 448 << 10


def test_small_kernels(prompt):
    prompt("use x86_64 ram=128M preset=cloud-hypervisor")
    assert {name: prompt.json("meminfo")[name] for name in ("MemTotal", "MemFree")} == {
        "MemTotal": 98740,
        "MemFree": 76840,
    }
    prompt("use x86_64 ram=2G preset=kata")
    assert {name: prompt.json("meminfo")[name] for name in ("MemTotal", "MemFree")} == {
        "MemTotal": 2045972,
        "MemFree": 2013164,
    }
    prompt("use x86_64 ram=256M reserved=32M used=8M")
    assert {name: prompt.json("meminfo")[name] for name in ("MemTotal", "MemFree")} == {
        "MemTotal": 224 << 10,
        "MemFree": 216 << 10,
    }


@pytest.mark.parametrize("used", [0, 10, 30])
def test_what_is_used_is_used_to_the_page(prompt, used):
    prompt(f"use x86_64 ram=256M used={used}M")
    shown = prompt.json("meminfo")
    assert shown["MemTotal"] - shown["MemFree"] == used << 10


@pytest.mark.slow
@pytest.mark.parametrize("order", [0, 3, 9])
@pytest.mark.parametrize("words", ["cma=256M@1G", "cma=800M", "cma=64M"])
def test_many_movable_pages_at_once_are_those_of_one_after_the_other(prompt, words, order):
    """The areas and the other lists take turns; what is taken in bulk ends in the same state."""
    prompt(f"use x86_64 ram=2G {words}")
    once, one = prompt.mm.copy(), prompt.mm.copy()
    few = 3001 >> order
    for nr, step in ((few, 1), (20 * few, 20 * few), (few, 1)):
        alloc_bulk(once, nr, order, Owner.USER, movable=True)
        for _ in range(0, nr, step):
            alloc_bulk(one, step, order, Owner.USER, movable=True)
        assert list(once.pages.items()) == list(one.pages.items())
        assert [list(area.chunks()) for area in once.free.values()] == [
            list(area.chunks()) for area in one.free.values()
        ]
        assert dict(once.zones.items()) == dict(one.zones.items())
    assert violations(once) == []
