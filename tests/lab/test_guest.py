"""The protocol: the guest's own shell script under the host's sh, over a tree that the model wrote."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

import memshell.lab
from memshell.errors import CommandError
from memshell.lab.guest import Guest, GuestGone
from memshell.lab.record import Recorder
from memshell.lab.state import guest_state, online_ranges

AGENT = Path(memshell.lab.__file__).with_name("agent.sh")


@pytest.fixture
def guest(tree):
    ours, theirs = socket.socketpair()
    environment = {"PATH": os.environ["PATH"], "LAB_ROOT": str(tree)}
    with subprocess.Popen(["sh", AGENT], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as shell:
        theirs.close()
        guest = Guest(ours, lambda: None)
        guest.wait_ready(20)
        yield guest
        ours.close()
        shell.wait(10)


def test_a_line_gives_what_it_prints_and_its_status(guest):
    assert guest.shell("echo one; false") == ("one", 1)
    assert guest.shell("true") == ("", 0)


def test_a_snap_is_the_state_that_the_model_wrote(guest):
    state = guest_state(guest.shell("snap")[0])
    assert state["block_size_bytes"] == 128 << 20
    assert sorted(map(int, state["memory_blocks"])) == list(range(16))
    assert state["memory_blocks"]["3"] == {
        "state": "online",
        "phys_index": 3,
        "valid_zones": "DMA32",
        "removable": "1",
        "node": 0,
    }
    assert {zone["zone"] for zone in state["zones"]} >= {"DMA", "DMA32"}
    assert state["meminfo_kb"]["MemTotal"] > 1 << 20
    assert [line[3] for line in state["iomem"]].count("System RAM") == 2
    assert online_ranges(state, 4096) == [(0, 16 << 15)]


def test_a_write_gives_the_errno_that_the_shell_says(guest, tree):
    path = "sys/devices/system/memory/memory3/state"
    assert guest.write(f"/{path}", "offline", 5) == 0
    assert (tree / path).read_text() == "offline"
    assert guest.write("/sys/devices/system/memory", "offline", 5) == 21  # EISDIR


def test_pages_come_packed(guest, tree):
    (tree / "proc/kpageflags").write_bytes(bytes(range(256)) * 2048)
    assert guest.packed("pages /proc/kpageflags 1 1") == bytes(range(256)) * 1024


@pytest.mark.slow
def test_an_answer_that_does_not_come_is_told(guest):
    with pytest.raises(GuestGone, match="no answer in 1 s to 'sleep 3'"):
        guest.shell("sleep 3", 1)


def test_a_port_that_closes_is_told(guest):
    with pytest.raises(GuestGone, match="closed its port"):
        guest.shell("exit")


def test_words_that_are_no_errno_are_told(guest):
    guest.shell("w() { echo strange: words; false; }")
    with pytest.raises(CommandError, match="could not write 'x' to /y: strange: words"):
        guest.write("/y", "x", 5)


def test_ranges_that_meet_are_one():
    recorder = Recorder(None, {"steps": []})
    for start, end in ((100, 200), (300, 400), (100, 150), (200, 250), (180, 310)):
        recorder.track(start, end)
    assert recorder.ranges == [(100, 400)]


def test_a_program_takes_memory_in_whole_pages_and_gives_it_back(guest, tree):
    assert guest.shell("take 1 200") == ("", 0)
    assert (tree / "taken/1").stat().st_size == 200 << 10
    assert guest.shell("take 1 0") == ("", 0)
    assert (tree / "taken/1").stat().st_size == 0
    assert guest.shell("take no/such 4")[1] != 0
