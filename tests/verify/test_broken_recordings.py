"""A recording that is broken gives one line and exit code 1, never a traceback; those beside it are verified all the same."""

import json
import lzma

import pytest
from fidelity import ROOT

from memshell.__main__ import main

GOOD = ROOT / "tests" / "recordings" / "x86_64-k612-Y-128M-movable.json.xz"


@pytest.fixture
def verify(capsys):
    """Verify files; return the exit code, what was printed and what was told."""

    def run(*paths):
        return (main(["verify", *map(str, paths)]), *capsys.readouterr())

    return run


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
def test_a_broken_recording_is_one_line(verify, change, tmp_path):
    raw = json.loads(lzma.decompress(GOOD.read_bytes()))
    change(raw)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(raw))
    code, printed, told = verify(bad, GOOD)
    assert code == 1
    assert told.startswith("memshell: ")
    assert told.count("\n") == 1
    assert printed.startswith("x86_64-k612-Y-128M-movable (6.12.117): ")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xfd7zXZ\0\0", GOOD.read_bytes()[:2000]])
def test_a_file_that_is_no_recording_is_one_line(verify, data, tmp_path):
    for name in ("bad.json", "bad.json.xz"):
        (tmp_path / name).write_bytes(data)
        code, printed, told = verify(tmp_path / name)
        assert (code, printed) == (1, "")
        assert told.count("\n") == 1, told
