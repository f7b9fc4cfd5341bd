"""A recording that is broken gives one line and exit code 1, never a traceback; those beside it are verified all the same."""

import json
import lzma
import subprocess
import sys

import pytest
from fidelity import ROOT

GOOD = ROOT / "tests" / "recordings" / "x86_64-k612-Y-128M-movable.json.xz"


def verify(*paths):
    return subprocess.run(
        [sys.executable, "-m", "memshell", "verify", *map(str, paths)], capture_output=True, text=True, check=False
    )


def drop(*keys):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        del raw[keys[-1]]

    return change


def put(value, *keys):
    def change(raw):
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = value

    return change


BREAKS = [
    drop("schema"),
    drop("steps"),
    drop("steps", 0, "state"),
    drop("steps", 0, "state", "zones"),
    drop("steps", 0, "state", "block_size_bytes"),
    drop("steps", 1, "op", "start"),
    put("x", "steps", 2, "state", "zones"),
    put("alpha", "arch"),
    put("Linux version 2.6.32", "kernel"),
    put([], "steps"),
    put(None, "steps", 1, "op"),
]


@pytest.mark.parametrize("change", BREAKS)
def test_a_broken_recording_is_one_line(change, tmp_path):
    raw = json.loads(lzma.decompress(GOOD.read_bytes()))
    change(raw)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(raw))
    done = verify(bad, GOOD)
    assert done.returncode == 1
    assert done.stderr.startswith("memshell: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout.startswith("x86_64-k612-Y-128M-movable (6.12.117): ")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xfd7zXZ\0\0", GOOD.read_bytes()[:2000]])
def test_a_file_that_is_no_recording_is_one_line(data, tmp_path):
    for name in ("bad.json", "bad.json.xz"):
        (tmp_path / name).write_bytes(data)
        done = verify(tmp_path / name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1, done.stderr
