"""Debug sections of an object that is not linked (a module, a .o file), with their relocations applied.

Without them every string offset is zero, all types share one name, and ``struct page`` seems to have 16
bytes. So they are applied, or the file is refused; nothing between.
"""

from __future__ import annotations

import struct

from memshell.errors import ImageError
from memshell.vmlinux.blob import Blob, BytesBlob
from memshell.vmlinux.elf import SHT_NOBITS, SHT_RELA, Elf, Section

_MAX_RELOCATIONS = 3_000_000
_MAX_SECTION = 160 << 20
_NONE = 0
_WIDTHS = {  # plain addresses, all that debug data has: R_X86_64_*, R_PPC64_*, R_390_* and two more
    62: {1: 8, 10: 4, 11: 4},
    21: {1: 4, 38: 8, 43: 8},
    22: {4: 4, 22: 8},
    183: {257: 8, 258: 4},
    243: {1: 4, 2: 8},
}
_IGNORED = {21: {78}, 22: {56}, 62: {21, 17}}  # thread-local offsets: of variables, never of types


def relocated(elf: Elf, name: str) -> Blob:
    """The section *name* as a linker would leave it when each section started at 0; empty without it.

    ImageError when a relocation is of a kind that is not known.
    """
    index = next((i for i, s in enumerate(elf.sections) if s.name == name and s.type != SHT_NOBITS), None)
    if index is None:
        return BytesBlob(b"")
    blob = elf.section_data(elf.sections[index])
    tables = [s for s in elf.sections if s.type == SHT_RELA and s.info == index]
    if not tables:
        return blob
    if blob.size > _MAX_SECTION:
        raise ImageError(f"{name} of {blob.size} bytes in an object that is not linked", hint="link it first")
    data = bytearray(blob.read(0, blob.size))
    for table in tables:
        _apply(elf, table, data, name)
    return BytesBlob(bytes(data))


def _apply(elf: Elf, table: Section, data: bytearray, name: str) -> None:
    widths, ignored = _WIDTHS.get(elf.machine, {}), _IGNORED.get(elf.machine, set())
    values = _symbol_values(elf, table)
    packers = {4: struct.Struct(elf.order + "I"), 8: struct.Struct(elf.order + "Q")}
    count = table.size // 24
    if count > _MAX_RELOCATIONS:
        raise ImageError(f"{count} relocations for {name}", hint="link it first")
    rows = elf.section_data(table).read(0, 24 * count)
    for offset, info, addend in struct.iter_unpack(elf.order + "QQq", rows):
        kind = info & 0xFFFFFFFF
        width = widths.get(kind)
        if width is None:
            if kind == _NONE or kind in ignored:
                continue
            raise ImageError(f"{name} needs relocation type {kind}, which memshell does not know", hint="link it first")
        if offset + width > len(data) or info >> 32 >= len(values):
            raise ImageError(f"a relocation of {name} points outside of it: corrupt")
        value = values[info >> 32] + addend
        packers[width].pack_into(data, offset, value & ((1 << 8 * width) - 1))


def _symbol_values(elf: Elf, table: Section) -> list[int]:
    if table.link >= len(elf.sections):
        raise ImageError("a relocation table without symbols: corrupt")
    symbols = elf.sections[table.link]
    raw = elf.section_data(symbols).read(0, symbols.size - symbols.size % 24)
    return [row[4] for row in struct.iter_unpack(elf.order + "IBBHQQ", raw)]
