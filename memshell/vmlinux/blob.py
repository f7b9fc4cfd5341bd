"""Random access to the bytes of a file, without mapping it.

Reading by offset keeps a 600 MB vmlinux out of memory, and a file that shrinks while it is read gives an
error where a mapping would give SIGBUS.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from memshell.errors import ImageError

MIB = 1 << 20
IN_MEMORY = 64 * MIB
"""What decompresses to more than this goes to an unnamed temporary file."""


class Blob(Protocol):
    """Bytes with a size that can be read at any offset."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, offset: int, size: int) -> bytes:
        """Exactly *size* bytes at *offset*; ImageError when they are not all there."""


def _check(offset: int, size: int, limit: int) -> None:
    if offset < 0 or size < 0 or offset + size > limit:
        message = f"needs bytes {offset:#x}..{offset + size:#x}, and the file ends at {limit:#x}"
        raise ImageError(message, hint="it is truncated or corrupt")


class BytesBlob:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly *size* bytes at *offset*; ImageError when they are not all there."""
        _check(offset, size, len(self._data))
        return self._data[offset : offset + size]


class FileBlob:
    """An open regular file; closes with the object."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly *size* bytes at *offset*; ImageError when they are not all there."""
        _check(offset, size, self.size)
        data = os.pread(self._fd, size, offset)
        if len(data) == size:
            return data
        pieces = [data]  # sysfs gives a page at a time
        got = len(data)
        while data and got < size:
            data = os.pread(self._fd, size - got, offset + got)
            pieces.append(data)
            got += len(data)
        _check(offset, size, offset + got)
        return b"".join(pieces)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


class Region:
    """A part of another blob, which is also a file to read from start to end."""

    def __init__(self, blob: Blob, offset: int, size: int) -> None:
        _check(offset, size, blob.size)
        self._blob, self._offset, self.size = blob, offset, size
        self.position = 0

    def read(self, offset: int, size: int) -> bytes:
        """Exactly *size* bytes at *offset*; ImageError when they are not all there."""
        _check(offset, size, self.size)
        return self._blob.read(self._offset + offset, size)

    def next(self, size: int) -> bytes:
        """The next bytes, at most *size*; empty at the end."""
        size = min(size, self.size - self.position)
        data = self.read(self.position, size)
        self.position += size
        return data


def open_file(path: str | os.PathLike[str]) -> FileBlob:
    """Open a regular file that is not empty; ImageError for all else (a pipe is never waited for)."""
    name = os.fspath(path)
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(f"{name}: {kind}", hint="give a vmlinux, bzImage, module or BTF file")
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{name}: {reason}") from None
    blob = FileBlob(fd)
    if blob.size == 0:
        raise ImageError(f"{name}: the file is empty")
    return blob


def spool(pieces: Iterable[bytes]) -> Blob:
    """Keep what *pieces* yields: in memory while it is small, else in an unnamed temporary file."""
    held: list[bytes] = []
    total = 0
    source: Iterator[bytes] = iter(pieces)
    for piece in source:
        held.append(piece)
        total += len(piece)
        if total > IN_MEMORY:
            return _spool_to_disk(held, source)
    return BytesBlob(b"".join(held))


def _spool_to_disk(held: list[bytes], rest: Iterator[bytes]) -> FileBlob:
    import tempfile

    try:
        with tempfile.TemporaryFile(prefix="memshell-") as file:
            while held:
                file.write(held.pop(0))
            for piece in rest:
                file.write(piece)
            file.flush()
            return FileBlob(os.dup(file.fileno()))
    except OSError as error:
        where = tempfile.gettempdir()
        raise ImageError(f"no room in {where} to decompress it: {error.strerror}", hint="set TMPDIR") from None
