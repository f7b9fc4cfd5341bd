"""What people see of a memmap in the added range."""

from series_machines import GIB, add, machine, states

from memshell.views.memory_map import cell
from memshell.views.pages import altmaps, page_text


def test_the_altmap_of_a_range():
    """Recording B-10G: head ffffea0004000000 with 80, 2580480 pages left, one full section."""
    target = machine()
    add(target, 10 * GIB)
    (row,) = altmaps(target.mm)
    assert (row["base_pfn"], row["free"], row["vmemmap_pages"]) == (0x10A000, 2580480, 40960)
    assert (row["head"], row["head_refcount"], row["nr_sects"]) == (0xFFFFEA0004000000, 80, 1)


def test_a_marked_page_and_a_bad_one():
    target = machine(check__online_pages_range=False)
    add(target, GIB)
    assert "PageVmemmap: flags 0x1000 mapping 0xfffffffffffffffc refcount 8" in page_text(target.mm, 0x100000)
    states(target, "online_movable", [32])
    assert "dropped by the buddy" in page_text(target.mm, 0x100000)
    assert cell(target.mm, 0x100000, 0x101000) == "B"
    healthy = machine()
    add(healthy, GIB)
    states(healthy, "online_movable", [32])
    assert cell(healthy.mm, 0x100000, 0x101000) == "M"
