"""From a DWARF entry to a struct or an enumeration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import ImageError
from memshell.vmlinux.dwarf_unit import Unit, text, uleb
from memshell.vmlinux.layout import MAX_CHAIN, MAX_DEPTH, Enum, Member, Members, Struct, check_layout, check_named

if TYPE_CHECKING:
    from memshell.vmlinux.dwarf import Dwarf

_QUALIFIERS = {
    "DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type",
    "DW_TAG_atomic_type",
}  # fmt: skip
_POINTERS = {"DW_TAG_pointer_type", "DW_TAG_reference_type", "DW_TAG_rvalue_reference_type"}
_RECORDS = {"DW_TAG_structure_type": "struct", "DW_TAG_class_type": "struct", "DW_TAG_union_type": "union"}
_DW_OP_PLUS_UCONST = 0x23
_UNBOUNDED = {(1 << 32) - 1, (1 << 64) - 1}  # how an upper bound of -1, that of [0], is written


class TypeReader:
    """Reads types whose parts may lie in several units."""

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf

    def struct(self, name: str, unit: Unit, die: Any) -> Struct | None:
        """The struct that *die* of *unit* defines or is a typedef of; None when it is no struct."""
        record = self._strip(unit, die)
        if record is None or record[1].tag not in _RECORDS:
            return None
        members = Members()
        self._members(record, 0, "", members, 0)
        return Struct(name, _RECORDS[record[1].tag], self._size(record), members.found, how(unit))

    def enum(self, name: str, unit: Unit, die: Any) -> Enum:
        """The enumeration that *die* of *unit* defines."""
        values = {}
        for child in unit.children(die):
            if child.tag == "DW_TAG_enumerator":
                values[_name(child)] = _integer(child, "DW_AT_const_value") or 0
        return Enum(name, values, how(unit))

    def _type(self, unit: Unit, die: Any) -> tuple[Unit, Any] | None:
        """The entry that DW_AT_type refers to; None for void."""
        attribute = die.attributes.get("DW_AT_type")
        if attribute is None:
            return None
        if attribute.form == "DW_FORM_ref_addr":
            other = self._dwarf.unit_at(attribute.raw_value)
            return other, other.die(attribute.raw_value - other.offset)
        if attribute.form == "DW_FORM_ref_sig8":
            raise ImageError(
                "its DWARF keeps types in type units (-fdebug-types-section), which memshell does not read"
            )
        return unit, die.get_DIE_from_attribute("DW_AT_type")

    def _strip(self, unit: Unit, die: Any) -> tuple[Unit, Any] | None:
        """Follow typedefs and qualifiers to the type itself."""
        current: tuple[Unit, Any] | None = (unit, die)
        for _ in range(MAX_CHAIN):
            if current is None or current[1].tag not in _QUALIFIERS:
                return current
            current = self._type(*current)
        raise ImageError("DWARF types refer to each other in a circle: corrupt")

    def _size(self, found: tuple[Unit, Any] | None, depth: int = 0) -> int:
        stripped = None if found is None else self._strip(*found)
        if stripped is None:
            return 0
        size = _integer(stripped[1], "DW_AT_byte_size")
        if size is not None:
            return size
        if stripped[1].tag in _POINTERS:
            return self._dwarf.bits // 8
        if stripped[1].tag == "DW_TAG_array_type" and depth < MAX_DEPTH:
            return (self._count(stripped) or 0) * self._size(self._type(*stripped), depth + 1)
        return 0

    def _count(self, found: tuple[Unit, Any] | None) -> int | None:
        """The number of elements, over all dimensions; None for what is no array."""
        if found is None or found[1].tag != "DW_TAG_array_type":
            return None
        count = 1
        for child in found[0].children(found[1]):
            if child.tag == "DW_TAG_subrange_type":
                count *= _bound(child)
        return count

    def _members(self, found: tuple[Unit, Any], base: int, prefix: str, out: Members, depth: int) -> None:
        """Add the members of one struct, which starts at bit *base*, and of the unnamed ones in it."""
        if depth > MAX_DEPTH:
            raise ImageError("DWARF structs contain each other too deeply: corrupt")
        unit, die = found
        spans = []
        for child in unit.children(die):
            if child.tag != "DW_TAG_member" or "DW_AT_external" in child.attributes:
                continue
            kind = self._type(unit, child)
            inner = None if kind is None else self._strip(*kind)
            size, name = self._size(inner), _name(child)
            first, width = self._place(child, size)
            spans.append((first, first + (width or 8 * size)))
            if name:
                bits = (base + first, width) if width else None
                out.add(Member(prefix + name, (base + first) // 8, size, self._count(inner), bits))
            is_record = inner is not None and inner[1].tag in _RECORDS
            check_named(name, is_record, width)
            if inner and is_record and not (name and "DW_AT_name" in inner[1].attributes):
                self._members(inner, base + first, f"{prefix}{name}." if name else prefix, out, depth + 1)
        check_layout(_name(die), _RECORDS[die.tag], _integer(die, "DW_AT_byte_size") or 0, spans)

    def _place(self, die: Any, size: int) -> tuple[int, int]:
        """First bit of a member, and its width when it is a bit field (else 0)."""
        width = _integer(die, "DW_AT_bit_size") or 0
        first = 8 * _location(die)
        packed = _integer(die, "DW_AT_data_bit_offset")
        if packed is not None:
            return first + packed, width
        old = _integer(die, "DW_AT_bit_offset")  # DWARF 3: counted from the top of the storage unit
        if old is None:
            return first, width
        storage = 8 * (_integer(die, "DW_AT_byte_size") or size)
        return first + (storage - old - width if self._dwarf.order == "<" else old), width


def how(unit: Unit) -> str:
    """Where a type was read, for people."""
    return f"DWARF {unit.version}, unit {unit.name}"


def _name(die: Any) -> str:
    attribute = die.attributes.get("DW_AT_name")
    if attribute is None:
        return ""
    if not isinstance(attribute.value, bytes):
        raise ImageError("a DWARF name lies outside of the string table: corrupt")
    return text(attribute.value)


def _integer(die: Any, name: str) -> int | None:
    attribute = die.attributes.get(name)
    if attribute is None:
        return None
    if not isinstance(attribute.value, int):
        raise ImageError(f"{name} of a DWARF type is computed at run time, which memshell does not read")
    return int(attribute.value)


def _location(die: Any) -> int:
    """DW_AT_data_member_location in bytes: a number, or in old files the expression that adds it."""
    attribute = die.attributes.get("DW_AT_data_member_location")
    if attribute is None:
        return 0
    if isinstance(attribute.value, int):
        return int(attribute.value)
    code = bytes(attribute.value)
    if not code or code[0] != _DW_OP_PLUS_UCONST:
        raise ImageError("a DWARF member's place is computed at run time, which memshell does not read")
    return uleb(code, 1)[0]


def _bound(die: Any) -> int:
    count = die.attributes.get("DW_AT_count")
    if count is not None:
        return int(count.value) if isinstance(count.value, int) else 0
    upper = die.attributes.get("DW_AT_upper_bound")
    if upper is None or not isinstance(upper.value, int) or upper.value in _UNBOUNDED:
        return 0
    return int(upper.value) + 1
