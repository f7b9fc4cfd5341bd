"""What BTF and DWARF both say about a type: the record, and the checks that every C layout passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from memshell.errors import ImageError

MAX_MEMBERS = 20_000
"""Of one struct, with all that is nested in it; the kernel's largest have some hundreds."""
MAX_DEPTH = 12
MAX_CHAIN = 64
"""Of typedefs and qualifiers in a row, before it is called a cycle."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member: *offset* and *size* in bytes from the start of the struct.

    *count* is the bound of an array, *bits* the first bit and the width of a bit field.
    """

    name: str
    offset: int
    size: int
    count: int | None = None
    bits: tuple[int, int] | None = None

    def to_json(self) -> dict[str, int]:
        """Offset and size; for a bit field also its first bit within the byte, and its width."""
        record = {"offset": self.offset, "size": self.size}
        if self.bits is not None:
            record |= {"bit_offset": self.bits[0] - 8 * self.offset, "bit_size": self.bits[1]}
        return record


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct or union: its size in bytes and its members, those of unnamed members among them.

    A member whose own type has no name is followed by its members, as ``_refcount.counter``.
    """

    name: str
    kind: str
    size: int
    members: dict[str, Member]
    how: str

    def to_json(self) -> dict[str, Any]:
        """Size and members as the command line prints them."""
        return {"size": self.size, "members": {name: m.to_json() for name, m in self.members.items()}}


@dataclass(frozen=True, slots=True)
class Enum:
    """An enumeration: name -> value."""

    name: str
    values: dict[str, int]
    how: str


@dataclass(slots=True)
class Members:
    """Collects the members of one struct, and checks each nested level of it."""

    found: dict[str, Member] = field(default_factory=dict)

    def add(self, member: Member) -> None:
        """Take one more; ImageError when there are more than any struct has, or two of one name."""
        if len(self.found) >= MAX_MEMBERS:
            raise ImageError(f"a struct with more than {MAX_MEMBERS} members: the type information is corrupt")
        if member.name in self.found:  # C forbids it; strings that were never relocated look so
            raise ImageError(f"a struct with two members named {member.name}: the type information is corrupt")
        self.found[member.name] = member


def check_layout(name: str, kind: str, size: int, spans: Iterable[tuple[int, int]]) -> None:
    """Check that members, given as (first bit, end bit), fit in *size* bytes, and overlap in a union only.

    A damaged file whose numbers still parse is found out here: ImageError.
    """
    end = 0
    for first, last in sorted(spans):
        if first < 0 or last > 8 * size:
            raise ImageError(f"{kind} {name or '(unnamed)'} of {size} bytes has a member past its end: corrupt")
        if kind == "struct" and first < end and last > first:
            raise ImageError(f"{kind} {name or '(unnamed)'} has members that overlap: corrupt")
        end = max(end, last)


def check_named(name: str, is_record: bool, width: int) -> None:
    """Check that a member without a name is a struct, a union or a bit field, as C has it: ImageError."""
    if not name and not is_record and not width:
        raise ImageError("a struct has a member without a name: the type information is corrupt")
