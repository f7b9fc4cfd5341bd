"""``memshell -c`` on a terminal says how far it has come, and leaves no trace of that."""

import sys

import pexpect
import pytest

LONG = "use x86_64 block=128M policy=memmap_on_memory; add 1T 8T; online 8192-73727 movable; offline 8192-73727"


@pytest.mark.slow
def test_a_long_command_shows_its_progress(tmp_path):
    env = {"TERM": "xterm", "HOME": str(tmp_path), "PATH": "/bin:/usr/bin"}
    child = pexpect.spawn(
        sys.executable, ["-m", "memshell", "-c", LONG], env=env, encoding="utf-8", timeout=120, dimensions=(24, 80)
    )
    child.expect(r"\r(add|online|offline) [^\r\n]*Ctrl-C stops it\x1b\[K")
    child.expect("memory8192-73727 offline: 8T")
    child.expect(pexpect.EOF)
    assert not child.before.strip("\r\n")
