"""Compare a recorded call tree with the model's, as sequences of function names."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from memshell.capture.recording import Recording
from memshell.mm import LEDGER
from memshell.mm.events import LEAVES, Trace

# How often these are called depends on what the guest happens to have in the zone at that moment.
ACCIDENTAL = frozenset({"do_migrate_range"})
# The entry points that every fully probed recording shows.
ENTRIES = frozenset({"acpi_memory_device_add", "memory_subsys_online", "memory_subsys_offline", "memremap_pages"})


@cache
def probes() -> dict[str, list[str]]:
    """Return what ``probes.json`` holds: by release, the functions whose calls its recordings show."""
    table: dict[str, list[str]] = json.loads((files("memshell.verify") / "probes.json").read_text())
    return table


def minor(release: str) -> str:
    """Return ``6.12`` of ``6.12.117``."""
    return ".".join(release.split(".")[:2])


def probed(release: str) -> frozenset[str]:
    """Return the functions that the recorder's kprobes can see in a kernel: the others were inlined by its compiler."""
    return frozenset(probes().get(minor(release), ()))


def modelled() -> frozenset[str]:
    """Return the names of the kernel functions that a trace can contain."""
    return (frozenset(mark.name for mark in LEDGER.values()) | frozenset(LEAVES)) - ACCIDENTAL


def recorded_names(calls: list[list[Any]]) -> list[str]:
    """Return the recorded function names in order, repeated patterns written out.

    A line with [n, period, last arguments] behind it begins a pattern of *period* lines that ran *n* times.
    """
    names: list[str] = []
    i = 0
    while i < len(calls):
        extra = calls[i][5:]
        if len(extra) >= 2:
            count, period = extra[0], extra[1]
            names += [c[1] for c in calls[i : i + period]] * count
            i += period
        else:
            names.append(calls[i][1])
            i += 1
    return names


def shown_names(recording: Recording) -> frozenset[str]:
    """Return the functions whose calls a recording has."""
    return frozenset(name for step in recording.steps for name in recorded_names(step.get("calls", [])))


def fully_probed(names: frozenset[str]) -> bool:
    """Whether a recording that has these names was made with all probes: it shows an entry point."""
    return bool(names & ENTRIES)


def visible_names(recording: Recording) -> frozenset[str]:
    """Return the functions whose calls this recording shows; of one with a handful of probes, those that it has.

    One that says itself which functions had a probe (top key ``probes``) shows these.
    """
    if "probes" in recording.raw:
        return frozenset(recording.raw["probes"])
    seen = shown_names(recording)
    return probed(recording.release) | seen if fully_probed(seen) else seen


def compare_calls(calls: list[list[Any]], traces: list[Trace], visible: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return both sequences, each without the functions that the other side cannot show."""
    known = modelled()
    both = visible & known
    recorded = [name for name in recorded_names(calls) if name in known]
    predicted = [call.name for trace in traces for call in trace.calls if call.name in both]
    return recorded, predicted


def first_difference(recorded: list[str], predicted: list[str]) -> str:
    """Return one line about where two sequences part."""
    for i, (a, b) in enumerate(zip(recorded, predicted, strict=False)):
        if a != b:
            return f"call {i}: recorded {a}, predicted {b}"
    longer = recorded if len(recorded) > len(predicted) else predicted
    i = min(len(recorded), len(predicted))
    side = "recorded" if longer is recorded else "predicted"
    return f"call {i}: only {side} {longer[i]}"
