"""The recordings as parameters of tests: the smallest of each kernel is played by every run, the rest by the whole one."""

from itertools import groupby

import pytest
from fidelity import ROOT

RECORDINGS = sorted((ROOT / "tests" / "recordings").glob("*.json.xz"))


def kernel(path):
    """Return the architecture and kernel that a recording's name begins with: x86_64-k612."""
    return path.name.split("-")[:2]


QUICK = {min(of_one, key=lambda path: path.stat().st_size) for _, of_one in groupby(RECORDINGS, kernel)}


def recordings(paths=RECORDINGS):
    """Return one parameter for each of *paths*, with its name as the id."""
    return [
        pytest.param(path, id=path.name.split(".")[0], marks=[] if path in QUICK else [pytest.mark.slow])
        for path in paths
    ]
