import os
import sys
from pathlib import Path

import pytest

from memshell.api import Session


@pytest.fixture
def tree(tmp_path):
    """The files of a booted machine, as the model writes them."""
    folder = tmp_path / "tree"
    session = Session()
    session.run(f"use x86_64 ram=2G profile=v6.12; export sysroot {folder}")
    (folder / "tmp").mkdir()
    (folder / "taken").mkdir()
    (folder / "proc/version").write_text("Linux version 6.12.0 (fake)\n")
    return folder


@pytest.fixture
def fake(tree, tmp_path, monkeypatch):
    """A QEMU on the PATH that runs the guest's shell over the tree; a kernel and a busybox that nobody reads."""
    programs = tmp_path / "bin"
    programs.mkdir()
    qemu = programs / "qemu-system-x86_64"
    script = Path(__file__).with_name("fake_qemu.py")
    qemu.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    qemu.chmod(0o755)
    (programs / "busybox").write_bytes(b"\x7fELF")
    (programs / "busybox").chmod(0o755)
    kernel = tmp_path / "vmlinuz-6.12.0-fake"
    kernel.write_bytes(bytes(0x202) + b"HdrS" + bytes(1000))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("MEMSHELL_FAKE_TREE", str(tree))
    return kernel
