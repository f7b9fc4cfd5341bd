"""Real tools on the mounted machine, unmodified: they read its state, and what they write is done to it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from mounted_guest import MACHINES, NO_FUSE, guest_of

from memshell.capture import capture
from memshell.mm.page import Owner
from memshell.modes.capture import as_text
from memshell.mount import namespace

pytestmark = [NO_FUSE, pytest.mark.slow]


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def ours(guest, command):
    return guest.session.player.command(command.split())


@pytest.mark.parametrize("options", ["", "-a -b", "-o +NODE,ZONES"])
def test_lsmem(guest, options):
    assert guest("lsmem", *options.split()) == ours(guest, f"lsmem {options}")


def test_chmem_by_block_range_and_size(guest):
    first = max(number for number, block in guest.mm.blocks.items() if block.state == "online")
    guest("chmem", "-b", "-d", str(first))
    assert guest.mm.blocks[first].state == "offline"
    start = first * guest.mm.block_size
    guest("chmem", "-e", f"{start:#018x}-{start + guest.mm.block_size - 1:#018x}", "-z", "Movable")
    assert guest.mm.blocks[first].zone.label == "Movable"
    before = sum(block.state == "online" for block in guest.mm.blocks.values())
    guest("chmem", "-d", f"{guest.mm.block_size >> 20}M")
    assert sum(block.state == "online" for block in guest.mm.blocks.values()) == before - 1


@needs("numactl")
def test_numactl(guest):
    text = guest("numactl", "-H")
    sizes = {int(m[1]): int(m[2]) for m in re.finditer(r"node (\d+) size: (\d+) MB", text)}
    assert sizes == {
        nid: sum(z.managed for z in guest.mm.zones.values() if z.nid == nid) * guest.mm.arch.page_size >> 20
        for nid, node in guest.mm.nodes.items()
    }
    assert "node distances" in text


@needs("free")
def test_free_and_vmstat(guest):
    total = guest.mm.totalram_pages * guest.mm.arch.page_size >> 10
    assert guest("free", "-k").splitlines()[1].split()[1] == str(total)
    assert re.search(rf"^ *{total} K total memory$", guest("vmstat", "-s"), re.MULTILINE)


def test_cat_echo_and_grep(guest):
    last = max(guest.mm.blocks)
    folder = f"/sys/devices/system/memory/memory{last}"
    script = (
        f"echo online_movable > {folder}/state && cat {folder}/state {folder}/valid_zones && grep -c . /proc/zoneinfo"
    )
    state, zones, lines = guest("sh", "-c", script).split()
    assert (state, zones) == ("online", "Movable")
    assert int(lines) > 20
    assert guest("cat", "/proc/iomem") == ours(guest, "iomem")


def test_a_write_gets_the_errno_of_the_kernel_and_its_place_in_the_history(guest):
    base = guest.folder / "sys/devices/system/memory"
    for path, value, number in (
        ("memory0/state", "online", 22),  # it is so already
        ("memory0/state", "on", 22),
        ("memory0/removable", "1", 13),
        ("probe", "0x100", 22),
        ("probe", "0", 17),
        ("soft_offline_page", "0", 95),
        ("memory99999/state", "online", 2),
    ):
        with pytest.raises(OSError) as caught, (base / path).open("wb", buffering=0) as file:
            file.write(value.encode())
        assert caught.value.errno == number, (path, value)
    commands = [step.command for step in guest.session.player.shell.machine.steps]
    assert commands[-5:] == [
        "write memory0/state online",
        "write memory0/state on",
        "write probe 0x100",
        "write probe 0",
        "write soft_offline_page 0",
    ]


def selftest():
    """Return the kernel's own test, where somebody has it: MEMSHELL_KSELFTEST, or Debian's linux-source, unpacked."""
    folders = [Path(os.environ.get("MEMSHELL_KSELFTEST", "/nowhere"))]
    folders += [path / "tools/testing/selftests" for path in sorted(Path("/usr/src").glob("linux*"))]
    found = [path for folder in folders if (path := folder / "memory-hotplug/mem-on-off-test.sh").is_file()]
    if not found:
        pytest.skip("no mem-on-off-test.sh here: MEMSHELL_KSELFTEST names a tools/testing/selftests that has it")
    return str(found[0])


@needs("bc")
@pytest.mark.parametrize("ratio", [2, 50])
def test_the_selftest_of_the_kernel_passes(guest, ratio):
    done = guest.done("bash", selftest(), "-r", str(ratio))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-> Success" in done.stdout


@needs("bc")
def test_the_selftest_fails_where_no_block_can_go(guest):
    guest.type("online all")
    size = guest.mm.block_pages
    runs = [list(guest.mm.pages.items(number * size, (number + 1) * size)) for number in guest.mm.blocks]
    free = [next((a for a, _, page in run if page.owner is Owner.FREE), None) for run in runs]
    guest.type(f"hold kernel={','.join(hex(pfn) for pfn in free if pfn is not None)}")
    done = guest.done("bash", selftest())
    assert done.returncode == 1, done.stdout
    assert "FAILED - unable to offline" in done.stdout


@needs("bc")
@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts debugfs")
def test_the_selftest_with_injected_errors(guest):
    test = selftest()
    debugfs = "mount -t debugfs none /sys/kernel/debug 2>/dev/null || exit 77"
    script = ["unshare", "-m", "sh", "-c", f'{debugfs}; exec "$@"', "sh"]
    command = [*script, *namespace.inside(guest.folder, ["bash", test, "-r", "50"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no debugfs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skip extra tests" not in done.stderr
    errors = [step for step in guest.session.player.shell.machine.steps if step.error and step.error.errno == "ENOMEM"]
    assert errors, "some offline or online was refused with what was injected"


@needs("daxctl")
def test_daxctl_lists_and_onlines(tmp_path):
    with guest_of(
        "use x86_64 ram=2G; probe 0x100000000 1G mode=kmem; online 32-35 movable", tmp_path / "root"
    ) as guest:
        assert '"online_memblocks":4' in guest("daxctl", "list")
        guest("daxctl", "offline-memory", "dax0.0")
        assert {guest.mm.blocks[number].state for number in range(32, 40)} == {"offline"}
        guest("daxctl", "online-memory", "dax0.0")
        assert '"movable":true' in guest("daxctl", "list")


@needs("page-types")
def test_page_types(guest):
    counts = dict(re.findall(r"^0x(\w+)\s+(\d+)", guest("page-types"), re.MULTILINE))
    free = sum(zone.free for zone in guest.mm.zones.values())
    assert int(counts[f"{1 << 10:016x}"]) == free


@pytest.mark.slow
@pytest.mark.parametrize("arch", [*MACHINES, "arm64"])
def test_a_capture_of_the_mount_is_the_machine(arch, tmp_path):
    text = MACHINES.get(arch, "use arm64 ram=2G; add 1G; online last movable")
    with guest_of(text, tmp_path / "root") as guest:
        first = capture(guest.session.player.shell.plugins.arches().values(), guest.folder)
        mm = guest.mm
    (tmp_path / "machine.json").write_text(as_text(first))
    with guest_of(f"use {tmp_path}/machine.json", tmp_path / "root") as again:
        second = capture(again.session.player.shell.plugins.arches().values(), again.folder)
        for machine in (
            first,
            second,
        ):  # of which type a pageblock is that has pages in use: no capture knows where they lie
            del machine["state"]["pageblocks"]
        assert second == first
        assert (again.mm.arch, again.mm.profile, again.mm.params) == (mm.arch, mm.profile, mm.params)
