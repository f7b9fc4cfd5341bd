"""What a step shows of itself decides nothing that is predicted of it; and what a recorded action is as text."""

import json
import lzma

import pytest
from fidelity import ROOT, player

from memshell.capture.recording import load_recording, recording_of
from memshell.modes.verify import as_scenario
from memshell.verify.cli import as_text
from memshell.verify.quantity import GOOD
from memshell.verify.report import replay_recording, verify_recording

RECORDINGS = sorted((ROOT / "tests" / "recordings").glob("*.json.xz"))


def name_of(path):
    return path.name.removesuffix(".json.xz")


OUTPUT = (
    "dmesg",
    "kpageflags_runs",
    "kpagecount_runs",
    "pfn_ranges",
    "buddy",
    "page_tables",
    "calls",
    "kernel_times",
    "plugged",
)
STATE = ("iomem", "vmstat", "pageblocks", "buddyinfo", "nodes", "params")
PEEKED = RECORDINGS[::6] + [
    path for path in RECORDINGS if name_of(path).endswith(("virtio-mem", "kernel-in-use", "pmem-raw"))
]


def until(raw, n, *, stripped):
    """Return a recording up to step *n*; *stripped* of what that step shows and the errno is not compared with."""
    steps = [step for step in raw["steps"] if step["n"] <= n]
    if stripped:
        last = {key: value for key, value in steps[-1].items() if key not in OUTPUT}
        last["state"] = {key: value for key, value in last["state"].items() if key not in STATE}
        steps[-1] = last
    return recording_of({**raw, "steps": steps}, "cut.json")


def judged(recording, n):
    """Return the quantities of step *n* that are predicted, by name."""
    found = verify_recording(recording, player())
    return {q.name: (q.recorded, q.predicted) for q in found if q.step == n and q.verdict in GOOD}


@pytest.mark.slow
@pytest.mark.parametrize("path", PEEKED, ids=name_of)
def test_what_a_step_shows_changes_nothing_in_what_is_predicted_of_it(path):
    raw = json.loads(lzma.decompress(path.read_bytes()))
    if "rfc" in raw:
        raw = {**raw, "rfc": {**raw["rfc"], "rfc_lines": []}}
    acted = [step["n"] for step in raw["steps"] if "state" in step and step["n"] and step["op"]["op"] != "look"]
    failed = [step["n"] for step in raw["steps"] if step["n"] in acted and (step.get("errno") or "dmesg" in step)]
    for n in sorted({*failed[-4:], *acted[:2], *acted[-2:]}):
        whole, blind = judged(until(raw, n, stripped=False), n), judged(until(raw, n, stripped=True), n)
        left = {
            name: value
            for name, value in whole.items()
            if name in blind or name.startswith(("errno", "outcome", "block", "zone"))
        }
        if "rfc.struct_pages" in left and left["rfc.struct_pages"][0] != blind["rfc.struct_pages"][0]:
            del left["rfc.struct_pages"]  # compared but for the pages that are in use, which this step shows
        assert left == {name: blind.get(name) for name in left}


def test_a_page_that_only_the_answer_shows_is_given():
    found = verify_recording(load_recording(ROOT / "tests/recordings/x86_64-k72-N-128M-kernel.json.xz"), player())
    told = [q for q in found if q.step == 3 and q.verdict == "given"]
    assert {q.name for q in told} >= {"errno", "block.32.state", "zone.0.Normal.present"}
    assert {q.given for q in told} == {"pfn 0x100010 is the kernel's, says its own dmesg"}
    assert [q.name for q in found if q.verdict == "differs"] == []


def test_what_was_given_is_said_by_name():
    recording = load_recording(ROOT / "tests/recordings/x86_64-k72-N-128M-kernel.json.xz")
    _, line = as_text(recording, verify_recording(recording, player())).splitlines()
    assert line.startswith("  step 3 (memory32 offline) given ")
    assert line.endswith(": pfn 0x100010 is the kernel's, says its own dmesg")


def test_a_scenario_says_where_the_kernel_answered_otherwise():
    recording = made({"op": {"op": "offline", "blocks": [99]}, "errno": 16})
    quantities, replay = replay_recording(recording, player())
    text = as_scenario(recording, "made.json", replay.said, quantities)
    assert text.endswith("! write memory99/state offline\nexpect error == ENOENT\n# the kernel: errno 16, not 2\n")


# --- actions ---


def made(*steps, **top):
    """Return a recording: the boot of a real one, and *steps* that show the state after boot again."""
    raw = json.loads(lzma.decompress((ROOT / "tests/recordings/x86_64-k612-N-virtio-mem.json.xz").read_bytes()))
    boot = raw["steps"][0]
    added = [{"n": n, "action": "made", "state": boot["state"], **step} for n, step in enumerate(steps, 1)]
    return recording_of({**raw, **top, "steps": [boot, *added]}, "made.json")


def typed_in(recording):
    return [said.text for said in replay_recording(recording, player())[1].said]


@pytest.mark.parametrize(
    "op",
    [
        {"op": "other", "what": "set online_policy auto-movable"},
        {"op": "other", "what": "auto-movable > /sys/module/memory_hotplug/parameters/online_policy"},
        {"op": "other", "what": "a write", "path": "online_policy", "value": "auto-movable"},
    ],
)
def test_a_parameter_that_is_written_is_an_action(op):
    if "path" in op:
        op = {**op, "what": f"{op['value']} > {op['path']}"}
    said = typed_in(made({"op": op}))
    assert said[0] == "set online_policy=auto-movable"
    assert said[1] == "set online_policy=contig-zones", "the state that follows shows the old one"


def test_what_is_no_parameter_is_not_played():
    assert typed_in(made({"op": {"op": "other", "what": "device_add e 128M"}})) == []


def test_a_recording_without_kpageflags_is_verified():
    """The place of a virtio-mem device is where the next DIMM would go; nothing else is asked."""
    found = verify_recording(made({"op": {"op": "virtio_mem_request", "size": 256 << 20}, "errno": 0}), player())
    assert [q.verdict for q in found if q.name == "errno"] == ["equal"]


def test_unknown_actions_are_not_modelled():
    found = verify_recording(made({"op": {"op": "compact"}, "errno": 0}), player())
    assert [q.verdict for q in found if q.name == "errno"] == ["not-modelled"]


def test_a_plugin_that_fails_is_blamed_and_not_the_file(monkeypatch):
    arch = player().shell.plugins.arches()["x86_64"]

    def fails(*_args):
        raise KeyError("gbpages")

    monkeypatch.setattr(type(arch), "from_recording", fails)
    with pytest.raises(KeyError):
        verify_recording(made(), player())
