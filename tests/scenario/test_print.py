"""Values: `print EXPR`, an expression alone, `set NAME`, `Machine.eval`; sizes as people write them, in and out."""

import pytest

from memshell import Machine, UsageError
from memshell.mm.pfn import GiB, KiB, MiB, memparse, spoken_size


@pytest.fixture
def guest(machine):
    made = machine("x86_64", ram="2G")
    made.run("let a = 1G; policy memmap_on_memory; add 1G; online offline movable")
    return made


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("print 2 + 2", "4"),
        ("2+2", "4"),
        ("(1 + 2) * 3", "9"),
        ("-3 + 1", "-2"),
        ("1.5G / 128M", "12"),
        ("2T / 64", "32G"),
        ("$a", "1G"),
        ("print $a * 3", "3G"),
        ("blocks.online", "24"),
        ("blocks.online > 3", "yes"),  # no file is written
        ("not crashed", "yes"),
        ("block.32.zone", "Movable"),
        ("zone.DMA.managed", "15M (3840 pages)"),
        ("zone.DMA.present", "15.62M (3998 pages)"),
        ("print 'a word'", "a word"),
        ("memmap.altmap", "16M (4096 pages)"),
        ("added.size", "1G"),
        ("added.usable", "1008M"),
        ("added.memmap", "16M"),
        ("added.wasted", "0"),
    ],
)
def test_a_value_is_shown(guest, typed, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert guest.run(typed) == shown + "\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "typed, said",
    [
        ("print", "expected an expression"),
        ("2+", "2+: no command, and expected an expression"),
        ("$b", "$b is not set"),
        ("print blocks.onlin", "did you mean blocks.online?"),
        ("blocks.onlin", "did you mean blocks.online?"),
        ("ofline 3", "did you mean offline?"),
        ("ofline-3", "unknown command"),
        ("data.0x1", "unknown name"),
    ],
)
def test_what_is_no_value_is_told(guest, typed, said):
    with pytest.raises(UsageError) as failed:
        guest.run(typed)
    assert said in str(failed.value)


@pytest.mark.parametrize("typed", ["print blocks.online | tr 16 AB", "blocks.online | tr 16 AB"])
def test_a_value_goes_to_a_program(typed):
    from memshell.scenario.suite import shared_plugins
    from memshell.scenario.transcript import Session

    session = Session(shared_plugins)
    session.type("use x86_64 ram=2G")
    assert session.type(typed) == ["AB"]


def test_a_scenario_can_hold_what_is_printed_to_its_value():
    from memshell.testing import run_scenario

    run_scenario("use x86_64 ram=2G\nprint block_size\n----\n128M\n\nblocks.online\n----\n16\n").assert_ok()


@pytest.mark.parametrize(
    "expression, value",
    [
        ("2 + 2", 4),
        ("1.5G", 3 << 29),
        ("zone.Movable.present", 1 << 30),  # memory is in bytes
        ("zone.Movable.present / 128M", 8),
        ("crashed", False),
        ("block.32.zone", "Movable"),
        ("1 / 4", 0.25),
        ("$a", 1 << 30),
    ],
)
def test_eval_is_for_programs(guest, expression, value):
    assert guest.eval(expression) == value


def test_eval_names_what_is_not_there(guest):
    with pytest.raises(UsageError, match="did you mean"):
        guest.eval("zone.Movabel.present")


def test_data_of_a_command_with_a_tail(guest):
    rows = guest.data("compare buddy memmap_on_memory -- add 1G")
    assert len(rows) == 2
    assert {"existing", "inside"} <= set(rows[0])


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("set online_policy", "online_policy = contig-zones"),
        ("set memory_hotplug.online_policy", "online_policy = contig-zones"),
        ("set auto_online_blocks", "auto_online_blocks = offline"),
        ("set memmap_on_memory", "memmap_on_memory = Y"),
        ("set node_notifier", "node_notifier = off"),
    ],
)
def test_set_without_a_value_shows_it(guest, typed, shown):
    steps = len(guest.steps)
    assert guest.run(typed).splitlines()[0] == shown
    assert len(guest.steps) == steps


def test_set_without_a_value_corrects_a_slip(guest):
    with pytest.raises(UsageError, match="did you mean online_policy"):
        guest.run("set online_polcy")
    with pytest.raises(UsageError, match="to what"):
        guest.run("set online_policy=")


def test_what_a_device_keeps_loses_and_has_plugged():
    guest = Machine.boot("x86_64", ram="2G")
    guest.run("probe 0x100000000 1100M mode=kmem")
    assert [guest.eval(name) for name in ("lost", "data", "data.0x100000000")] == [76 * MiB, GiB, GiB]
    guest.run("virtio-mem 0.5G")
    assert guest.eval("plugged") == GiB // 2


@pytest.mark.parametrize(
    "text, size",
    [("1.5G", 3 << 29), ("0.25k", 256), ("1.50GiB", 3 << 29), ("2304M", 2304 << 20), ("0x8000000", 128 * MiB)],
)
def test_sizes_as_people_write_them(text, size):
    assert memparse(text) == size


@pytest.mark.parametrize("text", ["0.3k", "1.G", ".5G", "1.5", "1,5G", "-1.5G", "0x1.8G"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="is not a size"):
        memparse(text)


@pytest.mark.parametrize(
    "command",
    ["use x86_64 ram=1.5G", "use x86_64 ram=2G; add 1.5G", "use x86_64 ram=2G; alloc 0.5G", "use x86_64 mem=1.5G"],
)
def test_fractions_are_taken_everywhere(shell, command):
    assert shell(command)


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0"),
        (129 * MiB, "129M"),
        (-4128 * KiB, "-4128K"),
        (32 * GiB + 400 * KiB, "32.00G"),
        (-8388708 * 4096, "-32.00G"),
        (12345, "12.06K"),
    ],
)
def test_sizes_as_people_say_them(size, text):
    assert spoken_size(size) == text


def test_what_an_add_costs_is_said_as_a_size(shell):
    assert "free -32.00G (8388737 pages)" in shell("use x86_64 ram=64G; add 2T").replace("8388708", "8388737")


@pytest.mark.parametrize("word", ["exit", "quit"])
def test_a_script_ends_where_it_says_so(shell, word):
    assert shell(f"print 1; repeat 3; {word}; end; print 2") == "1\n"


@pytest.mark.parametrize(
    "typed, said",
    [
        ("sh x", "!sh runs this computer's"),
        ("free", "print free shows how much is free"),
        ("let map = dev", "Text goes in quotes"),
        ("dmesg", "help dmesg shows"),
    ],
)
def test_what_is_meant_for_another_shell_is_pointed_out(guest, typed, said):
    with pytest.raises(UsageError) as failed:
        guest.run(typed)
    assert said.lower() in str(failed.value).lower()


def test_a_session_goes_on_after_exit_in_a_program(guest):
    guest.run("exit; print 1")
    assert guest.run("print 2") == "2\n"


def test_help_takes_the_whole_line_that_somebody_would_type(shell):
    assert shell("help add 1G") == shell("help add")
