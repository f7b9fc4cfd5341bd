"""What is verified is what is played, and a prediction does not look at its answer."""

import dataclasses
import random

import pytest
from fidelity import ROOT
from recorded import QUICK, RECORDINGS, recordings

from memshell.capture.recording import load_recording
from memshell.plugins import load_plugins
from memshell.scenario.player import Player
from memshell.scenario.suite import play_case
from memshell.scenario.syntax import parse_text
from memshell.verify.quantity import GOOD
from memshell.verify.report import replay_recording, verify_recording
from memshell.verify.text import as_scenario

PLUGINS = load_plugins()
RUNNING = {"events", "trace", "policy"}  # of the command that runs; and policies are wrapped anew in each session


def player():
    return Player(lambda: PLUGINS)


def state(mm):
    """Return every field of the state that outlives a command."""
    return {field.name: getattr(mm, field.name) for field in dataclasses.fields(mm) if field.name not in RUNNING}


def typed(recording, path, replay):
    """Play the text on a shell of its own, as `run` does; return the state after each statement that changes one."""
    fresh = player().fresh()
    for statement in parse_text(as_scenario(recording, str(path), replay.said), "recording.mem"):
        fresh.play([statement])
    return fresh


@pytest.mark.parametrize("path", recordings())
def test_the_text_of_a_recording_ends_where_the_replay_ends(path):
    """Every step is a transaction of both; the last states are equal in every field, and so is each step's errno."""
    recording = load_recording(path)
    _quantities, replay = replay_recording(recording, player())
    fresh = typed(recording, path, replay)
    assert fresh.failures == []
    ours, theirs = replay.machine, fresh.shell.need_machine()
    assert [(step.command, str(step.error)) for step in ours.steps[1:]] == [
        (step.command, str(step.error)) for step in theirs.steps[1:]
    ]
    for mine, other in zip(ours.steps, theirs.steps, strict=True):
        if mine.error is not None or mine is ours.steps[-1]:
            assert state(mine.mm) == state(other.mm), mine.command


def test_verify_prints_a_scenario_that_passes(tmp_path, capsys):
    from memshell.__main__ import main

    path = ROOT / "tests" / "recordings" / "x86_64-k612-N-kernel-in-use.json.xz"
    assert main(["verify", str(path), "--as-scenario"]) == 0
    text = capsys.readouterr().out
    assert "expect error == EBUSY" in text
    scenario = tmp_path / "recorded.mem"
    scenario.write_text(text)
    assert play_case(str(scenario)).ok


OUTPUT = ("dmesg", "kpageflags_runs", "kpageflags", "kpagecount", "buddy", "pfn_ranges")  # what a step shows of itself
SOME = random.Random(7).sample(RECORDINGS, 48) + [
    path for path in RECORDINGS if any(word in path.name for word in ("kernel-in-use", "pinned", "virtio", "dlpar"))
]


@pytest.mark.parametrize("path", recordings(sorted(QUICK | set(SOME))))
def test_a_prediction_does_not_look_at_its_answer(path):
    """Without the last step's own output, all that is left to compare is predicted as before."""
    recording = load_recording(path)
    full = verify_recording(recording, player())
    last = max((n for n, step in enumerate(recording.steps) if "state" in step), default=0)
    if not last:
        pytest.skip("nothing but the boot state")
    blind = {key: value for key, value in recording.steps[last].items() if key not in OUTPUT}
    steps = (*recording.steps[:last], blind, *recording.steps[last + 1 :])
    again = verify_recording(dataclasses.replace(recording, steps=steps), player())
    n = recording.steps[last]["n"]
    left = {(q.name, str(q.recorded)): q for q in again if q.step == n}
    compared = 0
    for quantity in full:
        seen = left.get((quantity.name, str(quantity.recorded)))
        if quantity.step == n and quantity.verdict in GOOD and seen is not None:
            assert (seen.verdict, str(seen.predicted)) == (quantity.verdict, str(quantity.predicted)), quantity.name
            compared += 1
    assert compared
