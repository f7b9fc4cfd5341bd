"""What FUSE asks for, answered out of the table of files. Thin: no rule of the kernel is here."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import mfusepy

from memshell.views.kpage import WORD
from memshell.views.sysroot import File, Place, content, find, names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.mm.state import Mm
    from memshell.mount.session import Session


class Open(NamedTuple):
    """An open file: the state that it was opened on, and what it shows of it."""

    mm: Mm
    file: File
    data: bytes


class Filesystem(mfusepy.Operations):  # type: ignore[misc]  # shipped without types
    """The files of a session's machine."""

    use_ns = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self._open: dict[int, Open] = {}
        self._handles = itertools.count(1)

    def _find(self, path: str) -> tuple[Mm | None, Place]:
        mm = self.session.mm
        place = find(mm, path)
        if place is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return mm, place

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return the attributes of what is at *path*: sizes as sysfs and proc have them."""
        del fh
        _, place = self._find(path)
        size = 4096 if path.startswith("/sys") else 0
        return {"st_mode": _mode(place), "st_nlink": 1, "st_size": size, "st_uid": os.getuid(), "st_gid": os.getgid()}

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, Any], int]]:
        """Yield what is in a folder."""
        del fh
        mm, place = self._find(path)
        yield from ((name, {"st_mode": stat.S_IFDIR | 0o755}, 0) for name in (".", ".."))
        for name, inner in names(mm, place):
            yield name, {"st_mode": _mode(inner)}, 0

    def readlink(self, path: str) -> str:
        """Return where a link points to."""
        mm, place = self._find(path)
        if not isinstance(place.what, File) or place.what.link is None:
            raise mfusepy.FuseOSError(errno.EINVAL)
        return place.what.link(mm, *place.given)

    def open(self, path: str, flags: int) -> int:
        """Open a file: what is read of it is the state of this moment. EACCES for what nobody can do with it, as in sysfs."""
        mm, place = self._find(path)
        assert mm is not None
        assert isinstance(place.what, File)
        reads, writes = flags & os.O_ACCMODE != os.O_WRONLY, flags & os.O_ACCMODE != os.O_RDONLY
        file = place.what
        if (reads and not file.mode & 0o444) or (writes and not file.mode & 0o200):
            raise mfusepy.FuseOSError(errno.EACCES)
        handle = next(self._handles)
        self._open[handle] = Open(mm, file, content(mm, place) if reads and file.show else b"")
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return a part of what an open file shows."""
        del path
        mm, file, data = self._open[fh]
        if file.pages is None:
            return data[offset : offset + size]
        if offset % WORD or size % WORD:
            raise mfusepy.FuseOSError(errno.EINVAL)
        return file.pages(mm, offset // WORD, (offset + size) // WORD)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write: each write is a command."""
        del offset, fh
        number = self.session.write(path.strip("/"), data.decode("utf-8", "replace").rstrip("\n").strip("\0"))
        if number:
            raise mfusepy.FuseOSError(number)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Pass over what a shell does before it writes."""
        del length, fh
        self._find(path)
        return 0

    def release(self, path: str, fh: int) -> int:
        """Forget an open file."""
        del path
        self._open.pop(fh, None)
        return 0


def _mode(place: Place) -> int:
    if not isinstance(place.what, File):
        return stat.S_IFDIR | 0o755
    return stat.S_IFLNK | 0o777 if place.what.link is not None else stat.S_IFREG | place.what.mode
