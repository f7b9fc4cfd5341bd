"""The guest's memory from outside: page tables and struct pages that were put together by hand."""

from pathlib import Path
from struct import pack, pack_into
from types import SimpleNamespace

import pytest

from memshell.lab.outside import PAGE_OFFSET, VMEMMAP, Outside
from memshell.lab.struct_page import MASKS, StructPage, page_flags, runs_of

BITS = {2: 3, 4: 5, 12: 32}  # uptodate, lru, reserved of 6.1
OFFSETS = {"flags": 0, "compound_head": 8, "mapping": 24, "private": 40, "page_type": 48, "_refcount": 52}
OLD = StructPage(64, OFFSETS, BITS, 16, MASKS, by_byte=False)
NEW = StructPage(64, OFFSETS, BITS, 6, {"buddy": 0xF0, "offline": 0xF1, "table": 0xF2, "slab": 0xF5}, by_byte=True)
BUDDY, NO_TYPE = 0xFFFFFF7F, 0xFFFFFFFF


def page(flags=0, head=0, mapping=0, private=0, kind=NO_TYPE):
    return pack("<8Q", flags, head, 0, mapping, 0, private, kind, 0)


def test_free_blocks_are_read_whole():
    data = page(kind=BUDDY, private=1) + page() + page(kind=BUDDY, private=0) + page(kind=BUDDY, private=0) + page()
    runs, chunks = runs_of(OLD, 100, data)
    assert {(pfn, flags) for a, b, flags in runs for pfn in range(a, b)} == {
        *((pfn, 1 << 10) for pfn in range(100, 104)),
        (104, 0),
    }
    assert chunks == [[100, 1, 1], [102, 0, 2]]


@pytest.mark.parametrize(
    "layout, fields, shown",
    [
        (OLD, {"kind": BUDDY}, 1 << 10),
        (OLD, {"kind": 0xFFFFFEFF}, 1 << 23),
        (NEW, {"kind": 0xF0000000}, 1 << 10),
        (NEW, {"kind": 0xF1000000}, 1 << 23),
        (NEW, {"kind": 0xF5000000}, 1 << 7),
        (OLD, {"flags": 1 << 12}, 1 << 32),
        (OLD, {"flags": 1 << 4 | 1 << 2, "anon": 1, "kind": 0}, 1 << 3 | 1 << 5 | 1 << 11 | 1 << 12),
        (OLD, {"flags": 1 << 16}, 1 << 15),
        (OLD, {"tail": 1}, 1 << 16),
    ],
)
def test_what_kpageflags_makes_of_a_page(layout, fields, shown):
    values = {"flags": 0, "tail": 0, "anon": 0, "kind": NO_TYPE, **fields}
    assert page_flags(layout, **values) == shown


class Machine:
    """Physical memory behind a monitor: page tables at 4K steps."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.memory = bytearray(1 << 20)

    def set_entry(self, table, index, value):
        pack_into("<Q", self.memory, table + 8 * index, value)

    def command(self, name, **arguments):
        if name == "human-monitor-command":
            return "RIP=0 CR3=0000000000001000 CR4=0"
        start, size = arguments["val"], arguments["size"]
        Path(arguments["filename"]).write_bytes(self.memory[start : start + size])
        return {}


def test_page_tables_are_walked(tmp_path):
    machine = Machine(tmp_path)
    machine.set_entry(0x1000, PAGE_OFFSET >> 39 & 511, 0x2000 | 1)
    machine.set_entry(0x2000, 4, 0x3000 | 1)  # 4G
    for i in range(3):
        machine.set_entry(0x3000, i, (4 << 30) + (i << 21) | 0x80 | 1)
    machine.set_entry(0x2000, 5, 5 << 30 | 0x80 | 1)
    found = Outside(machine, OLD, 1 << 20).mapping(PAGE_OFFSET + (4 << 30), PAGE_OFFSET + (6 << 30))
    assert found.leaves == [
        [PAGE_OFFSET + (4 << 30), 3, 2 << 20, 4 << 18],
        [PAGE_OFFSET + (5 << 30), 1, 1 << 30, 5 << 18],
    ]
    assert found.tables == {"p4d_pud": [[PAGE_OFFSET, 2]], "pmd": [[PAGE_OFFSET + (4 << 30), 3]], "pte": []}


def test_pages_of_offline_memory_are_as_kpageflags_shows_none(tmp_path):
    machine = Machine(tmp_path)
    step = Outside(machine, OLD, 1 << 20).pages([(1 << 20, (1 << 20) + 32768)], [])
    assert step["kpageflags_runs"] == [[1 << 20, 32768, 1 << 20]]
    assert (step["vmemmap_pages"], step["buddy"][0]["chunks"]) == (0, [])


def test_a_monitor_without_cr3_is_told():
    machine = SimpleNamespace(command=lambda *_args, **_words: "nothing")
    with pytest.raises(Exception, match="does not tell CR3"):
        Outside(machine, OLD, 0).mapping(VMEMMAP, VMEMMAP + 4096)
