"""A damaged or hostile file gives one line, soon and in little memory; never a traceback or a wrong number."""

import gzip
import lzma
import os
import struct
import subprocess
import sys
import zlib

import pytest
import vmlinux_build as b
import vmlinux_sample as sample

from memshell.errors import ImageError
from memshell.vmlinux import Image, read_facts


def refused(path, match):
    with pytest.raises(ImageError, match=match) as caught:
        read_facts(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def plain(name):
    """Files that are no kernel, by name."""
    return {
        "empty": (b"", "empty"),
        "text": (b"Linux version 6.1 is what I run\n" * 9, "not a kernel image"),
        "zeros": (bytes(100_000), "not a kernel image"),
        "short ELF": (b"\x7fELF\2\1", "too short|truncated"),
        "32 bit": (b"\x7fELF\1\1\1" + bytes(60), "32-bit"),
        "core dump": (b.elf({"note0": b"x"}, kind=4), "core dump"),
        "unknown machine": (b.elf({".BTF": sample.btf()}, machine=40), "machine 40"),
        "no types": (b.elf({".text": b"x"}), "no .BTF, no DWARF and no symbols"),
        "another program": (b.elf({".BTF": b.btf([b.Int("int", 4)])}), "is it a kernel image"),
        "cut": (sample.image()[:-40], "truncated"),
        "half a gzip": (gzip.compress(sample.image())[:400], "truncated"),
        "half an xz": (lzma.compress(sample.image())[:400], "truncated"),
        "broken gzip": (b"\x1f\x8b\x08" + b"\xff" * 99, "corrupt"),
        "lzo": (b"\x89LZO\0" + bytes(99), "lzo, which memshell does not read"),
        "layers": (layers(sample.image(), 7), "layers of compression"),
    }[name]


def layers(data, count):
    for _ in range(count):
        data = gzip.compress(data)
    return data


PLAIN = (
    "empty", "text", "zeros", "short ELF", "32 bit", "core dump", "unknown machine", "no types",
    "another program", "cut", "half a gzip", "half an xz", "broken gzip", "lzo", "layers",
)  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_kernel(tmp_path, name):
    data, match = plain(name)
    (tmp_path / "file").write_bytes(data)
    refused(tmp_path / "file", match)


def test_what_is_no_file(tmp_path):
    refused(tmp_path, "a directory")
    refused(tmp_path / "missing", "No such file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    refused("/dev/zero", "not a regular file")


BOMB = 200 << 20


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gzip", "xz", "section"])
def test_bombs_are_stopped(tmp_path, how):
    zeros = bytes(BOMB)
    if how == "section":
        head = struct.pack("<IIQQ", 1, 0, BOMB, 1)
        data = b.elf({".debug_info": b.Section(head + zlib.compress(zeros, 1), flags=0x800)})
    else:
        data = gzip.compress(zeros, 1) if how == "gzip" else lzma.compress(zeros, preset=0)
    (tmp_path / "bomb").write_bytes(data)
    refused(tmp_path / "bomb", "times its size")


def test_a_compressed_section_must_have_the_size_that_it_claims(tmp_path):
    for claim, message in ((1 << 40, "reads up to"), (101, "its header says"), (99, "more than is read")):
        head = struct.pack("<IIQQ", 1, 0, claim, 1)
        sections = {".debug_info": b.Section(head + zlib.compress(b"x" * 100), flags=0x800)}
        (tmp_path / "vmlinux").write_bytes(b.elf(sections))
        refused(tmp_path / "vmlinux", message)


def test_a_section_that_claims_more_than_the_file(tmp_path):
    (tmp_path / "vmlinux").write_bytes(b.elf({".BTF": b.Section(sample.btf(), size=1 << 60)}))
    refused(tmp_path / "vmlinux", "section .BTF: needs bytes")


def btf_of(words, strings=b"\0page\0flags\0"):
    body = struct.pack(f"<{len(words)}I", *words)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


BTF = {
    "members that refer to themselves": ([1, 4 << 24 | 1, 64, 0, 1, 0], "contain each other|past its end|overlap"),
    "typedefs in a circle": ([1, 8 << 24, 2, 1, 8 << 24, 1], "circle"),
    "a type that does not exist": ([1, 4 << 24 | 1, 64, 6, 99, 0], "refers to type 99"),
    "a name outside of the strings": ([1, 4 << 24 | 1, 64, 9999, 0, 0], "outside of the string table"),
    "an unknown kind": ([1, 30 << 24, 0], "kind 30"),
    "an end in the middle": ([1, 4 << 24 | 9, 64, 6, 0, 0], "in the middle"),
    "a member past the end": ([1, 4 << 24 | 1, 8, 6, 2, 64, 6, 1 << 24, 8, 64], "past its end"),
    "members that overlap": ([1, 4 << 24 | 2, 16, 6, 2, 0, 7, 2, 32, 6, 1 << 24, 8, 64], "overlap"),
    "two members of one name": ([1, 4 << 24 | 2, 16, 6, 2, 0, 6, 2, 64, 6, 1 << 24, 8, 64], "two members"),
    "a page that cannot be": ([1, 4 << 24 | 1, 80, 6, 2, 0, 6, 1 << 24, 8, 64], "cannot be"),
}


@pytest.mark.parametrize("name", BTF)
def test_hostile_btf(tmp_path, name):
    words, match = BTF[name]
    (tmp_path / "btf").write_bytes(btf_of(words))
    refused(tmp_path / "btf", match)


def test_unions_that_double_at_every_level_are_stopped(tmp_path):
    words = [1, 4 << 24 | 2, 0, 0, 2, 0, 0, 2, 0]
    for level in range(2, 40):
        words += [0, 5 << 24 | 2, 0, 0, level + 1, 0, 0, level + 1, 0]
    words += [0, 5 << 24, 0]
    (tmp_path / "btf").write_bytes(btf_of(words))
    refused(tmp_path / "btf", "too deeply")


def dwarf_of(change):
    sections = b.Dwarf(sample.types()).sections()
    return sample.image("x86_64", change(sections))


def sibling_loop():
    """A unit whose first struct has a sibling that points at itself."""
    abbrev = b"\1\x11\1\0\0" + b"\2\x13\1\x01\x13\x03\x08\x0b\x0b\0\0" + b"\0"
    body = b"\1" + b"\2" + struct.pack("<I", 13) + b"page\0" + b"\x40" + b"\0\0"
    head = struct.pack("<HBBI", 5, 1, 8, 0)
    info = struct.pack("<I", len(head) + len(body)) + head + body
    return b.elf({".debug_info": info, ".debug_abbrev": abbrev, ".debug_str": b"\0"})


def test_siblings_that_point_backwards(tmp_path):
    # pyelftools' own loop over children has no end here.
    (tmp_path / "vmlinux").write_bytes(sibling_loop())
    refused(tmp_path / "vmlinux", "backwards")


def test_a_unit_that_does_not_fit(tmp_path):
    def change(sections):
        return {**sections, ".debug_info": b"\xf0\xff\xff\x7f" + sections[".debug_info"][4:]}

    (tmp_path / "vmlinux").write_bytes(dwarf_of(change))
    refused(tmp_path / "vmlinux", "does not fit")


def test_an_abbreviation_that_does_not_exist(tmp_path):
    def change(sections):
        return {**sections, ".debug_abbrev": sections[".debug_abbrev"][:40] + b"\0" * 40}

    (tmp_path / "vmlinux").write_bytes(dwarf_of(change))
    refused(tmp_path / "vmlinux", "abbreviation|corrupt")


def test_many_tiny_units(tmp_path):
    unit = struct.pack("<IHBBI", 8, 5, 1, 8, 0)
    sections = {".debug_info": unit * 300_000, ".debug_abbrev": b"\0", ".debug_str": b"\0mm/memory_hotplug.c\0"}
    (tmp_path / "vmlinux").write_bytes(b.elf(sections))
    refused(tmp_path / "vmlinux", "units")


def unlinked(relocations):
    """An object whose string offsets are all 0 until its relocations are applied."""
    dwarf = b.Dwarf(sample.types())
    sections = dwarf.sections()
    info = bytearray(sections[".debug_info"])
    rows, at = [], 0
    names = {dwarf.strings.add(text): text for text in ("page", "flags", "lru", "_refcount", "mem_section", "zone")}
    while at + 4 < len(info):
        offset = int.from_bytes(info[at : at + 4], "little")
        if offset in names and offset > 60:
            rows.append((at, offset))
            info[at : at + 4] = bytes(4)
            at += 3
        at += 1
    kind = 10 if relocations == "known" else 99
    table = b"".join(struct.pack("<QQq", place, 0 << 32 | kind, offset) for place, offset in rows)
    sections[".debug_info"] = bytes(info)
    if relocations:
        sections[".rela.debug_info"] = b.Section(table, 4, link=".symtab", info=1)
    return b.elf(sections, kind=1, symbols=[("x", 0, 0, 1, 1)])


def test_an_object_is_relocated(tmp_path):
    (tmp_path / "memory_hotplug.o").write_bytes(unlinked("known"))
    assert Image(tmp_path / "memory_hotplug.o").struct("page").size == 64


def test_an_unknown_relocation_is_refused(tmp_path):
    (tmp_path / "memory_hotplug.o").write_bytes(unlinked("unknown"))
    refused(tmp_path / "memory_hotplug.o", "relocation type 99")


def test_an_object_without_its_relocations_gives_no_number(tmp_path):
    # All names are the string at 0 then: a naive reader says that struct page has 16 bytes.
    sections = b.Dwarf(sample.types()).sections()
    info = sections[".debug_info"]
    first = b"page\0"
    strings = first + sections[".debug_str"][len(first) :]
    zeroed = bytearray(info)
    for at in range(40, len(info) - 4):
        if 5 < int.from_bytes(info[at : at + 4], "little") < len(strings):
            zeroed[at : at + 4] = bytes(4)
    sections |= {".debug_info": bytes(zeroed), ".debug_str": strings}
    (tmp_path / "x.o").write_bytes(b.elf(sections, kind=1))
    refused(tmp_path / "x.o", "corrupt|cannot be|none of the kernel")


@pytest.mark.slow
def test_the_worst_stay_within_the_memory_that_is_promised(tmp_path):
    resource = pytest.importorskip("resource")
    files = {"bomb.gz": gzip.compress(bytes(BOMB), 1), "loop": sibling_loop()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    limit = 512 << 20

    def bound():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    for name in files:
        command = [sys.executable, "-m", "memshell", "vmlinux", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound, check=False, timeout=60)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "MemoryError" not in done.stderr


@pytest.mark.slow
def test_names_made_to_be_slow_to_find(tmp_path):
    # Every string ends in "page", and no unit is that of memory hotplug.
    strings = b"\0".join(b"%d_page" % n for n in range(200_000)) + b"\0"
    sections = {".debug_info": struct.pack("<IHBBI", 8, 5, 1, 8, 0) * 49_000, ".debug_abbrev": b"\0"}
    (tmp_path / "vmlinux").write_bytes(b.elf({**sections, ".debug_str": strings}))
    with pytest.raises(ImageError, match="ends 100000 longer names"):
        Image(tmp_path / "vmlinux").find_struct("page")
    refused(tmp_path / "vmlinux", "is it a kernel image")
    types = [1, 4 << 24, 8] * 100
    (tmp_path / "btf").write_bytes(btf_of(types, b"\0" + b"page\0" * 100_000))
    refused(tmp_path / "btf", "is the end of more than")


def test_tables_without_an_end_of_their_names(tmp_path):
    body = struct.pack("<300000I", *([1, 4 << 24, 8] * 100_000))
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), 8 << 20)
    (tmp_path / "btf").write_bytes(head + body + b"\0" + b"x" * ((8 << 20) - 1))
    with pytest.raises(ImageError):
        Image(tmp_path / "btf").struct_names()
