"""What is captured from a real kernel's /proc and /sys, and booted again, is what that kernel showed."""

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from capture_tree import capture, load, write_tree

from memshell.capture import boot_file, formats, load_machine_file, policy_of, profile_of
from memshell.capture.recording import load_recording
from memshell.drivers.base.memory.state import state_store
from memshell.errors import RecordingError
from memshell.machine import Machine
from memshell.mm.invariants import violations
from memshell.mm.mmzone import ZONE_BY_LABEL
from memshell.modes.capture import as_text
from memshell.profiles import find_profile
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.verify.replay import Replay
from memshell.verify.report import TIMED_OUT
from memshell.verify.state import Before, state_quantities

PLUGINS = shared_plugins()
RECORDINGS = Path(__file__).parent.parent / "recordings"
PLUGIN_NAME = {"x86_64": "x86_64", "ppc64le": "powerpc", "s390x": "s390", "arm64": "arm64"}
# Each kernel, page size, MMU; two nodes; blocks of 2G; EDAT off; no 1G pages.
BOOTED = [
    "x86_64-k61-N-128M-kernel",
    "x86_64-k612-Y-1G-movable",
    "x86_64-k72-force-1G-movable",
    "x86_64-k612-N-numa",
    "x86_64-k612-N-ram64G-hyp",
    "x86_64-k612-N-nogbpages",
    "ppc64le-p61-hash",
    "ppc64le-p612-4k-radix-N",
    "ppc64le-p612-4k-hash-addmem-force",
    "ppc64le-p612-64k-radix-force",
    "ppc64le-p72-64k-radix-N",
    "s390x-s612-boot4g",
    "s390x-s72-boot-mm1",
    "arm64-a612-Y",
    "arm64-a73-N",
    "arm64-a73-N-blocks",
]
# Machines that run for a while: offline and Movable blocks, interleaving zones, several DIMMs, two nodes.
RUNNING = [
    "x86_64-k612-N-numa",
    "x86_64-k612-N-partial-1G",
    "x86_64-k72-Y-kernel-in-use",
    "ppc64le-p612-64k-radix-force",
    "s390x-s612-addmem-N",
    "arm64-a612-Y",
    "arm64-a73-N",
]


def boot(machine, folder, **options):
    path = folder / "machine.json"
    path.write_text(as_text(machine))
    file = load_machine_file(path)
    policy = policy_of(file, PLUGINS.policies())
    return boot_file(file, profile_of(file), options, PLUGINS.arches(), policy).mm


def steps(name):
    recording = load(name)
    return recording, [step for step in recording["steps"] if "state" in step]


def differing(step, mm):
    """Name the quantities that differ; a capture leaves ZONE_DEVICE out, and does not know what lives where."""
    return [
        q
        for q in state_quantities(step, mm, Before(step["state"], mm, step["state"]))
        if q.verdict == "differs" and ".Device." not in q.name and not q.name.startswith("pageblocks")
    ]


@pytest.mark.parametrize("name", BOOTED)
def test_a_booted_machine_comes_back(name, tmp_path):
    recording, (first, *_) = steps(name)
    state = first["state"]
    mm = boot(capture(write_tree(tmp_path, recording, state)), tmp_path)
    assert differing(first, mm) == []
    assert mm.totalram_pages << mm.arch.page_shift >> 10 == (
        sum(zone["managed"] for zone in state["zones"]) << mm.arch.page_shift >> 10
    )
    if "s390x-s61" not in name:  # there 6 pages of MemTotal are managed by no zone
        assert mm.totalram_pages << mm.arch.page_shift >> 10 == state["meminfo_kb"]["MemTotal"]
    assert {key: zone.free for key, zone in mm.zones.items() if zone.present} == {
        (b["node"], ZONE_BY_LABEL[b["zone"]]): sum(n << order for order, n in enumerate(b["orders"]))
        + next(z["pcp_pages"] for z in state["zones"] if (z["node"], z["zone"]) == (b["node"], b["zone"]))
        for b in state["buddyinfo"]
    }
    assert violations(mm) == []


@pytest.mark.parametrize("name", BOOTED)
def test_verify_and_capture_see_the_same_machine(name, tmp_path):
    recording, (first, *_) = steps(name)
    mm = boot(capture(write_tree(tmp_path, recording, first["state"])), tmp_path)
    known = load_recording(RECORDINGS / f"{name}.json.xz")
    arch = PLUGINS.arches()[PLUGIN_NAME[known.arch]].from_recording(
        known.config, known.cmdline, known.qemu_args, first["state"], known.profile
    )
    assert (mm.arch, mm.profile) == (replace(arch, possible_nodes=mm.arch.possible_nodes), known.profile)
    assert mm.policy.parameter == first["state"]["params"].get("memmap_on_memory", "N")
    assert mm.params.auto_online_blocks == first["state"]["auto_online_blocks"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNING)
def test_a_running_machine_comes_back(name, tmp_path):
    recording, found = steps(name)
    shown = {}
    for step in found:
        blocks = step["state"]["memory_blocks"]
        shown.setdefault(json.dumps(sorted(b["state"] + b["valid_zones"] for b in blocks.values())), step)
    assert len(shown) >= 3, "blocks change in this recording"
    for number, step in enumerate(shown.values()):
        folder = tmp_path / str(number)
        mm = boot(capture(write_tree(folder, recording, step["state"])), folder)
        assert differing(step, mm) == []
        assert violations(mm) == []


def test_what_is_captured_can_be_hot_plugged(tmp_path):
    recording, found = steps("x86_64-k612-N-partial-1G")
    step = next(
        s
        for s in found
        if {"online", "offline"} == {b["state"] for b in s["state"]["memory_blocks"].values()}
        and any(b["valid_zones"] == "Movable" for b in s["state"]["memory_blocks"].values())
    )
    mm = boot(capture(write_tree(tmp_path, recording, step["state"])), tmp_path)
    for number, block in step["state"]["memory_blocks"].items():
        if block["state"] == "offline":
            state_store(mm, int(number), "online_movable")
        elif block["valid_zones"] == "Movable":
            state_store(mm, int(number), "offline")
    assert violations(mm) == []


# Recordings, and whether first onlining counts: that a block keeps its memmap shows only once it is online.
NEXT = {
    "x86_64-k612-N-1G-movable": True,
    "x86_64-k612-Y-1G-movable": False,
    "x86_64-k72-force-1G-movable": False,
    "x86_64-k61-N-movable-migrate": True,
    "ppc64le-p612-64k-radix-N": True,
    "ppc64le-p612-64k-radix-force": False,
    "s390x-s612-addmem-N": True,
    "s390x-s72-addmem-force": False,
    "arm64-a612-Y": False,
    "arm64-a73-N": True,
    "arm64-a73-Y-leaves": False,
    "arm64-a73-N-blocks": True,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name != "x86_64-k612-Y-1G-movable" else []) for name in NEXT],
)
def test_a_captured_machine_does_next_what_the_kernel_did_next(name, tmp_path):
    recording, found = steps(name)
    played = 0
    for before, after in pairwise(found):
        op, shown = after["op"], before["state"]["memory_blocks"]
        movable = sum(block["valid_zones"] == "Movable" for block in shown.values())
        offline = op["op"] == "offline" and movable and shown[str(op["blocks"][0])]["valid_zones"] == "Movable"
        if after.get("errno") == TIMED_OUT or not (
            offline or (op["op"] == "online_movable" and (movable or NEXT[name]))
        ):
            continue
        played += 1
        folder = tmp_path / str(after["n"])
        mm = boot(capture(write_tree(folder, recording, before["state"])), folder)
        player = Player(shared_plugins).fresh()
        player.shell.machine = machine = Machine(mm)
        assert Replay(player).play(after).errno == after["errno"]
        told = [
            q
            for q in state_quantities(after, machine.mm, Before(before["state"], mm, before["state"]))
            if q.name.startswith(("zone", "block"))
        ]
        assert [q for q in told if q.verdict != "equal"] == []
    assert played


def test_blocks_belong_to_the_node_that_links_them(tmp_path):
    recording, found = steps("x86_64-k612-N-numa")
    step = next(s for s in found if "offline" in {b["state"] for b in s["state"]["memory_blocks"].values()})
    write_tree(tmp_path, recording, step["state"])
    for number in step["state"]["memory_blocks"]:  # what was added is node 1's in this recording
        (tmp_path / f"sys/devices/system/node/node{int(int(number) >= 32)}/memory{number}").mkdir(parents=True)
    mm = boot(capture(tmp_path), tmp_path)
    assert {block.nid for block in mm.blocks.values() if block.state == "offline"} == {1}
    assert differing(step, mm) == []


@pytest.mark.parametrize("name, first", [("arm64-a612-Y", 24), ("x86_64-k612-N-1G-movable", 32)])
def test_what_came_after_boot_is_told_by_the_memmap_of_boot(name, first, tmp_path):
    """/proc/vmstat has its size since v6.11: arm64 never lets boot memory go, and what was added it does."""
    recording, found = steps(name)
    step = next(s for s in found if any(b["valid_zones"] == "Movable" for b in s["state"]["memory_blocks"].values()))
    machine = capture(write_tree(tmp_path, recording, step["state"]))
    assert not any("added after boot" in note for note in machine["notes"])
    mm = boot(machine, tmp_path)
    assert {number for number, block in mm.blocks.items() if not block.early} == {n for n in mm.blocks if n >= first}


def test_a_reader_without_root_gets_the_same_zones(tmp_path):
    recording, (first, *_) = steps("x86_64-k612-Y-1G-movable")
    write_tree(tmp_path, recording, first["state"])
    text = (tmp_path / "proc/iomem").read_text()
    hidden = [f"00000000-00000000 : {line.split(' : ')[1]}" for line in text.splitlines()]
    (tmp_path / "proc/iomem").write_text("\n".join(hidden) + "\n")
    machine = capture(tmp_path)
    assert "iomem" not in machine["state"], "nothing is made up"
    notes = "\n".join(machine["notes"])
    assert "/proc/iomem: all addresses are zero (it needs root); RAM is taken from the memory blocks" in notes
    assert "/proc/pagetypeinfo: No such file or directory; types of pageblocks are not known" in notes
    mm = boot(machine, tmp_path)
    assert [q.name for q in differing(first, mm)] == ["iomem"]
    assert violations(mm) == []


def test_what_is_missing_is_said_and_the_rest_is_used(tmp_path):
    recording, (first, *_) = steps("s390x-s72-boot")
    write_tree(tmp_path, recording, first["state"])
    for name in ("buddyinfo", "vmstat", "version", "meminfo"):
        (tmp_path / "proc" / name).unlink()
    machine = capture(tmp_path)
    for name in ("buddyinfo", "vmstat", "version", "meminfo"):
        assert sum(note.startswith(f"/proc/{name}: ") for note in machine["notes"]) == 1
    with pytest.raises(RecordingError, match="not whole sections of 256M; the file does not say its kernel"):
        boot(machine, tmp_path)  # the default profile has no blocks of 128M on s390
    file = load_machine_file(tmp_path / "machine.json")
    mm = boot_file(file, find_profile("v7.2"), {}, PLUGINS.arches(), policy_of(file, PLUGINS.policies())).mm
    assert (
        mm.zones[0, ZONE_BY_LABEL["DMA"]].free
        == first["state"]["zones"][0]["free"] + first["state"]["zones"][0]["pcp_pages"]
    )


def test_the_command_line_and_the_kernel_image_stay_at_home(tmp_path):
    recording, (first, *_) = steps("x86_64-k612-Y-1G-movable")
    write_tree(tmp_path, recording, first["state"])
    with (tmp_path / "proc/iomem").open("a") as file:
        file.write("  01000000-02209987 : Kernel code\n")
    machine = capture(tmp_path)
    assert machine["cmdline"] == "memhp_default_state=offline memory_hotplug.memmap_on_memory=Y"
    assert "Kernel code" not in as_text(machine)
    assert "secret" not in as_text(machine)
    assert machine["kernel"] == "Linux version 6.12.117+deb12-cloud-amd64"


def test_pages_that_memtotal_does_not_count(tmp_path):
    recording, (first, *_) = steps("ppc64le-p612-64k-radix-N")
    state = json.loads(json.dumps(first["state"]))
    state["meminfo_kb"]["MemTotal"] *= 3
    machine = capture(write_tree(tmp_path, recording, state))
    assert machine["facts"]["page_size"] == 65536, "the configuration says it where the counters do not"
    assert any("MemTotal is" in note and "not taken" in note for note in machine["notes"])


def test_this_machine(tmp_path):
    if not Path("/proc/zoneinfo").exists():
        pytest.skip("no /proc/zoneinfo")
    if not Path("/sys/devices/system/memory/block_size_bytes").exists():
        with pytest.raises(RecordingError, match="no memory blocks"):
            capture()
        return
    machine = capture()
    if not any(PLUGINS.arches()[name].is_machine(machine["arch"]) for name in PLUGINS.arches()):
        with pytest.raises(RecordingError, match="no plugin for architecture"):
            boot(machine, tmp_path)
        return
    mm = boot(machine, tmp_path)
    assert {(z.nid, z.type.label): (z.present, z.managed) for z in mm.zones.values() if z.present} == {
        (z["node"], z["zone"]): (z["present"], z["managed"]) for z in machine["state"]["zones"] if z["present"]
    }
    assert {str(n): b.state for n, b in mm.blocks.items()} == {
        n: b["state"] for n, b in machine["state"]["memory_blocks"].items()
    }


# --- lsmem ---


def line(start, end, block, **more):
    return {"range": f"{start:#018x}-{end:#018x}", "size": "", "state": "online", "block": block, **more}


LSMEM = {
    "memory": [
        line(0, 0x7FFFFFFF, "0-15", removable=True),
        line(0x100000000, 0x107FFFFFF, "32", state="offline", removable=None),
        line(0x108000000, 0x117FFFFFF, "33-34", removable=True),
    ]
}


def test_lsmem_gives_the_blocks_and_says_what_it_cannot(tmp_path):
    path = tmp_path / "lsmem.json"
    path.write_text(json.dumps(LSMEM))
    machine = capture(path, "x86_64")
    assert "zones" not in machine["state"], "counters are not made up"
    assert any("counters are not known" in note for note in machine["notes"])
    assert any("no ZONES column" in note for note in machine["notes"])
    mm = boot(machine, tmp_path)
    assert sorted(mm.blocks) == [*range(16), 32, 33, 34]
    assert (mm.block_size, mm.blocks[32].state) == (128 << 20, "offline")
    assert {z.type.label: z.present for z in mm.zones.values() if z.present} == {
        "DMA": 4096,
        "DMA32": (2048 - 16 << 20) // 4096,
        "Normal": (256 << 20) // 4096,
    }
    assert violations(mm) == []


def test_lsmem_with_zones_and_nodes(tmp_path):
    path = tmp_path / "lsmem.json"
    columns = [("None", 0), ("Normal/Movable", 1), ("Movable", 2)]
    lines = [
        {**shown, "zones": zones, "node": node} for shown, (zones, node) in zip(LSMEM["memory"], columns, strict=True)
    ]
    path.write_text(json.dumps({"memory": lines}))
    mm = boot(capture(path, "x86_64"), tmp_path)
    assert mm.zones[2, ZONE_BY_LABEL["Movable"]].present == 65536
    assert (mm.blocks[32].nid, mm.blocks[34].nid) == (1, 2)


def test_lsmem_of_powerpc_may_be_told_more(tmp_path):
    path = tmp_path / "lsmem.json"
    path.write_text(json.dumps({"memory": [{**LSMEM["memory"][0], "block": "0-7"}]}))
    machine = capture(path, "ppc64le")
    assert boot(machine, tmp_path).arch.page_size == 65536
    assert boot(machine, tmp_path, page="4K", mmu="hash").arch.page_size == 4096


NO_LSMEM = [
    "",
    "[]",
    "{}",
    '{"memory": [{}]}',
    '{"memory": []}',
    '{"memory": [{"range": "0x0-0x7fffffff"}]}',
    '{"memory": [{"range": "0x0-0x7fffffff", "block": "1-16"}]}',
    '{"memory": [{"range": "0x8-0x1", "block": "0"}]}',
    '{"memory": [{"range": "0x0-0x7fffffffffffffff", "block": "0-99999999999"}]}',
]


@pytest.mark.parametrize("text", NO_LSMEM)
def test_what_is_no_lsmem_gets_one_line(text, tmp_path):
    path = tmp_path / "lsmem.json"
    path.write_text(text)
    with pytest.raises(RecordingError) as caught:
        capture(path, "x86_64")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


# --- formats ---


def test_pagetypeinfo_gives_the_pageblock_order_and_counts():
    text = (
        "Page block order: 9\nPages per block:  512\n\n"
        "Free pages count per migrate type at order       0      1 \n"
        "Node    0, zone      DMA, type    Unmovable      0      3 \n\n"
        "Number of blocks type     Unmovable      Movable  Reclaimable \n"
        "Node 0, zone      DMA            1            7            0 \n"
    )
    order, blocks = formats.pagetypeinfo(text)
    assert (order, blocks) == (9, [{"node": 0, "zone": "DMA", "Unmovable": 1, "Movable": 7, "Reclaimable": 0}])


READERS = [
    formats.zoneinfo,
    formats.buddyinfo,
    formats.pagetypeinfo,
    formats.iomem,
    formats.counters,
    partial(formats.cpuinfo, keys={"flags", "cpu"}),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", ["", "\n\n", "Node", "Node 0, zone", "Node 0, zone DMA x y", "a:b\n:", "\0\xff"])
def test_other_text_is_passed_over(reader, text):
    assert not set(str(reader(text))) & set("123456789"), "a number that the text does not have"
