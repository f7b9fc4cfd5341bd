"""Parameters: a default in the scenario, -D on the command line, a matrix in the head; never the environment."""

import json
import subprocess
import sys
from xml.etree.ElementTree import fromstring

import pytest

from memshell.__main__ import main
from memshell.errors import UsageError
from memshell.scenario.parameters import definition, matrix, parameters
from memshell.scenario.reports import junit, plain_line
from memshell.scenario.suite import find_cells, play_case, play_cell

MATRIX = """\
# why: the memmap of what is added comes from where the policy says
# matrix: policy=buddy,memmap_on_memory size=1G,4G
let ram ?= 2G
use x86_64 ram=$ram policy=$policy
add $size
expect blocks.total == ($ram + $size) / 128M
"""


@pytest.fixture
def scenario(tmp_path):
    def write(text, name="a.mem"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.fixture
def memshell(capsys):
    """The command line in this process: exit code, stdout, stderr."""

    def run(*args):
        code = main(list(args))
        return (code, *capsys.readouterr())

    return run


def test_a_default_holds_where_nothing_was_set(shell):
    shell("let size ?= 1G; let size ?= 4G; expect $size == 1G")
    shell("let n = 3; let n ?= 4; expect $n == 3")


def test_run_takes_a_parameter(scenario, memshell):
    path = scenario("let size ?= 1G\nuse x86_64 ram=2G\nadd $size\nexpect blocks.offline == $size / 128M\n")
    assert "1G at 0x100000000" in memshell("run", path)[1]
    assert "2G at 0x100000000" in memshell("run", path, "-D", "size=2G")[1]


def test_a_parameter_may_be_a_word(scenario, memshell):
    path = scenario("use x86_64 ram=2G policy=$policy\nexpect policy == $policy\n")
    assert memshell("run", "-D", "policy=memmap_on_memory", path)[0] == 0
    code, _out, error = memshell("run", path)
    assert (code, "$policy is not set" in error, "-D policy=..." in error) == (2, True, True)


def test_the_environment_is_not_read(scenario, memshell, monkeypatch):
    monkeypatch.setenv("size", "4G")
    monkeypatch.setenv("SIZE", "4G")
    assert memshell("run", scenario("let size ?= 1G\nexpect $size == 1G\n! undo $SIZE\n"))[0] == 2


@pytest.mark.parametrize(
    "given, said",
    [
        ("sise=4G", "sise is no parameter of {path}; did you mean size?"),
        ("size", "'size' is not of the form NAME=VALUE; such as size=4G"),
        ("=4G", "'=4G' is not of the form NAME=VALUE"),
        ("size=", "'size=' is not of the form NAME=VALUE"),
        ("at=1", "at is no parameter of {path}"),  # the counter of a repeat is set by it
    ],
)
@pytest.mark.parametrize("mode", ["run", "test"])
def test_a_wrong_definition_is_one_line(scenario, memshell, given, said, mode):
    path = scenario("let size ?= 1G\nrepeat 2 as at\ntrue $at\nend\n")
    code, out, error = memshell(mode, "-D", given, path)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert said.format(path=path) in error


def test_parameters_of_an_included_file_count(scenario):
    scenario("let node ?= 0\n", "inner.mem")
    assert parameters(scenario("include inner.mem\nadd $size\nlet n = 1\ntrue $n\n")) == {"node", "size"}


def test_each_cell_of_a_matrix_is_a_test(scenario, memshell):
    path = scenario(MATRIX)
    code, out, _error = memshell("test", path)
    names = [line.split()[1] for line in out.splitlines()[:-1]]
    cells = [(policy, size) for policy in ("buddy", "memmap_on_memory") for size in ("1G", "4G")]
    assert names == [f"{path}[policy={policy},size={size}]" for policy, size in cells]
    assert (code, out.splitlines()[-1].split(" in ")[0]) == (0, "4 passed")


def test_what_is_given_stands_in_the_place_of_an_axis(scenario):
    cells = find_cells([scenario(MATRIX)], {"size": "2G", "ram": "1G"})
    assert [cell.axes for cell in cells] == [{"policy": "buddy"}, {"policy": "memmap_on_memory"}]
    assert all(play_cell(cell).ok for cell in cells)


def test_the_matrix_stands_in_the_head_and_its_lines_multiply():
    assert len(matrix("\n# matrix: a=1,2\n#matrix: b=3,4,5\ntrue\n# matrix: c=6,7\n", "f", {})) == 6


@pytest.mark.parametrize("head", ["policy", "a=1 b", "a=1,,2", "a=1,", "=1"])
def test_a_matrix_that_cannot_be_read_says_where(scenario, head):
    with pytest.raises(UsageError, match=r"a\.mem:2: matrix: .*such as"):
        find_cells([scenario(f"# why: so\n# matrix: {head}\ntrue\n")], {})


def test_an_axis_that_nothing_reads_is_a_mistake(scenario):
    with pytest.raises(UsageError, match=r"polcy is no parameter of .*did you mean policy"):
        find_cells([scenario("# matrix: polcy=buddy,force\nuse x86_64 policy=$policy\n")], {})


def test_run_plays_the_cells_too(scenario, memshell):
    code, out, error = memshell("run", scenario(MATRIX), "-D", "size=1G")
    assert (code, out.count("1G at 0x100000000")) == (0, 2)
    assert "a.mem[policy=buddy]:" in error


def test_definitions_are_words_with_a_name():
    assert definition("a=b=c") == ("a", "b=c")


@pytest.mark.slow
def test_pytest_makes_a_test_of_each_cell(scenario, tmp_path):
    scenario(MATRIX)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        "-o",
        "memshell_paths=.",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "a.mem::a[policy=memmap_on_memory,size=4G]" in done.stdout
    assert "4 tests collected" in done.stdout


@pytest.mark.parametrize(
    "text", ["ofline 3", "use x86_64 rm=2G", "expect", "expect blocks.onlin == 1", "include x.mem"]
)
def test_what_is_typed_wrong_is_an_error_in_junit(scenario, text):
    case = play_case(scenario(f"use x86_64 ram=2G\n{text}\n"))
    root = fromstring(junit([case]))
    assert (root.get("errors"), root.get("failures")) == ("1", "0")
    assert next(root.iter("testsuite")).get("errors") == "1"
    assert [element.tag for element in root.iter() if element.tag in ("error", "failure")] == ["error"]
    assert plain_line(case).startswith("ERROR")


@pytest.mark.parametrize("text", ["expect 1 == 2", "add 64G", "undo 7", "! true"])
def test_what_the_machine_does_otherwise_is_a_failure(scenario, text):
    root = fromstring(junit([play_case(scenario(f"use x86_64 ram=512M\nsubtest s\n{text}\nend\n"))]))
    assert (root.get("errors"), root.get("failures")) == ("0", "1")


def test_test_ends_with_the_worst_code(scenario, memshell):
    wrong, failing = scenario("ofline 3\n", "wrong.mem"), scenario("expect 1 == 2\n", "failing.mem")
    assert memshell("test", failing)[0] == 1
    assert memshell("test", failing, wrong)[0] == 2


PLUGIN = """
from memshell import hookimpl
from memshell.commands import command

@command("session", needs_machine=False)
def hello(shell, args):
    "Say so."
    return "hello"

memshell_api = 2

@hookimpl
def memshell_commands():
    return [hello]
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_test_loads_the_plugins_that_are_named(scenario, memshell, tmp_path, jobs):
    plugin = tmp_path / "hello.py"
    plugin.write_text(PLUGIN)
    files = [scenario("hello\n----\nhello\n\n", name) for name in ("a.mem", "b.mem")]
    code, out, error = memshell("--plugin", str(plugin), "test", "-j", jobs, *files)
    assert (code, out.count("ok ")) == (0, 2), out + error
    assert memshell("test", *files)[0] == 2


def test_a_scenario_alone_is_run(scenario, memshell):
    path = scenario("let size ?= 1G\nuse x86_64 ram=2G\nadd $size\n")
    assert memshell(path) == memshell("run", path)
    assert "512M at" in memshell(path, "-D", "size=512M")[1]
    code, _out, error = memshell("nosuch.mem")
    assert (code, "no scenario nosuch.mem" in error) == (2, True)


def test_k_chooses_cells(scenario, memshell):
    path = scenario(MATRIX)
    code, out, _error = memshell("test", "-k", "policy=buddy,size=4G", path)
    assert (code, out.count("ok "), "1 passed" in out) == (0, 1, True)


def test_a_wrong_matrix_is_one_error_and_the_others_are_played(scenario, memshell, tmp_path):
    scenario("# matrix: policy\ntrue\n", "wrong.mem")
    scenario("true\n", "fine.mem")
    code, out, _error = memshell("test", "--junit", str(tmp_path / "j.xml"), str(tmp_path))
    assert (code, "fine.mem" in out, "ERROR" in out) == (2, True, True)
    assert fromstring((tmp_path / "j.xml").read_text()).get("errors") == "1"


def test_update_leaves_a_block_alone_in_which_the_cells_differ(scenario, memshell, tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)  # where --update is refused
    text = "# matrix: size=1G,2G\nuse x86_64 ram=$size\nprint block_size\n----\nold\n\nprint present\n----\nold\n\n"
    path = scenario(text)
    error = memshell("test", "--update", path)[2]
    assert "cells of its matrix differ in 1 blocks" in error
    assert (tmp_path / "a.mem").read_text() == text.replace("old", "128M", 1)


def test_export_takes_a_parameter(scenario, memshell, tmp_path):
    path = scenario("let size ?= 1G\nuse x86_64 ram=2G\nadd $size\n")
    assert memshell("export", "json", f"{tmp_path}/m.json", path, "-D", "size=512M")[0] == 0
    assert json.loads((tmp_path / "m.json").read_text())["lsmem"]["memory"][-1]["size"] == "512M"
    assert memshell("export", "script", f"{tmp_path}/m.sh", path, "-D", "size=512M")[0] == 0
    assert "512M" in (tmp_path / "m.sh").read_text() or str(512 << 20) in (tmp_path / "m.sh").read_text()
    assert memshell("export", "json", f"{tmp_path}/n.json", path, "-D", "sise=1G")[0] == 2
