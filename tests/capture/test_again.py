"""What sysfs said of a machine, read again from the booted model, is equal or named; what cannot be is told by capture."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from memshell.__main__ import main

TREES = Path(__file__).parent / "trees"


@pytest.fixture
def captured(tmp_path, capsys):
    """Capture a tree; return the exit code, what was said, and the file."""

    def run(root, *words):
        out = tmp_path / "machine.json"
        code = main(["capture", "--root", str(root), "-o", str(out), *words])
        return code, capsys.readouterr().err, out

    return run


@pytest.fixture
def shown(capsys):
    def run(text):
        code = main(["--keep-going", "-c", text])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def blocks(path):
    return json.loads(path.read_text())["state"]["memory_blocks"]


def test_a_block_in_no_one_zone_stays_so_and_does_not_go_offline(captured, shown):
    _, _, path = captured(TREES / "last-block-none.tar.gz", "--arch", "x86_64")
    last = max(blocks(path), key=int)
    assert blocks(path)[last]["valid_zones"] == "none"
    code, out, err = shown(f"use {path}; lsmem -a -o BLOCK,ZONES; offline {last}")
    assert code == 1
    assert f"{last}  None" in out.replace("   ", "  ")
    assert f"memory{last} spans more than one zone (EINVAL" in err


def test_the_node_that_only_links_of_the_block_say(captured, shown):
    _, _, path = captured(TREES / "two-nodes.tar.gz", "--arch", "x86_64")
    said = {number: block.get("node") for number, block in blocks(path).items()}
    assert set(said.values()) == {0, 1}
    out = shown(f"use {path}; lsmem -a -o BLOCK,NODE")[1]
    rows = [line.split() for line in out.splitlines() if line[:1] == " " and line.split()[0].isdecimal()]
    assert {number: int(node) for number, node in rows} == said


def test_of_two_zones_of_an_online_block_the_first_is_its_own(captured, shown, tmp_path):
    with tarfile.open(TREES / "two-nodes.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "two-nodes"
    number = next(n for n, b in _read(root).items() if b == "Movable")
    (root / f"sys/devices/system/memory/memory{number}/valid_zones").write_text("Movable Normal\n")
    _, _, path = captured(root, "--arch", "x86_64")
    _, out, _ = shown(f"use {path}; lsmem -a -o BLOCK,ZONES")
    assert f"{number} Movable" in " ".join(out.split())


def _read(root):
    folder = root / "sys/devices/system/memory"
    return {p.name[6:]: (p / "valid_zones").read_text().strip() for p in folder.glob("memory[0-9]*")}


def test_what_is_not_removable_is_named(captured, tmp_path):
    with tarfile.open(TREES / "two-nodes.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "two-nodes"
    for number in (0, 5):
        (root / f"sys/devices/system/memory/memory{number}/removable").write_text("0\n")
    _, err, _ = captured(root, "--arch", "x86_64")
    assert "removable is 0 for 2 of 24 blocks, the first memory0" in err


@pytest.mark.parametrize(
    "place", ["usr/lib/modules/6.12.1/config", "lib/modules/6.12.1/build/.config", "boot/config-6.12.1"]
)
def test_the_configuration_where_it_is_today(place, captured, tmp_path):
    with tarfile.open(TREES / "two-nodes.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "two-nodes"
    (root / "proc/version").write_text("Linux version 6.12.1 (x) #1\n")
    (root / place).parent.mkdir(parents=True)
    (root / place).write_text("CONFIG_PAGE_EXTENSION=y\nCONFIG_OTHER=y\n")
    _, _, path = captured(root, "--arch", "x86_64")
    assert json.loads(path.read_text())["config"] == {"CONFIG_PAGE_EXTENSION": "y"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: None, "buddyinfo: zone.0.DMA has more free pages than it manages"),
        (lambda root: _state(root, "garbage\n"), "memory5: state 'garbage' cannot be"),
        (lambda root: _state(root, ""), "memory5: state '' cannot be"),
    ],
)
def test_capture_tells_what_use_will_refuse(change, message, captured, shown, tmp_path):
    with tarfile.open(TREES / "buddy-more-than-managed.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "buddy-more-than-managed"
    if message.startswith("memory5"):
        (root / "proc/buddyinfo").unlink()
    change(root)
    code, err, path = captured(root, "--arch", "x86_64")
    assert code == 1
    assert f"`use` will refuse this file: {message}" in err
    assert shown(f"use {path}")[0] == 1


def _state(root, text):
    (root / "sys/devices/system/memory/memory5/state").write_text(text)


def test_capture_tells_of_an_architecture_that_no_plugin_has(captured):
    code, err, _ = captured(TREES / "two-nodes.tar.gz", "--arch", "vax")
    assert code == 1
    assert "`use` will refuse this file: no plugin for architecture 'vax'" in err


def test_a_block_that_is_going_offline_is_online(captured, capsys, tmp_path):
    with tarfile.open(TREES / "two-nodes.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    _state(tmp_path / "two-nodes", "going-offline\n")
    out = tmp_path / "m.json"
    main(["capture", "--root", str(tmp_path / "two-nodes"), "--arch", "x86_64", "-o", str(out)])
    assert "24 of 24 blocks" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "online"), [("lsmem-sos.txt", "16G"), ("lsmem-posted.txt", "31.8G")])
def test_lsmem_as_people_post_it(name, online, captured, shown):
    code, err, path = captured(TREES / name, "--arch", "x86_64")
    assert code == 0
    if name == "lsmem-sos.txt":
        assert "REMOVABLE is no" in err
    assert online in shown(f"use {path}; lsmem")[1]


@pytest.mark.parametrize(
    "columns", ["RANGE,SIZE,STATE", "RANGE,SIZE,STATE,BLOCK", "RANGE,SIZE,STATE,REMOVABLE,ZONES,NODE,BLOCK"]
)
def test_lsmem_in_any_columns(columns, captured, shown, tmp_path):
    first = shown(f"use x86_64; add 256M; lsmem -a -o {columns}")[1]
    (tmp_path / "lsmem.txt").write_text(first.partition("\n")[2])
    _, _, path = captured(tmp_path / "lsmem.txt", "--arch", "x86_64")
    again = shown(f"use {path}; lsmem -a -o {columns}")[1]
    assert [line.split()[:4] for line in again.splitlines() if line.startswith("0x")] == [
        line.split()[:4] for line in first.splitlines() if line.startswith("0x")
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_sosreport(packed, captured, shown, tmp_path):
    report = tmp_path / "sosreport-host"
    with tarfile.open(TREES / "vm-half-used.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "vm-half-used").rename(report)
    _, _, path = captured(report, "--arch", "x86_64")
    wanted = shown(f"use {path}; lsmem")[1]
    listing = shown(f"use {path}; lsmem -a -o RANGE,SIZE,STATE,REMOVABLE,ZONES,NODE,BLOCK")[1].partition("\n")[2]
    shutil.rmtree(report / "sys")
    (report / "sos_commands/memory").mkdir(parents=True)
    (report / "sos_commands/memory/lsmem_-a_-o_RANGE_SIZE_STATE").write_text(listing)
    root = report
    if packed:
        root = tmp_path / "sosreport-host.tar.xz"
        with tarfile.open(root, "w:xz") as tar:
            tar.add(report, "sosreport-host")
    _, _, path = captured(root, "--arch", "x86_64")
    assert json.loads(path.read_text())["state"]["zones"]
    assert shown(f"use {path}; lsmem")[1] == wanted


def test_an_archive_writes_nothing_outside(captured, tmp_path):
    archive, victim = tmp_path / "evil.tar", tmp_path / "victim"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("proc/../../../../" + str(victim) + "/proc/version")
        tar.addfile(info)
        link = tarfile.TarInfo("proc/meminfo")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    code, err, _ = captured(archive, "--arch", "x86_64")
    assert code == 1
    assert "cannot read" in err or "neither proc nor sys" in err
    assert not victim.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["zones"][1].update(spanned=s["zones"][1]["spanned"] * 2), "its pages are in"),
        (lambda s: s["memory_blocks"].pop("3"), "memory3 is not there, and is here"),
        (lambda s: s["meminfo_kb"].update(MemTotal=1), "MemTotal is 1 kB, and"),
        (lambda s: s["iomem"].append([0, 0x100000, 0x200000, "System RAM"]), "its parts do not go together: iomem"),
        (lambda s: s["memory_blocks"]["3"].update(node=1), "its parts do not go together"),
        (lambda s: s["memory_blocks"]["3"].update(node=5000), "node 5000 cannot be"),
        (lambda s: s["memory_blocks"]["3"].update(valid_zones="Foo"), "valid_zones 'Foo' cannot be"),
        (lambda s: s.update(memory_blocks={}), "there are no memory blocks"),
        (lambda s: s["buddyinfo"][1]["orders"].append(1), "orders"),
        (lambda s: s.update(vmstat={"nr_memmap_boot_pages": 10**12}), "pages that are present"),
    ],
)
def test_nonsense_is_refused_or_named(change, message, captured, shown):
    _, _, path = captured(TREES / "vm-half-used.tar.gz", "--arch", "x86_64")
    raw = json.loads(path.read_text())
    raw["state"].setdefault("vmstat", {})
    change(raw["state"])
    path.write_text(json.dumps(raw))
    code, _, err = shown(f"use {path}; check")
    assert message in err
    assert code in (0, 1)
