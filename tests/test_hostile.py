"""Hostile inputs at every door; `python tests/hostile.py 10000` tries as many as you like."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hostile import run


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_wrong_inputs_are_refused_in_a_line_or_are_right(seed):
    ended, faults = run(90 if seed == 1 else 600, seed)
    assert faults == []
    assert sum(ended.values()) >= 90
