"""A shell that is killed comes back with every command that was finished."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest

from memshell.repl.journal import Journal, finished_lines, last_journal, new_journal

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal

KILLS = int(os.environ.get("MEMSHELL_KILLS", "5"))  # fifty take three minutes


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, KILLS))])
def test_a_killed_shell_comes_back(tmp_path, seed):
    chance = random.Random(seed)
    shell = Terminal(tmp_path)
    shell.ready()
    shell.run("use x86_64 ram=2G")
    finished = 0
    for number in range(chance.randrange(1, 5)):
        shell.run(f"set auto_movable_ratio={100 + number}")
        finished += 1
    # The next command is on its way when the shell dies: it may be lost, the finished ones may not.
    shell.type("set auto_movable_ratio=999\r", chance.random() * 0.02)
    shell.process.kill(signal.SIGKILL)
    shell.process.close(force=True)
    again = Terminal(tmp_path, "--resume")
    assert "resumed at step" in again.ready()
    text = again.run("expect step == -1")
    assert f"actual {finished}," in text or f"actual {finished + 1}," in text
    if f"actual {finished}," in text:
        assert f"actual {99 + finished}," in again.run("expect param.auto_movable_ratio == -1")
    again.process.close(force=True)


@pytest.mark.slow
def test_undo_and_settings_come_back_too(tmp_path):
    shell = Terminal(tmp_path)
    shell.ready()
    for line in ("use x86_64 ram=2G", "policy memmap_on_memory", "undo", "alias pol policy", "let a = 3 * 128M"):
        shell.run(line)
    shell.process.kill(signal.SIGKILL)
    shell.process.close(force=True)
    again = Terminal(tmp_path, "--resume")
    again.ready()
    assert "memmap_on_memory" in again.run("pol")
    assert again.run("expect policy == buddy and $a == 384M").endswith("\n") is False
    assert "again after step 1" in again.run("redo")
    again.process.close(force=True)


def test_what_the_disk_has_only_in_part_is_no_command(tmp_path):
    path = tmp_path / "j.mem"
    path.write_bytes(b"use x86_64\nadd 1")
    assert finished_lines(path) == "use x86_64\n"
    assert path.read_bytes() == b"use x86_64\n"


def test_a_journal_in_use_is_not_resumed(tmp_path):
    warnings = []
    journal = new_journal(tmp_path, warnings.append)
    journal.add("true")
    assert last_journal(tmp_path) is None
    journal.close()
    assert finished_lines(last_journal(tmp_path)) == "true\n"
    assert warnings == []


def test_old_journals_are_forgotten_and_empty_ones_are_not_kept(tmp_path):
    for _ in range(14):
        journal = new_journal(tmp_path, print)
        journal.add("true")
        journal.close()
    new_journal(tmp_path, print).close()
    assert len(list((tmp_path / "journal").glob("*.mem"))) == 10


def test_a_full_disk_costs_the_journal_and_not_the_session():
    warnings = []
    journal = Journal(Path("/dev/full"), warnings.append)
    journal.add("true")
    journal.add("true")
    assert len(warnings) == 1
    assert "no journal from here on" in warnings[0]
