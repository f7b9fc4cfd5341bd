"""Pieces of real kernels give exactly what drgn, pahole and gdb said of the whole ones.

The files are not part of the project: ``MEMSHELL_FIXTURES`` names their folder, else one beside the checkout
is used.
"""

import json
import os
from pathlib import Path

import pytest

from memshell.errors import ImageError
from memshell.vmlinux import read_facts

FOLDER = Path(os.environ.get("MEMSHELL_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
TRUTH_FILE = FOLDER.parent / "reference" / "vectors" / "vmlinux_truth.json"
TRUTH = json.loads(TRUTH_FILE.read_text()) if TRUTH_FILE.is_file() else {}
PIECES = [
    (kernel, path.name) for kernel in TRUTH for path in sorted(FOLDER.glob(f"{kernel.removesuffix('-objects')}.*"))
]
TINY = sorted(path.name for path in (FOLDER / "tiny").glob("*") if path.suffix in {".elf", ".o"})

pytestmark = pytest.mark.skipif(not PIECES, reason="no kernel fixtures here")


@pytest.mark.parametrize("kernel, name", PIECES)
def test_every_number_of_a_real_kernel(kernel, name):
    truth = TRUTH[kernel]
    known = {n: int(symbol["value"], 16) for n, symbol in truth["symbols"].items()}
    facts = read_facts(FOLDER / name, structs=truth["sizeof"], symbols=known)
    assert (facts.arch, facts.endian) == (truth["arch"], truth["endian"])
    for struct, offsets in truth["offsets"].items():
        found = facts.structs[struct]
        assert found.size == truth["sizeof"][struct]
        assert {member.name: member.offset for member in found.members.values()} == offsets
    for struct, size in truth["sizeof"].items():  # one unit does not have them all
        assert facts.structs[struct] is None or facts.structs[struct].size == size
    for struct, counts in truth.get("array_counts", {}).items():
        found = facts.structs[struct]
        assert {n: found.members[n].count for n in counts} == counts
    for enum, found in facts.enums.items():
        assert found.values == truth["enums"][enum]
    kept = {n: address for n, address in facts.symbols.items() if address is not None}
    assert kept == {n: known[n] for n in kept}
    assert len(kept) >= min(7, len(known))
    assert facts.facts["page_size"].value == truth["page_size"]
    assert facts.facts["max_order"].value == truth["nr_page_orders"] - 1
    assert facts.facts["section_size_bits"].value == truth["section_size_bits"]


@pytest.mark.parametrize("name", TINY)
def test_tiny_images_of_other_compilers(name):
    # tiny/page.c: made-up types; struct page is aligned to 16 and has 64 bytes.
    facts = read_facts(FOLDER / "tiny" / name)
    page = facts.structs["page"]
    assert page.size == 64
    assert {n: page.members[n].offset for n in ("lru", "mapping", "_refcount")} == {
        "lru": 8,
        "mapping": 24,
        "_refcount": 52,
    }
    assert facts.facts["max_order"].value == 10
    assert facts.enums["pageflags"].values == {
        "PG_locked": 0,
        "PG_writeback": 1,
        "PG_referenced": 2,
        "__NR_PAGEFLAGS": 3,
    }


def test_cut_fixtures_are_refused(tmp_path):
    data = (FOLDER / PIECES[0][1]).read_bytes()
    for end in range(0, len(data) - 64, len(data) // 40):
        (tmp_path / "cut").write_bytes(data[:end])
        with pytest.raises(ImageError):
            read_facts(tmp_path / "cut")
