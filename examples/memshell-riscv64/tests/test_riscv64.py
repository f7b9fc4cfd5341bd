"""riscv64 is a whole architecture: it conforms, and what follows from its page tables is right in each mode."""

from pathlib import Path

import pytest
from memshell_riscv64 import MODES, Riscv64

from memshell import KernelError, UsageError
from memshell.testing import arch_conformance, run_scenario

SCENARIO = Path(__file__).parents[1] / "scenarios" / "subsection_leaf.mem"


def test_it_conforms():
    arch_conformance(Riscv64(), examples=3).assert_ok()


def test_the_scenario_that_comes_with_it():
    run_scenario(SCENARIO.read_text()).assert_ok()


@pytest.mark.parametrize("mmu, tables", [("sv39", 0), ("sv48", 1), ("sv57", 1)])
def test_what_an_add_costs(machine, mmu, tables):
    """128M at 5G: 512 pages of memmap, and the PMD table of that GiB; with Sv39 that one is there since boot."""
    guest = machine("riscv64", mmu=mmu)
    free = guest.mem_free
    guest.run("add 0x140000000 128M")
    assert (free - guest.mem_free) >> 12 == 512 + tables
    guest.run("remove 40")
    assert guest.mem_free == free
    assert guest.check() == []


@pytest.mark.parametrize("mmu, leaf", [("sv39", "2M"), ("sv48", "1G"), ("sv57", "1G")])
def test_leaves_of_the_direct_map(machine, mmu, leaf):
    """best_map_size(): no PUD leaf where there is no fourth level."""
    guest = machine("riscv64", mmu=mmu)
    guest.run("add 1G")
    size = {"2M": 2 << 20, "1G": 1 << 30}[leaf]
    low = guest.arch.page_offset + (4 << 30)
    assert {found.size for _, _, found in guest.mm.leaves.items(low, low + (1 << 30))} == {size}


@pytest.mark.parametrize("policy, kept", [("buddy", 0), ("memmap_on_memory", 512)])
def test_the_life_of_a_dimm(machine, policy, kept):
    guest = machine("riscv64", policy=policy)
    free = guest.mem_free
    guest.run("add 512M; online all movable")
    zone = guest.zones[0, "Movable"]
    assert (zone.present, zone.present - zone.managed) == (131072, 4 * kept)
    guest.run("offline 33; online 33 kernel; offline 32-35")
    guest.run("eject 32-35")
    assert 32 not in guest.blocks
    assert guest.mem_free == free
    assert guest.check() == []


def test_a_part_of_a_1g_leaf_takes_the_rest_along(machine):
    guest = machine("riscv64")
    guest.run("add 1G; remove 32")
    assert "DirectMapLost" in guest.run("events")
    assert guest.check() == [f"memory{number} is not in the direct map" for number in range(33, 40)]


def test_boot_memory_can_be_offlined(machine):
    """There is no notifier against it, as arm64 has one."""
    guest = machine("riscv64", ram="4G")
    guest.run("offline 40")  # free, in ZONE_NORMAL above 4G
    assert guest.blocks[40].state == "offline"


@pytest.mark.parametrize("mmu", MODES)
def test_what_can_be_mapped_ends_with_the_linear_map(machine, mmu):
    guest = machine("riscv64", mmu=mmu)
    end = guest.arch.mhp_range()[1] + 1
    with pytest.raises(KernelError) as refused:
        guest.run(f"add {end:#x} 128M")
    assert refused.value.errno == "E2BIG"


def test_a_booted_machine(machine):
    guest = machine("riscv64", ram="4G", used="64M")
    zones = {row["zone"]: row["present"] for row in guest.data("zoneinfo") if row["present"]}
    assert zones == {"DMA32": 524288, "Normal": 524288}
    assert guest.mm.counters["nr_memmap_boot_pages"] == 16384
    assert guest.check() == []


@pytest.mark.parametrize("wrong", [{"mmu": "sv32"}, {"ram": "2G1M"}, {"used": "4G"}, {"struct_page": "60"}])
def test_what_cannot_be_is_told(machine, wrong):
    with pytest.raises(UsageError):
        machine("riscv64", **wrong)


@pytest.mark.parametrize("cmdline, mmu", [("quiet", "sv57"), ("no5lvl", "sv48"), ("no4lvl quiet", "sv39")])
def test_the_boot_parameters_say_the_mode(machine, cmdline, mmu):
    profile = machine("riscv64").profile
    assert Riscv64().from_recording({}, cmdline, (), {}, profile).mmu == mmu
