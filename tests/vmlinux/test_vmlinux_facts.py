"""A fact is read, or said not to be there: a default dressed as a reading would be believed."""

import gzip
import json

import pytest
import vmlinux_build as b
import vmlinux_sample as sample

from memshell.__main__ import main
from memshell.errors import ImageError
from memshell.vmlinux import Image, enum_lines, read_facts, struct_lines


@pytest.fixture
def write(tmp_path):
    def write(data, name="vmlinux"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("size", [4096, 65536])
@pytest.mark.parametrize("symbol", ["vdso_data_store", "empty_zero_page"])
def test_page_size_of_powerpc_comes_from_a_symbol(write, size, symbol):
    path = write(sample.image("ppc64le", more=[(symbol, 0x81010000, size, 1, 1)]))
    fact = read_facts(path).facts["page_size"]
    assert (fact.value, fact.how, fact.read) == (size, f"size of symbol {symbol}", True)


def test_page_size_is_not_the_size_of_a_pointer_to_the_zero_page(write):
    # s390x: empty_zero_page is a pointer there.
    path = write(sample.image("s390x", more=[("empty_zero_page", 0x81010000, 8, 1, 1)]))
    fact = read_facts(path).facts["page_size"]
    assert (fact.value, fact.read) == (4096, False)


def test_page_size_from_the_enumeration_of_newer_kernels(write):
    roots = [*sample.types(), b.Enumeration("page_size_enum", {"__PAGE_SIZE": 4096})]
    fact = read_facts(write(sample.image("ppc64", roots=roots))).facts["page_size"]
    assert (fact.value, fact.read) == (4096, True)


def test_page_size_from_the_configuration_beside_the_image(write):
    path = write(sample.image("ppc64"), "vmlinux-6.99.0-sample")
    assert read_facts(path).facts["page_size"].read is False
    write(b"CONFIG_PPC_4K_PAGES=y\n# CONFIG_PPC_64K_PAGES is not set\n", "config-6.99.0-sample")
    facts = read_facts(path).facts
    assert (facts["page_size"].value, facts["page_size"].read) == (4096, True)
    assert facts["config.PPC_64K_PAGES"].value == "n"
    assert facts["config.PPC_4K_PAGES"].how == "config-6.99.0-sample"


def test_configuration_inside_the_image(write):
    text = gzip.compress(b'CONFIG_MEMORY_HOTPLUG=y\nCONFIG_LOCALVERSION="-x"\n')
    rodata = b.Section(sample.BANNER + b"IKCFG_ST" + text + b"IKCFG_ED", addr=sample.BANNER_ADDRESS)
    data = b.elf({".rodata": rodata, ".BTF": sample.btf()}, symbols=sample.symbols())
    fact = read_facts(write(data)).facts["config.MEMORY_HOTPLUG"]
    assert (fact.value, fact.how) == ("y", "IKCONFIG in the image")


def test_given_configuration_that_is_none(write):
    with pytest.raises(ImageError, match="no CONFIG_ line"):
        read_facts(write(sample.image()), config=write(b"hello\n", "config"))


# The lengths of subsection_map are those of x86_64 and s390x, 6.1 and 6.12; 27, 28 and 24 stand in the
# sparsemem.h of each architecture.
@pytest.mark.parametrize(
    "target, longs, value, read",
    [("x86_64", 1, 27, False), ("ppc64", 1, 24, False), ("s390x", 2, 28, True), ("s390x", 1, None, False)],
)
def test_section_size(write, target, longs, value, read):
    fact = read_facts(write(sample.image(target, roots=sample.types(longs=longs)))).facts["section_size_bits"]
    assert (fact.value, fact.read) == (value, read)
    assert ("not in the file" in fact.how) is not read


@pytest.mark.parametrize("orders", [9, 11, 13])  # ppc64 with 64K pages, x86 and s390, ppc64 with 4K pages
def test_largest_order_is_one_less_than_the_bound(write, orders):
    facts = read_facts(write(sample.image("ppc64", roots=sample.types(orders=orders)))).facts
    assert facts["max_order"].value == orders - 1
    assert facts["pageblock_order"].read is False


def test_initial_value_of_a_variable(write):
    data = b.Section(bytes(8) + (1 << 30).to_bytes(8, "big"), addr=0x82000000)
    sections = {".data": data, ".BTF": sample.btf("ppc64"), ".rodata": b.Section(b"", 8, addr=0x90000000, size=64)}
    names = [("memory_block_size", 0x82000008, 8, 1, 1), ("pageblock_order", 0x82000000, 8, 1, 1)]
    facts = read_facts(write(b.elf(sections, ">", 21, symbols=names))).facts
    assert facts["memory_block_size"].value == 1 << 30
    assert facts["pageblock_order"].read is False  # 0 in the file: set at boot


def test_release_from_the_build_salt_when_the_banner_is_not_there(write):
    note = b"\6\0\0\0\7\0\0\0\0\1\0\0Linux\0\0\0" + b"6.99-x\0\0"
    facts = read_facts(write(b.elf({".notes": note, ".BTF": sample.btf()})))
    assert facts.release == "6.99-x"
    assert "salt" in facts.facts["release"].how


def test_global_symbols_win_and_ambiguous_ones_are_refused(write):
    image = Image(write(sample.image()))
    assert image.symbol("twice").address == 0x81004000
    with pytest.raises(ImageError, match="2 symbols are named unclear: 0x81005000, 0x81006000"):
        image.symbol("unclear")
    with pytest.raises(ImageError, match="did you mean online_pages"):
        image.symbol("online_page")
    assert "twice" in image.symbol_names()


def test_names_that_share_their_tail(write):
    data = sample.image(more=[("my_online_pages", 0x8100A000, 8, 1, 1)])
    assert Image(write(data)).symbol("online_pages").address == 0x81002000


def test_names_for_completion(write):
    image = Image(write(sample.image()))
    assert {"page", "zone", "list_head"} <= set(image.struct_names())
    assert image.find_struct("pageflags") is None
    assert image.find_enum("pageflags") is not None
    assert image.enum_names() == ["migratetype", "pageflags", "zone_type"]
    with pytest.raises(ImageError, match="no struct pag in it; did you mean page"):
        image.struct("pag")


def test_json_is_the_contract(write, capsys):
    path = str(write(sample.image()))
    assert main(["vmlinux", path, "--json", "--struct", "list_head,nosuch", "--symbols", "twice,nosuch"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"file", "arch", "endian", "bits", "release", "source", "structs", "facts", "symbols"} <= set(found)
    assert (found["file"], found["bits"], found["source"]) == (path, 64, "btf")
    assert found["structs"]["page"]["members"]["_refcount"] == {"offset": 52, "size": 4}
    assert found["structs"]["list_head"]["size"] == 16
    assert found["structs"]["nosuch"] is None
    assert found["symbols"] == {"twice": 0x81004000, "nosuch": None}
    assert all(set(fact) == {"value", "how"} for fact in found["facts"].values())
    assert {"page_size", "section_size_bits", "max_order"} <= set(found["facts"])


def test_text_marks_what_was_not_read(write, capsys):
    assert main(["vmlinux", str(write(sample.image())), "--struct", "zone", "--symbols", "online_pages,nosuch"]) == 0
    text = capsys.readouterr().out
    assert "x86_64, 64-bit, little endian, 6.99.0-sample, types from BTF" in text
    assert "\n? page_size " in text
    assert "\n  max_order " in text
    assert "free_area[11]" in text
    assert "second :5" in text
    assert "nosuch       not in the file" in text


def test_one_line_and_exit_1(write, capsys):
    assert main(["vmlinux", str(write(b"hello, world\n"))]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "not a kernel image" in message


def test_enum_lines_show_the_names_that_share_a_number(write):
    image = Image(write(sample.image()))
    assert "     2  PG_referenced, PG_alias" in enum_lines(image.enum("pageflags"))
    assert struct_lines(image.struct("list_head"))[-1] == "       8      8  prev"
