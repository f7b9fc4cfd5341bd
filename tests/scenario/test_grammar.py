"""The grammar: the compiled table is the grammar, and every mistake gets its place and what was expected."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memshell.scenario import build_table, lalr
from memshell.scenario.lalr import scan
from memshell.scenario.syntax import Escape, Expect, Include, Let, Repeat, Run, Subtest, SyntaxProblem, parse_text


def test_the_table_is_what_lark_makes_of_the_grammar():
    # table.json is what runs; a change of grammar.lark without `make grammar` would do nothing.
    grammar = (build_table.HERE / "grammar.lark").read_text(encoding="utf-8")
    stored = json.loads((build_table.HERE / "table.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(build_table.build(grammar))) == stored


def test_statements_of_every_kind():
    text = """\
# why: all of it
use x86_64 ram=2G; add 1G   # two in a line
[!arch:powerpc] ! offline memory0 "a b"
expect error == EBUSY
let size = 3 * 128M
include other.mem
repeat 3 as i
  online $i
end
subtest a name; true; end
lsmem -F json >> out
lsmem | sort | head -1; true
!ls; not a command
compare a b -- add 1G; online all
"""
    steps = parse_text(text, "f.mem")
    kinds = [type(step) for step in steps]
    assert kinds == [Run, Run, Run, Expect, Let, Include, Repeat, Subtest, Run, Run, Run, Escape, Run]
    assert steps[2].must_fail
    assert steps[2].words == ("offline", "memory0", '"a b"')
    assert [(c.key, c.value, c.negated) for c in steps[2].conditions] == [("arch", "powerpc", True)]
    assert steps[6].name == "i"
    assert [step.words for step in steps[6].body] == [("online", "$i")]
    assert (steps[7].name, len(steps[7].body)) == ("a name", 1)
    assert steps[8].redirect == (">>", "out")
    assert steps[9].pipe == "sort | head -1"
    assert steps[11].command == "ls; not a command"
    assert steps[12].tail == "add 1G; online all"
    assert [(step.where.line, step.where.column) for step in steps[:3]] == [(2, 1), (2, 20), (3, 17)]


def test_golden_blocks_end_at_an_empty_line_or_at_doubled_fences():
    steps = parse_text("lsmem\n----\na\n  b\n\nzoneinfo\n----\n----\na\n\nb\n----\n----\ntrue\n", "f")
    assert [step.golden.lines if step.golden else None for step in steps] == [("a", "  b"), ("a", "", "b"), None]


@pytest.mark.parametrize(
    "text, message",
    [
        ("expect", "f:1:7: expected an expression, found the end of the line"),
        ("true\nexpect a b", "f:2:10: expected a comparison (== != < <= > >=) or in, found 'b'"),
        ("expect (a == 3", "f:1:15: expected ), found the end of the line"),
        ("repeat 3 x", "f:1:10: expected the end of the line, found 'x'"),
        ("let 3 = 4", "f:1:5: expected a name, found '3'"),
        ("let a 3", "f:1:7: expected =, found '3'"),
        ("lsmem >", "f:1:8: expected a word, found the end of the line"),
        ("lsmem |", "f:1:1: nothing follows the |; write a shell command after it"),
        ("end", "f:1:1: end without repeat or subtest"),
        ("true\n\n----\nx", "f:3:1: a golden block belongs right under its command"),
        ("----\nx", "f:1:1: a golden block belongs under a command"),
    ],
)
def test_mistakes_say_where_and_what_was_expected(text, message):
    with pytest.raises(SyntaxProblem) as caught:
        parse_text(text, "f")
    assert str(caught.value) == message
    assert not caught.value.incomplete
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["repeat 2\ntrue", "subtest a", 'add "1G', "add 'x\ny", "true \\"])
def test_what_more_lines_could_complete_is_known(text):
    # The prompt opens another line, and standard input waits for one.
    with pytest.raises(SyntaxProblem) as caught:
        parse_text(text, "f")
    assert caught.value.incomplete


@given(st.text(st.sampled_from("ab1M \n;|>#$[]()'\"\\!-=.,+*/<%:") | st.characters(codec="utf-8")))
@example("repeat 1\n----\n")
@example("expect a.$b in [1, 2] +- 3\n")
def test_any_text_is_read_or_refused_in_one_line(text):
    problem = None
    try:
        parse_text(text, "f")
    except SyntaxProblem as found:
        problem = found
    assert problem is None or str(problem).startswith("f:")
    assert problem is None or 1 <= problem.where.line <= text.count("\n") + 2
    scan(text)


def test_scan_reads_what_is_still_being_typed():
    tokens, accepts = lalr.scan("online memory4")
    assert [token.text for token in tokens] == ["online", "memory4"]
    assert "WORD" in accepts
    assert "NAME" in lalr.scan("expect ")[1]
