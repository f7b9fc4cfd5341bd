"""Second readers, slow and simple, for judging what memshell says about a mutated image."""

from __future__ import annotations

import contextlib
import io
import struct

import vmlinux_build


def btf_page(data):
    """(size, {member: offset of the direct, named ones}) of every struct page that the BTF blob defines."""
    order = "<" if data[0] == 0x9F else ">"
    head, types, length, strings, _ = struct.unpack_from(order + "IIIII", data, 4)
    at, end, found = head + types, head + types + length, []
    extra = {1: 1, 3: 3, 14: 1, 17: 1}
    each = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
    text = lambda o: data[head + strings + o :].split(b"\0")[0].decode("utf-8", "replace")  # noqa: E731
    while at < end:
        name, info, size = struct.unpack_from(order + "III", data, at)
        kind, count = info >> 24 & 31, info & 0xFFFF
        if kind in {4, 5} and text(name) == "page":
            rows = [struct.unpack_from(order + "III", data, at + 12 + 12 * i) for i in range(count)]
            mask = 0xFFFFFF if info >> 31 else 0xFFFFFFFF
            found.append((size, {text(row[0]): (row[2] & mask) // 8 for row in rows if row[0]}))
        at += 12 + 4 * (extra.get(kind, 0) + each.get(kind, 0) * count)
    return found


def dwarf_page(data):
    """The same of every struct page that pyelftools meets when it walks all entries, as far as it can."""
    found = []
    with contextlib.suppress(Exception):
        for die in _entries(data):
            attributes = die.attributes
            if die.tag in {"DW_TAG_structure_type", "DW_TAG_union_type", "DW_TAG_class_type"}:
                is_page = "DW_AT_name" in attributes and attributes["DW_AT_name"].value == b"page"
                current = (attributes["DW_AT_byte_size"].value, {}) if is_page else None
                found += [current] if current else []
            elif die.tag == "DW_TAG_member" and found and "DW_AT_name" in attributes:
                place = attributes.get("DW_AT_data_member_location")
                found[-1][1].setdefault(attributes["DW_AT_name"].value.decode("latin-1"), place.value if place else 0)
    return found


def _entries(data):
    from elftools.elf.elffile import ELFFile

    order = "<" if data[5] == 1 else ">"
    start, count = struct.unpack_from(order + "Q", data, 40)[0], struct.unpack_from(order + "H", data, 60)[0]
    rows = [struct.unpack_from(order + "IIQQQQ", data, start + 64 * i) for i in range(count)]
    names = data[rows[-1][4] :]
    found = {
        names[row[0] :].split(b"\0")[0].decode("latin-1"): data[row[4] : row[4] + row[5]] for row in reversed(rows)
    }
    clean = vmlinux_build.elf({n: d for n, d in found.items() if n.startswith(".debug_")}, order)
    for unit in ELFFile(io.BytesIO(clean)).get_dwarf_info(relocate_dwarf_sections=False).iter_CUs():
        yield from unit.iter_DIEs()
