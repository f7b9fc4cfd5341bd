"""BTF, the kernel's compact type format: an own reader, because no kept library has one.

The format is Documentation/bpf/btf.rst: a header, an array of types in 32-bit words, a table of strings. One
pass finds where each type starts; all else is read when it is asked for. Byte order comes from the magic.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from functools import cached_property

from memshell.errors import ImageError
from memshell.vmlinux.layout import MAX_CHAIN, MAX_DEPTH, Enum, Member, Members, Struct, check_layout, check_named

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FLOAT, _DATASEC, _ENUM64 = (1, 2, 3, 4, 5, 6, 8, 16, 15, 19)
_QUALIFIERS = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
_SIZED = {_INT, _STRUCT, _UNION, _ENUM, _FLOAT, _DATASEC, _ENUM64}
_FIXED_WORDS = {1: 1, 3: 3, 14: 1, 17: 1}
_WORDS_EACH = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
_LAST_KIND = 19
_NAMED = {_INT, _STRUCT, _UNION, _ENUM, _TYPEDEF, _ENUM64}
_KIND_WORD = {_STRUCT: "struct", _UNION: "union"}
_MAX_BYTES = 32 << 20
_MAX_NAME = 4096
_MAX_PLACES = 50_000


@dataclass(frozen=True, slots=True)
class RawBtf:
    """The two tables of one BTF blob, in the machine's own byte order."""

    order: str
    words: array[int]
    strings: bytes

    @property
    def split(self) -> bool:
        """Whether it continues a base: a module's has no empty string at the start of its table."""
        return len(self.words) > 0 and not self.strings.startswith(b"\0")


def is_btf(head: bytes) -> bool:
    """Whether *head* starts like BTF of version 1, in either byte order."""
    return head[:3] in {b"\x9f\xeb\x01", b"\xeb\x9f\x01"}


def parse_header(data: bytes) -> RawBtf:
    """Cut a blob into its tables; ImageError when it is no BTF or its header points outside of it."""
    if not is_btf(data) or len(data) < 24:
        raise ImageError("not BTF: bad magic, version or length")
    if len(data) > _MAX_BYTES:
        raise ImageError(f"{len(data)} bytes of BTF; a kernel has about 4 MB")
    order = "<" if data[0] == 0x9F else ">"
    header, types, types_size, strings, strings_size = struct.unpack_from(order + "IIIII", data, 4)
    types_end, strings_end = header + types + types_size, header + strings + strings_size
    if header < 24 or types_size % 4 or max(types_end, strings_end) > len(data):
        raise ImageError("the BTF header points outside of the data: truncated or corrupt")
    words = array("I", data[header + types : types_end])
    if (order == "<") != (sys.byteorder == "little"):
        words.byteswap()
    return RawBtf(order, words, data[header + strings : strings_end])


class Btf:
    """The types of one blob; *base* is what a module's BTF continues."""

    kind = "btf"

    def __init__(self, raw: RawBtf, base: RawBtf | None = None, how: str = "BTF") -> None:
        if base is not None and base.order != raw.order:
            raise ImageError("the BTF and its base differ in byte order")
        self.order = raw.order
        self._how = how
        self._words = base.words + raw.words if base else raw.words
        self._strings = base.strings + raw.strings if base else raw.strings
        self._starts, self._by_name = self._index()

    def _index(self) -> tuple[list[int], dict[int, list[int]]]:
        """Where each type starts, and the types by the offset of their name."""
        fixed = [3 + _FIXED_WORDS.get(kind, 0) for kind in range(32)]
        each = [_WORDS_EACH.get(kind, 0) for kind in range(32)]
        is_named = [kind in _NAMED for kind in range(32)]
        words, end = self._words, len(self._words)
        starts, named, at = [0], dict[int, list[int]](), 0
        append = starts.append
        while at + 2 < end:
            info = words[at + 1]
            kind = info >> 24 & 31
            if is_named[kind]:
                named.setdefault(words[at], []).append(len(starts))
            elif not 0 < kind <= _LAST_KIND:
                raise ImageError(
                    f"BTF type {len(starts)} has kind {kind}, which memshell does not know: corrupt, or newer"
                )
            append(at)
            at += fixed[kind] + each[kind] * (info & 0xFFFF) if each[kind] else fixed[kind]
        if at != end:
            raise ImageError("the BTF types end in the middle of one: truncated or corrupt")
        return starts, named

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset, offset + _MAX_NAME)
        if end < 0:
            raise ImageError("a BTF name lies outside of the string table: corrupt")
        return self._strings[offset:end].decode("utf-8", "replace")

    def _start(self, type_id: int) -> int:
        if not 0 < type_id < len(self._starts):
            raise ImageError(
                f"BTF refers to type {type_id} of {len(self._starts) - 1}: corrupt, or its base is missing"
            )
        return self._starts[type_id]

    def _kind(self, type_id: int) -> int:
        return self._words[self._start(type_id) + 1] >> 24 & 31

    def _find(self, name: str, kinds: set[int]) -> int | None:
        """The first type of that name and one of those kinds."""
        needle = name.encode("utf-8", "replace") + b"\0"
        at, best = self._strings.find(needle) if name else -1, None
        for _ in range(_MAX_PLACES):
            if at < 0:
                return best
            for type_id in self._by_name.get(at, ()):
                if self._kind(type_id) in kinds:
                    best = type_id if best is None else min(best, type_id)
            at = self._strings.find(needle, at + 1)
        raise ImageError(f"{name} is the end of more than {_MAX_PLACES} names: corrupt")

    def _strip(self, type_id: int) -> int:
        """Follow typedefs and qualifiers to the type itself; 0 is void."""
        for _ in range(MAX_CHAIN):
            if type_id == 0 or self._kind(type_id) not in _QUALIFIERS:
                return type_id
            type_id = self._words[self._start(type_id) + 2]
        raise ImageError("BTF types refer to each other in a circle: corrupt")

    def _size(self, type_id: int, depth: int = 0) -> int:
        type_id = self._strip(type_id)
        if type_id == 0:
            return 0
        kind, start = self._kind(type_id), self._start(type_id)
        if kind in _SIZED:
            return self._words[start + 2]
        if kind == _PTR:
            return self.bits // 8
        if kind == _ARRAY and depth < MAX_DEPTH:
            return self._words[start + 5] * self._size(self._words[start + 3], depth + 1)
        return 0

    def _count(self, type_id: int) -> int | None:
        """The number of elements, over all dimensions; None for what is no array."""
        count = None
        for _ in range(MAX_DEPTH):
            type_id = self._strip(type_id)
            if type_id == 0 or self._kind(type_id) != _ARRAY:
                break
            start = self._start(type_id)
            count = self._words[start + 5] * (1 if count is None else count)
            type_id = self._words[start + 3]
        return count

    @cached_property
    def bits(self) -> int:
        """Width of a pointer: that of ``unsigned long``, which the kernel keeps equal; 64 without it."""
        found = self._find("long unsigned int", {_INT}) or self._find("unsigned long", {_INT})
        return 64 if found is None else 8 * self._words[self._start(found) + 2]

    def struct(self, name: str, *, everywhere: bool = True) -> Struct | None:  # noqa: ARG002  # all is at hand
        """The struct or union of that name, or the one behind a typedef; None without it."""
        found = self._find(name, {_STRUCT, _UNION}) or self._find(name, {_TYPEDEF})
        type_id = 0 if found is None else self._strip(found)
        if type_id == 0 or self._kind(type_id) not in _KIND_WORD:
            return None
        members = Members()
        self._members(type_id, 0, "", members, 0)
        word = _KIND_WORD[self._kind(type_id)]
        return Struct(name, word, self._size(type_id), members.found, self._how)

    def _members(self, type_id: int, base: int, prefix: str, out: Members, depth: int) -> None:
        """Add the members of one struct, which starts at bit *base*, and of the unnamed ones in it."""
        if depth > MAX_DEPTH:
            raise ImageError("BTF structs contain each other too deeply: corrupt")
        start = self._start(type_id)
        words, info = self._words, self._words[start + 1]
        spans = []
        for at in range(start + 3, start + 3 + 3 * (info & 0xFFFF), 3):
            name, bit, width = self._member(at, bool(info >> 31))
            size = self._size(words[at + 1])
            spans.append((bit, bit + (width or 8 * size)))
            first = base + bit
            if name:
                bits = (first, width) if width else None
                out.add(Member(prefix + name, first // 8, size, self._count(words[at + 1]), bits))
            inner = self._strip(words[at + 1])
            is_record = inner != 0 and self._kind(inner) in _KIND_WORD
            check_named(name, is_record, width)
            if is_record and not (name and words[self._start(inner)]):
                self._members(inner, first, f"{prefix}{name}." if name else prefix, out, depth + 1)
        check_layout(self._string(words[start]), _KIND_WORD[info >> 24 & 31], words[start + 2], spans)

    def _member(self, at: int, packed: bool) -> tuple[str, int, int]:
        """Name, first bit and bit-field width of the member at word *at*; *packed*: the kind_flag."""
        offset = self._words[at + 2]
        name = self._string(self._words[at])
        if packed:
            return name, offset & 0xFFFFFF, offset >> 24
        inner = self._strip(self._words[at + 1])
        if inner and self._kind(inner) == _INT:  # the old form keeps the width in the integer type
            start = self._start(inner)
            encoding = self._words[start + 3]
            if encoding & 0xFF != 8 * self._words[start + 2]:
                return name, offset + (encoding >> 16 & 0xFF), encoding & 0xFF
        return name, offset, 0

    def enum(self, name: str, *, everywhere: bool = True) -> Enum | None:  # noqa: ARG002  # all is at hand
        """The enumeration of that name; None without it."""
        found = self._find(name, {_ENUM, _ENUM64})
        return None if found is None else Enum(name, self._values(found), self._how)

    def _values(self, type_id: int) -> dict[str, int]:
        start = self._start(type_id)
        words, info = self._words, self._words[start + 1]
        wide = info >> 24 & 31 == _ENUM64
        step, width = (3, 64) if wide else (2, 32)
        values = {}
        for at in range(start + 3, start + 3 + step * (info & 0xFFFF), step):
            value = words[at + 1] | (words[at + 2] << 32 if wide else 0)
            if info >> 31 and value >> (width - 1):  # kind_flag: signed
                value -= 1 << width
            values[self._string(words[at])] = value
        return values

    def _names(self, kinds: set[int]) -> list[str]:
        return sorted(
            {self._string(o) for o, ids in self._by_name.items() if o and any(self._kind(i) in kinds for i in ids)}
        )

    def struct_names(self) -> list[str]:
        """Every named struct and union, sorted."""
        return self._names({_STRUCT, _UNION})

    def enum_names(self) -> list[str]:
        """Every named enumeration, sorted."""
        return self._names({_ENUM, _ENUM64})
