"""Facts as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memshell.vmlinux.facts import ENUMS, Facts
from memshell.vmlinux.layout import Enum, Struct


def render(facts: Facts, structs: Iterable[str] = (), columns: int = 0) -> str:
    """All of it as lines; the *structs* that were asked for come with their members.

    What is long goes on in the next line when a terminal has only so many *columns*; 0 is no limit.
    """
    asked = list(structs)
    lines = [*_head(facts), "", *_facts(facts, columns), "", *_sizes(facts)]
    for name in asked:
        found = facts.structs.get(name)
        lines += ["", *(struct_lines(found) if found else [f"struct {name}: not in the file"])]
    if facts.symbols:
        lines += ["", *_symbols(facts)]
    return "\n".join(lines) + "\n"


def _head(facts: Facts) -> Iterator[str]:
    yield facts.file
    words = [facts.arch or "unknown architecture", f"{facts.bits}-bit"]
    words += [f"{facts.endian} endian"] if facts.endian else []
    source = {"dwarf": "types from DWARF", "btf": "types from BTF", "symbols": "no types in it: symbols only"}
    yield "  " + ", ".join([*words, facts.release or "release unknown", source.get(facts.source, "no types in it")])


def _facts(facts: Facts, columns: int) -> Iterator[str]:
    width = max(len(name) for name in facts.facts)
    for name, fact in facts.facts.items():
        mark = " " if fact.read else "?"
        start = f"{mark} {name:{width}} {'-' if fact.value is None else fact.value!s:>10}  "
        yield from _wrapped(start, fact.how, columns)


def _wrapped(start: str, text: str, columns: int) -> list[str]:
    """Return *text* behind *start*, and what is too long for it below, as far in as there is room."""
    if not columns or len(start) + len(text) <= columns:
        return [start + text]
    from textwrap import wrap

    return wrap(text, max(columns, 40), initial_indent=start, subsequent_indent=" " * min(len(start), columns // 2))


def _sizes(facts: Facts) -> Iterator[str]:
    found = {name: one for name, one in facts.structs.items() if one}
    missing = [name for name, one in facts.structs.items() if one is None]
    if found:
        width = max(len(name) for name in found)
        yield "sizes in bytes"
        yield from (f"  {one.kind + ' ' + name:{width + 7}} {one.size:>8}" for name, one in found.items())
    if missing:
        yield "not in the file: " + ", ".join(missing)
    enums = [f"{name} ({len(one.values)})" for name in ENUMS if (one := facts.enums.get(name))]
    if enums:
        yield "enumerations: " + ", ".join(enums)


def _symbols(facts: Facts) -> Iterator[str]:
    yield "symbols"
    width = max(len(name) for name in facts.symbols)
    for name, address in facts.symbols.items():
        yield f"  {name:{width}} " + ("not in the file" if address is None else f"{address:#018x}")


def struct_lines(struct: Struct) -> list[str]:
    """Offset, size and name of each member; a bit field shows ``:width``, an array ``[bound]``."""
    lines = [f"{struct.kind} {struct.name} ({struct.size} bytes, {struct.how})", "  offset   size"]
    for member in struct.members.values():
        name = member.name if member.count is None else f"{member.name}[{member.count}]"
        name += f" :{member.bits[1]}" if member.bits else ""
        lines.append(f"  {member.offset:>6} {member.size:>6}  {name}")
    return lines


def enum_lines(enum: Enum) -> list[str]:
    """An enumeration as one line for each value, with all the names that share it."""
    by_value: dict[int, list[str]] = {}
    for name, value in enum.values.items():
        by_value.setdefault(value, []).append(name)
    lines = [f"  {value:>4}  {', '.join(names)}" for value, names in sorted(by_value.items())]
    return [f"enum {enum.name} ({enum.how})", *lines]
