"""From a name to the bytes that stand for it in .debug_info: its offset, or that of a table that has it."""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from functools import cached_property

from memshell.vmlinux.dwarf_unit import Sections

_MAX_PLACES = 48
_MAX_PATH = 512
_MAX_TABLES = 50_000


class StringIndex:
    """Where names stand in the string tables of one file."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections

    def _places(self, needle: bytes) -> list[tuple[bytes, int]]:
        """Each place that holds *needle*, with its table; where a string starts, if there is any such."""
        found: list[tuple[bytes, int]] = []
        for table in (self._sections.str, self._sections.line_str):
            at = table.find(needle)
            while at >= 0 and len(found) < 100_000:
                found.append((table, at))
                at = table.find(needle, at + 1)
        whole = [(table, at) for table, at in found if at == 0 or table[at - 1] == 0]
        return whole or found

    def of_name(self, name: str) -> set[int]:
        """The offsets that a reference to *name* may hold; linkers merge it with tails of longer names."""
        return {at for _, at in self._places(name.encode("utf-8", "replace") + b"\0")}

    def of_path(self, path: str) -> set[int]:
        """The same for a source file that may be written with its folder before it."""
        found: set[int] = set()
        for table in (self._sections.str, self._sections.line_str):
            at = table.find(path.encode() + b"\0")
            while at >= 0 and len(found) < _MAX_PLACES:
                found |= {at, table.rfind(b"\0", max(0, at - _MAX_PATH), at) + 1}
                at = table.find(path.encode() + b"\0", at + 1)
        return found

    @cached_property
    def _words(self) -> array[int]:
        data = self._sections.str_offsets
        words = array("I", data[: len(data) & ~3])
        if self._sections.little_endian != (sys.byteorder == "little"):
            words.byteswap()
        return words

    @cached_property
    def _tables(self) -> list[int]:
        """Where each unit's part of .debug_str_offsets starts, as its DW_AT_str_offsets_base says it."""
        starts: list[int] = []
        at = 0
        while at + 2 <= len(self._words) and len(starts) < _MAX_TABLES:
            starts.append(4 * at + 8)
            at += 1 + max(self._words[at] // 4, 1)
        return starts

    def bases(self, offsets: set[int]) -> set[int]:
        """The bases of the units that refer to one of the strings by a number (clang does)."""
        hits = offsets.intersection(self._words)
        places = (i for i, value in enumerate(self._words) if value in hits) if hits else ()
        return {self._tables[max(bisect_right(self._tables, 4 * place) - 1, 0)] for place in places}

    def pattern(self, numbers: set[int]) -> re.Pattern[bytes] | None:
        """What matches any of the numbers as four bytes; None for none."""
        order = self._sections.order
        needles = [re.escape(number.to_bytes(4, order)) for number in sorted(numbers) if number < 1 << 32]
        return re.compile(b"|".join(needles), re.DOTALL) if needles else None
