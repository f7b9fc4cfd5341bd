"""One compared number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

Verdict = Literal["equal", "within", "given", "differs", "not-modelled"]
VERDICTS: tuple[Verdict, ...] = ("equal", "within", "given", "differs", "not-modelled")
GOOD = ("equal", "within")  # predicted


class Quantity(NamedTuple):
    """What was recorded and what was predicted for one name at one step; *tolerance* is in the quantity's own unit.

    *given* says what of the step's own output it needs to hold; then it is no prediction.
    """

    step: int
    action: str
    name: str
    recorded: Any
    predicted: Any
    verdict: Verdict
    tolerance: int = 0
    given: str = ""


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


def summary(quantities: Iterable[Quantity]) -> dict[Verdict, int]:
    """Return how many quantities have each verdict."""
    counts = Counter(quantity.verdict for quantity in quantities)
    return {verdict: counts[verdict] for verdict in VERDICTS}
