"""The search finds, unaided, the faults that reviewers and recordings found, and none in a released kernel."""

import pytest
from memshell_plugins.memmap_policies import MemmapOnMemory, MemmapOnMemoryForce
from series_machines import Buddy, machine

from memshell.experiment.explore import digest, explore, scenario
from memshell.experiment.mutate import show
from memshell.profiles import PROFILES
from memshell.scenario.player import Player

ASCENDING = "crash: unable to handle kernel paging request in free_pagetable"


def found(target, **limits):
    return {finding.what: finding for finding in explore(target.mm, **limits).findings}


def test_the_ascending_free():
    for target in (machine(profile="rfc-2017"), machine(bug__ascending_free=True)):
        assert found(target, depth=2)[ASCENDING].lines == ("add 0x100000000 256M", "! remove 32 33", "expect crashed")


@pytest.mark.slow
def test_the_faults_of_2018():
    faults = found(machine(), depth=3)
    assert faults["removal_is_over"].lines == ("add 0x100000000 256M", "remove 32")
    assert faults["free_lists"].lines == ("add 0x100000000 128M", "online 32 movable")
    assert "not aligned to its order 10" in faults["free_lists"].text
    retry = faults["memmap_backing"]
    assert [line for line in retry.lines if "add" in line] == ["! add 0x100000000 256M", "add 0x100000000 256M"]
    assert "back two pieces of the memmap" in retry.text


@pytest.mark.slow
def test_march_2019_has_no_misaligned_frees_left():
    assert "free_lists" not in found(machine(profile="patch-v1-2019"), depth=3)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Buddy(), MemmapOnMemory(), MemmapOnMemoryForce()], ids=lambda policy: policy.name)
def test_nothing_in_v6_12(policy):
    bugs = {name.replace(".", "__", 1): False for name in PROFILES["v6.12"].features if name.startswith("bug.")}
    target = machine(profile="v6.12", policy=policy, **bugs)
    search = explore(target.mm, depth=4)
    assert not search.findings
    assert search.states > 100  # it did look


def test_equal_states_are_one():
    assert digest(machine().mm) == digest(machine().mm.copy())


@pytest.mark.slow
@pytest.mark.parametrize("what", ["removal_is_over", "free_lists", "memmap_backing"])
def test_a_finding_replays(tmp_path, what):
    path = tmp_path / "finding.mem"
    path.write_text(scenario("use x86_64 ram=2G profile=rfc-2018", found(machine(), depth=3)[what]))
    assert show(str(path), {}, Player().fresh).numbers


def test_the_reason_of_a_crash_is_said_once():
    crash = next(item for what, item in found(machine(), depth=3).items() if what.startswith("crash"))
    why = scenario("use x86_64", crash).splitlines()[0]
    assert why == f"# why: {crash.text}"
    assert why.count(crash.what.rpartition(" ")[2]) == 1
