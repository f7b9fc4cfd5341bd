"""Writes small kernel images byte by byte, for any byte order: ELF, BTF and DWARF, so that no compiler is needed."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field


@dataclass(eq=False)
class Int:
    name: str
    size: int


@dataclass(eq=False)
class Ptr:
    to: object


@dataclass(eq=False)
class Array:
    of: object
    count: int


@dataclass(eq=False)
class Record:
    kind: str
    name: str
    size: int
    members: list = field(default_factory=list)  # (name, type, byte offset) or (name, type, first bit, width)


@dataclass(eq=False)
class Enumeration:
    name: str
    values: dict


@dataclass(eq=False)
class Typedef:
    name: str
    to: object


def _parts(kind):
    if isinstance(kind, Ptr | Typedef):
        return [kind.to] if kind.to is not None else []
    if isinstance(kind, Array):
        return [kind.of]
    return [member[1] for member in kind.members] if isinstance(kind, Record) else []


def _all(roots):
    """Every type that the roots reach, each once."""
    seen, todo = [], list(roots)
    while todo:
        kind = todo.pop(0)
        if not any(kind is other for other in seen):
            seen.append(kind)
            todo += _parts(kind)
    return seen


class Strings:
    def __init__(self, start=b"\0", base=0):
        self.data = bytearray(start)
        self.base = base

    def add(self, text):
        if not text:
            return 0
        at = self.data.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.data) - 1
            self.data += text.encode() + b"\0"
        return self.base + at + 1


def btf(roots, order="<", base_types=(), base_strings=0):
    """BTF of the roots; with a base, only what is not in it, with ids and strings that continue it."""
    types = [kind for kind in _all(roots) if not any(kind is known for known in base_types)]
    every = [*base_types, *types]
    ids = {id(kind): number + 1 for number, kind in enumerate(every)}
    ref = lambda kind: 0 if kind is None else ids[id(kind)]  # noqa: E731
    strings = Strings() if not base_types else Strings(b"", base_strings)
    name = strings.add if not base_types else lambda text: _append(strings, text)
    words = [word for kind in types for word in _btf_words(kind, ref, name)]
    body = struct.pack(f"{order}{len(words)}I", *words)
    head = struct.pack(order + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings.data))
    return head + body + bytes(strings.data)


def _append(strings, text):
    if not text:
        return 0
    at = len(strings.data)
    strings.data += text.encode() + b"\0"
    return strings.base + at


def _btf_words(kind, ref, name):
    if isinstance(kind, Int):
        return [name(kind.name), 1 << 24, kind.size, 8 * kind.size]
    if isinstance(kind, Ptr):
        return [0, 2 << 24, ref(kind.to)]
    if isinstance(kind, Array):
        return [0, 3 << 24, 0, ref(kind.of), 0, kind.count]
    if isinstance(kind, Typedef):
        return [name(kind.name), 8 << 24, ref(kind.to)]
    if isinstance(kind, Enumeration):
        values = [word for text, value in kind.values.items() for word in (name(text), value)]
        return [name(kind.name), 6 << 24 | len(kind.values), 4, *values]
    words = [name(kind.name), (1 << 31) | (4 if kind.kind == "struct" else 5) << 24 | len(kind.members), kind.size]
    for member in kind.members:
        bits = member[2] | member[3] << 24 if len(member) == 4 else 8 * member[2]
        words += [name(member[0]), ref(member[1]), bits]
    return words


TAGS = {"struct": 0x13, "union": 0x17}
FORMS = {"strp": 0x0E, "strx1": 0x25, "string": 0x08}


def uleb(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


class Dwarf:
    """One compile unit; *names* is the form of strings, *siblings* tells whether to write DW_AT_sibling."""

    def __init__(
        self, roots, order="<", *, version=5, names="strp", siblings=True, unit="mm/memory_hotplug.c", strings=None
    ):
        self.order, self.version, self.names, self.siblings = order, version, names, siblings
        self.strings, self.indexed = strings or Strings(), []
        self.abbrevs = {}
        self.places, self.fixups = {}, []
        self.body = bytearray()
        top = [(0x03, *self._string(unit))]
        if names == "strx1":
            top.insert(0, (0x72, 0x17, self._int(8, 4)))
        self._entry(0x11, top, children=True)
        for kind in _all(roots):
            self._type(kind)
        self.body.append(0)
        for at, kind in self.fixups:
            self.body[at : at + 4] = self._int(self.places[id(kind)] + self._head_size(), 4)

    def _head_size(self):
        return 12 if self.version >= 5 else 11

    def _int(self, value, size):
        return value.to_bytes(size, "little" if self.order == "<" else "big")

    def _string(self, text):
        offset = self.strings.add(text)
        if self.names == "strp":
            return 0x0E, self._int(offset, 4)
        if self.names == "string":
            return 0x08, text.encode() + b"\0"
        self.indexed.append(offset)
        return 0x25, bytes([len(self.indexed) - 1])

    def _entry(self, tag, attributes, children=False):
        key = (tag, children, tuple((name, form) for name, form, _ in attributes))
        code = self.abbrevs.setdefault(key, len(self.abbrevs) + 1)
        start = len(self.body)
        self.body += uleb(code)
        for _, form, value in attributes:
            refers = form == 0x13 and not isinstance(value, bytes)
            if refers:
                self.fixups.append((len(self.body), value))
            self.body += b"\0\0\0\0" if refers else value
        return start

    def _size(self, size):
        return (0x0B, 0x05, self._int(size, 2))

    def _type(self, kind):
        writer = {Int: self._base, Ptr: self._pointer, Array: self._array, Typedef: self._typedef}
        write = writer.get(type(kind)) or (self._enum if isinstance(kind, Enumeration) else self._record)
        self.places[id(kind)] = len(self.body)
        write(kind)

    def _base(self, kind):
        self._entry(0x24, [(0x0B, 0x0B, bytes([kind.size])), (0x3E, 0x0B, b"\7"), (0x03, *self._string(kind.name))])

    def _pointer(self, kind):
        target = [(0x49, 0x13, kind.to)] if kind.to is not None else []
        self._entry(0x0F, [(0x0B, 0x0B, b"\10"), *target])

    def _typedef(self, kind):
        self._entry(0x16, [(0x03, *self._string(kind.name)), (0x49, 0x13, kind.to)])

    def _array(self, kind):
        with_children = self._open(0x01, [(0x49, 0x13, kind.of)])
        self._entry(0x21, [(0x2F, 0x0F, uleb(kind.count - 1))] if kind.count else [])
        self._close(with_children)

    def _enum(self, kind):
        opened = self._open(0x04, [(0x03, *self._string(kind.name)), (0x0B, 0x0B, b"\4")])
        for text, value in kind.values.items():
            self._entry(0x28, [(0x03, *self._string(text)), (0x1C, 0x0F, uleb(value))])
        self._close(opened)

    def _record(self, kind):
        name = [(0x03, *self._string(kind.name))] if kind.name else []
        opened = self._open(TAGS[kind.kind], [*name, self._size(kind.size)])
        for member in kind.members:
            text = [(0x03, *self._string(member[0]))] if member[0] else []
            if len(member) == 4:
                place = [(0x0D, 0x0B, bytes([member[3]])), (0x6B, 0x0F, uleb(member[2]))]
            else:
                place = [(0x38, 0x05, self._int(member[2], 2))]
            self._entry(0x0D, [*text, (0x49, 0x13, member[1]), *place])
        self._close(opened)

    def _open(self, tag, attributes):
        if self.siblings:
            attributes = [*attributes, (0x01, 0x13, b"\0\0\0\0")]
        self._entry(tag, attributes, children=True)
        return len(self.body) - 4

    def _close(self, sibling):
        self.body.append(0)
        if self.siblings:
            self.body[sibling : sibling + 4] = self._int(len(self.body) + self._head_size(), 4)

    def sections(self):
        """The debug sections by name."""
        abbrev = bytearray()
        for (tag, children, attributes), code in self.abbrevs.items():
            abbrev += uleb(code) + uleb(tag) + bytes([children])
            for name, form in attributes:
                abbrev += uleb(name) + uleb(form)
            abbrev += b"\0\0"
        if self.version >= 5:
            head = self._int(self.version, 2) + b"\1\10" + self._int(0, 4)
        else:
            head = self._int(self.version, 2) + self._int(0, 4) + b"\10"
        info = self._int(len(head) + len(self.body), 4) + head + bytes(self.body)
        found = {".debug_info": info, ".debug_abbrev": bytes(abbrev) + b"\0", ".debug_str": bytes(self.strings.data)}
        if self.indexed:
            table = b"".join(self._int(offset, 4) for offset in self.indexed)
            found[".debug_str_offsets"] = self._int(len(table) + 4, 4) + self._int(5, 2) + b"\0\0" + table
        return found


@dataclass
class Section:
    data: bytes
    type: int = 1
    flags: int = 0
    addr: int = 0
    link: str = ""
    info: int = 0
    size: int | None = None


def elf(sections, order="<", machine=62, kind=2, symbols=()):
    """An ELF64 file; *sections* by name, *symbols* as (name, address, size, global, section)."""
    table = {"": Section(b"", 0)} | {n: s if isinstance(s, Section) else Section(s) for n, s in sections.items()}
    if symbols:
        names = Strings()
        rows = [struct.pack(order + "IBBHQQ", 0, 0, 0, 0, 0, 0)]
        for name, address, size, is_global, section in symbols:
            rows.append(struct.pack(order + "IBBHQQ", names.add(name), is_global << 4 | 1, 0, section, address, size))
        table[".symtab"] = Section(b"".join(rows), 2, link=".strtab")
        table[".strtab"] = Section(bytes(names.data), 3)
    text = Strings()
    offsets = [text.add(name) for name in table]
    shstr = text.add(".shstrtab")
    table[".shstrtab"] = Section(bytes(text.data), 3)
    offsets.append(shstr)
    numbers = list(table)
    body, heads = bytearray(b"\0" * 64), bytearray()
    for section, name in zip(table.values(), offsets, strict=True):
        body += b"\0" * (-len(body) % 8)
        size = len(section.data) if section.size is None else section.size
        link = numbers.index(section.link) if section.link else 0
        row = (
            name,
            section.type,
            section.flags,
            section.addr,
            len(body),
            size,
            link,
            section.info,
            8,
            24 * (section.type == 2),
        )
        heads += struct.pack(order + "IIQQQQIIQQ", *row)
        body += section.data
    body += b"\0" * (-len(body) % 8)
    ident = b"\x7fELF\2" + (b"\1" if order == "<" else b"\2") + b"\1" + b"\0" * 9
    count = len(table)
    head = (kind, machine, 1, 0, 0, len(body), 0, 64, 56, 0, 64, count, count - 1)
    body[:64] = ident + struct.pack(order + "HHIQQQIHHHHHH", *head)
    return bytes(body + heads)
