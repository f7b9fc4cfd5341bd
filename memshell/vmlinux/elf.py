"""The section table of a 64-bit ELF file.

Every offset and count is checked against the file before it is used. DWARF goes to pyelftools (``dwarf.py``);
this table is read here because its checks must come first, and because a kernel with BTF then needs no import
that takes longer than the rest of the work.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from memshell.errors import ImageError
from memshell.vmlinux.blob import Blob, BytesBlob, Region
from memshell.vmlinux.compress import MAX_OUTPUT, Budget, inflate

ET_REL, ET_CORE = 1, 4
SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
_SHF_COMPRESSED = 0x800
_SHN_XINDEX = 0xFFFF
_MAX_SECTIONS = 100_000
_MAX_NAMES = 16 << 20
_MAX_NAME = 512
_COMPRESSION = {1: "zlib", 2: "zstd"}  # ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD

MACHINES = {
    (62, "<"): "x86_64",
    (21, "<"): "ppc64le",
    (21, ">"): "ppc64",
    (22, ">"): "s390x",
    (183, "<"): "aarch64",
    (243, "<"): "riscv64",
    (258, "<"): "loongarch64",
}
"""(e_machine, byte order) -> the name that ``uname -m`` gives."""


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the section table; sizes and addresses in bytes."""

    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int


class Elf:
    """A 64-bit ELF file: its header, its sections and their data."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        if blob.size < 64:
            raise ImageError(f"too short for an ELF header ({blob.size} bytes)")
        ident = blob.read(0, 16)
        if ident[4] == 1:
            hint = "memory hotplug exists on 64-bit kernels only"
            raise ImageError("a 32-bit ELF file, and memshell reads 64-bit ones", hint=hint)
        if ident[4] != 2 or ident[5] not in {1, 2}:
            raise ImageError(f"bad ELF header: class {ident[4]}, byte order {ident[5]}")
        self.order = "<>"[ident[5] - 1]
        header = struct.unpack(self.order + "HHIQQQIHHHHHH", blob.read(16, 48))
        self.type: int = header[0]
        self.machine: int = header[1]
        self.arch = self._arch()
        self.sections = self._read_sections(header[5], header[10], header[11], header[12])
        self._by_name: dict[str, Section] = {}
        for section in self.sections:
            self._by_name.setdefault(section.name, section)

    def _arch(self) -> str:
        arch = MACHINES.get((self.machine, self.order))
        if arch is None:
            name = "little" if self.order == "<" else "big"
            raise ImageError(f"ELF for machine {self.machine}, {name} endian, which memshell does not know")
        return arch

    def _read_sections(self, start: int, entry: int, count: int, names_index: int) -> list[Section]:
        if start == 0:
            raise ImageError("an ELF file without sections", hint="a core dump or a stripped loader?")
        if entry != 64:
            raise ImageError(f"bad ELF header: section entries of {entry} bytes")
        first = struct.unpack(self.order + "IIQQQQIIQQ", self.blob.read(start, 64))
        count = count or first[5]
        names_index = first[6] if names_index == _SHN_XINDEX else names_index
        if count > _MAX_SECTIONS or names_index >= count:
            raise ImageError(f"bad ELF header: {count} sections, names in number {names_index}")
        table = list(struct.iter_unpack(self.order + "IIQQQQIIQQ", self.blob.read(start, 64 * count)))
        offset, size = table[names_index][4], table[names_index][5]
        if size > _MAX_NAMES:
            raise ImageError(f"bad ELF file: {size} bytes of section names")
        names = self.blob.read(offset, size)
        return [Section(_cstring(names, row[0]), *row[1:8]) for row in table]

    def section(self, name: str) -> Section | None:
        """The first section of that name that holds data; None when there is none."""
        found = self._by_name.get(name) or self._by_name.get(name.replace(".debug", ".zdebug", 1))
        return None if found is None or found.type == SHT_NOBITS or found.size == 0 else found

    def data(self, name: str, limit: int = MAX_OUTPUT) -> Blob | None:
        """What the section of that name holds, decompressed; None when there is none."""
        found = self.section(name)
        return None if found is None else self.section_data(found, limit)

    def section_data(self, section: Section, limit: int = MAX_OUTPUT) -> Blob:
        """What *section* holds, decompressed; ImageError when it is not all there or over *limit*."""
        if section.type == SHT_NOBITS:
            return BytesBlob(b"")
        try:
            raw = Region(self.blob, section.offset, section.size)
            if section.flags & _SHF_COMPRESSED:
                return self._inflate_section(raw, limit)
            if section.name.startswith(".zdebug"):
                return self._sized("zlib", raw, 12, int.from_bytes(raw.read(4, 8), "big"), limit)
            _check_size(raw.size, limit)
        except ImageError as error:
            raise ImageError(f"section {section.name}: {error}") from None
        return raw

    def _inflate_section(self, raw: Region, limit: int) -> Blob:
        number, _, size, _ = struct.unpack(self.order + "IIQQ", raw.read(0, 24))
        kind = _COMPRESSION.get(number)
        if kind is None:
            raise ImageError(f"compressed in a way that memshell does not know (type {number})")
        return self._sized(kind, raw, 24, size, limit)

    @staticmethod
    def _sized(kind: str, raw: Region, start: int, size: int, limit: int) -> Blob:
        """Decompress what starts at *start* and must give exactly *size* bytes."""
        _check_size(size, limit)
        blob = inflate(kind, raw, start, budget=Budget(size))
        if blob.size != size:
            raise ImageError(f"decompresses to {blob.size} bytes where its header says {size}")
        return blob

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """The initial contents of memory at *address*; None when the file does not hold them."""
        for section in self.sections:
            inside = section.addr <= address and address + size <= section.addr + section.size
            if section.addr and inside and section.type != SHT_NOBITS:
                return self.section_data(section).read(address - section.addr, size)
        return None


def _cstring(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset, offset + _MAX_NAME)
    return table[offset:end].decode("latin-1") if 0 <= offset < len(table) and end >= 0 else ""


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageError(f"{size} bytes where memshell reads up to {limit}: corrupt, or linked with LTO")
