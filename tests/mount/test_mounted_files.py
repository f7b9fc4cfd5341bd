"""The table of files: each is what the path says, a write is a command, and the tree of a mount is that of `export sysroot`."""

import errno
import os
from pathlib import Path

import pytest
from mounted_guest import MACHINES

from memshell.mount.session import Session
from memshell.mount.uevents import Uevents
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.shell.shell import Output
from memshell.views.kpage import WORD
from memshell.views.pages import kpageflags
from memshell.views.sysroot import FILES, File, Folder, content, find, names, walk

DEVICE = "/devices/system/memory/memory40"


def session_of(text):
    player = Player(shared_plugins, Output(), echo=False)
    player.play_text(text, "-c")
    return Session(player)


@pytest.fixture
def session():
    return session_of(MACHINES["x86_64"])


@pytest.mark.parametrize("arch", MACHINES)
def test_what_is_listed_is_found_and_can_be_read(arch):
    mm = session_of(MACHINES[arch]).mm
    listed = dict(walk(mm))
    assert len(listed) > 100
    for path, place in listed.items():
        assert find(mm, path) == place, path
        if place.what.show is not None:
            assert content(mm, place), path
        if place.what.link is not None:
            target = (Path(path).parent / place.what.link(mm, *place.given)).as_posix()
            parts = []
            for part in target.split("/"):
                parts = parts[:-1] if part == ".." else [*parts, part]
            assert find(mm, "/".join(parts)) is not None, (path, target)


@pytest.mark.parametrize(
    "path",
    [
        "sys/devices/system/memory/memory32x",
        "sys/devices/system/memory/memory032",
        "sys/devices/system/memory/memory999",
        "sys/devices/system/memory/memory0/node1",
        "sys/devices/system/memory/memory{block}",
        "sys/devices/system/node/node0/memory32",
        "sys/bus/dax/devices/dax0.0",
        "proc/meminfo/x",
        "etc",
    ],
)
def test_what_is_not_there_is_not_found(session, path):
    assert find(session.mm, path) is None


def test_without_a_machine_there_are_folders(session):
    session.player.shell.machine = None
    assert session.mm is None
    assert [name for name, _ in names(None, find(None, "sys/devices/system"))] == ["memory", "node", "cpu"]
    assert list(names(None, find(None, "sys/devices/system/memory"))) == []
    assert find(None, "proc/meminfo") is None


def test_every_file_shows_or_takes_something():
    assert all(file.show or file.store or file.pages or file.link for file in FILES.values())
    assert [path for path, file in FILES.items() if file.store and not path.startswith("sys/")] == []


def test_parameters_are_there_from_the_kernel_on_that_has_them():
    folder = "sys/module/memory_hotplug/parameters"
    old, new = session_of("use x86_64 profile=v5.10").mm, session_of("use x86_64 profile=v5.15").mm
    assert [find(mm, f"{folder}/memmap_on_memory") is not None for mm in (old, new)] == [False, True]
    assert [find(mm, f"{folder}/online_policy") is not None for mm in (old, new)] == [False, True]


@pytest.mark.parametrize("start", [0, 0x7FFF0, 0x100000, 0x11FFF0])
def test_kpageflags_have_an_entry_for_each_page(session, start):
    data = FILES["proc/kpageflags"].pages(session.mm, start, start + 64)
    flags = [int.from_bytes(data[at : at + WORD], "little") for at in range(0, len(data), WORD)]
    assert flags == [kpageflags(session.mm, pfn) for pfn in range(start, start + 64)]


def test_counts_end_with_the_memory(session):
    session.player.play_text("alloc 16M", "-c")
    mm = session.mm
    for name in ("kpagecount", "kpagecgroup"):
        data = FILES[f"proc/{name}"].pages(mm, 0, 1 << 40)
        assert len(data) == mm.max_pfn * WORD
        assert sum(data[::WORD]) == 4096  # a program's pages are mapped once, and charged to the root


def test_head_and_tails_of_a_huge_page_differ():
    mm = session_of("use x86_64 ram=2G; hugepages 2M=1").mm
    first = next(a for a, _, _ in mm.hugetlb.items())
    data = FILES["proc/kpageflags"].pages(mm, first, first + 2)
    assert [int.from_bytes(data[at : at + WORD], "little") for at in (0, WORD)] == [0x28000, 0x30000]


def test_a_write_is_a_command_of_the_session(session):
    played, journal = [], []
    session.player.observe = played.append
    session.player.journal = journal.append
    assert session.write("sys/devices/system/memory/memory36/state", "online_movable") == 0
    assert session.write("sys/devices/system/memory/memory36/state", "online") == errno.EINVAL
    assert session.write("sys/devices/system/memory/auto_online_blocks", "online") == 0
    assert [one.errno for one in played] == [None, "EINVAL", None]
    assert journal == [
        "write memory36/state online_movable",
        "! write memory36/state online",
        "write auto_online_blocks online",
    ]
    assert session.write("sys/devices/system/memory/auto_online_blocks", "online\noffline") == errno.EINVAL
    assert len(journal) == 3
    assert session.mm.params.auto_online_blocks == "online"


def test_a_dead_machine_answers_eio(session):
    session.player.play_text(
        "use x86_64 profile=rfc-2018; add 0x100000000 1G; online 33-39 movable; remove 32; ! touch", "-c"
    )
    assert session.mm.crashed
    assert session.write("sys/devices/system/memory/memory34/state", "offline") == errno.EIO


def test_a_program_that_the_prompt_runs_may_write(session):
    """The turn is given up while it runs, also amid a file that is played; its steps are told of once."""
    told = []
    session.player.observe = lambda played: told.append([step.command for step in played.steps])
    with session.player.turn(), session.player.hand_over():
        assert session.write("sys/devices/system/memory/memory36/online", "1") == 0
    assert told == [["write memory36/online 1"]]


def test_injected_errors_stay_until_they_are_taken_back(session):
    session.player.play_text(
        """
        write /sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_OFFLINE/error -16
        ! offline 32
        expect error == EBUSY
        ! offline 33
        expect error == EBUSY
        ! write /sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_OFFLINE/error x
        expect error == EINVAL
        write /sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_OFFLINE/error 0
        offline 32
        """,
        "-c",
    )


def test_uevents_name_blocks_that_come_go_and_change(session, tmp_path):
    uevents = Uevents(tmp_path / "fifo")
    uevents.start(session.mm)
    session.player.observe = uevents.played
    session.player.play_text("add 128M; online last movable", "-c")  # nobody listens: lost, as the kernel's are
    with os.fdopen(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as fifo:
        assert session.write("sys/devices/system/memory/memory40/state", "offline") == 0
        session.player.play_text("remove 40; undo 1", "-c")
        lines = fifo.read(4096).decode().splitlines()
    assert [line.split(" SUBSYSTEM=memory ") for line in lines] == [
        [f"{action}@{path} ACTION={action} DEVPATH={path}", f"SEQNUM={number}"]
        for action, path, number in (("offline", DEVICE, 3), ("remove", DEVICE, 4))
    ]


def test_a_folder_is_no_file():
    assert isinstance(find(None, "sys").what, Folder)
    assert not isinstance(find(None, "sys").what, File)
