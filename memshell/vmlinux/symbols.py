"""The symbol table of an ELF file, read in bulk.

A kernel has 90,000 to 190,000 symbols. One object for each of them takes seconds; one pass over the column of
name offsets takes milliseconds.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from memshell.errors import ImageError
from memshell.vmlinux.elf import ET_REL, SHT_NOBITS, SHT_SYMTAB, Elf

_ENTRY = 24
_MAX_TABLE = 48 << 20
_MAX_PLACES = 50_000
_STT_SECTION, _STT_FILE = 3, 4
_STB_LOCAL = 0


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name, its address and its size in bytes; *local* names may repeat."""

    name: str
    address: int
    size: int
    local: bool


class SymbolTable:
    """Symbols by name; empty when the file has no table, or is not linked and so has no addresses."""

    def __init__(self, elf: Elf | None) -> None:
        self._order = elf.order if elf else "<"
        self.linked = elf is not None and elf.type != ET_REL
        self._table = self._names = b""
        for section in elf.sections if elf else ():
            if elf and section.type == SHT_SYMTAB:
                self._table, self._names = self._load(elf, section.size, section.offset, section.link)
                return

    def _load(self, elf: Elf, size: int, offset: int, link: int) -> tuple[bytes, bytes]:
        if size > _MAX_TABLE or link >= len(elf.sections):
            raise ImageError(f"bad symbol table: {size} bytes, names in section {link}")
        names = elf.sections[link]
        if names.size > _MAX_TABLE:
            raise ImageError(f"bad symbol table: {names.size} bytes of names")
        table = elf.blob.read(offset, size - size % _ENTRY)
        return table, elf.section_data(names).read(0, names.size if names.type != SHT_NOBITS else 0)

    def __len__(self) -> int:
        return len(self._table) // _ENTRY

    @cached_property
    def _name_offsets(self) -> array[int]:
        words = array("I", self._table)[:: _ENTRY // 4]
        if (self._order == "<") != (sys.byteorder == "little"):
            words.byteswap()
        return words

    def find(self, names: Iterable[str]) -> dict[str, list[Symbol]]:
        """Every defined symbol of each name; names that are missing are left out."""
        # Linkers merge the tails of names, so a name may start anywhere before its NUL.
        wanted = {offset: name for name in dict.fromkeys(names) for offset in self._places(name)}
        hits = set(wanted).intersection(self._name_offsets)
        found: dict[str, list[Symbol]] = {}
        for index, offset in enumerate(self._name_offsets) if hits else ():
            if offset in hits:
                symbol = self._symbol(index, wanted[offset])
                if symbol is not None:
                    found.setdefault(symbol.name, []).append(symbol)
        return found

    def _places(self, name: str) -> list[int]:
        needle = name.encode("utf-8", "replace") + b"\0"
        places = []
        place = self._names.find(needle) if name else -1
        while place >= 0:
            places.append(place)
            if len(places) > _MAX_PLACES:
                raise ImageError(f"{name} is the end of more than {_MAX_PLACES} symbols: corrupt")
            place = self._names.find(needle, place + 1)
        return places

    def _symbol(self, index: int, name: str) -> Symbol | None:
        row = struct.unpack_from(self._order + "IBBHQQ", self._table, _ENTRY * index)
        _, info, _, section, address, size = row
        if section == 0 or info & 15 in {_STT_SECTION, _STT_FILE}:
            return None
        return Symbol(name, address, size, info >> 4 == _STB_LOCAL)

    def get(self, name: str) -> Symbol | None:
        """The symbol of that name, a global one before a local one; None without it.

        ImageError when several local ones differ: which of them is meant cannot be told.
        """
        best = _preferred(self.find([name]).get(name, []))
        if len({symbol.address for symbol in best}) > 1:
            places = ", ".join(f"{symbol.address:#x}" for symbol in best[:4])
            raise ImageError(f"{len(best)} symbols are named {name}: {places}")
        return best[0] if best else None

    def get_many(self, names: Iterable[str]) -> dict[str, Symbol | None]:
        """Each of the names, in one pass: None for one that is missing; ambiguous ones are left out."""
        wanted = list(names)
        found = self.find(wanted)
        best = {name: _preferred(found.get(name, [])) for name in wanted}
        return {n: b[0] if b else None for n, b in best.items() if len({symbol.address for symbol in b}) < 2}

    def all_names(self) -> list[str]:
        """Every name, sorted: for completion."""
        names = self._names
        found = {names[o : names.find(b"\0", o, o + 4096)] for o in set(self._name_offsets) if 0 < o < len(names)}
        return sorted(name.decode("latin-1") for name in found)


def _preferred(symbols: list[Symbol]) -> list[Symbol]:
    return [symbol for symbol in symbols if not symbol.local] or symbols
