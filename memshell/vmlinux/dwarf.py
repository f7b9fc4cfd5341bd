"""DWARF types out of the few compile units that define them.

``mm/memory_hotplug.c`` alone has every struct of the memory model, on every kernel that was looked at. Its
unit is found without parsing the others: hop over the unit headers, and look for the offset of its name (or,
with clang's indexed strings, of its string table) in the first bytes of each. Any other struct is found by
the offset of its name.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from memshell.errors import ImageError
from memshell.vmlinux.blob import MIB, Blob
from memshell.vmlinux.dwarf_unit import Sections, Unit
from memshell.vmlinux.elf import ET_REL, Elf
from memshell.vmlinux.layout import Enum, Struct
from memshell.vmlinux.reloc import relocated

PREFERRED = ("mm/memory_hotplug.c", "mm/page_alloc.c", "mm/sparse.c", "drivers/base/memory.c")
_MAX_UNITS = 200_000
_MAX_TRIES = 250  # units that are opened for one name
_FEW_UNITS = 40  # all are looked through when there are no more
_HEAD = 96  # bytes of each unit that are looked at
_MAX_UNIT = 96 * MIB
_MAX_STRINGS = 128 * MIB
_WINDOW = 8 * MIB


@dataclass(frozen=True, slots=True)
class _Header:
    offset: int
    end: int
    head: bytes


class Dwarf:
    """The types of a file with DWARF 4 or 5."""

    kind = "dwarf"

    def __init__(self, elf: Elf) -> None:
        self.order = elf.order
        self.bits = 64
        info = elf.data(".debug_info")
        if info is None:
            raise ImageError("no .debug_info in it")
        self._info: Blob = relocated(elf, ".debug_info") if elf.type == ET_REL else info
        self._elf = elf
        self._units: dict[int, Unit] = {}

    @cached_property
    def _sections(self) -> Sections:
        def load(name: str) -> bytes:
            section = relocated(self._elf, name) if self._elf.type == ET_REL else self._elf.data(name)
            if section is not None and section.size > _MAX_STRINGS:
                raise ImageError(f"{section.size} bytes of {name}")
            return b"" if section is None else section.read(0, section.size)

        names = (".debug_abbrev", ".debug_str", ".debug_line_str", ".debug_str_offsets", ".debug_addr")
        return Sections(self.order == "<", 8, self._elf.arch, *(load(name) for name in names))

    @cached_property
    def _headers(self) -> list[_Header]:
        order: Any = "little" if self.order == "<" else "big"
        headers, at, size = [], 0, self._info.size
        while at + 12 <= size:
            head = self._info.read(at, min(_HEAD, size - at))
            length, first = int.from_bytes(head[:4], order), 4
            if length == 0xFFFFFFFF:
                length, first = int.from_bytes(head[4:12], order), 12
            end = at + first + length
            if length < 7 or end > size:
                raise ImageError(
                    f"the DWARF unit at {at:#x} does not fit in .debug_info: truncated or corrupt"
                )
            headers.append(_Header(at, end, head))
            if len(headers) > _MAX_UNITS:
                raise ImageError(f"more than {_MAX_UNITS} DWARF units: corrupt")
            at = end
        return headers

    def _unit(self, header: _Header) -> Unit:
        if header.offset not in self._units:
            self._units[header.offset] = self._open_unit(header)
        return self._units[header.offset]

    def _open_unit(self, header: _Header) -> Unit:
        size = header.end - header.offset
        if size > _MAX_UNIT:
            raise ImageError(f"a DWARF unit of {size} bytes: linked with LTO? memshell reads no such kernel")
        return Unit(self._sections, header.offset, self._info.read(header.offset, size))

    def _offsets_of(self, name: str, tails: bool) -> set[int]:
        """Where *name* stands in the string tables; with *tails*, also all places before it in its string."""
        needle = name.encode() + b"\0"
        found: set[int] = set()
        for table in (self._sections.str, self._sections.line_str):
            at = table.find(needle)
            while at >= 0:
                start = table.rfind(b"\0", 0, at) + 1 if tails else at
                found.update(range(start, at + 1))
                at = table.find(needle, at + 1)
        return found

    def _string_bases(self, offsets: set[int]) -> set[int]:
        """The bases in .debug_str_offsets of the units that use one of the strings (clang's forms)."""
        data = self._sections.str_offsets
        words = array("I", data[: len(data) & ~3])
        if words and self.order != _NATIVE:
            words.byteswap()
        starts: list[int] = []
        at = 0
        while at + 8 <= len(data) and len(starts) < _MAX_UNITS:
            starts.append(at)
            at += 4 + max(words[at // 4] & ~3, 4)
        found = set()
        for offset in offsets & set(words):
            start = -1
            while (start := _find(words, offset, start + 1)) >= 0:
                found.add(starts[bisect_right(starts, 4 * start) - 1] + 8)
        return found

    def _pattern(self, offsets: set[int]) -> re.Pattern[bytes] | None:
        order: Any = "little" if self.order == "<" else "big"
        numbers = sorted(offsets | self._string_bases(offsets))
        needles = [re.escape(number.to_bytes(4, order)) for number in numbers if number < 1 << 32]
        return re.compile(b"|".join(needles), re.DOTALL) if needles else None

    @cached_property
    def _main_units(self) -> list[_Header]:
        """The units of PREFERRED, the best first."""
        found = []
        for path in PREFERRED:
            pattern = self._pattern(self._offsets_of(path, tails=True))
            for header in self._headers if pattern else ():
                if (
                    pattern
                    and pattern.search(header.head)
                    and ("/" + self._unit(header).name).endswith("/" + path)
                ):
                    found.append(header)
                    break
            if found and path == PREFERRED[0]:
                break
        return found

    def _mentions(self, name: str) -> Iterator[tuple[_Header, int | None]]:
        """The units that use the name of a type, and where; None for where with clang's indexed strings."""
        offsets = self._offsets_of(name, tails=False)
        pattern = self._pattern(offsets)
        if len(name) < 4:  # shorter than an offset: compilers write it in the entry itself
            pattern = re.compile(re.escape(name.encode() + b"\0"))
        if pattern is None:
            return
        for base in self._string_bases(offsets):
            number = base.to_bytes(4, "little" if self.order == "<" else "big")
            yield from ((header, None) for header in self._headers if number in header.head)
        starts = [header.offset for header in self._headers]
        for at in self._matches(pattern):
            header = self._headers[bisect_right(starts, at) - 1]
            yield header, at - header.offset

    def _matches(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        for start in range(0, self._info.size, _WINDOW):
            window = self._info.read(start, min(_WINDOW + 3, self._info.size - start))
            yield from (start + match.start() for match in pattern.finditer(window))

    def _candidates(self, kinds: tuple[str, ...], name: str) -> Iterator[Unit]:
        """The units that may define a type of one of those kinds, the likely ones first."""
        done = {header.offset for header in self._main_units}
        yield from (self._unit(header) for header in self._main_units)
        unit: Unit | None = None
        tries = 0
        for header, at in self._mentions(name):
            if header.offset in done:
                continue
            if unit is None or unit.offset != header.offset:
                unit = self._open_unit(header)
                tries += 1
            if tries > _MAX_TRIES:
                raise ImageError(
                    f"{name} is named in many units, and none of the first {_MAX_TRIES} defines it"
                )
            if at is None or unit.may_define(at, kinds):
                done.add(header.offset)
                yield unit
        # Names may stand in the entries themselves, where no offset leads to them.
        few = self._headers if len(self._headers) <= _FEW_UNITS else []
        yield from (self._unit(header) for header in few if header.offset not in done)

    def _find(self, kinds: tuple[str, ...], name: str) -> tuple[Unit, Any] | None:
        for unit in self._candidates(kinds, name) if name else ():
            for kind in kinds:
                offset = unit.index.get((kind, name))
                if offset is not None:
                    self._units[unit.offset] = unit
                    return unit, unit.die(offset)
        return None

    def unit_at(self, offset: int) -> Unit:
        """The unit that covers *offset* in .debug_info, for references from one unit to another."""
        number = bisect_right([header.offset for header in self._headers], offset) - 1
        if number < 0 or offset >= self._headers[number].end:
            raise ImageError(f"DWARF refers to {offset:#x}, which is in no unit: corrupt")
        return self._unit(self._headers[number])

    def struct(self, name: str) -> Struct | None:
        """The struct, union or typedef of one; None without it."""
        from memshell.vmlinux.dwarf_types import TypeReader

        found = self._find(("struct", "typedef"), name)
        return None if found is None else TypeReader(self).struct(name, *found)

    def enum(self, name: str) -> Enum | None:
        """The enumeration of that name; None without it."""
        from memshell.vmlinux.dwarf_types import TypeReader

        found = self._find(("enum",), name)
        return None if found is None else TypeReader(self).enum(name, *found)

    def struct_names(self) -> list[str]:
        """The structs and unions of the units of memory hotplug, sorted; not those of the whole kernel."""
        return self._names("struct")

    def enum_names(self) -> list[str]:
        """The named enumerations of the units of memory hotplug, sorted."""
        return self._names("enum")

    def _names(self, kind: str) -> list[str]:
        units = [self._unit(header) for header in self._main_units or self._headers[:1]]
        return sorted({name for unit in units for found, name in unit.index if found == kind})


_NATIVE = "<" if array("H", b"\1\0")[0] == 1 else ">"


def _find(words: array[int], value: int, start: int) -> int:
    try:
        return words.index(value, start)
    except ValueError:
        return -1
