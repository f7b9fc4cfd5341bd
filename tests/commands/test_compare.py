"""compare: each column begins with the session's machine, and has its row whatever becomes of it."""

import json

import pytest

from memshell import Machine, UsageError

ONLINE = "online offline movable"


@pytest.fixture
def rows(prompt):
    """Return what a comparison finds, as rows by name."""

    def play(line):
        prompt.player.shell.output.form = "json"
        try:
            return {row["kernel"]: row for row in json.loads(prompt(line))}
        finally:
            prompt.player.shell.output.form = "table"

    return play


def test_the_machine_is_the_session_s(prompt, rows):
    """4G of memory on powerpc with 64K pages has 4M of memmap, on x86_64 it would be 64M."""
    prompt("use powerpc ram=8G")
    found = rows(f"compare buddy memmap_on_memory -- add 4G; {ONLINE}")
    assert {row["existing"] for row in found.values()} == {4 << 20}
    assert {row["machine"].partition(",")[0] for row in found.values()} == {"powerpc"}


def test_the_machine_stands_above_the_table(prompt):
    prompt("use powerpc ram=8G")
    first, second, *_ = prompt(f"compare buddy memmap_on_memory -- add 4G; {ONLINE}").splitlines()
    assert first == "from powerpc, 8G, blocks of 256M, kernel v6.12, policy buddy"
    assert second.startswith("KERNEL ")


def test_what_the_session_has_done_counts(prompt, rows):
    """512M of RAM cannot pay for 64G: as for `add 64G` itself; what was added before is not counted in."""
    prompt("use x86_64 ram=512M")
    assert rows("compare buddy -- add 64G")["buddy"]["outcome"] == "ENOMEM"
    prompt("add 4G; online offline kernel")
    found = rows(f"compare buddy -- add 1G; {ONLINE}")["buddy"]
    assert (found["existing"], found["largest"], found["outcome"]) == (16 << 20, 1 << 30, "ok")


def test_the_session_s_kernel_and_settings_count(prompt, rows):
    prompt("profile v6.1; set auto_online_blocks=online_movable")
    found = rows("compare buddy memmap_on_memory -- add 1G")
    assert {row["existing"] for row in found.values()} == {16 << 20}  # v6.1 puts no memmap on a DIMM of several blocks
    assert {row["largest"] for row in found.values()} == {1 << 30}  # it came online
    assert "kernel v6.1" in found["buddy"]["machine"]


def test_a_column_that_fails_has_its_row_with_the_errno(prompt):
    prompt("use x86_64 ram=512M")
    text = prompt(f"compare buddy memmap_on_memory -- add 64G; {ONLINE}")
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert lines["buddy"].endswith("ENOMEM")
    assert lines["memmap_on_memory"].endswith("ok")
    assert lines["buddy:"].startswith("buddy: the memmap of 64G needs 1G")


def test_what_only_a_boot_can_change_is_booted_and_the_session_played_again(prompt, rows):
    prompt("add 1G; online all movable")
    found = rows("compare v6.12 rfc-2018 powerpc ram=1G -- add 1G via=module; online offline movable")
    assert [row["outcome"] for row in found.values()] == ["ok"] * 4
    assert found["powerpc"]["machine"].startswith("powerpc, 3G,")  # 2G of boot, 1G of the session
    assert "rfc-2018, policy memmap_from_range" in found["rfc-2018"]["machine"]
    assert found["ram=1G"]["machine"].startswith("x86_64, 2G,")
    text = prompt("compare v6.12 ram=1G -- add 1G")
    assert "\nram=1G: x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy\n" in text
    assert "\nv6.12: x86_64" not in text  # it is the machine as it stands


def test_a_kernel_that_has_no_such_thing_refuses(prompt):
    text = prompt("compare buddy powerpc -- add 1G via=dlpar")
    assert [line.split()[-1] for line in text.splitlines()[3:5]] == ["refused", "ok"]
    assert "\nbuddy: unknown caller 'dlpar'" in text


def test_a_machine_that_cannot_be_is_told_in_its_row(prompt):
    text = prompt("compare buddy ram=1K -- add 1G")
    assert "ram=1K" in text
    assert "\nram=1K: ram=1K cannot be" in text


@pytest.mark.parametrize(
    "line, told",
    [
        ("compare buddy -- add", "required: size"),
        ("compare buddy v6.1 -- foo", "unknown command 'foo'"),
        ("compare buddi -- true", "'buddi' is no profile, policy or architecture"),
        ("compare buddy", "compare what?"),
        ("compare buddy file=/nowhere.mem", "cannot read /nowhere.mem"),
    ],
)
def test_what_is_typed_wrong_for_all_is_an_error(prompt, line, told):
    assert told in prompt.fails(line)


def test_without_a_machine_it_says_which_it_takes(prompt):
    prompt.player.shell.machine = None
    text = prompt("compare buddy -- add 1G")
    assert text.startswith("from x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy, as `use x86_64` boots it\n")
    assert prompt.player.shell.machine is None


def test_a_scenario_brings_its_machine(prompt, tmp_path):
    path = tmp_path / "a.mem"
    path.write_text("use powerpc ram=4G\nadd 4G\nonline offline movable\n")
    text = prompt(f"compare buddy file={path}")
    assert text.startswith(f"from powerpc, 4G, blocks of 256M, kernel v6.12, policy buddy, as {path} boots it\n")


def test_the_session_is_as_before(prompt):
    prompt("let size = 1G; alias plug 'add 1G'")
    state = prompt.mm
    prompt("compare buddy memmap_on_memory -- plug; add $size")
    assert prompt.mm is state
    assert len(prompt.machine.steps) == 1


def test_python_gets_the_rows():
    machine = Machine.boot("powerpc", ram="8G")
    (row,) = machine.data("compare buddy -- add 4G")
    assert (row["existing"], row["machine"].partition(",")[0]) == (4 << 20, "powerpc")
    assert machine.data("lsmem")["memory"]
    with pytest.raises(UsageError, match="shows no data"):
        machine.data("true")


def test_a_machine_that_nobody_booted_by_a_line(prompt):
    prompt.machine.steps[0] = type(prompt.machine.steps[0])(0, "boot", prompt.mm)
    assert " ok" in prompt("compare memmap_on_memory -- add 1G")
    assert "nobody knows how this machine was booted" in prompt.fails("compare ram=1G -- add 1G")


def test_a_sweep_of_a_scenario_without_a_machine_begins_with_the_session_s(prompt, tmp_path):
    path = tmp_path / "a.mem"
    path.write_text("let size ?= 1G\nadd $size\nonline offline movable\n")
    prompt("use powerpc ram=8G; add 512M; ! online 0")
    lines = prompt(f"sweep {path} -D size=1G,2G show=blocks.total jobs=1").splitlines()
    assert lines[0] == "from powerpc, 8G, blocks of 256M, kernel v6.12, policy buddy, as this session has it"
    assert [line.split() for line in lines[2:4]] == [["1G", "38", "ok"], ["2G", "42", "ok"]]
    path.write_text("let size ?= 1G\nuse x86_64 ram=2G\nadd $size\n")
    lines = prompt(f"sweep {path} -D size=1G,2G show=blocks.total jobs=1").splitlines()
    assert [line.split() for line in lines[1:3]] == [["1G", "24", "ok"], ["2G", "32", "ok"]]
