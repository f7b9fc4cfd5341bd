"""``memshell mount`` as people start and end it: under a command, beside the prompt, killed, and where it cannot be."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pexpect
import pytest
from mounted_guest import NO_FUSE, guest_of

from memshell.__main__ import main
from memshell.errors import CommandError
from memshell.mount import mounted, namespace

MEMSHELL = str(Path(sys.executable).parent / "memshell")
ROOT = Path(__file__).parent.parent.parent
MEMORY = "sys/devices/system/memory"


def run(*args, **options):
    return subprocess.run(
        [MEMSHELL, "mount", *args], capture_output=True, text=True, timeout=120, check=False, **options
    )


def is_mounted(folder):
    return f" {folder} " in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def until(condition):
    for _ in range(1200):  # a minute: the machine may be busy
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@NO_FUSE
def test_a_command_runs_on_the_machine_and_its_status_is_the_status(tmp_path):
    scenario = tmp_path / "a.mem"
    scenario.write_text("use powerpc ram=2G\nadd 1G\n")
    script = "cat /sys/devices/system/memory/block_size_bytes; ls -d /sys/devices/system/memory/memory11; exit 7"
    done = run(str(scenario), "--exec", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "10000000\n/sys/devices/system/memory/memory11\n"


@pytest.mark.parametrize(
    "words, code, line",
    [
        ([], 2, "mount needs a folder; memshell mount DIR [SCENARIO], or memshell mount --exec CMD"),
        (["--exec"], 2, "--exec needs a command; such as: memshell mount --exec lsmem"),
        (["a", "b", "c"], 2, "unexpected 'c'; one scenario is enough: it can include others"),
        (["--exec", "no-such-command"], 1, "no-such-command: no such command"),
        (["--use", "x87", "--exec", "true"], 2, "--use:1: unknown architecture 'x87'; known: "),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, code, line, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    if "no-such-command" in words and not Path("/dev/fuse").exists():
        pytest.skip("/dev/fuse is missing")
    assert main(["mount", *words]) == code
    assert capsys.readouterr().err.removeprefix("memshell: ").startswith(line)


@NO_FUSE
def test_the_example_of_the_documents():
    text = (ROOT / "docs/mount.md").read_text(encoding="utf-8").partition("$ memshell mount --exec lsmem\n")[2]
    assert run("--exec", "lsmem").stdout == text.partition("$ ")[0]


@NO_FUSE
def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="is not empty; mount on an empty folder"), guest_of("true", tmp_path):
        pass


@pytest.mark.parametrize("lacking", ["fuse", "mfusepy", "libfuse", "fusermount3"])
def test_without_fuse_there_is_one_line_that_names_the_way_without_it(lacking, tmp_path, monkeypatch):
    there = lacking != "fuse"
    exists = Path.exists
    monkeypatch.setattr(mounted.Path, "exists", lambda path: there if str(path) == "/dev/fuse" else exists(path))
    if lacking == "mfusepy":
        monkeypatch.setitem(sys.modules, "mfusepy", None)
    elif lacking == "libfuse":
        monkeypatch.setitem(sys.modules, "mfusepy", type("Broken", (), {"__getattr__": broken})())
    elif lacking == "fusermount3":
        pytest.importorskip("mfusepy", exc_type=(ImportError, OSError))
        monkeypatch.setattr(mounted.os, "getuid", lambda: 1000)
        monkeypatch.setattr(mounted.shutil, "which", lambda _name: None)
    with pytest.raises(CommandError) as caught, guest_of("true", tmp_path / "root"):
        pass
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("nothing can be mounted: ")
    assert str(caught.value).endswith("export sysroot DIR writes the files as they are now, without FUSE")


def broken(_self, _name):
    raise OSError("Unable to find libfuse")


def test_where_user_namespaces_are_not_allowed_it_says_so(monkeypatch):
    refused = subprocess.CompletedProcess((), 1)
    monkeypatch.setattr(namespace.subprocess, "run", lambda *_args, **_options: refused)
    namespace.unshare.cache_clear()
    with pytest.raises(CommandError, match="user namespaces are not allowed here"):
        namespace.unshare()
    namespace.unshare.cache_clear()


@NO_FUSE
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it_and_nothing_stays_mounted(number, tmp_path):
    folder = tmp_path / "root"
    command = [MEMSHELL, "mount", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until((folder / MEMORY / "memory0").exists)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    until(lambda: not is_mounted(folder))
    if number == signal.SIGKILL:
        assert said == f"memshell: killed; {folder}: unmounted lazily\n"


@NO_FUSE
def test_a_mount_that_somebody_uses_goes_when_nobody_does(tmp_path):
    from memshell.mount.session import Session
    from memshell.scenario.player import Player

    folder, said = tmp_path / "root", []
    (tmp_path / "root").mkdir()
    with mounted.mounted(Session(Player()), folder, said.append):
        user = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        assert said == [f"{folder} is in use: unmounted lazily, it is gone once nobody uses it"]
        assert not is_mounted(folder)
    finally:
        user.kill()
        user.wait()


@NO_FUSE
def test_commands_on_standard_input_and_writes_share_the_machine(tmp_path):
    folder = tmp_path / "root"
    file = folder / MEMORY / "memory10/state"
    done = run(
        "--allow-shell", str(folder), input=f"!cat {file}\n!echo offline > {file}\nexpect blocks.offline == 1\nbad\n"
    )
    assert done.stdout == "online\n"
    assert done.returncode == 2, done.stderr
    assert not is_mounted(folder)


@NO_FUSE
@pytest.mark.slow
def test_beside_the_prompt(tmp_path):
    folder = tmp_path / "root"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    prompt = pexpect.spawn(
        MEMSHELL, ["--no-rc", "mount", str(folder)], encoding="utf-8", dimensions=(30, 200), env=environment, timeout=60
    )
    prompt.expect("memshell>")
    until(lambda: is_mounted(folder))
    (folder / MEMORY / "memory10/state").write_text("offline\n")
    prompt.expect("write memory10/state offline: memory10 offline")
    prompt.sendline("online 10")
    prompt.expect("memory10 online in DMA32")
    assert (folder / MEMORY / "memory10/state").read_text() == "online\n"
    prompt.sendline(f"!echo offline > {folder}/{MEMORY}/memory11/state")  # the prompt waits for it, and is no obstacle
    prompt.expect("write memory11/state offline: memory11 offline")
    for _ in range(20):  # what comes while another program has the terminal is lost
        prompt.sendeof()
        if prompt.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=1) == 0:
            break
    prompt.close()
    assert prompt.exitstatus == 0
    assert not folder.exists()
    (journal,) = (tmp_path / "memshell/journal").iterdir()
    assert [line for line in journal.read_text().splitlines() if not line.startswith("#")] == [
        "use x86_64 ram=2G",
        "write memory10/state offline",
        "online 10",
        "write memory11/state offline",
    ]


@NO_FUSE
@pytest.mark.slow
def test_readers_and_writers_at_once(tmp_path):
    """No deadlock and no torn file; MEMSHELL_MOUNT_SECONDS for longer."""
    seconds = float(os.environ.get("MEMSHELL_MOUNT_SECONDS", "3"))
    with guest_of("use x86_64 ram=2G; add 1G; online all movable", tmp_path / "root") as guest:
        stop, wrong, counts = time.monotonic() + seconds, [], [0, 0, 0]

        def read(at, path, whole):
            while time.monotonic() < stop:
                text = (guest.folder / path).read_text()
                counts[at] += 1
                if not whole(text):
                    wrong.append(text)

        def write():
            file = guest.folder / MEMORY / "memory35/state"
            while time.monotonic() < stop:
                file.write_text("offline" if counts[2] % 2 == 0 else "online_movable")
                counts[2] += 1

        sums = {sum_of_free(guest.mm)}
        threads = [
            threading.Thread(target=read, args=(0, "proc/buddyinfo", lambda text: text.count("\n") == 3)),
            threading.Thread(target=read, args=(1, "proc/zoneinfo", lambda text: text.count("protection") == 5)),
            threading.Thread(target=write),
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < stop:
            guest.type("alloc 1M")
            guest.type("free all")
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        if counts[2] % 2:
            (guest.folder / MEMORY / "memory35/state").write_text("online_movable")
        assert wrong == []
        assert min(counts) > 10
        assert sum_of_free(guest.mm) in sums


def sum_of_free(mm):
    return sum(zone.free for zone in mm.zones.values())
