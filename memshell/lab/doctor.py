"""What a lab needs on this machine, and the one command that installs what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from memshell.errors import CommandError
from memshell.lab.hardware import BOARDS, Board
from memshell.lab.qemu import find_program

FIRMWARE = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin")
KERNELS = {"x86_64": "linux-image-cloud-amd64"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a lab needs: what was found, or which package of Debian (or of Python) brings it."""

    what: str
    found: str
    package: str = ""
    python: str = ""

    @property
    def missing(self) -> bool:
        """Whether it is needed and not there."""
        return bool(self.package or self.python)


def findings(arch: str) -> list[Finding]:
    """Return what there is and what is missing for guests of *arch*."""
    return list(_findings(BOARDS[arch]))


def _findings(board: Board) -> Iterator[Finding]:
    qemu = find_program([board.qemu])
    yield Finding(board.qemu, str(qemu)) if qemu else Finding(board.qemu, "missing", board.package)
    if board.arch == "x86_64":
        bios = next((name for name in FIRMWARE if Path(name).is_file()), None)
        yield Finding("SeaBIOS", bios) if bios else Finding("SeaBIOS", "missing", "seabios")
    try:
        yield Finding("busybox, static", str(find_busybox()))
    except CommandError as error:
        yield Finding("busybox, static", error.message, "busybox-static")
    known = find_spec("qemu") is not None and find_spec("qemu.qmp") is not None
    yield Finding("qemu.qmp", "installed") if known else Finding("qemu.qmp", "missing", python="memshell-mm[lab]")
    kernel = default_kernel()
    yield Finding("a kernel", str(kernel)) if kernel else Finding("a kernel", "none in /boot", KERNELS[board.arch])
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    yield Finding("KVM", "/dev/kvm" if kvm else "not here: guests are emulated, which is slower and right all the same")


def install_command(found: list[Finding]) -> str:
    """Return the command that installs what is missing, or ''."""
    packages = [one.package for one in found if one.package]
    python = [one.python for one in found if one.python]
    sudo = "" if os.geteuid() == 0 else "sudo "
    parts = [f"{sudo}apt-get install -y --no-install-recommends {' '.join(packages)}"] if packages else []
    parts += [f"pip install '{' '.join(python)}'"] if python else []
    return " && ".join(parts)


def find_busybox() -> Path:
    """Return a busybox that needs no library.  Raises CommandError where there is none."""
    path = find_program(["busybox"])
    if path is None:
        raise CommandError("missing", hint="apt-get install busybox-static")
    if not _is_static(path):
        raise CommandError(f"{path} needs libraries", hint="apt-get install busybox-static")
    return path


def _is_static(path: Path) -> bool:
    """Whether a program has no interpreter."""
    return b"/ld-linux" not in path.read_bytes()[:4096]


def default_kernel() -> Path | None:
    """Return the newest kernel in /boot, a cloud kernel before others."""
    found = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(found, key=lambda path: ("cloud" in path.name, path.stat().st_mtime), default=None)
