"""arm64 is a whole architecture, and gives the figures that reading the kernel's text gave (vectors.json)."""

import json
from pathlib import Path

import pytest
from memshell_arm64 import Arm64

from memshell import KernelError, UsageError
from memshell.testing import arch_conformance, run_scenario

CASES = json.loads((Path(__file__).parent / "vectors.json").read_text())
COLUMNS = {
    "v61_Y": ("v6.1", "memmap_on_memory"),
    "v66_Y": ("v6.6", "memmap_on_memory"),
    "v612_Y": ("v6.12", "memmap_on_memory"),
    "v612_force": ("v6.12", "memmap_on_memory_force"),
}
POLICIES = {"buddy": "buddy", "Y": "memmap_on_memory"}


def name(case):
    return "-".join(str(case[key]) for key in ("arch", "sp", "policy") if key in case)


def page(case):
    return case["arch"].partition("/")[2]


def test_it_conforms():
    arch_conformance(Arm64(), examples=5).assert_ok()


@pytest.mark.parametrize("case", CASES["accept"], ids=name)
@pytest.mark.parametrize("column", COLUMNS)
def test_who_may_put_the_memmap_on_the_memory(machine, case, column):
    """A wrong yes keeps pages from the user, a wrong no costs existing memory."""
    profile, policy = COLUMNS[column]
    guest = machine("arm64", page=page(case), struct_page=case["sp"], profile=profile, policy=policy)
    assert guest.mm.block_size == case["block"]
    told = guest.run(f"add {case['block']} --explain")
    (block,) = [block for block in guest.blocks.values() if not block.early]
    fits, reason, reserve, waste = case[column]
    assert block.nr_vmemmap_pages == reserve
    if fits:
        assert f"{reserve} pages of each block are kept for it, {waste} of them padding" in told
    else:
        assert f"from existing memory: {reason}\n" in told


@pytest.mark.parametrize("case", CASES["buddy"], ids=name)
def test_free_lists_of_a_block_that_was_just_onlined(machine, case):
    """The chunks that a block hands to the buddy, and the pages that it keeps."""
    guest = machine("arm64", page=page(case), policy=POLICIES[case["policy"]])
    guest.run(f"add {case['block']}; online last movable")
    zone = guest.zones[0, "Movable"]
    assert (zone.managed, zone.present - zone.managed) == (case["usable"], case["reserve"])
    (lists,) = [row["orders"] for row in guest.data("buddyinfo") if row["zone"] == "Movable"]
    assert {str(order): count for order, count in enumerate(lists) if count} == case["orders"]


@pytest.mark.parametrize("case", CASES["misc"], ids=name)
def test_sizes_of_sections(machine, case):
    """Section arithmetic that every placement stands on."""
    arch = machine("arm64", page=page(case)).arch
    assert arch.pages_per_section == case["pages_per_section"]
    assert arch.pages_per_section * arch.struct_page_size == case["memmap_per_section"]
    assert arch.pages_per_section // arch.pages_per_subsection == case["subsections"]
    assert arch.pages_per_subsection == case["pages_per_subsection"]
    assert (arch.page_size // 16, arch.page_size // 32) == (case["per_root16"], case["per_root32"])


@pytest.mark.parametrize(
    "size, block, order, pageblock, pmd", [("4K", 27, 10, 9, 21), ("16K", 27, 11, 11, 25), ("64K", 29, 13, 13, 29)]
)
def test_constants(machine, size, block, order, pageblock, pmd):
    """Sources, of 6.12: arch/arm64/Kconfig, include/asm/sparsemem.h and pgtable-hwdef.h."""
    guest = machine("arm64", page=size)
    arch = guest.arch
    assert guest.mm.block_size == 1 << block == 1 << arch.section_size_bits
    assert (arch.max_order, arch.pageblock_order, arch.pmd_shift) == (order, pageblock, pmd)


def test_boot_memory_cannot_be_offlined(machine):
    guest = machine("arm64")
    with pytest.raises(KernelError, match="memory23 is boot memory") as refused:
        guest.run("offline 23")  # free, and not movable away all the same
    assert refused.value.errno == "EPERM"


@pytest.mark.parametrize("bug", ["on", "off"])
def test_a_subsection_that_goes_takes_its_neighbours_memmap_along_where_the_kernel_had_that_bug(machine, bug):
    """Fixed in 6.1.132 and 6.12.20: "arm64: mm: Populate vmemmap at the page level if not section aligned"."""
    guest = machine("arm64")
    guest.run(f"set bug.arm64_subsection_leaf {bug}; probe 0x100000000 2M; probe 0x100200000 2M")
    assert guest.check() == []
    guest.run("probe 0x100000000 --off")
    lost = ["the struct pages of 0x100200-0x100400 are not mapped"]
    assert guest.check() == (lost if bug == "on" else [])


def test_the_direct_map_in_pages_costs_a_table_for_each_2m(machine):
    """rodata=full, the default: 512 PTE tables for a GiB (arch/arm64/mm/mmu.c:can_set_direct_map())."""
    free = {}
    for rodata in ("full", "on"):
        guest = machine("arm64", rodata=rodata)
        before = guest.mem_free
        guest.run("add 1G")
        free[rodata] = (before - guest.mem_free) >> 12
    assert free["full"] - free["on"] == 512 + 1  # and the PMD table, which a leaf of 1G does without


@pytest.mark.parametrize("wrong", [{"page": "8K"}, {"ram": "1G1M"}, {"block": "256M"}, {"used": "4G"}])
def test_what_cannot_be_is_told(machine, wrong):
    with pytest.raises(UsageError):
        machine("arm64", **wrong)


def test_a_scenario():
    run_scenario("""
        use arm64 ram=4G page=64K
        policy memmap_on_memory
        add 1G
        expect memmap.altmap == 0
        online all movable
        expect zone.Movable.present == 1G
    """).assert_ok()
