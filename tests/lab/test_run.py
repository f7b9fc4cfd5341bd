"""`lab run` from the command line to the table, with a QEMU that is none: what fails is told, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def lab(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "memshell", "lab", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "a.mem"
    path.write_text(
        "use x86_64 ram=2G profile=v6.12\nexpect blocks.online == 16\nlet n = blocks.total\nexpect $n == 16\n"
    )
    return path


def test_expectations_are_judged_on_both(fake, scenario, tmp_path):
    out = tmp_path / "rec.json"
    done = lab("run", str(scenario), "--kernel", str(fake), "-o", str(out), "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    answer = json.loads(done.stdout)
    assert [(s["model"], s["kernel"]) for s in answer["boots"][0]["steps"]] == [("holds", "holds")] * 2
    assert answer["ok"] is True
    assert json.loads(out.read_text())["schema"] == "memshell-recording/1"


@pytest.mark.slow
def test_an_expectation_that_only_the_model_keeps_fails(fake, scenario, tree):
    (tree / "sys/devices/system/memory/memory15/state").write_text("offline\n")
    done = lab("run", str(scenario), "--kernel", str(fake))
    assert done.returncode == 1
    assert "expect blocks.online == 16 holds fails: actual 15, off by -1" in done.stdout


@pytest.mark.slow
def test_what_qemu_refuses_is_told(fake, scenario):
    scenario.write_text("use x86_64 ram=2G\nadd 1G\n")
    done = lab("run", str(scenario), "--kernel", str(fake))
    assert "QEMU: no slot is free" in done.stdout


@pytest.mark.slow
def test_a_guest_that_dies_is_an_outcome_with_its_last_words(fake, scenario):
    scenario.write_text("use x86_64 ram=2G\nadd 1G\nexpect blocks.total == 24\n")
    done = lab("run", str(scenario), "--kernel", str(fake), MEMSHELL_FAKE_DIES="device_add")
    assert done.returncode == 1
    assert "add 1G                    ok    died" in done.stdout
    assert "the guest died: kernel BUG at mm/fake.c:1!" in done.stdout
    assert "not judged: the guest is gone" in done.stdout


@pytest.mark.parametrize(
    "args, code, error",
    [
        (["rn"], 2, "lab knows no 'rn'; did you mean run?"),
        (["run", "tutorial/first", "--kernel", "nosuch"], 1, "no kernel nosuch: no such file"),
        (["run", "nosuch.mem"], 2, "no scenario nosuch.mem"),
    ],
)
def test_bad_input_is_told_in_a_line(args, code, error):
    done = lab(*args)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert error in done.stderr


@pytest.mark.slow
def test_a_scenario_for_another_architecture_is_refused(fake, scenario):
    scenario.write_text("use s390\nexpect blocks.online == 1\n")
    done = lab("run", str(scenario), "--kernel", str(fake))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "has nothing for a kernel of x86_64: it is for s390" in done.stderr


@pytest.mark.slow
def test_a_test_is_played_on_both(fake, scenario, tree):
    (tree / "sys/devices/system/memory/memory15/state").write_text("offline\n")
    words = ["test", str(scenario), "--on", "model", "--on", f"lab:{fake}"]
    done = subprocess.run(
        [sys.executable, "-m", "memshell", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert f"ok     {scenario} (" in done.stdout
    assert f"{scenario}:2: expect failed: blocks.online == 16" in done.stdout


@pytest.mark.slow
def test_a_script_is_exported(scenario, tmp_path):
    out = tmp_path / "a.sh"
    for code in (0, 1):
        done = subprocess.run(
            [sys.executable, "-m", "memshell", "export", "script", str(out), str(scenario)], check=False
        )
        assert done.returncode == code
    assert os.access(out, os.X_OK)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_guest_is_left_behind(fake, scenario, number):
    command = [sys.executable, "-m", "memshell", "lab", "run", str(scenario), "--kernel", str(fake)]
    environment = {**os.environ, "MEMSHELL_FAKE_HANGS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        end = time.monotonic() + 60
        while not _children(running.pid) and time.monotonic() < end:
            time.sleep(0.1)
        guests = _children(running.pid)
        time.sleep(0.5)
        running.send_signal(number)
        assert running.wait(20) == 130
    assert guests
    assert not [pid for pid in guests if Path(f"/proc/{pid}").exists()]


def _children(pid):
    """Return the processes that *pid* started and that listen already, by their command line."""
    done = subprocess.run(["pgrep", "-P", str(pid), "-f", "tcg"], capture_output=True, text=True, check=False)
    return done.stdout.split()
