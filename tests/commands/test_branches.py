"""Going back and forth: redo after a failure, states with a name, and what differs in few lines."""

import pytest

from memshell import Machine
from memshell.errors import MemshellError


def test_redo_survives_a_failure(prompt):
    prompt("add 1G; undo; ! online 5")
    assert prompt("redo") == "again after step 1: add 1G; what failed is taken back: online 5\n"
    assert [step.command for step in prompt.machine.steps[1:]] == ["add 1G"]
    assert 32 in prompt.mm.blocks


def test_redo_gives_the_states_that_there_were_whatever_failed(prompt):
    """The add that failed left sections and its memmap behind: after redo they are not there."""
    prompt("use x86_64 ram=512M; add 1G; online all; undo 2")
    prompt.fails("add 64G")
    prompt.fails("online 3")
    prompt("redo 2")
    again = prompt.mm
    prompt("use x86_64 ram=512M; add 1G; online all")
    assert again.zones == prompt.mm.zones
    assert again.sections == prompt.mm.sections


def test_a_failure_before_the_undo_stays(prompt):
    prompt("! online 5; add 1G; undo; ! online 6; redo")
    assert [step.command for step in prompt.machine.steps[1:]] == ["online 5", "add 1G"]


def test_something_new_ends_redo(prompt):
    prompt("add 1G; undo; add 2G")
    assert "there is nothing to redo" in prompt.fails("redo")


# --- branches ---


def test_a_branch_goes_its_own_way(prompt):
    prompt("branch small; add 1G; branch large; switch small; add 256M; switch main")
    assert sum(not block.early for block in prompt.mm.blocks.values()) == 8
    prompt("switch small")
    assert sum(not block.early for block in prompt.mm.blocks.values()) == 2
    assert [step.command for step in prompt.machine.steps[1:]] == ["add 256M"]
    text = prompt("diff small large")
    assert "memory.34-39 " in text
    assert "iomem.100000000-13fffffff " in text


def test_each_branch_has_its_undo_and_redo(prompt):
    prompt("add 1G; branch other; undo; switch other; undo; redo; switch main")
    assert prompt("redo").startswith("again after step 1: add 1G")


def test_branches_are_listed(prompt):
    prompt("branch small; add 1G")
    rows = prompt.json("branch")
    assert [(row["name"], row["now"], row["step"], row["command"]) for row in rows] == [
        ("main", True, 1, "add 1G"),
        ("small", False, 0, "use x86_64 ram=2G profile=v6.12"),
    ]


def test_use_begins_a_branch_anew(prompt):
    prompt("branch x86; use powerpc ram=2G; switch x86")
    assert prompt.mm.arch.name == "x86_64"
    prompt("switch main")
    assert prompt.mm.arch.name == "powerpc"


@pytest.mark.parametrize(
    "line, told",
    [
        ("switch larg", "did you mean large?"),
        ("switch nothing", "there is no branch nothing; there are large, main; branch nothing makes one"),
        ("branch large", "there is a branch large; switch large, or branch large --off"),
        ("branch main", "there is a branch main"),
        ("branch 3", "'3' is no name of a branch"),
        ("branch main --off", "the session is on branch main; switch to another one first"),
        ("branch other --off", "there is no branch other"),
        ("diff main othr", "there is no branch othr"),
        ("diff 0 7", "there is no step 7; steps are 0 to 1"),
    ],
)
def test_what_there_is_not(prompt, line, told):
    prompt("add 1G; branch large")
    assert told in prompt.fails(line)
    assert prompt.player.shell.branch == "main"


def test_a_branch_is_forgotten(prompt):
    assert prompt("branch a; branch a --off").splitlines()[-1] == "branch a is forgotten"
    assert "there is no branch a" in prompt.fails("switch a")


def test_steps_are_told_once(prompt):
    """A switch is no step: what the kernel complained about is not said again."""
    seen = []
    prompt.player.observe = lambda played: seen.append((played.command, len(played.steps)))
    prompt("branch a; add 1G; switch a; switch main; switch a; add 1G")
    assert seen == [
        ("branch a", 0), ("add 1G", 1), ("switch a", 0), ("switch main", 0), ("switch a", 0), ("add 1G", 1)
    ]  # fmt: skip


def test_a_subtest_leaves_the_branch_that_it_was_on(prompt):
    prompt("branch a; add 1G")
    prompt("subtest x\n  branch b\n  switch a\n  add 2G\nend")
    assert (prompt.player.shell.branch, sorted(prompt.player.shell.branches)) == ("main", ["a"])
    assert prompt.player.shell.branches["a"].step.n == 0
    assert prompt.machine.step.n == 1


def test_python_has_branches_too():
    machine = Machine.boot("x86_64", ram="2G")
    machine.run("branch a; add 1G; switch a")
    assert (machine.step.n, len(machine.blocks)) == (0, 16)
    machine.run("switch main")
    assert (machine.step.n, len(machine.blocks)) == (1, 24)
    with pytest.raises(MemshellError, match="there is no branch b"):
        machine.run("switch b")


# --- diff ---


@pytest.mark.parametrize("policy, most", [("buddy", 8), ("memmap_on_memory", 9)])
def test_512_gigabytes_are_few_lines(prompt, policy, most):
    prompt(f"use x86_64 ram=32G policy={policy}; add 512G")
    lines = prompt("diff").splitlines()
    assert len(lines) <= most
    (row,) = [line for line in lines if line.startswith("memory.")]
    assert row.split()[0] == "memory.272-4367"
    assert "offline, group 1" in row
    prompt("online all movable")
    assert len(prompt("diff").splitlines()) < 20
    assert "memory.272-4367.state " in prompt("diff")


def test_what_differs_in_between_is_not_joined(prompt):
    prompt("add 1G; online 32-34 36-39 movable")
    rows = [line.split()[0] for line in prompt("diff").splitlines() if line.startswith("memory.")]
    assert rows == ["memory.32-34.state", "memory.36-39.state", "memory.32-34.zone", "memory.36-39.zone"]


def test_every_change_is_there_for_programs(prompt):
    prompt("add 1G; online all movable")
    data = prompt.json("diff")
    assert [row["after"] for row in data if row["what"] == "memory.35.zone"] == ["Movable"]
    assert len([line for line in prompt("diff --all").splitlines() if line.startswith("memory.")]) == 16
    rows = prompt("diff -o WHAT,COUNT -F csv").splitlines()
    assert "memory.32-39.state,8" in rows


def test_page_tables_are_counted(prompt):
    prompt("use x86_64 ram=8G; add 256G")
    assert "page table.pmd 0xffffea0040000000 to 0xffffea0100000000 (4) " in prompt("diff")
