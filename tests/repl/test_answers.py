"""What people were not told, at a terminal of 80 columns: each answer in the words of the question."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal


@pytest.fixture
def terminal(tmp_path):
    shell = Terminal(tmp_path, "--no-rc", NO_COLOR="1")
    shell.ready()
    yield shell
    shell.process.close(force=True)


def rows(text, first):
    """Return the lines of *text* that begin with *first*."""
    return [line for line in text.splitlines() if line.startswith(first)]


@pytest.mark.slow
def test_the_findings_at_a_terminal(terminal):
    terminal.run("use powerpc ram=8G")
    text = terminal.run("compare buddy memmap_on_memory -- add 4G; online offline movable")
    assert "from powerpc, 8G, blocks of 256M, kernel v6.12, policy buddy" in text
    assert [line.split()[1] for line in rows(text, "buddy ")] == ["4M"]
    terminal.run("use x86_64 ram=512M")
    text = terminal.run("compare buddy memmap_on_memory -- add 64G; online offline movable")
    assert rows(text, "buddy ")[0].endswith("ENOMEM")
    assert rows(text, "memmap_on_memory ")[0].endswith("ok")
    text = terminal.run("add 64G")
    assert "left until the next reboot: sections of " in text
    terminal.run("undo")
    assert "1G" in terminal.run("policy memmap_on_memory; add 64G; online all movable")
    terminal.run("use x86_64 ram=2G")
    assert "there is no node 9; nodes: 0" in terminal.run("probe 0x2000000000 2G mode=devdax node=9")
    for line in ("add 1G", "online all kernel", "alloc 400M unmovable", "alloc 300M pinned"):
        terminal.run(line)
    text = terminal.run("offline 32-39")
    table = rows(text, "memory3")
    assert [line.split()[1] for line in table[:6]] == ["EBUSY"] * 4 + ["EINTR"] * 2
    assert max(map(len, table[:6])) <= 80
    assert "OfflineFailed" in terminal.run("events")
    assert "`unpin 2` frees it" in terminal.run("why 36")
    terminal.run("undo 5")
    terminal.run("add 1G")
    terminal.run("undo")
    terminal.run("! online 5")
    assert "again after step 1: add 1G" in terminal.run("redo")
    terminal.run("use x86_64 ram=16G")
    terminal.run("add 512G")
    assert "memory." in terminal.run("diff")
    assert len(terminal.run("diff").splitlines()) < 12
