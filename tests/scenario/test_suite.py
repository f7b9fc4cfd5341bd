"""Scenarios as tests: KTAP, JUnit and the update of golden blocks."""

from xml.etree.ElementTree import fromstring

import pytest

from memshell.errors import UsageError
from memshell.scenario.reports import junit, ktap, plain_line, summary
from memshell.scenario.suite import apply_edits, find_files, find_tests, play_case
from memshell.testing import run_scenario

TEXT = "subtest one\ntrue\nend\nsubtest two\nexpect 1 == 2\nend\n"


@pytest.fixture
def case(tmp_path):
    (tmp_path / "a#b.mem").write_text(TEXT)
    return play_case(str(tmp_path / "a#b.mem"))


def test_ktap_nests_subtests_and_escapes_what_would_be_a_directive(case):
    # Documentation/dev-tools/ktap.rst: version line, plan, result lines, "# Subtest:", diagnostics with "# ".
    lines = ktap([case]).splitlines()
    name = case.name.replace("#", "_")
    assert lines == [
        "KTAP version 1",
        "1..1",
        "  KTAP version 1",
        f"  # Subtest: {name}",
        "  1..2",
        "  ok 1 one",
        f"  # {case.name}:5: expect failed: 1 == 2",
        "  #     actual 1, off by -1",
        "  not ok 2 two",
        f"not ok 1 {name}",
    ]


def test_junit_counts_and_carries_the_message(case):
    root = fromstring(junit([case]))
    assert root.attrib["tests"] == "3"
    assert root.attrib["failures"] == "1"
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == ["two"]


def test_lines_for_people(case):
    assert plain_line(case).startswith(f"FAILED {case.name} (")
    assert summary([case]).startswith("1 of 1 failed")


def test_update_rewrites_golden_blocks_and_keeps_patterns_that_fit(tmp_path):
    path = tmp_path / "g.mem"
    path.write_text("use x86_64 ram=2G\n----\nx86_64<...>\n\nhistory\n----\nSTEP <...>\nold\n\nexpect step == 0\n")
    assert not play_case(str(path)).ok
    case = play_case(str(path), update=True)
    assert case.ok
    apply_edits(str(path), case.edits[str(path)])
    text = path.read_text()
    assert "x86_64<...>\n\nhistory\n----\nSTEP <...>\n   0 ok " in text
    assert text.endswith("\n\nexpect step == 0\n")
    assert play_case(str(path)).ok


def test_update_never_touches_an_expectation(tmp_path):
    path = tmp_path / "g.mem"
    path.write_text("use x86_64 ram=2G\nexpect step == 7\n")
    case = play_case(str(path), update=True)
    assert not case.ok
    assert not case.edits


def test_files_are_found_in_folders_and_filtered(tmp_path):
    for name in ("b.mem", "a.mem", "no.txt"):
        (tmp_path / name).write_text("true\n")
    assert [path[-5:] for path in find_files([str(tmp_path)])] == ["a.mem", "b.mem"]
    assert [cell.path for cell in find_tests(find_files([str(tmp_path)]), {}, "b.m")] == [str(tmp_path / "b.mem")]
    with pytest.raises(UsageError, match="-k zzz matches none"):
        find_tests(find_files([str(tmp_path)]), {}, "zzz")
    with pytest.raises(UsageError, match=r"did you mean .*/a\.mem"):
        find_files([str(tmp_path / "aa.mem")])


def test_run_scenario_is_for_assertions():
    run_scenario("use x86_64 ram=2G; expect blocks.online == 16").assert_ok()
    with pytest.raises(AssertionError, match="actual 16"):
        run_scenario("use x86_64 ram=2G; expect blocks.online == 17").assert_ok()


def test_pytest_collects_scenarios():
    # The entry point is there; what it does is seen in scenarios/, which this very run collects.
    from importlib.metadata import entry_points

    assert [entry.value for entry in entry_points(group="pytest11", name="memshell")] == ["memshell.testing"]
