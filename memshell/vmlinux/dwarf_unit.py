"""One DWARF compile unit: an index of the types that it names, and the types themselves.

pyelftools parses the unit's header, its abbreviations and every entry (DIE) that is asked for. It is given
this one unit as if it were the whole of .debug_info: the section of a kernel is 130-210 MB, a unit 0.1-0.2.
The index is made here, because parsing each entry only to learn its name costs a hundred times more than
stepping over it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from memshell.errors import ImageError

_MAX_ENTRIES = 3_000_000
_MAX_CHILDREN = 100_000
_BEFORE_NAME = 16  # bytes of an entry that may precede its name
INDEXED = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_union_type": "struct",
    "DW_TAG_class_type": "struct",
    "DW_TAG_enumeration_type": "enum",
    "DW_TAG_typedef": "typedef",
}
_SIZES = {
    "DW_FORM_data1": 1, "DW_FORM_data2": 2, "DW_FORM_data4": 4, "DW_FORM_data8": 8, "DW_FORM_data16": 16,
    "DW_FORM_flag": 1, "DW_FORM_flag_present": 0, "DW_FORM_implicit_const": 0,
    "DW_FORM_ref1": 1, "DW_FORM_ref2": 2, "DW_FORM_ref4": 4, "DW_FORM_ref8": 8, "DW_FORM_ref_sig8": 8,
    "DW_FORM_strx1": 1, "DW_FORM_strx2": 2, "DW_FORM_strx3": 3, "DW_FORM_strx4": 4,
    "DW_FORM_addrx1": 1, "DW_FORM_addrx2": 2, "DW_FORM_addrx3": 3, "DW_FORM_addrx4": 4,
    "DW_FORM_ref_sup4": 4, "DW_FORM_ref_sup8": 8,
}  # fmt: skip
_OFFSETS = {
    "DW_FORM_strp", "DW_FORM_line_strp", "DW_FORM_sec_offset", "DW_FORM_ref_addr", "DW_FORM_strp_sup",
    "DW_FORM_GNU_strp_alt", "DW_FORM_GNU_ref_alt",
}  # fmt: skip
_LEB = {
    "DW_FORM_udata", "DW_FORM_sdata", "DW_FORM_ref_udata", "DW_FORM_strx", "DW_FORM_addrx",
    "DW_FORM_loclistx",
    "DW_FORM_rnglistx", "DW_FORM_GNU_str_index", "DW_FORM_GNU_addr_index",
}  # fmt: skip
_BLOCKS = {"DW_FORM_block1": 1, "DW_FORM_block2": 2, "DW_FORM_block4": 4}
_STRX = {"DW_FORM_strx": 0, "DW_FORM_strx1": 1, "DW_FORM_strx2": 2, "DW_FORM_strx3": 3, "DW_FORM_strx4": 4}


@dataclass(slots=True)
class Sections:
    """The sections that types need, as bytes, and how the file writes numbers."""

    little_endian: bool
    address_size: int
    arch: str
    abbrev: bytes
    str: bytes
    line_str: bytes
    str_offsets: bytes
    addr: bytes

    @property
    def order(self) -> Literal["little", "big"]:
        """The byte order as int.from_bytes takes it."""
        return "little" if self.little_endian else "big"


@dataclass(slots=True)
class _Plan:
    """How to step over every entry of one abbreviation."""

    kind: str | None
    has_children: bool
    forms: list[tuple[str, str]]
    size: int | None  # of all attributes, when no form of variable length is among them
    name: str | None  # the form of DW_AT_name
    sibling: str | None


class Unit:
    """A compile unit that lies at *offset* in .debug_info, with *data* as its bytes."""

    def __init__(self, sections: Sections, offset: int, data: bytes) -> None:
        from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

        def describe(name: str, content: bytes) -> Any:
            return DebugSectionDescriptor(io.BytesIO(content), name, 0, len(content), 0) if content else None

        none = dict.fromkeys(
            ("aranges", "frame", "loc", "ranges", "line", "pubtypes", "pubnames", "loclists", "rnglists")
        )
        self.sections, self.offset, self.data = sections, offset, data
        info = DWARFInfo(
            debug_sup_sec=None,
            debug_types_sec=None,
            config=DwarfConfig(sections.little_endian, sections.arch, sections.address_size),
            debug_info_sec=describe(".debug_info", data),
            debug_abbrev_sec=describe(".debug_abbrev", sections.abbrev),
            debug_str_sec=describe(".debug_str", sections.str),
            debug_line_str_sec=describe(".debug_line_str", sections.line_str),
            debug_str_offsets_sec=describe(".debug_str_offsets", sections.str_offsets),
            debug_addr_sec=describe(".debug_addr", sections.addr),
            eh_frame_sec=None,
            gnu_debugaltlink_sec=None,
            **{f"debug_{name}_sec": value for name, value in none.items()},
        )
        self.cu = info.get_CU_at(0)
        self.top = self.cu.get_top_DIE()
        name = self.top.attributes.get("DW_AT_name")
        self.name = text(name.value) if name is not None and isinstance(name.value, bytes) else ""
        self.version = int(self.cu["version"])

    def die(self, offset: int) -> Any:
        """The entry at *offset* in the unit."""
        return self.cu.get_DIE_from_refaddr(offset)

    def children(self, die: Any) -> Iterator[Any]:
        """The direct children of an entry; pyelftools' own loop does not end when a sibling points back."""
        if not die.has_children:
            return
        at = die.offset + die.size
        for _ in range(_MAX_CHILDREN):
            child = self.die(at)
            if child.is_null():
                return
            yield child
            at = self._after(child)
        raise ImageError(f"a DWARF entry with more than {_MAX_CHILDREN} children: corrupt")

    def _after(self, die: Any) -> int:
        """Where the entry after *die* and all its children starts."""
        end: int = die.offset + die.size
        if not die.has_children:
            return end
        sibling = die.attributes.get("DW_AT_sibling")
        if sibling is None:
            return self._skip_children(end)
        return self._forward(end, int(sibling.value))

    def _forward(self, here: int, sibling: int) -> int:
        if not here <= sibling <= len(self.data):
            raise ImageError("a DWARF sibling points backwards or out of its unit: corrupt")
        return sibling

    @cached_property
    def index(self) -> dict[tuple[str, str], int]:
        """(struct, enum or typedef; name) -> offset of its entry, for what is defined at the top level."""
        found: dict[tuple[str, str], int] = {}
        at = self.top.offset + self.top.size
        while at < len(self.data):
            code, after = uleb(self.data, at)
            if code == 0:
                break
            plan = self._plan(code)
            if plan.kind and plan.name:
                found.setdefault((plan.kind, self._name(plan, after)), at)
            at = self._next(plan, after)
        return found

    def may_define(self, at: int, kinds: tuple[str, ...]) -> bool:
        """Whether the name that is used at *at* can be that of a type's definition: a filter, not a proof."""
        for start in range(at - 1, max(at - _BEFORE_NAME, 0), -1):
            code, after = uleb(self.data, start)
            plan = self._known_plan(code)
            if plan and plan.kind in kinds and plan.name and self._attribute(plan, after, "DW_AT_name") == at:
                return True
        return False

    def _next(self, plan: _Plan, at: int) -> int:
        """Where the next entry of the same level starts; *at* is the first attribute."""
        if plan.has_children and plan.sibling:
            place = self._attribute(plan, at, "DW_AT_sibling")
            return self._forward(at, self._number(plan.sibling, place))
        end = self._skip(plan, at)
        return self._skip_children(end) if plan.has_children else end

    def _skip_children(self, at: int) -> int:
        depth = 1
        for _ in range(_MAX_ENTRIES):
            code, at = uleb(self.data, at)
            if code == 0:
                depth -= 1
                if depth == 0:
                    return at
                continue
            plan = self._plan(code)
            if plan.has_children and plan.sibling:
                at = self._next(plan, at)
                continue
            at = at + plan.size if plan.size is not None else self._skip(plan, at)
            depth += plan.has_children
        raise ImageError(f"more than {_MAX_ENTRIES} DWARF entries in one: corrupt")

    def _plan(self, code: int) -> _Plan:
        plan = self._known_plan(code)
        if plan is None:
            raise ImageError(f"a DWARF entry uses abbreviation {code}, which does not exist: corrupt")
        return plan

    def _known_plan(self, code: int) -> _Plan | None:
        if code not in self._plans:
            try:
                self._plans[code] = self._make_plan(self.cu.get_abbrev_table().get_abbrev(code))
            except KeyError:
                return None
        return self._plans[code]

    @cached_property
    def _plans(self) -> dict[int, _Plan]:
        return {}

    def _make_plan(self, decl: Any) -> _Plan:
        forms = [(str(name), str(form)) for name, form in decl.iter_attr_specs()]
        names = dict(forms)
        sizes = [self._fixed(form) for _, form in forms]
        return _Plan(
            kind=None if "DW_AT_declaration" in names else INDEXED.get(str(decl["tag"])),
            has_children=decl.has_children(),
            forms=forms,
            size=None if None in sizes else sum(size for size in sizes if size),
            name=names.get("DW_AT_name"),
            sibling=names.get("DW_AT_sibling"),
        )

    def _fixed(self, form: str) -> int | None:
        if form in _OFFSETS:
            return int(self.cu.dwarf_format()) // 8
        if form == "DW_FORM_addr":
            return int(self.cu["address_size"])
        return _SIZES.get(form)

    def _attribute(self, plan: _Plan, at: int, name: str) -> int:
        """Where the attribute *name* stands; *at* is the first one."""
        for attribute, form in plan.forms:
            if attribute == name:
                break
            at = self._skip_form(form, at)
        return at

    def _skip(self, plan: _Plan, at: int) -> int:
        if plan.size is not None:
            return at + plan.size
        for _, form in plan.forms:
            at = self._skip_form(form, at)
        return at

    def _skip_form(self, form: str, at: int) -> int:
        size = self._fixed(form)
        if size is not None:
            return at + size
        if form in _LEB:
            return uleb(self.data, at)[1]
        if form == "DW_FORM_string":
            return self.data.index(b"\0", at) + 1
        if form in {"DW_FORM_exprloc", "DW_FORM_block"}:
            length, at = uleb(self.data, at)
            return at + length
        if form in _BLOCKS:
            width = _BLOCKS[form]
            return at + width + self._integer(at, width)
        raise ImageError(f"{form} in DWARF, which memshell does not read")

    def _integer(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], self.sections.order)

    def _number(self, form: str, at: int) -> int:
        size = self._fixed(form)
        return uleb(self.data, at)[0] if size is None else self._integer(at, size)

    def _name(self, plan: _Plan, at: int) -> str:
        """The name of the entry whose attributes start at *at*."""
        form = plan.name or ""
        at = self._attribute(plan, at, "DW_AT_name")
        if form == "DW_FORM_string":
            return text(self.data[at : self.data.index(b"\0", at)])
        if form in {"DW_FORM_strp", "DW_FORM_line_strp"}:
            table = self.sections.str if form == "DW_FORM_strp" else self.sections.line_str
            offset = self._number(form, at)
        elif form in _STRX:
            table, offset = self.sections.str, self._indexed_string(self._number(form, at))
        else:
            raise ImageError(f"a DWARF name as {form}, which memshell does not read")
        return text(table[offset : table.index(b"\0", offset)])

    def _indexed_string(self, number: int) -> int:
        """The offset in .debug_str that entry *number* of this unit's string offsets holds."""
        width = int(self.cu.dwarf_format()) // 8
        base = self.top.attributes.get("DW_AT_str_offsets_base")
        at = (int(base.value) if base is not None else 2 * width) + width * number
        piece = self.sections.str_offsets[at : at + width]
        if len(piece) != width:
            raise ImageError("a DWARF string index points out of .debug_str_offsets: corrupt")
        return int.from_bytes(piece, self.sections.order)


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned LEB128 number at *at*, and where the next thing starts."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = shift = 0
    while byte >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ImageError("a DWARF number of more than 64 bits: corrupt")
        byte = data[at]
    return value | byte << shift, at + 1


def text(name: bytes) -> str:
    """A name as text; names that are no UTF-8 keep their bytes as Latin-1."""
    return name.decode("latin-1")
