"""Verify one recording: replay it step by step and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from memshell.arch import Arch
from memshell.capture.reader import read_params
from memshell.capture.recording import Recording, boot_recording
from memshell.errors import RecordingError
from memshell.machine import Machine
from memshell.mm.held import hold
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.state import Mm
from memshell.policy import Policy
from memshell.verify import series
from memshell.verify.calls import compare_calls, first_difference, visible_names
from memshell.verify.inputs import read_dumped, read_pages
from memshell.verify.pages import page_quantities
from memshell.verify.quantity import Quantity, Verdict, compare
from memshell.verify.replay import Answer, Replay
from memshell.verify.state import state_quantities

TIMED_OUT = 110  # the recorder stopped waiting; not an answer of the kernel's
FREE_TOLERANCE = {"x86_64": 16}  # pages; other architectures 32: what the kernel's own work moves meanwhile
PROBED = (
    "vmstat.",
    "zone.0.Device",
    "page_tables.",
    "vmemmap_pages",
    "meminfo.DirectMap",
)  # what a driver's probe changes
NO_TABLES = (
    "look",
    "online",
    "online_kernel",
    "online_movable",
    "offline",
)  # actions that make and free no page table of the kernel's
INPUTS = ("use_memory", "other")  # actions of the guest's programs or of the recorder: nothing is predicted about them


Watcher = Callable[
    [set[str], list[Quantity]], None
]  # the kernel functions that ran in a step, and the step's quantities


def verify_recording(
    recording: Recording, arches: dict[str, Arch], policies: dict[str, Policy], watch: Watcher | None = None
) -> list[Quantity]:
    """Replay *recording* and return every compared quantity; *watch* is told after each step.

    Raises `RecordingError` for a file whose parts are missing or of another form.
    """
    try:
        return _verify(recording, arches, policies, watch)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise RecordingError(
            f"{recording.name} holds something that cannot be read ({what})", hint="is it whole?"
        ) from error


def _verify(
    recording: Recording, arches: dict[str, Arch], policies: dict[str, Policy], watch: Watcher | None
) -> list[Quantity]:
    machine = boot_recording(recording, arches, recording.profile, recording.policy(policies))
    replay = Replay(machine, traced=watch is not None)
    steps = _series_steps if recording.of_series else _steps
    quantities: list[Quantity] = []
    seen = 0
    for found in steps(recording, replay, (recording.steps[0]["state"], replay.machine.mm)):
        quantities += found
        if watch is not None:
            traces = [step.trace for step in replay.machine.steps[seen:] if step.trace is not None]
            watch({call.where for trace in traces for call in trace.calls}, found)
            seen = len(replay.machine.steps)
    return quantities


def _steps(recording: Recording, replay: Replay, boot: tuple[dict[str, Any], Mm]) -> Iterator[list[Quantity]]:
    for step in recording.steps:
        if replay.machine.mm.crashed:
            return  # a dead machine says nothing about what comes later
        if "state" in step:
            yield list(_verify_step(recording, replay, step, boot))


def _series_steps(recording: Recording, replay: Replay, boot: tuple[dict[str, Any], Mm]) -> Iterator[list[Quantity]]:
    """Replay a recording of the 2018 series: steps after a crash are compared as far as they were seen, none is played."""
    for step in series.with_answers(recording):
        found: list[Quantity] = []
        lost = series.interrupted(recording, step)
        if lost is None and not ("state" in step and step["op"]["op"] in ("look", "boot")):
            series.look(replay)
        if replay.machine.mm.crashed:
            pass
        elif lost is not None:
            series.play(replay, {**step, "op": lost})
        elif "state" in step:
            found += _verify_step(recording, replay, step, boot)
        else:
            replay.play(step)
        found += series.struct_pages(step, replay)
        yield found
    series.look(replay)
    yield list(series.recording_quantities(recording, replay))


def _verify_step(
    recording: Recording, replay: Replay, step: dict[str, Any], boot: tuple[dict[str, Any], Mm]
) -> Iterator[Quantity]:
    machine = replay.machine
    with machine.transaction("what the guest has") as mm:
        read_dumped(mm, step)
    before, first_step = nr_free_pages(machine.mm), len(machine.steps)
    machine.tracing = replay.traced or "calls" in step
    answer = replay.play(step)
    yield from _answers(step, answer)
    if step["op"]["op"] not in INPUTS:
        change = nr_free_pages(machine.mm) - before if answer.played and answer.quiet else None
        yield from _free_pages(recording, step, machine.mm.arch.page_shift, change)
    if step.get("calls") and answer.played and answer.settled and answer.quiet and step["op"]["op"] not in INPUTS:
        yield _calls(recording, step, machine, first_step)
    for quantity in (*state_quantities(step, machine.mm, boot), *page_quantities(step, machine.mm)):
        yield (
            quantity
            if answer.settled or not quantity.name.startswith(PROBED)
            else quantity._replace(predicted=None, verdict="not-modelled")
        )
    if machine.mm.crashed:
        return
    with machine.transaction("what the guest has") as mm:
        read_pages(mm, step)
        hold(mm, [])
        read_params(mm, step["state"])


def _answers(step: dict[str, Any], answer: Answer) -> Iterator[Quantity]:
    recorded = step.get("errno")
    if step["op"]["op"] in ("boot", *INPUTS) or recorded in (None, TIMED_OUT):
        return
    rejected = step.get("outcome") == "rejected"  # the recorder writes -1 for it
    if recorded < 0 and not rejected and step.get("kernel_ret") is None:
        return  # the recorder's own failure: the kernel was not asked
    if not answer.played:
        yield compare(step, "errno", recorded, None)
        return
    if "outcome" in step:
        yield compare(step, "outcome", step["outcome"], "rejected" if answer.errno else "deleted")
        yield compare(step, "errno", recorded, -1 if answer.errno else 0)
        return
    if step.get("kernel_ret") is not None:
        recorded = abs(step["kernel_ret"])
    yield compare(step, "errno", recorded, answer.errno)
    for entry in step.get("each", ()) if answer.each else ():
        yield compare(step, f"errno.{entry['block']}", entry["errno"], answer.each.get(entry["block"]))


def _free_pages(recording: Recording, step: dict[str, Any], page_shift: int, change: int | None) -> Iterator[Quantity]:
    """Compare the change of free + pcp.

    What nothing here predicts is allowed for: the step's own change of Slab, and of PageTables where the action makes none,
    so that they are a program's.
    """
    delta = step.get("delta", {})
    if delta.get("free_plus_pcp") is None:
        return
    others = ("Slab", "PageTables") if step["op"]["op"] in NO_TABLES else ("Slab",)
    slab = sum(delta.get("meminfo_kb", {}).get(name, 0) << 10 >> page_shift for name in others)
    tolerance = FREE_TOLERANCE.get(recording.arch, 32)
    yield compare(step, "free_plus_pcp", delta["free_plus_pcp"], None if change is None else change - slab, tolerance)


def _calls(recording: Recording, step: dict[str, Any], machine: Machine, first_step: int) -> Quantity:
    traces = [s.trace for s in machine.steps[first_step:] if s.trace is not None]
    recorded, predicted = compare_calls(step["calls"], traces, visible_names(recording))
    if recorded == predicted:
        return compare(step, "calls", len(recorded), len(predicted))
    where = first_difference(recorded, predicted)
    return Quantity(
        step["n"], step["action"], "calls", f"{len(recorded)} calls; {where}", f"{len(predicted)} calls", "differs"
    )


def summary(quantities: list[Quantity]) -> dict[Verdict, int]:
    """Return how many quantities have each verdict."""
    counts = Counter(q.verdict for q in quantities)
    return {
        "equal": counts["equal"],
        "within": counts["within"],
        "differs": counts["differs"],
        "not-modelled": counts["not-modelled"],
    }
