"""Which module has what of a kernel file: the ledger's marks, by file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from memshell.mm import Mark

OF_SERIES = ("v4.20", "v5.0")  # the trees that the series of 2017 to 2019 were written for
FOLDERS = {"memshell_plugins": "plugins"}


class Home(NamedTuple):
    """A kernel file of one tree, and a module or package that has functions of it."""

    file: str
    of_series: bool
    place: str  # memshell/mm/sparse.py, memshell/mm/memory_hotplug/

    def __str__(self) -> str:
        return f"{self.file}{' (with the series)' if self.of_series else ''} -> {self.place}"


def stem(file: str) -> str:
    """Return how a module of a kernel file is called: mm/sparse-vmemmap.c -> sparse_vmemmap."""
    return PurePosixPath(file).stem.replace("-", "_")


def place(file: str, module: str) -> str:
    """Return the package of the kernel file's name that *module* lies in, else the module itself."""
    first, *inner = module.split(".")
    path = [FOLDERS.get(first, first), *inner]
    name = stem(file)
    if name in path[2:-1]:
        return "/".join(path[: path.index(name, 2) + 1]) + "/"
    return "/".join(path) + ".py"


def homes(marks: Iterable[Mark]) -> list[Home]:
    """Return every kernel file with its place, in the order of the files; one with two places is there twice."""
    found = set()
    for mark in marks:
        file = mark.where.rpartition(":")[0]
        found.add(Home(file, mark.version.startswith(OF_SERIES), place(file, mark.module)))
    return sorted(found)
