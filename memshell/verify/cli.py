"""What the mode and the command ``verify`` print of a recording."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from memshell.capture.recording import Recording
from memshell.verify.quantity import Quantity, summary


def as_json(recording: Recording, quantities: list[Quantity]) -> dict[str, Any]:
    """Return the object that ``verify --json`` prints."""
    return {
        "recording": recording.name,
        "kernel": recording.kernel,
        "arch": recording.arch,
        "quantities": [q._asdict() for q in quantities],
        "summary": summary(quantities),
    }


def as_text(recording: Recording, quantities: list[Quantity], *, everything: bool = False) -> str:
    """Return a line with the tally, one for each fact that was given, and one for each quantity that is not equal."""
    tally = ", ".join(f"{count} {verdict}" for verdict, count in summary(quantities).items() if count)
    lines = [f"{recording.name} ({recording.release}): {tally}"]
    facts = Counter((q.step, q.action, q.given) for q in quantities if q.verdict == "given")
    lines += [f"  step {step} ({action}) given {count}: {fact}" for (step, action, fact), count in facts.items()]
    shown = [q for q in quantities if everything or q.verdict in ("differs", "not-modelled")]
    lines += [
        f"  step {q.step} ({q.action}) {q.name}: {q.verdict}, "
        f"recorded {_short(q.recorded)}, predicted {_short(q.predicted)}"
        for q in shown
    ]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 160 else f"{text[:157]}..."
