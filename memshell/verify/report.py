"""Verify one recording: replay it step by step and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from memshell.capture.formats import memory_words
from memshell.capture.recording import Recording, boot_recording
from memshell.errors import RecordingError
from memshell.machine import Machine
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.params import unread
from memshell.verify import series
from memshell.verify.actions import Bench
from memshell.verify.calls import compare_calls, first_difference, visible_names
from memshell.verify.given import Given, given_by, with_given
from memshell.verify.inputs import held, written
from memshell.verify.pages import page_quantities
from memshell.verify.quantity import Quantity, compare
from memshell.verify.replay import Answer, Replay
from memshell.verify.state import Before, state_quantities

if TYPE_CHECKING:
    from memshell.shell.shell import Player

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


def verify_recording(recording: Recording, player: Player, watch: Watcher | None = None) -> list[Quantity]:
    """Replay *recording* and return every compared quantity; *watch* is told after each step.

    It is played as text on a shell of its own, which *player* makes. Raises `RecordingError` for a file whose parts are
    missing or of another form.
    """
    quantities, replay = replay_recording(recording, player, watch)
    replay.forget()
    return quantities


def replay_recording(
    recording: Recording, player: Player, watch: Watcher | None = None
) -> tuple[list[Quantity], Replay]:
    """Do what `verify_recording` does; return the replay too, with all that was typed."""
    bench = Bench(recording.qemu_args)
    replay = Replay(player.fresh(), bench, recording.name, traced=watch is not None)
    shell = replay.player.shell
    try:
        policy = recording.policy(shell.plugins.policies())
        shell.machine = boot_recording(
            recording, shell.plugins.arches(), shell.plugins.extended(recording.profile), policy
        )
        return _verify(recording, replay, watch), replay
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        blamed = shell.blame(error)
        if blamed is not None:
            raise blamed from error
        if not _while_reading(error):
            raise
        what = f"{type(error).__name__}: {error}"
        raise RecordingError(
            f"{recording.name} holds something that cannot be read ({what})", hint="is it whole?"
        ) from error


def _while_reading(error: BaseException) -> bool:
    """Whether the error arose where a recording is read, and not in the model."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return module.startswith(("memshell.verify", "memshell.capture"))


def _verify(recording: Recording, replay: Replay, watch: Watcher | None) -> list[Quantity]:
    steps = _series_steps if recording.of_series else _steps
    quantities: list[Quantity] = []
    seen = 0
    boot = recording.steps[0]["state"]
    words = memory_words(recording.cmdline)
    for found in steps(recording, replay, Before(boot, replay.machine.mm, boot)):
        if not quantities:  # the boot: words that the model does not play
            unknown = unread(words, others=replay.machine.mm.arch.boot_words)
            found += [compare(recording.steps[0], f"cmdline.{word}", word, None) for word in unknown]
        quantities += found
        if watch is not None:
            traces = [step.trace for step in replay.machine.steps[seen:] if step.trace is not None]
            watch({call.where for trace in traces for call in trace.calls}, found)
            seen = len(replay.machine.steps)
    return quantities


def _steps(recording: Recording, replay: Replay, before: Before) -> Iterator[list[Quantity]]:
    for step in recording.steps:
        if replay.machine.mm.crashed:
            return  # a dead machine says nothing about what comes later
        if "state" in step:
            yield _verify_step(recording, replay, step, before)
            before = before._replace(state=step["state"])


def _series_steps(recording: Recording, replay: Replay, before: Before) -> Iterator[list[Quantity]]:
    """Replay a recording of the 2018 series: steps after a crash are compared as far as they were seen, none is played."""
    for step in series.with_answers(recording):
        found: list[Quantity] = []
        lost = series.interrupted(recording, step)
        if lost is None and not ("state" in step and step["op"]["op"] in ("look", "boot")):
            series.look(replay, step["n"])
        series.set_first_count(replay, step)
        if replay.machine.mm.crashed:
            pass
        elif lost is not None:
            series.play_lost(replay, step["n"], lost)
        elif "state" in step:
            found += _verify_step(recording, replay, step, before)
            before = before._replace(state=step["state"])
        else:
            replay.play(step)
        found += series.struct_pages(step, replay)
        yield found
    series.look(replay, recording.steps[-1]["n"])
    yield list(series.recording_quantities(recording, replay))


def _verify_step(recording: Recording, replay: Replay, step: dict[str, Any], before: Before) -> list[Quantity]:
    """Play a step and compare. What its own output gives away is tried where the prediction fails; then take the inputs."""
    mark, mm = replay.mark(), replay.machine.mm
    found = _play(recording, replay, step, before)
    given = given_by(step, mm) if _wrong(found) else []
    if given:
        replay.back(mark)
        second = _play(recording, replay, step, before, given)
        if _wrong(second) < _wrong(found):
            found = with_given(found, second, given)
        else:
            replay.back(mark)
            _play(recording, replay, step, before)
    if not replay.machine.mm.crashed:
        _learn(replay, step)
    return found


def _wrong(quantities: list[Quantity]) -> int:
    return sum(quantity.verdict == "differs" for quantity in quantities)


def _learn(replay: Replay, step: dict[str, Any]) -> None:
    """Take what the finished step shows of its guest: the steps that follow find it so."""
    mm = replay.machine.mm
    replay.machine.tracing = False
    for line in (held(mm, step), *written(mm, step)):
        if line is not None:
            replay.say(step["n"], line, "what runs on the guest")
    replay.bench.saw(step)


def _play(
    recording: Recording, replay: Replay, step: dict[str, Any], before: Before, given: list[Given] | None = None
) -> list[Quantity]:
    """Play a step, with what is *given*, and return what is compared."""
    machine = replay.machine
    machine.tracing = False
    for fact in given or ():
        if fact.line:
            replay.say(step["n"], fact.line, f"given: {fact.why}")
        replay.bench.driver = fact.driver or replay.bench.driver
        replay.bench.region = fact.region if fact.region is not None else replay.bench.region
    free, first_step = nr_free_pages(machine.mm), len(machine.steps)
    machine.tracing = replay.traced or "calls" in step
    answer = replay.play(step)
    found = list(_answers(step, answer))
    if step["op"]["op"] not in INPUTS:
        change = nr_free_pages(machine.mm) - free if answer.played and answer.quiet else None
        found += _free_pages(recording, step, machine.mm.arch.page_shift, change)
    if step.get("calls") and answer.played and answer.settled and answer.quiet and step["op"]["op"] not in INPUTS:
        found.append(_calls(recording, step, machine, first_step))
    for quantity in (*state_quantities(step, machine.mm, before), *page_quantities(step, machine.mm)):
        probed = not answer.settled and quantity.name.startswith(PROBED)
        found.append(quantity._replace(predicted=None, verdict="not-modelled") if probed else quantity)
    return found


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
    """Compare the change of free + pcp, and of what nothing here predicts together with it.

    That is Slab, and PageTables where the action makes none of the kernel's, so that they are a program's.
    """
    delta = step.get("delta", {})
    if delta.get("free_plus_pcp") is None:
        return
    others = ("Slab", "PageTables") if step["op"]["op"] in NO_TABLES else ("Slab",)
    slab = sum(delta.get("meminfo_kb", {}).get(name, 0) << 10 >> page_shift for name in others)
    tolerance = FREE_TOLERANCE.get(recording.arch, 32)
    yield compare(step, "free_plus_pcp", delta["free_plus_pcp"] + slab, change, tolerance)


def _calls(recording: Recording, step: dict[str, Any], machine: Machine, first_step: int) -> Quantity:
    traces = [s.trace for s in machine.steps[first_step:] if s.trace is not None]
    recorded, predicted = compare_calls(step["calls"], traces, visible_names(recording))
    if recorded == predicted:
        return compare(step, "calls", len(recorded), len(predicted))
    where = first_difference(recorded, predicted)
    return Quantity(
        step["n"], step["action"], "calls", f"{len(recorded)} calls; {where}", f"{len(predicted)} calls", "differs"
    )
