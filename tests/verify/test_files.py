"""A kernel file has one home in each tree, which carries its name."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from memshell.__main__ import main
from memshell.verify.fidelity import marks
from memshell.verify.files import homes, place, stem

ROOT = Path(__file__).parents[2]
HOMES = homes(marks())

# Kernel files whose home has another name, and why.
NAMED_OTHERWISE = {
    "include/linux/mm.h (with the series) -> memshell/series/page_alloc.py": "what is inline there frees pages",
    "include/linux/mm.h -> memshell/mm/sparse_vmemmap.py": "what is inline there is asked by sparse-vmemmap.c",
    "arch/x86/mm/init_64.c (with the series) -> memshell/series/x86_init_64.py": "one package for two architectures",
    "arch/powerpc/mm/init_64.c (with the series) -> memshell/series/powerpc_init_64.py": "as init_64.c of x86",
    "mm/swap.c (with the series) -> memshell/series/processes.py": "what a process does that runs, not the LRU lists",
    "mm/vmstat.c (with the series) -> memshell/series/processes.py": "what a process reads, not the counters",
}


def test_a_kernel_file_has_one_home():
    places = defaultdict(set)
    for home in HOMES:
        places[home.file, home.of_series].add(home.place)
    assert {file: found for file, found in places.items() if len(found) > 1} == {}
    assert all((ROOT / home.place).exists() for home in HOMES)


def test_a_home_has_the_name_of_its_kernel_file():
    """A header lives with the .c file of its name."""
    other = {str(home) for home in HOMES if Path(home.place).stem != stem(home.file)}
    assert other == NAMED_OTHERWISE.keys()


@pytest.mark.parametrize(
    "file, module, expected",
    [
        ("mm/sparse-vmemmap.c", "memshell.mm.sparse_vmemmap", "memshell/mm/sparse_vmemmap.py"),
        ("mm/page_alloc.c", "memshell.mm.page_alloc.contig", "memshell/mm/page_alloc/"),
        ("arch/s390/mm/vmem.c", "memshell_plugins.s390.vmem", "plugins/s390/vmem.py"),
    ],
)
def test_the_place_of_a_module(file, module, expected):
    assert place(file, module) == expected


def test_the_mode_prints_the_files(capsys):
    assert main(["fidelity", "arch/x86", "--files"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "arch/x86/mm/init.c -> plugins/x86_64/init.py",
        "arch/x86/mm/init_64.c -> plugins/x86_64/init_64.py",
        "arch/x86/mm/init_64.c (with the series) -> memshell/series/x86_init_64.py",
    ]


def test_a_kernel_function_is_marked_once():
    """The ledger has one row for each kernel function: a second mark would hide the first."""
    marked = Counter(
        where
        for folder in ("memshell", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for where in re.findall(r'@mirrors\(\s*"([^"]+)"', path.read_text())
    )
    assert len(marked) > 100
    assert [where for where, count in marked.items() if count > 1] == []
