"""The guest's root: a cpio archive of busybox, the shell that obeys, and kernel modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import count

DIRECTORY, FILE, LINK, DEVICE = 0o040755, 0o100755, 0o120777, 0o020600


def initramfs(busybox: bytes, tty: str, modules: Mapping[str, bytes]) -> bytes:
    """Return the archive.  *modules* are loaded in their order; *tty* is the port that the shell listens on."""
    here = files("memshell.lab")
    init = (here / "init.sh").read_text(encoding="utf-8").replace("@TTY@", tty)
    entries = [
        *((name, DIRECTORY, b"", (0, 0)) for name in ("bin", "dev", "modules", "proc", "sys", "tmp")),
        ("dev/console", DEVICE, b"", (5, 1)),
        ("init", FILE, init.encode(), (0, 0)),
        ("agent.sh", FILE, (here / "agent.sh").read_bytes(), (0, 0)),
        ("bin/busybox", FILE, busybox, (0, 0)),
        ("bin/sh", LINK, b"busybox", (0, 0)),
        *(
            (f"modules/{at:02}-{name}.ko", FILE, data, (0, 0))
            for at, (name, data) in enumerate(modules.items(), start=1)
        ),
    ]
    return archive(entries)


def archive(entries: Iterable[tuple[str, int, bytes, tuple[int, int]]]) -> bytes:
    """Return a cpio archive in the new ASCII format of (name, mode, data, (major, minor)).

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    numbers = count(1)
    packed = [_entry(next(numbers), *entry) for entry in entries]
    return b"".join([*packed, _entry(0, "TRAILER!!!", 0, b"", (0, 0))])


def _entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    path = name.encode() + b"\0"
    links = 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
