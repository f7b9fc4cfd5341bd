"""What the system does to a shell: one clear line, and nothing lost that was finished."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from memshell.__main__ import main
from memshell.api import Session
from memshell.errors import CommandError
from memshell.machine import Machine
from memshell.repl.journal import last_journal, read_journal

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal


def journal_of(home):
    return [entry.text for entry in read_journal(last_journal(home / ".local/state/memshell"))]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_session_and_loses_nothing(number, tmp_path):
    shell = Terminal(tmp_path)
    shell.ready()
    shell.run("use x86_64 ram=2G")
    shell.run("add 1G")
    shell.process.kill(number)
    shell.process.expect_exact("terminated; --resume brings the session back")
    shell.process.expect(pexpect.EOF)
    shell.process.close()
    assert shell.process.exitstatus == 128 + number
    assert journal_of(tmp_path) == ["use x86_64 ram=2G", "add 1G"]


@pytest.mark.slow
def test_a_terminal_that_goes_away_loses_nothing(tmp_path):
    shell = Terminal(tmp_path)
    shell.ready()
    shell.run("use x86_64 ram=2G")
    os.close(shell.process.child_fd)
    shell.process.wait()
    assert journal_of(tmp_path) == ["use x86_64 ram=2G"]


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "use x86_64; history > /dev/full"],
        ["-c", "use x86_64; history >> /dev"],
        ["-c", "use x86_64; save /dev/full --force"],
        ["-c", "use x86_64; export json /dev/full --force"],
        ["-c", "use x86_64; export sysroot /proc/x"],
        ["export", "json", "/dev/full", "{file}", "--force"],
        ["test", "{file}", "--junit", "/dev/full"],
        ["capture", "--root", "{tree}", "--arch", "x86_64", "-o", "/dev/full"],
        ["new-plugin", "arch", "x", "/proc/x"],
    ],
)
def test_a_disk_that_takes_nothing_is_one_line(words, tmp_path, capsys):
    file, memory = tmp_path / "x.mem", tmp_path / "tree/sys/devices/system/memory"
    file.write_text("use x86_64 ram=512M\n")
    (memory / "memory0").mkdir(parents=True)
    (memory / "block_size_bytes").write_text("8000000\n")
    (memory / "memory0/state").write_text("online\n")
    code = main([word.format(file=file, tree=tmp_path / "tree") for word in words])
    err = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith(("memshell: /", "memshell: page"))
    ]
    assert code in (1, 2), err
    assert "internal error" not in "".join(err)
    assert any(
        word in err[-1]
        for word in (
            "No space left",
            "not permitted",
            "No such file",
            "directory",
            "denied",
            "Invalid argument",
            "/dev/full",
        )
    )


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m memshell -c 'use x86_64; iomem; repeat 2000; lsmem -a; end' | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_a_standard_output_that_is_full_is_told():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "memshell", "-c", "use x86_64; lsmem"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


def test_a_command_that_finds_no_memory_leaves_the_state(monkeypatch):
    session = Session()
    session.run("use x86_64; add 1G")
    before = session.shell.machine.mm

    def no_memory(*_args):
        raise MemoryError

    monkeypatch.setattr(Machine, "_commit", no_memory)
    with pytest.raises(CommandError, match="no memory is left for this command"):
        session.run("online all")
    monkeypatch.undo()
    assert session.shell.machine.mm is before
    session.run("online all; check")


@pytest.mark.slow
def test_a_limit_of_memory_is_one_line():
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20))

    command = [
        sys.executable,
        "-m",
        "memshell",
        "--keep-going",
        "-c",
        "use powerpc ram=64T block=256M; add 20T; use x86_64; lsmem",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode == 0 or "memory is left" in done.stderr
