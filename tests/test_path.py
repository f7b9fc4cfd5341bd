"""How far it is from a typed `add` to the page tables: the files that a reader goes through."""

import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest

from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.scenario.syntax import parse_text
from memshell.shell.shell import Output

ROOT = Path(__file__).parent.parent
MARK = "memshell/mm/__init__.py"  # the wrapper of `mirrors`: it is no step of its own
ARCH = "plugins/x86_64/"
TEXT = "use x86_64 ram=2G policy=memmap_on_memory; add 4G"
BLOCKS = 32  # of 128M


def file_of(frame):
    """Return the file of memshell or its plugins that *frame* runs; None for others and the wrapper of a mark."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if name != MARK:
            return name if name.startswith(("memshell/", "plugins/")) else None
        frame = frame.f_back
    return None


def play():
    """Play the text on a machine of its own; return the files of the calls of `add`, and (file, callee's file) pairs."""
    player = Player(shared_plugins, Output(StringIO(), StringIO()))
    use, add = parse_text(TEXT, "f")
    player.play([use])
    files, entries = Counter(), Counter()

    def look(frame, event, _arg):
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            here = file_of(frame)
            if here is not None and not frame.f_code.co_filename.endswith(MARK):
                files[here] += 1
                entries[file_of(frame.f_back), here] += 1

    sys.setprofile(look)
    try:
        player.play([add])
    finally:
        sys.setprofile(None)
    return files, entries


@pytest.fixture(scope="module")
def path():
    play()  # everything is imported now
    return play()


def test_an_add_goes_through_few_files(path):
    files, _entries = path
    assert len(files) <= 38, sorted(files)


def test_a_block_enters_the_architecture_three_times(path):
    """arch_add_memory(), vmemmap_populate(), and the tables above the leaves."""
    _files, entries = path
    entered = sum(
        count
        for (caller, here), count in entries.items()
        if here.startswith(ARCH) and not (caller or "").startswith(ARCH)
    )
    assert entered / BLOCKS <= 3
