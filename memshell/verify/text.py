"""A recording as a scenario: what `verify` types, with what it answers, for everybody's `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from memshell.errors import KernelCrash

if TYPE_CHECKING:
    from memshell.capture.recording import Recording
    from memshell.verify.quantity import Quantity
    from memshell.verify.replay import Said


def as_scenario(recording: Recording, path: str, said: Iterable[Said], quantities: Iterable[Quantity] = ()) -> str:
    """Return the text that plays *recording*: a comment for each step, its lines, their errors.

    *path* is where it lies, as a word of a command. Of *quantities*, those that differ in what the kernel answered are
    told behind their step: there the expectation is the model's alone.
    """
    differ: dict[int, list[str]] = {}
    for one in quantities:
        if one.verdict == "differs" and one.name.startswith(("errno", "outcome")):
            differ.setdefault(one.step, []).append(f"# the kernel: {one.name} {one.recorded}, not {one.predicted}")
    lines = [f"# {recording.name}: kernel {recording.release}, {recording.arch}", f"use {path}"]
    actions = {step["n"]: step["action"] for step in recording.steps}
    for step, group in groupby(said, lambda one: one.step):
        lines += ["", f"# step {step}: {' '.join(str(actions.get(step, '')).split())}"]
        for line in group:
            lines += _statements(line)
        lines += differ.get(step, [])
    return "\n".join(lines) + "\n"


def _statements(one: Said) -> Iterator[str]:
    """Yield the line, as one that has to fail where it did, with what is expected then."""
    if one.why:
        yield f"# {one.why}"
    if one.error is None:
        yield one.text
        return
    yield f"! {one.text}"
    yield "expect crashed" if isinstance(one.error, KernelCrash) else f"expect error == {one.error.errno}"
