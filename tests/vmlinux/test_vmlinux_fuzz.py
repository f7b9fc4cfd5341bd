"""Thousands of damaged images: each gives an ImageError, the right answer, or what its changed bytes really say.

The last is judged by a second, simple reader of the same bytes (``vmlinux_naive``). All is seeded: a failure
comes back.
"""

import random
import struct

import pytest
import vmlinux_build as b
import vmlinux_naive as naive
import vmlinux_sample as sample

from memshell.errors import ImageError
from memshell.vmlinux import Image, read_facts

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
SEEDS = {
    "btf little": (lambda: sample.image("x86_64"), 3000),
    "btf big": (lambda: sample.image("s390x"), 2000),
    "bare btf": (lambda: sample.btf("ppc64"), 1500),
    "dwarf 5": (lambda: sample.image("x86_64", "dwarf"), 2500),
    "dwarf 4 big": (lambda: sample.image("ppc64", "dwarf", version=4), 1500),
    "clang": (lambda: sample.image("ppc64le", "dwarf", names="strx1", siblings=False), 1500),
}
DIRECT = ("flags", "_mapcount", "_refcount", "memcg_data")


def mutate(data, rng):
    """One to four changes: a bit, a number, a cut, a copy of another part."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.randrange(len(out)), rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            value = rng.choice(INTERESTING) & ((1 << 8 * size) - 1)
            out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            source = rng.randrange(len(out))
            out[at : at + 12] = out[source : source + 12]
        elif rng.random() < 0.2:
            del out[at:]
        if len(out) < 8:
            break
    return bytes(out)


def answer(path):
    """Size and the offsets of some members, or None when the file is refused or has no struct page."""
    try:
        page = read_facts(path).structs["page"]
    except ImageError:
        return None
    return page and (page.size, {name: page.members[name].offset for name in DIRECT if name in page.members})


def says(data, found):
    """Whether a second reader finds that answer among the definitions of struct page in the bytes."""
    pages = naive.btf_page(data) if data[:2] in {b"\x9f\xeb", b"\xeb\x9f"} else elf_pages(data)
    size, offsets = found
    return any(s == size and all(members.get(n) == o for n, o in offsets.items()) for s, members in pages)


def elf_pages(data):
    order = "<" if data[5] == 1 else ">"
    start = struct.unpack_from(order + "Q", data, 40)[0]
    count = struct.unpack_from(order + "H", data, 60)[0]
    pages = []
    for number in range(count):
        offset, size = struct.unpack_from(order + "QQ", data, start + 64 * number + 24)
        if data[offset : offset + 2] in {b"\x9f\xeb", b"\xeb\x9f"}:
            pages += naive.btf_page(data[offset : offset + size])
    return pages or naive.dwarf_page(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_mutated_images(tmp_path, seed):
    make, count = SEEDS[seed]
    original = make()
    path = tmp_path / "vmlinux"
    path.write_bytes(original)
    right = answer(path)
    assert right == (64, {"flags": 0, "_mapcount": 48, "_refcount": 52, "memcg_data": 56})
    rng = random.Random(seed)
    refused = 0
    for number in range(count):
        data = mutate(original, rng)
        path.write_bytes(data)
        found = answer(path)
        refused += found is None
        if found is not None and found != right:
            assert says(data, found), f"mutation {number}: {found}"
    assert 0 < refused < count


def test_every_cut_of_an_image(tmp_path):
    original = sample.image("x86_64", "dwarf")
    path = tmp_path / "vmlinux"
    for end in range(0, len(original), 41):
        path.write_bytes(original[:end])
        with pytest.raises(ImageError):
            Image(path).struct("page")


def test_random_bytes_behind_each_magic(tmp_path):
    rng = random.Random(5)
    magics = (b"\x7fELF\2\1\1", b"\x7fELF\2\2\1", b"\x9f\xeb\1\0", b"\xeb\x9f\1\0", b"\x1f\x8b\x08", b"\xfd7zXZ\0")
    magics += (b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\0" * 0x202 + b"HdrS")
    path = tmp_path / "file"
    for number in range(900):
        path.write_bytes(magics[number % len(magics)] + rng.randbytes(rng.randrange(1200)))
        with pytest.raises(ImageError):
            read_facts(path)


def test_objects_whose_type_of_file_is_damaged(tmp_path):
    # The trap: DWARF of an object that is not linked, in a file that claims to be.
    sections = b.Dwarf(sample.types()).sections()
    blank = bytearray(sections[".debug_info"])
    for at in range(40, len(blank) - 4):
        if 0 < int.from_bytes(blank[at : at + 4], "little") < len(sections[".debug_str"]):
            blank[at : at + 4] = bytes(4)
    path = tmp_path / "vmlinux"
    for kind in (1, 2, 3):
        path.write_bytes(b.elf({**sections, ".debug_info": bytes(blank)}, kind=kind))
        assert answer(path) is None
