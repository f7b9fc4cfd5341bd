"""What is too large, too deep or too often is one line that names the limit, and takes no time."""

import json
import lzma
import os
import re
from pathlib import Path

import pytest

from memshell.__main__ import main

NINES = "9" * 5000
HERE = Path(__file__).parent
LIMITS = {
    "digits of a size": (f"use x86_64 ram={NINES}", "a size of 5000 characters cannot be; 40 at most"),
    "digits of an address": (f"use x86_64\nadd 0x{NINES} 1G", "a size of 5002 characters cannot be"),
    "digits of a count": (f"use x86_64\nundo {NINES}", "a number of at most 64 bits"),
    "digits of a block": (f"use x86_64\nonline {NINES}", "a number of at most 64 bits"),
    "digits of an order": ("use x86_64\nalloc 1G order=99999999", "order=99999999 cannot be"),
    "digits in an expression": (f"let x = {NINES}", "a number of 5000 digits cannot be; 40 at most"),
    "a product": (
        "let x = 99999999999\nrepeat 20\nlet x = $x * $x\nend",
        "the number is too large; numbers have 128 bits",
    ),
    "a sum of fractions": ("let x = 1.5\nrepeat 400\nlet x = $x * 1.5\nend", "128 bits"),
    "signs": (f"expect 1 == {'- ' * 3000}1", "nested deeper than 150 levels"),
    "a long sum": (f"expect {'1 + ' * 3000}1 == 3001", "nested deeper than 150 levels"),
    "blocks in blocks": ("repeat 1\n" * 200 + "true\n" + "end\n" * 200, "nested deeper than 150 levels"),
    "repeats": ("repeat 100000000\ntrue\nend", "more than 100000 repeats"),
    "repeats of repeats": ("repeat 1000\nrepeat 1000\ntrue\nend\nend", "more than 100000 repeats"),
    "a file that plays itself": ("source {self}", "more than 20 deep; does one play itself?"),
    "aliases in a circle": ("alias a b\nalias b a\na", "calls itself"),
    "times of touch": ("use x86_64\ntouch 1M times=1000000000", "1000000000 times are too many; 10000 at most"),
    "times of put": ("use x86_64 profile=rfc-2018\nadd 1G\nput 0x100100 times=1000000000", "10000 at most"),
    "memory of boot": ("use powerpc ram=1P", "4194304 memory blocks are too many; 524288 at most"),
    "a block above the kernel's": ("use x86_64 block=1E", "a power of two from 128M to 2G"),
    "a block that is no power of two": ("use s390 block=3M", "a power of two from 1M on"),
    "no block": ("use s390 block=0", "a power of two from 1M on"),
    "more in use than there is, powerpc": ("use powerpc used=100T", "nothing would be free"),
    "more in use than there is, s390": ("use s390 used=100T", "nothing would be free"),
    "a name of a file": (f"use {NINES}", "name too long"),
    "a path that is too long": (f"use ./{NINES}", "name too long"),
    "a word of a megabyte": (f"use x86_64\n{'x' * 1_000_000}", "(1000000 characters)"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("repeats") else []) for name in LIMITS]
)
def test_a_limit_is_named(name, tmp_path, capsys):
    text, message = LIMITS[name]
    path = tmp_path / "x.mem"
    path.write_text(text.replace("{self}", str(path)))
    code = main(["run", str(path)])
    err = capsys.readouterr().err
    assert (code in (1, 2), message in err) == (True, True), err[:300]
    assert "internal error" not in err
    assert len(err) < 1500


def test_what_is_allowed_still_works(tmp_path, capsys):
    path = tmp_path / "x.mem"
    path.write_text(
        "use x86_64 ram=512M block=1G\nrepeat 2000 as i\ntrue\nend\n" + "repeat 1\n" * 20 + "true\n" + "end\n" * 20
        + f"expect {'1 + ' * 40}1 == 41\nexpect 16E > 1E\ntouch 1M times=100\n"
    )  # fmt: skip
    assert (main(["run", str(path)]), capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("what", ["digits", "depth", "fifo", "nothing"])
def test_files_that_are_no_files(what, tmp_path, capsys):
    path = tmp_path / "m.json"
    if what == "digits":
        path.write_text(f'{{"schema": {NINES}}}')
    elif what == "depth":
        path.write_text("[" * 100_000)
    elif what == "fifo":
        os.mkfifo(path)
    for words in (["-c", f"use {path}"], ["verify", str(path)], ["run", str(path)], ["vmlinux", str(path)]):
        if what == "depth" and words[0] == "run":
            continue
        code = main(words)
        err = capsys.readouterr().err
        assert code in (1, 2)
        assert len(err.splitlines()) == 1, err
        assert "internal error" not in err


def test_a_scenario_has_a_size(tmp_path, capsys):
    path = tmp_path / "x.mem"
    with path.open("wb") as file:
        file.truncate(17 << 20)
    assert main(["run", str(path)]) == 2
    assert "is larger than 16 MiB" in capsys.readouterr().err


def test_a_fifo_or_a_link_in_a_captured_tree(tmp_path, capsys):
    (tmp_path / "proc").mkdir()
    memory = tmp_path / "sys/devices/system/memory"
    (memory / "memory0").mkdir(parents=True)
    (memory / "block_size_bytes").write_text("8000000\n")
    (memory / "memory0/state").write_text("online\n")
    os.mkfifo(tmp_path / "proc" / "zoneinfo")
    (tmp_path / "proc" / "cpuinfo").symlink_to("/etc/hostname")
    main(["capture", "--root", str(tmp_path), "--arch", "x86_64"])
    err = capsys.readouterr().err
    assert "/proc/zoneinfo: it is no file" in err
    assert "/proc/cpuinfo: a link leads out of the tree" in err


def test_numbers_of_a_recording(tmp_path, capsys):
    raw = lzma.decompress((HERE / "recordings" / "x86_64-k612-N-1G-movable.json.xz").read_bytes()).decode()
    json.loads(raw)
    path = tmp_path / "r.json"
    path.write_text(re.sub(r'"managed": *', f'"managed":{NINES}', raw, count=1))
    assert main(["verify", str(path)]) == 1
    assert "is no recording" in capsys.readouterr().err
