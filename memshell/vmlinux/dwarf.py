"""DWARF types out of the few compile units that define them.

``mm/memory_hotplug.c`` alone has every struct of the memory model, on every kernel that was looked at. Its
unit is found without parsing the others: hop over the unit headers, and look for the offset of its name (or,
with clang's indexed strings, of its string table) in the first bytes of each. Any other struct is found by
the offset of its name.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from memshell.errors import ImageError
from memshell.vmlinux.blob import MIB, Blob
from memshell.vmlinux.dwarf_strings import StringIndex
from memshell.vmlinux.dwarf_unit import Sections, Unit
from memshell.vmlinux.elf import ET_REL, Elf
from memshell.vmlinux.layout import Enum, Struct
from memshell.vmlinux.reloc import relocated

PREFERRED = ("mm/memory_hotplug.c", "mm/page_alloc.c", "mm/sparse.c", "drivers/base/memory.c")
_MAX_UNITS = 50_000
_MAX_TRIES = 250  # units that are opened for one name
_FEW_UNITS = 40  # all are looked through when there are no more
_HEAD = 96  # bytes of each unit that are looked at
_MAX_UNIT = 96 * MIB
_MAX_STRINGS = 48 * MIB
_WINDOW = 8 * MIB
_MAX_MATCHES = 100_000
_MAX_PLACES, _FEW_PLACES = 256, 16  # of one name in the string table: each makes the search slower
_FIRST_LOOK = 16 * MIB  # of .debug_info, for what was not asked for by name


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
            is_object = self._elf.type == ET_REL
            section = relocated(self._elf, name) if is_object else self._elf.data(name, _MAX_STRINGS)
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
                raise ImageError(f"the DWARF unit at {at:#x} does not fit in .debug_info: truncated or corrupt")
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

    @cached_property
    def _strings(self) -> StringIndex:
        return StringIndex(self._sections)

    @cached_property
    def _main_units(self) -> list[_Header]:
        """The unit of the first of PREFERRED, or those of the others."""
        found = []
        for path in PREFERRED:
            offsets = self._strings.of_path(path)
            pattern = self._strings.pattern(offsets | self._strings.bases(offsets))
            header = next((h for h in self._headers if self._is_of(h, path, pattern)), None) if pattern else None
            found += [header] if header else []
            if header and path == PREFERRED[0]:
                break
        return found

    def _is_of(self, header: _Header, path: str, pattern: re.Pattern[bytes]) -> bool:
        return bool(pattern.search(header.head)) and f"/{self._unit(header).name}".endswith(f"/{path}")

    def _mentions(self, name: str, everywhere: bool) -> Iterator[tuple[_Header, int | None]]:
        """The units that use the name of a type, and where; None for where with clang's indexed strings."""
        offsets = self._strings.of_name(name)
        if len(offsets) > (_MAX_PLACES if everywhere else _FEW_PLACES):
            if everywhere:
                raise ImageError(f"{name} ends {len(offsets)} longer names, so where it is used cannot be found")
            return
        by_base = self._strings.pattern(self._strings.bases(offsets))
        if by_base:
            yield from ((header, None) for header in self._headers if by_base.search(header.head))
        pattern = self._strings.pattern(offsets)
        if len(name) < 4:  # shorter than an offset: compilers write it in the entry itself
            pattern = re.compile(re.escape(name.encode("utf-8", "replace") + b"\0"))
        starts = [header.offset for header in self._headers]
        for at in self._matches(pattern, self._info.size if everywhere else _FIRST_LOOK) if pattern else ():
            header = self._headers[bisect_right(starts, at) - 1]
            yield header, at - header.offset

    def _matches(self, pattern: re.Pattern[bytes], limit: int) -> Iterator[int]:
        matches = 0
        for start in range(0, min(limit, self._info.size), _WINDOW):
            window = self._info.read(start, min(_WINDOW + 3, self._info.size - start))
            for match in pattern.finditer(window):
                yield start + match.start()
                matches += 1
                if matches > _MAX_MATCHES:
                    return

    def _candidates(self, kinds: tuple[str, ...], name: str, everywhere: bool) -> Iterator[Unit]:
        """The units that may define a type of one of those kinds, the likely ones first."""
        done = {header.offset for header in self._main_units}
        yield from (self._unit(header) for header in self._main_units)
        unit: Unit | None = None
        tries = 0
        for header, at in self._mentions(name, everywhere) if everywhere or not done else ():
            if header.offset in done:
                continue
            if unit is None or unit.offset != header.offset:
                unit = self._open_unit(header)
                tries += 1
            if tries > _MAX_TRIES:
                raise ImageError(f"{name} is named in many units, and none of the first {_MAX_TRIES} defines it")
            if at is None or unit.may_define(at, kinds):
                done.add(header.offset)
                yield unit
        # Names may stand in the entries themselves, where no offset leads to them.
        few = self._headers if len(self._headers) <= _FEW_UNITS else []
        yield from (self._unit(header) for header in few if header.offset not in done)

    def _find(self, kinds: tuple[str, ...], name: str, everywhere: bool) -> tuple[Unit, Any] | None:
        for unit in self._candidates(kinds, name, everywhere) if name else ():
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

    def struct(self, name: str, *, everywhere: bool = True) -> Struct | None:
        """The struct, union or typedef of one; None without it.

        Without *everywhere*, only the likely units are looked through.
        """
        from memshell.vmlinux.dwarf_types import TypeReader

        found = self._find(("struct", "typedef"), name, everywhere)
        return None if found is None else TypeReader(self).struct(name, *found)

    def enum(self, name: str, *, everywhere: bool = True) -> Enum | None:
        """The enumeration of that name; None without it."""
        from memshell.vmlinux.dwarf_types import TypeReader

        found = self._find(("enum",), name, everywhere)
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
