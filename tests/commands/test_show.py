"""The views: byte for byte the kernel's and util-linux's where a real one is at hand; the JSON of tools."""

import json
import lzma
import re
from pathlib import Path

import pytest

RECORDING = Path(__file__).parents[1] / "recordings" / "x86_64-k612-Y-1G-movable.json.xz"


def test_the_zones_of_a_view_are_those_of_the_state(prompt):
    prompt("add 1G; online 32-35 movable")
    rows = {row["zone"]: row for row in prompt.json("zoneinfo")}
    assert set(rows["Movable"]) == {"node", "zone", "start_pfn", "spanned", "present", "managed", "free"}
    assert rows["Movable"] == {
        "node": 0, "zone": "Movable", "start_pfn": 0x100000, "spanned": 131072, "present": 131072,
        "managed": 131072, "free": 131072,
    }  # fmt: skip
    assert prompt.json("buddyinfo")[-1] == {"node": 0, "zone": "Movable", "orders": [0] * 10 + [128]}
    text = prompt("buddyinfo").splitlines()[-1]
    assert text == "Node 0, zone  Movable " + "     0 " * 10 + "   128 "


def test_watermarks_are_those_of_a_real_kernel(prompt):
    """x86_64-k612-Y-1G-movable: min, low, high of every zone after each online of a block, to the page."""
    recording = json.loads(lzma.decompress(RECORDING.read_bytes()))
    prompt("policy memmap_on_memory; add 1G")
    onlines = [step for step in recording["steps"] if "online_movable" in step["action"]][:8]
    for number, step in enumerate(onlines, start=32):
        assert step["action"].startswith(f"memory{number} ")
        prompt(f"online {number} movable")
        movable = next(zone for zone in step["state"]["zones"] if zone["zone"] == "Movable")
        lines = prompt("zoneinfo").partition("zone  Movable")[2].splitlines()
        seen = dict(line.split() for line in lines[1:8] if len(line.split()) == 2)
        for mark in ("min", "low", "high"):
            assert int(seen[mark]) == movable[mark]


def test_pageblocks_are_counted_as_pagetypeinfo_does(prompt):
    """x86_64-k612-Y-1G-movable: a block whose memmap is its own has 1 unmovable and 63 movable pageblocks."""
    prompt("policy memmap_on_memory; add 128M; online 32 movable")
    row = prompt.json("pagetypeinfo")[-1]
    kinds = {"Unmovable": 1, "Movable": 63, "Reclaimable": 0, "HighAtomic": 0, "Isolate": 0}
    assert row["pageblocks"] == kinds
    assert "Page block order: 9\nPages per block:  512\n" in prompt("pagetypeinfo")


def test_meminfo_vmstat_and_iomem(prompt):
    """MemTotal: 2G guest of the recording, 1951108 kB; nr_memmap_pages counts altmaps too."""
    assert prompt("meminfo").splitlines()[0] == "MemTotal:        1951108 kB"
    prompt("policy memmap_on_memory; add 128M; online 32 movable")
    assert prompt.json("meminfo")["MemTotal"] == 1951108 + (32768 - 512) * 4
    assert prompt.json("vmstat")["nr_memmap_pages"] == 512
    assert prompt("iomem").splitlines()[-1] == "100000000-107ffffff : System RAM"


def test_altmap_and_vmemmap_have_the_promised_shape(prompt):
    prompt("policy memmap_on_memory; add 256M")
    assert prompt.json("altmap")[1] == {
        "start": 0x108000000, "size": 128 << 20, "base_pfn": 0x108000, "reserve": 0, "free": 512, "align": 0,
        "alloc": 512, "nr_sects": None, "vmemmap_pages": 512, "first_pfn": 0x108000, "last_pfn": 0x1081FF,
        "head": None, "head_refcount": None,
    }  # fmt: skip
    found = prompt.json("vmemmap 32-33")
    assert found["leaves"] == [
        [0xFFFFEA0004000000, 1, 2 << 20, 0x100000], [0xFFFFEA0004200000, 1, 2 << 20, 0x108000],
    ]  # fmt: skip
    assert set(found["tables"]) == {"p4d_pud", "pmd"}
    assert prompt.json("vmemmap 33 --direct")["leaves"] == [[0xFFFF888108000000, 64, 2 << 20, 0x108000]]


def test_a_leaf_that_blocks_share_is_shown_once(prompt):
    """Hand count: at 56 bytes a struct page, 16 sections of 128M need 28M of memmap, 14 leaves of 2M."""
    prompt("use x86_64 ram=4G struct_page=56; add 2G")
    assert sum(leaf[1] for leaf in prompt.json("vmemmap 48-63")["leaves"]) == 14
    assert [leaf[1] for leaf in prompt.json("vmemmap 50 48 63 --direct")["leaves"]] == [1, 1]  # leaves of 1G


def test_a_device_has_an_altmap_too(prompt):
    """fsdax with map=dev, 1G at 1T, 2M alignment: the superblock is 2 pages, the first leaf of 2M costs 510 more."""
    prompt("probe 0x10000000000 1G mode=fsdax map=dev")
    (found,) = prompt.json("altmap")
    shape = {name: found[name] for name in ("start", "reserve", "free", "align", "alloc")}
    assert shape == {"start": 1 << 40, "reserve": 2, "free": 4606, "align": 510, "alloc": 4096}
    prompt("probe 0x10000000000 --off")
    assert prompt("altmap") == "no block and no device has an altmap\n"
    assert prompt("altmap -F csv").startswith("START,")


def test_a_page_says_where_its_struct_page_is(prompt):
    prompt("policy memmap_on_memory; add 128M; online 32 movable")
    found = prompt.json("page 0x100005")
    assert (found["owner"], found["zone"]) == ("memmap_on_memory", "Movable")
    assert found["flag_names"] == ["owner_private"]
    assert found["struct_page"] == {
        "va": 0xFFFFEA0004000140, "leaf_bytes": 2 << 20, "pfn": 0x100000, "from": "altmap",
    }  # fmt: skip
    assert prompt.json("page 0x100200")["buddy"] == [0x100200, 9]
    prompt("offline 32")
    assert "offline" in prompt("page 0x100200")
    assert "no struct page" in prompt("page 0x200000")
    assert "a hole in the memory of boot" in prompt("page 0")
    assert "cannot be" in prompt.fails("page 0x400000000")


def test_a_section_says_what_holds_its_memmap(prompt):
    prompt("add 128M")
    found = prompt.json("section 32")
    assert found["flags"] == ["present", "has_mem_map"]
    assert (found["subsections"], found["block"]) == (64, 32)
    assert "not present" in prompt("section 33")


@pytest.mark.parametrize("size", ["128M", "10G", "300G", "1T"])
def test_the_map_fits_a_small_terminal_whatever_the_size(prompt, size):
    prompt(f"use x86_64 ram=64G block=128M policy=memmap_on_memory; add {size}; online all movable")
    lines = prompt("map").splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 45
    assert all(line.isascii() for line in lines)


def test_the_map_shows_what_each_block_is(prompt):
    prompt("policy memmap_on_memory; add 1G; online 32-35 movable; remove 39; alloc 64M at=4160M; pin 1")
    row = next(line for line in prompt("map").splitlines() if line.lstrip().startswith("0x100000000"))
    assert row.split("|")[1:9] == ["m.PP", "m...", "m...", "m...", "----", "----", "----", "    "]
    assert "memory32: online" in prompt("map 32")
    assert "memmap of its own memory block" in prompt("map 32")


def test_the_map_looks_into_one_section(prompt):
    prompt("use powerpc ram=2G block=256M page=64K policy=memmap_on_memory_force; add 256M; online last movable")
    assert prompt("map section=128").startswith("section 128, in memory8 (online)\n")
    assert "memmap of its own memory block" in prompt("map section=128")
    assert "memmap of its own" not in prompt("map section=129")
    assert "there is no section -1; sections are 0 to" in prompt.fails("map section=-1")


@pytest.mark.parametrize("view", ["map", "map 32", "map section=32"])
def test_colours_of_the_map_change_no_character_and_stay_on_the_terminal(prompt, tmp_path, view):
    prompt("policy memmap_on_memory; add 1G; online 32-35 movable; alloc 64M at=4160M; pin 1")
    plain = prompt(view)
    prompt.player.shell.output.colour = True
    coloured = prompt(view)
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert "\x1b[31mP" in coloured
    prompt(f"{view} > {tmp_path}/map")
    assert (tmp_path / "map").read_text() == plain


def test_views_have_their_other_forms(prompt):
    assert prompt("zoneinfo -F csv").splitlines()[0] == "node,zone,start_pfn,spanned,present,managed,free"
    assert prompt("lsmem -F csv").splitlines()[0] == "RANGE,SIZE,STATE,REMOVABLE,BLOCK"
    assert prompt("meminfo -F csv").startswith("NAME,VALUE\nMemTotal,")
    assert prompt("vmemmap -F csv").splitlines()[0] == "ADDRESS,LEAVES,SIZE,PFN,FROM"
    for view in ("vmstat", "pagetypeinfo", "map", "page 4G", "section 0", "vmemmap", "altmap", "help", "diff"):
        for form in ("csv", "md"):
            assert prompt(f"{view} -F {form}")
    assert "unknown column 'ZONE'" in prompt.fails("lsmem -o +ZONE")
