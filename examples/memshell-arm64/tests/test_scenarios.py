"""The bug that only arm64 had shows when its switch is on, and not when it is off."""

from pathlib import Path

import pytest

from memshell.testing import run_scenario

TEXT = (Path(__file__).parents[1] / "scenarios" / "subsection_leaf.mem").read_text()
ON, OFF = "bug.arm64_subsection_leaf on", "bug.arm64_subsection_leaf off"


def test_a_subsection_takes_its_neighbours_memmap_along():
    run_scenario(TEXT).assert_ok()


def test_the_switch_makes_the_difference():
    turned = TEXT.replace(ON, "?").replace(OFF, ON).replace("?", OFF)
    with pytest.raises(AssertionError):
        run_scenario(turned).assert_ok()
