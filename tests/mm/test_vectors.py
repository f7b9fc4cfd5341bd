"""Figures of memmap placement, read out of v5.13 to v6.18: tests/vectors/upstream.json."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memshell.drivers.base.memory.state import state_store
from memshell.drivers.nvdimm.pfn_devs import nd_pfn_geometry
from memshell.errors import KernelError
from memshell.mm.boot import boot
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.memmap_on_memory import memmap_request
from memshell.mm.mmzone import ZoneType
from memshell.mm.params import Params
from memshell.mm.pfn import GiB, MiB, TiB
from memshell.mm.sparse import mem_section_usage_size
from memshell.mm.state import Mm
from memshell.plugins import load_plugins
from memshell.profiles import find_profile

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "upstream.json").read_text())
BASE = TiB  # where the neighbouring tables are empty
POLICIES = {"buddy": "buddy", "N": "buddy", "Y": "memmap_on_memory", "force": "memmap_on_memory_force"}
OPTIONS = {
    "x86_64/4K": ("x86_64", {}),
    "x86_64/4K no-HUGETLB(pbo10)": ("x86_64", {}),
    "ppc64 radix/64K": ("powerpc", {"page": "64K", "mmu": "radix"}),
    "ppc64 radix/4K": ("powerpc", {"page": "4K", "mmu": "radix"}),
    "ppc64 hash/64K": ("powerpc", {"page": "64K", "mmu": "hash"}),
    "s390x/4K": ("s390", {"edat": "2"}),
    **{f"arm64/{page}": ("arm64", {"page": page}) for page in ("4K", "16K", "64K")},
}


def cases(kind):
    return [
        pytest.param(case, id=case_id(case), marks=[pytest.mark.slow] if case.get("size") == TiB else [])
        for case in CASES[kind]
    ]


def case_id(case):
    return "-".join(str(case[key]) for key in ("arch", "block", "sp", "size", "policy") if key in case)


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


def machine(plugins, case, release="v6.12", ram="2G"):
    """A machine with room for the memmap, and every address up to 2^46 mappable."""
    name, options = OPTIONS[case["arch"]]
    arch, profile = plugins.arches()[name], find_profile(release)
    values = {option.name: option.default for option in arch.options} | options
    values |= {"struct_page": str(case.get("sp", 64)), "block": str(case["block"]), "ram": ram}
    arch = arch.configure(values, profile)
    if name == "s390":
        arch = replace(arch, max_mappable=1 << arch.max_physmem_bits)
    if "pbo10" in case["arch"]:
        arch = replace(arch, pageblock_order=10)
    policy = plugins.policies()[POLICIES[case.get("policy", "buddy")]]
    return boot(arch, profile, policy, arch.boot_memory(values, profile), Params())


@pytest.mark.parametrize("case", cases("accept"))
@pytest.mark.parametrize("column", ["v61_Y", "v66_Y", "v612_Y", "v612_force"])
def test_who_may_put_the_memmap_on_the_memory(plugins, case, column):
    """A wrong yes keeps pages from the user, a wrong no costs existing memory."""
    name, options = OPTIONS[case["arch"]]
    release, mode = column.split("_")
    profile = find_profile(f"v{release[1]}.{release[2:]}")
    arch = plugins.arches()[name]
    values = {option.name: option.default for option in arch.options} | options | {"struct_page": str(case["sp"])}
    arch = arch.configure(values, profile)
    if "pbo10" in case["arch"]:
        arch = replace(arch, pageblock_order=10)
    policy = plugins.policies()[POLICIES[mode]]
    mm = Mm(arch, profile, policy, case["block"], 0, 0)
    placement = policy.place_memmap(memmap_request(mm, 0, BASE, case["block"], offered=True))
    waste = placement.reserve_pages - case["memmap_pages"] if placement.reserve_pages else 0
    found = [not placement.refusal, placement.refusal, placement.reserve_pages, waste]
    fits, reason, *pages = case[column]
    assert found == [
        fits,
        reason.partition(" (<")[0],
        *pages,
    ]  # "arch not enabled (<6.6)": the release is the reader's note


def vmemmap_leaves(mm, size):
    arch = mm.arch
    low = arch.vmemmap_address(BASE >> arch.page_shift)
    high = arch.vmemmap_address(BASE + size >> arch.page_shift)
    leaves = {}
    for start, end, leaf in mm.leaves.items(low, max(high, low + 1)):
        whole = mm.leaves.run_at(start)
        count = max((min(end, whole[1]) - start) // leaf.size, 1)
        leaves[leaf.size, leaf.owner] = leaves.get((leaf.size, leaf.owner), 0) + count
    return leaves


def direct_leaves(mm, size):
    low = mm.arch.page_offset + BASE
    return {leaf.size: (end - start) // leaf.size for start, end, leaf in mm.leaves.items(low, low + size)}


def new_tables(mm, before, level, start, size):
    """Tables of *level* that the add made over the addresses [start, start+size)."""
    span = SPANS[mm.arch.name][level]
    fresh = [address for name, address in mm.tables if name == level and (name, address) not in before]
    return sum(address < start + size and address + span > start for address in fresh)


SPANS = {
    "x86_64": {"p4d_pud": 512 * GiB, "pmd": GiB, "pte": 2 * MiB},
    "powerpc": {"pud": 512 * GiB, "pmd": GiB, "pte": 2 * MiB},
    "s390": {"pud": 4 * TiB, "pmd": 2 * GiB, "pte": MiB},
}
NAMES = {"4K": 4096, "1M": MiB, "2M": 2 * MiB, "16M-HPTE": 16 * MiB, "1G": GiB, "2G": 2 * GiB}


def memmap_bytes(mm, case):
    return (case["size"] >> mm.arch.page_shift) * mm.arch.struct_page_size


def check_vmemmap(mm, before, case):
    expected, leaves = case["vmemmap"], vmemmap_leaves(mm, case["size"])
    start = mm.arch.vmemmap_address(BASE >> mm.arch.page_shift)
    tables = {level: new_tables(mm, before, level, start, memmap_bytes(mm, case)) for level in ("pmd", "pte")}
    if "buddy_16M" in expected:
        assert leaves == {(16 * MiB, "buddy"): expected["buddy_16M"]}
        return
    assert tables["pmd"] == expected["pmd_tables"]
    if "leaf" in expected:
        size = 1 << mm.arch.pmd_shift
        assert leaves == {(size, expected["src"]): expected["leaf"]}
        return
    assert tables["pte"] == expected["pte_tables"]
    assert leaves.get((2 * MiB, "buddy"), 0) == expected["buddy_2M"]
    assert leaves.get((65536, "buddy"), 0) == expected["buddy_64K"]
    allocated = [block.altmap.alloc for block in mm.blocks.values() if block.altmap is not None]
    counts = {str(n): allocated.count(n) for n in set(allocated)}
    assert counts == {str(k): v for k, v in expected["alt_per_block"].items()}


@pytest.mark.parametrize("case", cases("add"))
def test_what_an_add_costs_and_keeps(plugins, case):
    """Leaves, tables and reserves of one add at 1 TiB: what people plan their memory by."""
    memmap = case["memmap_bytes"]
    mm = machine(plugins, case, ram=f"{max(4, 2 * memmap // GiB + 4)}G")
    if mm.arch.name == "s390":
        del mm.tables["pud", 0]  # it spans 4 TiB; the figures are for an add whose neighbourhood has no tables
    before = set(mm.tables)
    step = case["block"] if mm.arch.name == "s390" else case["size"]  # s390 adds its standby memory block by block
    for start in range(BASE, BASE + case["size"], step):
        add_memory(mm, 0, start, step, MHP_MEMMAP_ON_MEMORY)
    blocks = [mm.blocks[BASE // case["block"] + i] for i in range(case["blocks"])]
    assert len([b for b in mm.blocks.values() if not b.early]) == case["blocks"]
    assert case["blocks"] * mm.block_pages == case["present_pages"]
    assert {block.nr_vmemmap_pages for block in blocks} == {case["reserve_per_block"]}
    assert case["present_pages"] - case["blocks"] * case["reserve_per_block"] == case["usable_pages"]
    assert direct_leaves(mm, case["size"]) == {NAMES[k]: v for k, v in case["direct"]["leaf"].items() if v}
    pud = "p4d_pud" if mm.arch.name == "x86_64" else "pud"
    start = mm.arch.page_offset + BASE
    assert new_tables(mm, before, "pmd", start, case["size"]) == case["direct"]["pmd_tables"]
    assert new_tables(mm, before, pud, start, case["size"]) == case["direct"]["pud_tables"]
    check_vmemmap(mm, before, case)


@pytest.mark.parametrize("case", cases("buddy"))
def test_free_lists_of_a_block_that_was_just_onlined(plugins, case):
    """The chunks that a block hands to the buddy: maximal, and none in the pages that it keeps."""
    mm = machine(plugins, case)
    add_memory(mm, 0, BASE, case["block"], MHP_MEMMAP_ON_MEMORY)
    state_store(mm, BASE // case["block"], "online_movable")
    counts = mm.free[0, ZoneType.MOVABLE].counts()
    assert {str(order): n for order, n in enumerate(counts) if n} == case["orders"]
    zone = mm.zones[0, ZoneType.MOVABLE]
    assert (zone.managed, zone.present - zone.managed) == (case["usable"], case["reserve"])


@pytest.mark.parametrize("case", cases("misc"))
def test_constants_of_sections(plugins, case):
    """Section arithmetic that every placement stands on."""
    name, options = OPTIONS[case["arch"]]
    arch = plugins.arches()[name]
    values = {option.name: option.default for option in arch.options} | options
    arch = arch.configure(values, find_profile("v6.12"))
    assert arch.pages_per_section == case["pages_per_section"]
    assert arch.pages_per_section * arch.struct_page_size == case["memmap_per_section"]
    assert arch.pages_per_section // arch.pages_per_subsection == case["subsections"]
    assert arch.pages_per_subsection == case["pages_per_subsection"]
    assert (arch.page_size // 16, arch.page_size // 32) == (case["per_root16"], case["per_root32"])
    sizes = [mem_section_usage_size(arch, find_profile(release)) for release in ("v5.15", "v6.12", "v6.18")]
    assert sizes == [case["usage_51x"], case["usage_68"], case["usage_617"]]


@pytest.mark.parametrize("case", CASES["fsdax"], ids=lambda case: f"{case['size']}-{case['align']}")
def test_layout_of_a_pfn_device(case):
    """What an fsdax namespace with its memmap on the device keeps from the data."""
    if case["err"]:
        with pytest.raises(KernelError) as raised:
            nd_pfn_geometry(TiB, case["size"], align=case["align"], page_size=4096, on_device=True)
        assert f"-{raised.value.errno}" == case["err"]
        return
    found = nd_pfn_geometry(TiB, case["size"], align=case["align"], page_size=4096, on_device=True)
    assert (found.dataoff, found.reserve, found.free) == (case["dataoff"], case["reserve"], case["free"])
    assert found.npfns * 4096 == case["usable"]


def test_no_vectors_are_left_out():
    """A case that no plugin here can play must not vanish in silence."""
    known = {case["arch"] for kind in ("accept", "add", "buddy", "misc") for case in CASES[kind]}
    assert known == set(OPTIONS)
