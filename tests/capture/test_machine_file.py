"""``use FILE``: one clear line for every file that cannot be, and the machine that was there stays."""

import json
import random
import re
from pathlib import Path

import pytest
from capture_tree import capture, load, write_tree

from memshell.__main__ import main
from memshell.capture import boot_file, load_machine_file, policy_of, profile_of
from memshell.errors import MemshellError
from memshell.modes.capture import as_text
from memshell.scenario.suite import shared_plugins

PLUGINS = shared_plugins()
RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    recording = load("x86_64-k612-Y-1G-movable")
    state = [step for step in recording["steps"] if "state" in step][4]["state"]
    return as_text(capture(write_tree(tmp_path_factory.mktemp("tree"), recording, state)))


@pytest.fixture
def machine_file(good, tmp_path):
    def write(change=lambda _machine: None):
        machine = json.loads(good)
        change(machine)
        path = tmp_path / "m.json"
        path.write_text(json.dumps(machine))
        return str(path)

    return write


def run(capsys, commands):
    code = main(["-c", commands])
    return code, *capsys.readouterr()


def test_use_prints_the_line_of_any_machine(machine_file, capsys):
    path = machine_file()
    line = "x86_64, 2432M, blocks of 128M, kernel v6.12, policy memmap_on_memory\n"
    assert run(capsys, f"use {path}") == (0, line, "")


def test_keys_win_over_the_file(machine_file, capsys):
    path = machine_file()
    keys = "profile=v6.1 policy=buddy auto_online_blocks=online struct_page=72 bug.altmap_free_any=off"
    code, out, _ = run(capsys, f"use {path} {keys}; set")
    assert (code, "kernel v6.1, policy buddy" in out) == (0, True)
    shown = dict(line.split()[:2] for line in out.splitlines()[1:])
    assert (shown["auto_online_blocks"], shown["bug.altmap_free_any"]) == ("online", "off")


def test_the_command_line_of_the_kernel_is_read_and_what_nobody_reads_is_named(machine_file, capsys):
    """movable_node has no file in sysfs; of the online policy sysfs has the last word."""
    words = "movable_node page_alloc.shuffle=1 memory_hotplug.online_policy=auto-movable transparent_hugepage=never"
    path = machine_file(lambda m: m.update(cmdline=words))
    code, out, err = run(capsys, f"use {path}; set; add 1G; online offline; expect zone.Movable.present >= 1G")
    shown = dict(line.split()[:2] for line in out.splitlines()[1:] if len(line.split()) > 1)
    assert (code, shown["movable_node"], shown["online_policy"]) == (0, "Y", "contig-zones")
    assert shown["transparent_hugepage"] == "never"
    assert f"memshell: {path}: memory35 may go online to Normal Movable, and to Movable Normal here" in err
    assert err.endswith(f"memshell: {path}: page_alloc.shuffle=1 on its kernel's command line changes nothing here\n")


def test_the_kernel_is_the_one_that_was_built(machine_file, capsys):
    """Without sysfs the configuration says how memory is onlined; what is not built in reads no word."""

    def bare(m):
        for name in ("MHP_MEMMAP_ON_MEMORY", "HUGETLB_PAGE", "MHP_DEFAULT_ONLINE_TYPE_ONLINE_AUTO"):
            del m["config"][f"CONFIG_{name}"]
        m["config"]["CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_MOVABLE"] = "y"
        m["state"]["params"].pop("memmap_on_memory")
        del m["state"]["auto_online_blocks"]
        m["cmdline"] = "memory_hotplug.memmap_on_memory=Y hugepages=16 cma=64M"

    path = machine_file(bare)
    code, out, err = run(capsys, f"use {path}; set auto_online_blocks; set config.hugetlb_page; add 128M")
    assert (code, out.splitlines()[0]) == (0, "x86_64, 2432M, blocks of 128M, kernel v6.12, policy buddy")
    assert "auto_online_blocks = online_movable" in out
    assert "config.hugetlb_page = off" in out
    assert "online in Movable\nmemmap from existing memory" in out
    unread = [line.split(": ")[2].split(" on its")[0] for line in err.splitlines()]
    assert unread == ["memory_hotplug.memmap_on_memory=Y", "hugepages=16", "cma=64M"]


def test_the_pool_of_huge_pages_that_meminfo_shows_is_there(machine_file, capsys):
    def pool(m):
        m["state"]["meminfo_kb"].update(HugePages_Total=12, HugePages_Free=10, Hugepagesize=2048)
        m["cmdline"] = "hugepages=12"

    path = machine_file(pool)
    code, out, err = run(capsys, f"use {path}; hugepages; cat /proc/meminfo")
    assert (code, err) == (0, "")
    assert re.search(r"^ +2M +0 +12 +10 +0 ", out, re.MULTILINE)
    assert re.search(r"^HugePages_Free: +10$", out, re.MULTILINE)


@pytest.mark.parametrize(
    "words, code, error",
    [
        ("ram=2G", 2, "ram=2G cannot be given here; the file says what memory there is"),
        ("gbpags=on", 2, "unknown key 'gbpags'; did you mean 'gbpages'?"),
        ("gbpages=maybe", 2, "gbpages=maybe cannot be; gbpages is one of on, off"),
        ("struct_page=7", 2, "struct_page=7 cannot be"),
        ("profile=v9", 2, "unknown profile 'v9'"),
        ("auto_online_blocks=never", 2, "auto_online_blocks=never cannot be"),
    ],
)
def test_a_key_that_cannot_be(words, code, error, machine_file, capsys):
    found, _, err = run(capsys, f"use {machine_file()} {words}")
    assert (found, error in err, err.count("\n")) == (code, True, 1), err


def zone(machine, **counts):
    machine["state"]["zones"][1].update(counts)


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda m: m.update(schema="memshell-machine/2"), "has schema 'memshell-machine/2'; `use` reads"),
        (lambda m: m.update(arch="vax"), "no plugin for architecture 'vax'; known: "),
        (lambda m: m.update(kernel="Linux version 2.6.32"), "no profile fits 'Linux version 2.6.32'"),
        (lambda m: m.pop("state"), "lacks 'state'"),
        (lambda m: m["state"].pop("block_size_bytes"), "lacks 'block_size_bytes'"),
        (lambda m: m["state"].update(block_size_bytes=3 << 26), "is no power of two"),
        (lambda m: m["state"].update(block_size_bytes=1 << 26), "are not whole sections of 128M"),
        (lambda m: zone(m, managed=10**9), "zone.0.DMA32: 520160 spanned, 520160 present, 1000000000 managed"),
        (lambda m: zone(m, present=-1), "are not all whole numbers from 0 on"),
        (lambda m: zone(m, start_pfn=1 << 50), "zone.0.DMA32 ends above the 64T that x86_64 can have"),
        (lambda m: zone(m, zone="HighMem"), "zone.0.HighMem: no such zone here; known: DMA, DMA32"),
        (lambda m: zone(m, zone="DMA"), "zone.0.DMA is there twice"),
        (lambda m: m["state"]["buddyinfo"][1]["orders"].__setitem__(10, 10**6), "has more free pages than"),
        (lambda m: m["state"]["iomem"][0].__setitem__(2, -1), "iomem: [0, 0, -1, 'Reserved'] is no resource"),
        (lambda m: m["state"].update(iomem=[]), "no System RAM lies in a zone"),
        (lambda m: m["state"]["memory_blocks"]["0"].update(state="gone"), "memory0: state 'gone' cannot be"),
        (lambda m: m["state"]["params"].update(memmap_on_memory="maybe"), "no policy plugin for memmap_on_mem"),
        (lambda m: m["facts"].update(page_size=65536), "its pages are of 64K, and x86_64 would have 4K"),
        (lambda m: m["facts"].update(struct_page=3), "struct_page=3 cannot be"),
    ],
)
def test_a_file_that_cannot_be(change, error, machine_file, capsys):
    code, out, err = run(capsys, f"use {machine_file(change)}")
    assert (code, out, err.count("\n"), error in err) == (1, "", 1, True), err


BROKEN = [None, "", "{", "[]", "\udcff", '{"schema": "memshell-machine/1"}', "[" * 10**5]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_machine_file_gets_one_line(text, tmp_path, capsys):
    path = tmp_path / "m.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, _, err = run(capsys, f"use {path}")
    assert (code, err.count("\n"), str(path) in err) == (1, 1, True)


def test_the_machine_that_was_there_stays(tmp_path, machine_file, capsys):
    broken = machine_file(lambda m: zone(m, managed=10**9))
    script = f"use x86_64 ram=4G; use {broken}; use {tmp_path}/none.json; expect blocks.online == 32; history"
    code = main(["--keep-going", "-c", script])
    out, err = capsys.readouterr()
    assert (code, err.count("\n"), out.count("use ")) == (1, 2, 1), err


def failure_of(path):
    """Boot the machine of a file; return the MemshellError, or None."""
    try:
        file = load_machine_file(path)
        boot_file(file, profile_of(file), {}, PLUGINS.arches(), policy_of(file, PLUGINS.policies()))
    except MemshellError as error:
        return error
    return None


def test_any_damage_is_told_apart_from_a_defect(good, tmp_path):
    """Whatever stands in a file, its reader never ends in anything but a MemshellError of one line."""
    values = [None, -1, 0, 1, 2**70, "x", "", [], {}, True, 1.5, "9-1", 1 << 30, [1], {"a": 1}]
    rng, path = random.Random(20), tmp_path / "m.json"
    booted = 0
    for _ in range(300):
        machine = json.loads(good)
        where = machine
        while isinstance(where, (dict, list)) and where:
            parent, key = where, rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
            where = parent[key]
            if rng.random() < 0.15:
                break
        parent[key] = rng.choice(values)
        path.write_text(json.dumps(machine))
        error = failure_of(path)
        booted += error is None
        assert error is None or "\n" not in str(error)
    assert 0 < booted < 300, "some damage is harmless, some is not"


# --- memshell capture ---


def test_capture_writes_a_file_and_says_what_it_could_not_read(tmp_path, capsys):
    recording = load("ppc64le-p612-64k-radix-force")
    write_tree(tmp_path / "root", recording, recording["steps"][0]["state"])
    out = tmp_path / "m.json"
    assert main(["capture", "--root", str(tmp_path / "root"), "-o", str(out)]) == 0
    shown = capsys.readouterr()
    line = f"{out}: powerpc, 6.12.95+deb12-powerpc64le-64k, 8 of 8 blocks of 256M online\n"
    assert shown.out == line
    assert "memshell: /proc/pagetypeinfo: No such file" in shown.err
    assert json.loads(out.read_text())["notes"] == [note.removeprefix("memshell: ") for note in shown.err.splitlines()]
    assert main(["capture", "--root", str(tmp_path / "root")]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


@pytest.mark.parametrize(
    "words, error",
    [
        (["--root", "{0}/none"], "none: no such file or folder"),
        (["--root", "{0}"], "has neither proc nor sys in it"),
        (["--root", "{0}/half"], "block_size_bytes cannot be read: no memory blocks here"),
        (["--root", "{0}/tree"], "proc/cpuinfo does not say the architecture; give --arch"),
        (["--root", "{0}/tree", "--arch", "s390x", "-o", "{0}/no/where"], "cannot write"),
    ],
)
def test_a_root_that_is_none(words, error, tmp_path, capsys):
    (tmp_path / "half" / "proc").mkdir(parents=True)
    recording = load("s390x-s72-boot")
    write_tree(tmp_path / "tree", recording, recording["steps"][0]["state"])
    (tmp_path / "tree/proc/cpuinfo").unlink()
    code = main(["capture", *(word.format(tmp_path) for word in words)])
    err = capsys.readouterr().err.splitlines()
    assert (code, error in err[-1]) == (1, True), err


def test_a_scenario_may_use_a_file(machine_file, tmp_path, capsys):
    scenario = tmp_path / "a.mem"
    scenario.write_text(f"use {machine_file()}\nadd 1G\nexpect blocks.offline >= 8\n")
    assert main(["run", str(scenario)]) == 0
    assert capsys.readouterr().err == ""


def test_a_recording_boots_the_machine_that_it_begins_with(capsys):
    path = RECORDINGS / "ppc64le-p612-64k-radix-Y.json.xz"
    code, out, _ = run(capsys, f"use {path} online_policy=auto-movable; set -F csv")
    assert code == 0
    assert out.startswith("powerpc, 2G, blocks of 256M, kernel v6.12, policy memmap_on_memory")
    assert "online_policy,auto-movable" in out
    assert run(capsys, f"use {path} ram=4G")[0] == 2
