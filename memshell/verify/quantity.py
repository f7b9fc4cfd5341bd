"""What was recorded beside what was predicted: one compared number and its verdict."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Verdict = Literal["equal", "within", "differs", "not-modelled"]


class Quantity(NamedTuple):
    """What was recorded and what was predicted for one name at one step; *tolerance* is in the quantity's own unit."""

    step: int
    action: str
    name: str
    recorded: Any
    predicted: Any
    verdict: Verdict
    tolerance: int = 0


def compare(step: dict[str, Any], name: str, recorded: Any, predicted: Any, tolerance: int = 0) -> Quantity:
    """Return the quantity with its verdict; *predicted* None means that the model does not say."""
    verdict: Verdict
    if predicted is None:
        verdict = "not-modelled"
    elif recorded == predicted:
        verdict = "equal"
    elif tolerance and abs(recorded - predicted) <= tolerance:
        verdict = "within"
    else:
        verdict = "differs"
    return Quantity(step["n"], step["action"], name, recorded, predicted, verdict, tolerance)
