"""Every format of every target gives the same answer: a wrong offset in one of them would mislead all experiments."""

import bz2
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
import vmlinux_build as b
import vmlinux_sample as sample

from memshell.errors import ImageError
from memshell.vmlinux import Image, read_facts

OFFSETS = {
    "flags": 0, "lru": 8, "mapping": 24, "index": 32, "compound_head": 8, "_mapcount": 48,
    "_mapcount.counter": 48, "_refcount": 52, "_refcount.counter": 52, "memcg_data": 56,
}  # fmt: skip
DWARF = {
    "dwarf5": {},
    "dwarf4": {"version": 4},
    "inline names": {"names": "string"},
    "clang": {"names": "strx1", "siblings": False},
    "clang 4": {"version": 4, "siblings": False},
    "absolute path": {"unit": "/build/linux/mm/memory_hotplug.c"},
    "other unit": {"unit": "drivers/other.c"},
}


def check_sample(path):
    facts = read_facts(path, symbols=["online_pages"])
    page = facts.structs["page"]
    assert page.size == 64
    assert {name: member.offset for name, member in page.members.items()} == OFFSETS
    assert page.members["lru"].size == 16
    assert page.members["mapping"].size == 8
    zone = facts.structs["zone"]
    assert (zone.size, zone.members["free_area"].count) == (56 * 11 + 8, 11)
    assert zone.members["second"].to_json() == {"offset": 616, "size": 4, "bit_offset": 3, "bit_size": 5}
    assert facts.structs["mem_section_usage"].members["pageblock_flags"].size == 0
    assert facts.enums["pageflags"].values == sample.FLAGS
    assert facts.enums["migratetype"].values == sample.MIGRATE
    assert facts.facts["max_order"].value == 10
    assert facts.facts["max_nr_zones"].value == 2
    assert facts.symbols == {"online_pages": 0x81002000}
    assert facts.release == "6.99.0-sample"
    return facts


@pytest.mark.parametrize("target", sample.TARGETS)
def test_btf_of_every_target(tmp_path, target):
    (tmp_path / "vmlinux").write_bytes(sample.image(target))
    facts = check_sample(tmp_path / "vmlinux")
    assert (facts.arch, facts.source) == (target, "btf")
    assert facts.endian == ("little" if sample.TARGETS[target][0] == "<" else "big")


@pytest.mark.parametrize("target", sample.TARGETS)
@pytest.mark.parametrize("form", DWARF)
def test_dwarf_of_every_target_and_compiler(tmp_path, target, form):
    (tmp_path / "vmlinux").write_bytes(sample.image(target, "dwarf", **DWARF[form]))
    facts = check_sample(tmp_path / "vmlinux")
    assert (facts.arch, facts.source) == (target, "dwarf")


def compressed(sections, order, how):
    if how == "zdebug":
        return {
            name.replace(".debug", ".zdebug"): b"ZLIB" + len(data).to_bytes(8, "big") + zlib.compress(data)
            for name, data in sections.items()
        }
    number, squeeze = {"zlib": (1, zlib.compress), "zstd": (2, None), "unknown": (9, bz2.compress)}[how]
    if squeeze is None:
        squeeze = pytest.importorskip("zstandard").ZstdCompressor().compress
    head = lambda data: struct.pack(order + "IIQQ", number, 0, len(data), 1)  # noqa: E731
    return {name: b.Section(head(data) + squeeze(data), flags=0x800) for name, data in sections.items()}


@pytest.mark.parametrize("how", ["zlib", "zstd", "zdebug"])
@pytest.mark.parametrize("target", ["x86_64", "s390x"])
def test_compressed_debug_sections(tmp_path, target, how):
    order = sample.TARGETS[target][0]
    sections = compressed(b.Dwarf(sample.types(), order).sections(), order, how)
    (tmp_path / "vmlinux").write_bytes(sample.image(target, sections))
    check_sample(tmp_path / "vmlinux")


def test_a_compression_from_the_future_is_named(tmp_path):
    sections = compressed(b.Dwarf(sample.types()).sections(), "<", "unknown")
    (tmp_path / "vmlinux").write_bytes(sample.image("x86_64", sections))
    with pytest.raises(ImageError, match="type 9"):
        read_facts(tmp_path / "vmlinux")


@pytest.mark.parametrize("size", [56, 64, 72, 80, 96])  # the sizes that include/linux/mm.h allows
@pytest.mark.parametrize("debug", ["btf", "dwarf"])
def test_the_size_of_struct_page_is_read_not_assumed(tmp_path, size, debug):
    (tmp_path / "vmlinux").write_bytes(sample.image("x86_64", debug, roots=sample.types(page_size=size)))
    assert read_facts(tmp_path / "vmlinux").facts["sizeof_struct_page"].value == size


def units(*parts):
    """Several units that share one string table, as a linker leaves them."""
    info, abbrev = b"", b""
    for part in parts:
        sections = part.sections()
        unit = sections[".debug_info"]
        info += unit[:8] + len(abbrev).to_bytes(4, "little") + unit[12:]
        abbrev += sections[".debug_abbrev"]
    return {".debug_info": info, ".debug_abbrev": abbrev, ".debug_str": bytes(parts[0].strings.data)}


def test_a_struct_of_any_unit_is_found_by_its_name(tmp_path):
    strings = b.Strings()
    wanted = b.Record("struct", "far_away", 8, [("only", b.Int("long", 8), 0)])
    parts = [b.Dwarf([b.Int("int", 4)], unit=f"fs/file{n}.c", strings=strings) for n in range(60)]
    parts.insert(7, b.Dwarf(sample.types(), strings=strings))
    parts.insert(33, b.Dwarf([wanted], unit="fs/wanted.c", strings=strings))
    (tmp_path / "vmlinux").write_bytes(sample.image("x86_64", units(*parts)))
    image = Image(tmp_path / "vmlinux")
    assert image.struct("page").how == "DWARF 5, unit mm/memory_hotplug.c"
    assert image.struct("far_away").how == "DWARF 5, unit fs/wanted.c"
    assert image.find_struct("only") is None


SOURCE = Path(__file__).with_name("sample.c")
GCC = shutil.which("gcc")
FLAGS = {
    "dwarf 5": ["-gdwarf-5"],
    "dwarf 4": ["-gdwarf-4"],
    "dwarf 64": ["-gdwarf-5", "-gdwarf64"],
    "strict 3": ["-gdwarf-3", "-gstrict-dwarf"],
    "compressed": ["-gdwarf-5", "-gz=zlib"],
    "optimized": ["-gdwarf-5", "-O2"],
    "relocations kept": ["-gdwarf-5", "-Wl,--emit-relocs"],
    "not linked": ["-gdwarf-5", "-c"],
    "not linked, compressed": ["-gdwarf-5", "-c", "-gz=zlib"],
}


@pytest.mark.skipif(GCC is None, reason="needs gcc")
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_what_gcc_writes(tmp_path, flags):
    out = tmp_path / "vmlinux"
    link = [] if "-c" in flags else ["-nostdlib", "-static", "-no-pie", "-Wl,-e,start"]
    subprocess.run([GCC, "-ffreestanding", *link, *flags, "-o", out, SOURCE], check=True, capture_output=True)
    image = Image(out)
    page = image.struct("page")
    # sample.c asserts these numbers at compile time.
    assert page.size == 64
    assert (page.members["lru"].offset, page.members["_refcount"].offset) == (8, 52)
    assert image.struct("bits").members["middle"].bits == (3, 9)
    assert image.struct("grid").members["cells"].count == 12
    assert image.struct("alias_t").size == 16
    assert image.enum("pageflags").values == {"PG_locked": 0, "PG_negative": -7, "__NR_PAGEFLAGS": 24}
    assert image.find_struct("only_declared") is None


@pytest.mark.skipif(GCC is None, reason="needs gcc")
def test_a_type_unit_is_refused_by_name(tmp_path):
    out = tmp_path / "vmlinux"
    flags = ["-ffreestanding", "-gdwarf-5", "-fdebug-types-section", "-c"]
    subprocess.run([GCC, *flags, "-o", out, SOURCE], check=True, capture_output=True)
    with pytest.raises(ImageError, match=r"type units|none of the kernel's types"):
        read_facts(out)
