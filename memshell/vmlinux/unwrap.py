"""From the file that people have to the kernel in it: boot images of three architectures, .xz, .zst, .gz."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from memshell.errors import ImageError
from memshell.vmlinux.blob import MIB, Blob
from memshell.vmlinux.btf import RawBtf, is_btf, parse_header
from memshell.vmlinux.compress import MAGICS, Budget, inflate, kind_of
from memshell.vmlinux.elf import ET_CORE, Elf

_MAX_LAYERS = 5
_MAX_RAW = 96 * MIB
_MAX_TRIES = 24
_S390_MARK = (0x10008, b"S390EP")
"""Where every s390 boot image says what it is (arch/s390/boot/head.S)."""
_WRAPPED = (".kernel:vmlinux.strip", ".rodata..compressed", ".rodata.compressed", ".vmlinux.bin.compressed")
"""Sections in which powerpc's zImage and the compressed vmlinux of x86 and s390 carry the kernel."""
BANNER = re.compile(rb"Linux version (\d[^\s\0]{0,127})[ \n]")
_BTF_START = re.compile(rb"\x9f\xeb\x01\x00\x18\x00\x00\x00|\xeb\x9f\x01\x00\x00\x00\x00\x18")


@dataclass(slots=True)
class Kernel:
    """What was in the file: an ELF file, BTF on its own, or a raw image; and what the wrappers said."""

    elf: Elf | None = None
    btf: RawBtf | None = None
    raw: bytes | None = None
    layers: list[str] = field(default_factory=list)
    arch: tuple[str, str] | None = None  # and how it is known
    release: tuple[str, str] | None = None
    budget: Budget = field(default_factory=Budget)


def unwrap(blob: Blob) -> Kernel:
    """Take wrappers off until a kernel is reached; ImageError when there is none."""
    kernel = Kernel()
    for _ in range(_MAX_LAYERS):
        inner = _step(blob, kernel)
        if inner is None:
            return kernel
        blob = inner
    raise ImageError(f"more than {_MAX_LAYERS} layers of compression: not a kernel image")


def _step(blob: Blob, kernel: Kernel) -> Blob | None:
    """Take one layer off; None when *kernel* is complete."""
    head = blob.read(0, min(blob.size, 0x300))
    if head.startswith(b"\x7fELF"):
        return _elf(blob, kernel)
    if is_btf(head):
        kernel.layers.append("BTF")
        kernel.btf = parse_header(blob.read(0, blob.size))
        return None
    if head[0x202:0x206] == b"HdrS":
        return _bzimage(blob, head, kernel)
    kind = kind_of(head)
    if kind is not None:
        kernel.layers.append(kind)
        return inflate(kind, blob, budget=kernel.budget)
    return _raw(blob, kernel)


def _elf(blob: Blob, kernel: Kernel) -> Blob | None:
    elf = Elf(blob)
    if elf.type == ET_CORE:
        raise ImageError("a core dump, not a kernel image", hint="give the vmlinux of the kernel that wrote it")
    wrapped = next((s for name in _WRAPPED if (s := elf.section(name))), None)
    if wrapped is not None and not elf.section(".BTF") and not elf.section(".debug_info"):
        data = elf.section_data(wrapped)
        kind = kind_of(data.read(0, min(8, data.size)))
        kernel.layers.append(f"{elf.arch} boot wrapper" + (f", {kind}" if kind else ""))
        kernel.arch = kernel.arch or (elf.arch, "the ELF header of the boot wrapper")
        return inflate(kind, data, budget=kernel.budget) if kind else data
    kernel.layers.append("ELF")
    kernel.elf = elf
    return None


def _bzimage(blob: Blob, head: bytes, kernel: Kernel) -> Blob:
    """The payload of an x86 bzImage (Documentation/arch/x86/boot.rst has the header's fields)."""
    version, flags = struct.unpack_from("<H", head, 0x206)[0], struct.unpack_from("<H", head, 0x236)[0]
    if version < 0x208:
        raise ImageError(f"a bzImage of boot protocol {version >> 8}.{version & 255:02}, older than Linux 2.6.26")
    sectors = head[0x1F1] or 4
    offset, length = struct.unpack_from("<II", head, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = blob.read(start, length)
    kind = kind_of(payload)
    if kind is None:
        raise ImageError(f"a bzImage with a payload of unknown compression ({payload[:4].hex()})")
    kernel.layers.append(f"bzImage, {kind}")
    if version >= 0x20C and flags & 1:
        kernel.arch = ("x86_64", "the 64-bit entry flag of the bzImage header")
    text = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    name = blob.read(text, min(128, max(0, blob.size - text))).split(b"\0")[0].split(b" ")[0]
    if name and name.isascii():
        kernel.release = (name.decode(), "the bzImage header")
    return inflate(kind, blob, start, length, kernel.budget)


def _raw(blob: Blob, kernel: Kernel) -> Blob | None:
    """A boot image without structure: look for a compressed kernel in it, else for the kernel itself."""
    if blob.size > _MAX_RAW:
        raise ImageError("neither ELF nor BTF nor a boot image: not a kernel image")
    data = blob.read(0, blob.size)
    where, mark = _S390_MARK
    if data[where : where + len(mark)] == mark:
        kernel.arch = ("s390x", "the mark of an s390 boot image")
    inner = _payload(blob, data, kernel)
    if inner is not None:
        return inner
    banner = BANNER.search(data) if b"\0" in data[:65536] else None
    kernel.btf = _embedded_btf(data)
    if banner is None and kernel.btf is None:
        hint = "give a vmlinux, bzImage, module, or /sys/kernel/btf/vmlinux"
        raise ImageError(f"not a kernel image (it starts with {data[:8].hex(' ')})", hint=hint)
    kernel.layers.append("raw image")
    kernel.raw = data
    return None


def _payload(blob: Blob, data: bytes, kernel: Kernel) -> Blob | None:
    magics = re.compile(
        b"|".join(re.escape(magic) for magic, kind in MAGICS.items() if len(magic) > 3 or kind == "gzip")
    )
    missing: ImageError | None = None
    for tries, match in enumerate(magics.finditer(data)):
        if tries >= _MAX_TRIES:
            break
        kind = kind_of(match.group()) or ""
        try:
            inner = inflate(kind, blob, match.start(), budget=kernel.budget)
        except ImageError as error:
            missing = error if "pip install" in str(error) else missing
            continue
        if _holds_kernel(inner):
            kernel.layers.append(f"boot image, {kind}")
            return inner
    if missing is not None:
        raise missing
    return None


def _holds_kernel(blob: Blob) -> bool:
    if blob.size < 64:
        return False
    if blob.read(0, 4) == b"\x7fELF":
        return True
    return blob.size <= _MAX_RAW and BANNER.search(blob.read(0, blob.size)) is not None


def _embedded_btf(data: bytes) -> RawBtf | None:
    """BTF in the middle of a raw image, known by its magic and a header that fits."""
    for tries, match in enumerate(_BTF_START.finditer(data)):
        if tries >= _MAX_TRIES:
            break
        order = "<" if data[match.start()] == 0x9F else ">"
        header, types, types_size, strings, strings_size = struct.unpack_from(
            order + "IIIII", data[match.start() + 4 :][:20].ljust(20, b"\0")
        )
        length = header + max(types + types_size, strings + strings_size)
        try:
            found = parse_header(data[match.start() : match.start() + length])
        except ImageError:
            continue
        if len(found.words) and not found.split:
            return found
    return None
