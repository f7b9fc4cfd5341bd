"""The questions of the reviewers, E1 to E30: each a scenario that says why, and that pytest plays by itself."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "scenarios" / "experiments"


@pytest.mark.parametrize("number", range(1, 31))
def test_every_question_has_an_answer(number):
    text = (FOLDER / f"E{number}.mem").read_text(encoding="utf-8")
    assert text.startswith("# why: ")
    assert "expect" in text
