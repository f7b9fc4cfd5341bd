"""The player: what a scenario does, where its failures point, and that it stops when it should."""

import pytest

from memshell.errors import MemshellError
from memshell.scenario.player import Player
from memshell.scenario.suite import play_text_case
from memshell.shell.shell import Output


class Out:
    def __init__(self):
        self.text = ""

    def write(self, text, /):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def player():
    return Player(output=Output(Out(), Out()))


def _fails(player, text, file="f.mem"):
    with pytest.raises(MemshellError) as caught:
        player.play_text(text, file)
    return str(caught.value)


def test_an_expectation_that_fails_says_what_was_seen_and_done_before(player):
    assert _fails(player, "use x86_64 ram=2G\npolicy memmap_on_memory\n\nexpect blocks.online == 17") == (
        "f.mem:4: expect failed: blocks.online == 17\n    actual 16, off by -1\n    last step: policy memmap_on_memory"
    )


def test_a_failure_in_an_included_file_has_the_chain(player, tmp_path):
    (tmp_path / "inner.mem").write_text("true\nexpect 1 == 2\n")
    (tmp_path / "outer.mem").write_text("true\ninclude inner.mem\n")
    with pytest.raises(MemshellError) as caught:
        player.play_file(str(tmp_path / "outer.mem"))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path}/inner.mem:2: expect failed: 1 == 2"
    assert lines[-1] == f"    at {tmp_path}/outer.mem:2"


def test_a_file_that_includes_itself_is_refused(player, tmp_path):
    (tmp_path / "a.mem").write_text("include a.mem\n")
    with pytest.raises(MemshellError, match="includes itself"):
        player.play_file(str(tmp_path / "a.mem"))


def test_a_command_that_must_fail(player):
    player.play_text("use x86_64 ram=2G\n! undo\nexpect error != none", "f")
    assert "had to fail, and did not: ! true" in _fails(player, "! true")


def test_what_failed_as_it_should_is_shown_and_compared(player):
    player.play_text("use x86_64 ram=2G\n! undo\n----\nfailed as it should: there is nothing to undo\n", "f")
    assert player.shell.output.out.text.endswith("failed as it should: there is nothing to undo\n")
    assert "output differs" in _fails(player, "! undo\n----\nsomething else\n")


def test_a_mistyped_command_is_no_failure_that_a_script_may_expect(player):
    # Otherwise `! ofline memory0` would pass for ever.
    assert "unknown command 'tru'; did you mean true?" in _fails(player, "! tru")


def test_repeat_counts_and_let_remembers(player):
    player.play_text("let sum = 0\nrepeat 4 as i\nlet sum = $sum + $i\nend\nexpect $sum == 6", "f")
    assert "cannot repeat -1 times" in _fails(player, "repeat -1\ntrue\nend")


def test_a_subtest_leaves_the_machine_as_it_was(player):
    player.play_text("use x86_64 ram=2G\nsubtest a\npolicy memmap_on_memory\nend\nexpect policy == buddy", "f")
    player.play_text("subtest b\nuse x86_64 ram=4G\nend\nexpect blocks.total == 16", "f")


def test_conditions(player):
    player.play_text("use x86_64 ram=2G\n[arch:x86_64] let a = 1\n[arch:powerpc] let a = 2\nexpect $a == 1", "f")
    player.play_text("[!page_size:64K] let a = 3\n[policy:buddy] expect $a == 3", "f")
    assert "unknown condition 'arhc'; did you mean arch?" in _fails(player, "[arhc:x] true")


def test_a_name_that_does_not_exist_is_an_error_and_not_a_string(player):
    player.play_text("use x86_64 ram=2G", "f")
    # `expect block.1.state != ofline` would hold for ever if a misspelt word were a string.
    assert "unknown name 'ofline'; did you mean offline?" in _fails(player, "expect block.1.state != ofline")
    assert "did you mean zone.Normal.present" in _fails(player, "expect zone.Normal.presnt == 0")
    assert "there is no block 99; blocks go from 0 to 15" in _fails(player, "expect block.99.state == online")


def test_an_alias_takes_the_words_behind_it_and_may_not_call_itself(player):
    player.play_text("use x86_64 ram=2G; alias back 'policy memmap_on_memory; undo'; back; expect policy == buddy", "f")
    player.play_text("alias pol policy; pol memmap_on_memory; expect policy == memmap_on_memory", "f")
    player.play_text("alias loop loop2; alias loop2 loop", "f")
    assert "calls itself" in _fails(player, "loop")


def test_pipes_and_redirections(player, tmp_path, capfd):
    player.play_text(f"use x86_64 ram=2G > {tmp_path}/out; history | wc -l", "f")
    assert (tmp_path / "out").read_text().startswith("x86_64")
    player.play_text(f"use x86_64 ram=2G >> {tmp_path}/out", "f")
    assert len((tmp_path / "out").read_text().splitlines()) == 2
    assert capfd.readouterr().out.strip() == "2"
    assert "ended with status 3" in _fails(player, "history | exit 3")
    assert "cannot write" in _fails(player, f"policy > {tmp_path}/no/such")


def test_a_golden_block_is_compared_line_by_line(player):
    player.play_text("use x86_64 ram=2G\n----\nx86_64<...>blocks of 128M<...>\n", "f")
    message = _fails(player, "\npolicy\n----\nNAME                   NOW SUMMARY\nbuddies<...>\n")
    assert message.splitlines()[:3] == [
        "f.mem:2: output differs from the golden block: policy",
        "    line 2",
        "    expected buddies<...>",
    ]
    assert "is too much" in _fails(player, "policy\n----\nNAME                   NOW SUMMARY\n")


def test_what_the_kernel_complains_about_is_told_beside_the_result(player):
    player.play_text("use x86_64 profile=rfc-2018; set check.online_pages_range off; add 1G", "f")
    assert player.shell.output.err.text == ""
    player.play_text("online offline movable", "f")
    assert player.shell.output.err.text.startswith("kernel: BUG: Bad page state, pfn 0x100001: ")
    assert "kernel:" not in player.shell.output.out.text


def test_watch_takes_only_what_has_a_value(player):
    player.play_text("use x86_64 ram=2G", "f")
    with pytest.raises(MemshellError, match=r"unknown name 'blocks\.onlin'"):
        player.play_text("watch blocks.onlin", "f")
    player.play_text("watch blocks.online; watch blocks.online", "f")
    assert player.shell.settings.watches == ["blocks.online"]


def test_watch_shows_an_expression_after_each_step(player):
    player.play_text("watch blocks.online\nuse x86_64 ram=2G", "f")
    assert player.shell.output.out.text.endswith("blocks.online = 16\n")


def test_the_failures_of_subtests_are_collected_and_the_rest_is_played():
    case = play_text_case("f", "subtest a\nexpect 1 == 2\nend\nsubtest b\ntrue\nend\nexpect 3 == 4")
    assert [(sub.name, sub.ok) for sub in case.subtests] == [("a", False), ("b", True)]
    assert case.failures == ["f:7: expect failed: 3 == 4\n    actual 3, off by -1"]


def test_save_writes_a_scenario_that_replays_to_the_same_state(player, tmp_path):
    file = tmp_path / "saved.mem"
    player.play_text("use x86_64 ram=2G; policy memmap_on_memory; set online_policy=auto-movable; undo", "f")
    player.play_text(f"save {file} --expect", "f")
    assert "exists; --force replaces it" in _fails(player, f"save {file}")
    machine = player.shell.machine
    player.play_text("use x86_64 ram=4G", "f")
    player.play_file(str(file))
    assert player.shell.machine.mm == machine.mm
    assert [step.command for step in player.shell.machine.steps] == [step.command for step in machine.steps]
