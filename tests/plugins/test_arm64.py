"""arm64: pages of three sizes, a direct map in pages or in blocks, boot memory that stays, leaves that are not split."""

import sys
from pathlib import Path

import pytest
from memshell_plugins.arm64 import Arm64
from memshell_plugins.arm64.mmu import force_pte_mapping

from memshell import KernelError, UsageError
from memshell.profiles import find_profile

sys.path.append(str(Path(__file__).parents[1] / "vmlinux"))
import vmlinux_sample as sample

BUG = "bug.arm64_offline_splits_leaf"


@pytest.mark.parametrize(
    "size, block, order, pageblock, pmd", [("4K", 27, 10, 9, 21), ("16K", 27, 11, 11, 25), ("64K", 29, 13, 13, 29)]
)
def test_constants(machine, size, block, order, pageblock, pmd):
    """Sources, of 6.12: arch/arm64/Kconfig, include/asm/sparsemem.h and pgtable-hwdef.h."""
    guest = machine("arm64", page=size)
    arch = guest.arch
    assert guest.mm.block_size == 1 << block == 1 << arch.section_size_bits
    assert (arch.max_order, arch.pageblock_order, arch.pmd_shift) == (order, pageblock, pmd)


# Zones of Debian's 6.12.117 cloud kernel: name -> (start_pfn, spanned, present, managed); pages of 4K.
BOOTED = {
    "2G": {"DMA": (16384, 770048, 540672, 503695)},
    "4G": {"DMA": (16384, 1032192, 802816, 770048), "Normal": (1048576, 262144, 262144, 232409)},
    "8G": {"DMA": (16384, 1032192, 802816, 770048), "Normal": (1048576, 1310720, 1310720, 1261013)},
}
BOOT_MEMMAP = {"2G": 8704, "4G": 16896, "8G": 33280}


@pytest.mark.parametrize("ram", BOOTED)
def test_a_booted_machine_is_as_recorded(machine, ram):
    """The flash (64M) counts as present; with memory above 4G, the bounce buffers (64M) are reserved below."""
    guest = machine("arm64", ram=ram)
    zones = {row["zone"]: row for row in guest.data("zoneinfo") if row["present"]}
    found = {name: tuple(row[key] for key in ("start_pfn", "spanned", "present")) for name, row in zones.items()}
    assert found == {name: counts[:3] for name, counts in BOOTED[ram].items()}
    for name, counts in BOOTED[ram].items():
        assert abs(zones[name]["managed"] - counts[3]) < 600  # exact with 2G and 8G
    assert guest.mm.counters["nr_memmap_boot_pages"] == BOOT_MEMMAP[ram]
    assert guest.check() == []


@pytest.mark.parametrize("page", ["16K", "64K"])
def test_larger_pages_reserve_the_same_bytes(machine, page):
    small, large = machine("arm64"), machine("arm64", page=page)
    kept = [guest.mm.totalram_pages * guest.arch.page_size for guest in (small, large)]
    memmap = [guest.mm.counters["nr_memmap_boot_pages"] * guest.arch.page_size for guest in (small, large)]
    assert abs(sum(kept[:1]) + memmap[0] - kept[1] - memmap[1]) < 1 << 20
    assert large.check() == []


def test_a_dimm_lies_behind_ram(machine):
    """Recorded: the first DIMM of a guest of 2G is at 3G (QEMU, hw/arm/virt.c), and goes to ZONE_NORMAL."""
    guest = machine("arm64")
    assert guest.run("add 128M").startswith("128M at 0xc0000000-0xc7ffffff, node 0: memory24 offline")
    guest.run("online 24 kernel")
    assert guest.blocks[24].zone.label == "Normal"


@pytest.mark.parametrize("block, errno", [(10, "EPERM"), (23, "EINVAL"), (0, "EINVAL")])
def test_boot_memory_cannot_be_offlined(machine, block, errno):
    """Recorded on 6.12 and 7.3: memory23, in which firmware's memory lies, has holes; others are refused by a notifier."""
    guest = machine("arm64", used="0")
    with pytest.raises(KernelError) as refused:
        guest.run(f"offline {block}")
    assert refused.value.errno == errno


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
    """rodata=full, the default: 512 PTE tables for a GiB (arch/arm64/mm/mmu.c:force_pte_mapping())."""
    free = {}
    for kind in ("pages", "blocks"):
        guest = machine("arm64", direct_map=kind)
        before = guest.mem_free
        guest.run("add 1G")
        free[kind] = (before - guest.mem_free) >> 12
    assert free["pages"] - free["blocks"] == 512 + 1  # and the PMD table, which a leaf of 1G does without


def refusal(guest, block):
    """Return what the kernel says when it does not offline a block, or nothing."""
    try:
        guest.run(f"offline {block}")
    except KernelError as error:
        return f"{error.errno}: {error.message.partition(': ')[2]}"
    return ""


VMEMMAP = "EPERM: 0xd0200000-0xd7ffffff splits a leaf entry in the vmemmap"
LINEAR = "EPERM: 0xd0000000-0xd7ffffff splits a leaf entry in the linear map"


@pytest.mark.parametrize(
    "options, size, told",
    [
        ({"policy": "memmap_on_memory"}, "1G", VMEMMAP),
        ({"policy": "memmap_on_memory_force"}, "640M", VMEMMAP),
        ({}, "1G", ""),
        ({"direct_map": "blocks"}, "1G", LINEAR),
        ({"direct_map": "blocks"}, "640M", ""),  # no 1G leaf
        # Each block is mapped alone then: no 1G leaf, but those of 32M (contiguous PMDs) are split too.
        ({"direct_map": "blocks", "policy": "memmap_on_memory"}, "1G", VMEMMAP.replace("vmemmap", "linear map")),
        ({"policy": "memmap_on_memory", "page": "16K"}, "1G", ""),
        ({"direct_map": "blocks", "page": "16K"}, "1G", LINEAR),  # 32 contiguous PMDs of 32M
        ({"direct_map": "blocks", "page": "16K"}, "640M", ""),
    ],
)
def test_what_splits_a_leaf_is_not_offlined(machine, options, size, told):
    """Recorded on 7.3.4 with pages of 4K (commit 95a58852b0e5); with others by the same rule."""
    guest = machine("arm64", **options)
    guest.run(f"set {BUG} on; add {size}; online all movable")
    assert refusal(guest, 26) == told
    assert guest.check() == []
    guest.run(f"set {BUG} off")
    assert refusal(guest, 27) == ""


@pytest.mark.parametrize("on", [True, False])
def test_the_last_block_of_all_is_refused_like_the_others(machine, on):
    """Recorded on 7.3.4: it is the edge in its own leaf that counts, whether or not a block follows."""
    guest = machine("arm64", policy="memmap_on_memory")
    guest.run(f"set {BUG} {'on' if on else 'off'}; add 128M; online 24 movable")
    assert bool(refusal(guest, 24)) is on


def test_a_part_of_a_1g_leaf_takes_the_rest_along(machine):
    """Until v7.0 nobody asked: unmap_hotplug_pud_range() clears the leaf, and the other blocks have no mapping."""
    guest = machine("arm64", direct_map="blocks")
    guest.run("add 1G; remove 24")
    assert "DirectMapLost" in guest.run("events")
    assert guest.check() == [f"memory{number} is not in the direct map" for number in range(25, 32)]
    guest.run("remove 25-31")
    assert guest.check() == []


V612, V618 = "v6.12", "v6.18"


@pytest.mark.parametrize(
    "cmdline, release, interval, pages",
    [
        ("quiet", V612, "100", True),
        ("rodata=full", V612, "100", True),
        ("rodata=on", V612, "100", False),
        ("rodata=on", V618, "100", True),
        ("rodata=noalias", V618, "100", False),
        ("rodata=noalias", V618, "0", True),  # as Debian builds it: KFENCE may be switched on later
        ("rodata=noalias kfence.sample_interval=100", V618, "0", False),  # recorded on 7.3.4
    ],
)
def test_what_the_direct_map_is_made_of(cmdline, release, interval, pages):
    config = {"CONFIG_KFENCE": "y", "CONFIG_KFENCE_SAMPLE_INTERVAL": interval}
    assert force_pte_mapping(config, cmdline, find_profile(release)) is pages


@pytest.mark.parametrize("option, page", [("PAGE_SIZE_16KB", 14), ("ARM64_64K_PAGES", 16), ("NUMA", 12)])
def test_the_configuration_says_the_page_size(option, page):
    arch = Arm64().from_recording({f"CONFIG_{option}": "y"}, "", (), {}, find_profile("v6.12"))
    assert arch.page_shift == page


@pytest.mark.parametrize(
    "page, told", [(4096, "pages of 4K, orders to 10"), (16384, "pages of 16K, orders to 11"), (65536, "pages of 64K")]
)
def test_a_kernel_image_says_the_page_size(page, told, tmp_path, monkeypatch, shell):
    monkeypatch.setitem(sample.TARGETS, "aarch64", ("<", 183))
    sizes = {4096: {}, 16384: {"orders": 12}, 65536: {"orders": 14, "longs": 4}}[page]
    (tmp_path / "k").write_bytes(sample.example("aarch64", page=page, **sizes))
    monkeypatch.chdir(tmp_path)
    assert told in shell("use arm64 ram=4G vmlinux=k")


@pytest.mark.parametrize(
    "wrong",
    [{"page": "8K"}, {"ram": "1G1M"}, {"ram": "256M"}, {"block": "256M"}, {"used": "4G"}, {"struct_page": "60"}],
)
def test_what_cannot_be_is_told(machine, wrong):
    with pytest.raises(UsageError):
        machine("arm64", **wrong)
