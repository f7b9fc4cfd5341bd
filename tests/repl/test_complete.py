"""Completion: what is offered where, and with which description."""

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from memshell.repl.complete import ShellCompleter
from memshell.scenario.player import Player
from memshell.shell.screen import about, progress_line, toolbar


@pytest.fixture(scope="module")
def shell():
    player = Player(echo=False)
    player.play_text("use x86_64 ram=2G; alias pol policy; let size = 3G", "f")
    return player.shell


def offered(shell, text):
    before, _space, word = text.rpartition(" ")
    return dict(ShellCompleter(shell).items(before + _space, word))


@pytest.mark.parametrize(
    "text, item, meta",
    [
        ("und", "undo", "Take back the last step"),
        ("! und", "undo", "Take back"),
        ("true; und", "undo", "Take back"),
        ("pol", "pol", "alias for policy"),
        ("exp", "expect", "fail unless"),
        ("policy ", "memmap_on_memory", "memmap at the start of each block"),
        ("pol ", "memmap_on_memory", "memmap at the start of each block"),
        ("use x86", "x86_64", "architecture"),
        ("use x86_64 ra", "ram=", "memory at boot"),
        ("use x86_64 la57=", "la57=on", "5-level"),
        ("use x86_64 policy=b", "policy=buddy", "memmap from existing memory"),
        ("set online_policy=", "online_policy=auto-movable", "memory_hotplug.online_policy"),
        ("set node", "node_notifier", "NODE_ADDING_FIRST_MEMORY"),
        ("history -", "--vertical", "one line per column"),
        ("history -F ", "csv", "spreadsheets"),
        ("help und", "undo", "Take back"),
        ("expect zone.DMA32.p", "zone.DMA32.present", "pages"),
        ("expect block.3.", "block.3.state", "online"),
        ("expect 3 == $s", "$size", "3G"),
        ("[ar", "[arch:", "only where it holds"),
        ("[!arch:p", "[!arch:powerpc]", "only where it holds"),
        ("[plugin:x", "[plugin:x86_64]", "only where it holds"),
    ],
)
def test_offers(shell, text, item, meta):
    found = offered(shell, text)
    assert item in found
    assert meta in found[item]


def test_blocks_are_offered_by_number_with_their_zone_and_those_that_the_command_is_for_come_first(shell):
    shell.player.play_text("add 256M; online 32 movable", "f")
    assert offered(shell, "online 3") == {"33": "offline", "3": "online DMA32", "32": "online Movable"}
    names = [name for name in offered(shell, "online m") if name != "movable"]
    assert names[0] == "memory33"
    assert next(iter(offered(shell, "offline m"))) == "memory0"
    assert next(iter(offered(shell, "remove 3"))) == "33"
    shell.player.play_text("undo 2", "f")


def test_the_scenarios_that_come_with_memshell_are_offered(shell):
    assert offered(shell, "mutate experiments/E3")["experiments/E30"] == "memshell's own"


def test_files_are_offered_where_files_go(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mem").touch()
    (tmp_path / "folder").mkdir()
    assert offered(shell, "source ") == {"a.mem": "", "folder/": "folder"}
    assert "a.mem" in offered(shell, "include ")
    assert "a.mem" in offered(shell, "policy > ")


def test_nothing_is_offered_for_nonsense(shell):
    assert list(ShellCompleter(shell).get_completions(Document("nosuch "), CompleteEvent())) == []
    assert offered(shell, "expect 3 == 4 ") == {}


def test_the_toolbar_says_what_the_machine_is(shell):
    text = toolbar(shell)
    assert text.startswith(" x86_64 4K · block 128M · v6.12 · buddy · ")
    assert text.endswith("free · step 0")
    assert "use x86_64" in toolbar(Player().shell)


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_the_toolbar_fits_and_keeps_the_step_and_the_crash(width):
    player = Player(echo=False)
    shell = player.shell
    player.play_text("use x86_64 ram=2G profile=rfc-2018; add 1G", "f")
    assert toolbar(shell, width).endswith("step 1")
    assert len(toolbar(shell, width)) <= width
    text = "set check.free_pagetable off; online offline movable; ! eject 32"
    player.play_text(text, "f")
    assert "step 4 · CRASHED"[: width - 1] in toolbar(shell, width)
    assert len(toolbar(shell, width)) <= width


def test_sizes_in_three_digits():
    assert [about(size) for size in (0, 512 << 10, 3 << 29, 200 << 30)] == ["0", "512K", "1.5G", "200G"]


def test_the_progress_line_fits_the_terminal(shell):
    shell.running.text = "online " + "memory1 " * 50
    shell.running.progress = (3, 12)
    line = progress_line(shell, 2.0, 80)
    shell.running.progress = None
    assert len(line) <= 79
    assert "3/12 2 s, Ctrl-C stops it" in line


@pytest.mark.parametrize("arch, others", [("x86_64", ("standby=", "mmu=")), ("s390", ("la57=", "mmu="))])
def test_use_offers_the_keys_of_its_architecture_alone(shell, arch, others):
    keys = {option.name + "=" for option in shell.plugins.arches()[arch].options}
    found = set(offered(shell, f"use {arch} "))
    assert keys <= found
    assert not found & {*others, "powerpc", "s390", "x86_64"}


@pytest.mark.parametrize(
    "text, style",
    [
        ("add 1G", "class:command"),
        ("quit", "class:command"),
        ("echo online > /sys/x", "class:command"),
        ("2G / 128M", ""),
        ("blocks.online", ""),
        ("$size", ""),
        ("ofline 3", "class:unknown"),
    ],
)
def test_only_what_is_not_understood_is_marked(shell, text, style):
    from memshell.repl.highlight import ShellLexer

    assert ShellLexer(shell).lex_document(Document(text))(0)[0][0] == style
