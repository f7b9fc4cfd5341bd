"""Expectations on what a kernel shows."""

import pytest

from memshell.lab.judge import Judge, KernelState, NotSeen
from memshell.lab.plan import make_plan
from memshell.lab.play import Outcome, Ran
from memshell.scenario.suite import shared_plugins

SHOWN = {"state": "online", "valid_zones": "Movable"}
STEP = {
    "n": 0,
    "state": {"block_size_bytes": 128 << 20, "memory_blocks": {"32": SHOWN, "33": {**SHOWN, "state": "offline"}}},
    "kpageflags_runs": [[0x100000, 512, 1 << 37], [0x100200, 0x7E00, 1 << 10], [0x108000, 0x8000, 1 << 20]],
}


@pytest.mark.parametrize("name", ["races", "warnings", "section_roots", "direct_map", "feature.bug.force_asks_arch"])
def test_what_a_kernel_does_not_show_is_not_taken_for_a_word(name):
    state = KernelState({"steps": [STEP]}, 0, "")
    with pytest.raises(NotSeen, match=f"a kernel does not show {name}"):
        state.look_up(name)
    assert state.look_up("Movable") == "Movable"


def test_only_an_online_block_shows_its_own_memmap():
    state = KernelState({"steps": [STEP]}, 0, "")
    assert state.look_up("block.32.vmemmap_pages").number == 512
    with pytest.raises(NotSeen, match="only of an online block"):
        state.look_up("block.33.vmemmap_pages")


def test_what_is_said_of_another_kernel_is_not_judged():
    text = "use x86_64 ram=2G profile=v6.1\nexpect blocks.online == 17\n"
    boot = make_plan("a.mem", text, shared_plugins).boots[0]
    outcome = Outcome(boot.steps[0])
    blocks = {str(number): SHOWN for number in range(16)}
    step = {"n": 0, "op": {"op": "boot"}, "state": {**STEP["state"], "memory_blocks": blocks}}
    for release, word in (("6.12.117+deb12", "not judged"), ("6.1.0-56", "fails")):
        ran = Ran(boot, {"kernel": f"Linux version {release}", "arch": "x86_64", "steps": [step]}, 0, [outcome])
        assert [verdict.word for verdict in Judge().boot(ran)] == [word]
