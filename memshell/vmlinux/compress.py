"""gzip, xz, zstd and lz4, decompressed in bounded pieces.

A bomb is stopped in two ways: nothing may grow over ``MAX_OUTPUT``, and nothing large may grow over
``MAX_RATIO`` times (a kernel with all its debug information shrinks about tenfold; zlib's bombs reach 1000,
xz's and zstd's more).
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memshell.errors import ImageError
from memshell.vmlinux.blob import MIB, Blob, Region, spool

MAX_OUTPUT = 768 * MIB
"""The largest known image is 588 MB: Debian's x86_64 6.1 vmlinux."""
MAX_RATIO = 100
RATIO_FREE = 48 * MIB
"""Below this any ratio is fine: small images may be mostly zeros."""
MAX_WINDOW = 128 * MIB
"""The kernel's build uses a dictionary or window of up to 128 MiB (scripts/Makefile.lib, xz_wrap.sh)."""
_PIECE = MIB
_ZSTD_PIECE = 1024
"""Its output cannot be bounded, but 1 KiB in gives at most 256 runs of 128 KiB."""
_LZ4_BLOCK = 8 * MIB  # the block size of the legacy format

MAGICS: dict[bytes, str] = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x04\x22\x4d\x18": "lz4 frame",
    b"\x5d\x00\x00": "lzma",
    b"BZh": "bzip2",
    b"\x89LZO\x00": "lzo",
}


def kind_of(head: bytes) -> str | None:
    """Name the compression whose magic starts *head*, or None."""
    return next((kind for magic, kind in MAGICS.items() if head.startswith(magic)), None)


@dataclass(slots=True)
class Budget:
    """How many bytes all that is decompressed for one file may still give."""

    left: int = MAX_OUTPUT


def inflate(kind: str, blob: Blob, offset: int = 0, size: int | None = None, budget: Budget | None = None) -> Blob:
    """Decompress the stream of *kind* at *offset*, up to *budget*; what follows its end is left alone.

    ImageError when it is corrupt, a bomb, or of a kind that is not read.
    """
    region = Region(blob, offset, blob.size - offset if size is None else size)
    reader = _READERS.get(kind)
    if reader is None:
        raise ImageError(f"compressed with {kind}, which memshell does not read", hint="decompress it first")
    try:
        return spool(_bounded(region, reader(region), Budget() if budget is None else budget))
    except (zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError) as error:
        raise ImageError(f"the {kind} data in it is corrupt: {error}") from None


def _bounded(region: Region, pieces: Iterator[bytes], budget: Budget) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        budget.left -= len(piece)
        if budget.left < 0:
            raise ImageError(f"decompresses to {total} bytes, more than is read", hint="decompress it first")
        if total > RATIO_FREE and total > MAX_RATIO * region.position:
            raise ImageError(f"decompresses to more than {MAX_RATIO} times its size: not a kernel image")
        yield piece


def _gzip(region: Region) -> Iterator[bytes]:
    return _zlib(region, zlib.MAX_WBITS | 16)


def _zlib(region: Region, wbits: int = zlib.MAX_WBITS) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits)
    while not stream.eof:
        data = stream.unconsumed_tail or region.next(_PIECE)
        if not data:
            raise ImageError("the compressed data ends too early: it is truncated")
        yield stream.decompress(data, _PIECE)


def _xz(region: Region) -> Iterator[bytes]:
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW + 32 * MIB)
    while not stream.eof:
        data = region.next(_PIECE) if stream.needs_input else b""
        if stream.needs_input and not data:
            raise ImageError("the compressed data ends too early: it is truncated")
        yield stream.decompress(data, _PIECE)


def _zstd(region: Region) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise _missing("zstd", "zstandard") from None
    stream = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    try:
        while not stream.eof:
            data = region.next(_ZSTD_PIECE)
            if not data:
                raise ImageError("the compressed data ends too early: it is truncated")
            yield stream.decompress(data)
    except zstandard.ZstdError as error:
        raise ImageError(f"the zstd data in it is corrupt: {error}") from None


def _lz4(region: Region) -> Iterator[bytes]:
    try:
        import lz4.block
    except ImportError:
        raise _missing("lz4", "lz4") from None
    region.next(4)
    while True:
        head = region.next(4)
        length = int.from_bytes(head, "little")
        # bzImage appends the unpacked size, which stands where the next block's size would.
        if len(head) < 4 or length == 0 or length > region.size - region.position:
            return
        try:
            piece = lz4.block.decompress(region.next(length), uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise ImageError(f"the lz4 data in it is corrupt: {error}") from None
        yield piece
        if len(piece) < _LZ4_BLOCK:
            return


def _missing(kind: str, package: str) -> ImageError:
    hint = f"pip install {package}, or decompress it first"
    return ImageError(f"it is compressed with {kind}, and the Python package {package} is not installed", hint=hint)


_READERS: dict[str, Callable[[Region], Iterator[bytes]]] = {
    "gzip": _gzip,
    "zlib": _zlib,
    "xz": _xz,
    "zstd": _zstd,
    "lz4": _lz4,
}
