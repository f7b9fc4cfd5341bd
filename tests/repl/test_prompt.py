"""The prompt, driven as a person drives it: real keys on a real pty."""

import re
import sys
from pathlib import Path

import pexpect
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal, plain

USE = "use x86_64 ram=2G"


@pytest.fixture
def terminal(tmp_path):
    made = []

    def start(*args, **options):
        terminal = Terminal(tmp_path, *args, **options)
        made.append(terminal)
        terminal.ready()
        return terminal

    yield start
    for terminal in made:
        terminal.process.close(force=True)


def test_a_session(terminal):
    shell = terminal()
    assert "x86_64, 2G" in shell.run(USE)
    assert "policy memmap_on_memory" in shell.run("policy memmap_on_memory")
    assert "back before step 1" in shell.run("undo")
    assert shell.leave() == 0


def test_an_error_is_one_line_and_the_session_goes_on(terminal):
    shell = terminal()
    assert "unknown command 'udno'; did you mean undo?" in shell.run("udno")
    assert "there is no machine yet" in shell.run("undo")
    assert "expect failed: 1 == 2\n    actual 1, off by -1" in shell.run("expect 1 == 2")


@pytest.mark.slow
def test_tab_completes_with_descriptions(terminal):
    shell = terminal()
    shell.run(USE)
    shell.type("pol\t", 0.6)
    shell.type(" \t")
    seen = plain(shell.screen(0.8))
    assert "memmap_on_memory_force" in seen
    assert "memmap at the start of each block" in seen


@pytest.mark.slow
def test_enter_runs_the_line_and_does_not_take_what_the_menu_offers(terminal):
    # With the menu open and nothing chosen, Enter must run what stands there.
    shell = terminal()
    shell.run(USE)
    shell.type("policy memmap_on_memory\t", 0.6)
    assert "policy memmap_on_memory\n" in shell.run("")


@pytest.mark.slow
def test_blocks_are_completed_with_their_state_and_zone(terminal):
    shell = terminal()
    shell.run(USE)
    shell.type("expect block.1\t")
    assert "block.1.state" in plain(shell.screen(0.8))


@pytest.mark.slow
def test_lines_go_on_until_a_block_is_complete(terminal):
    shell = terminal()
    shell.type("repeat 3 as i\r", 0.2)
    shell.type("let a = $i\r", 0.2)
    assert "expect failed" not in shell.run("end")
    assert "actual 2" in shell.run("expect $a == 7")


@pytest.mark.slow
def test_the_history_is_kept_and_searched(terminal, tmp_path):
    shell = terminal()
    shell.run(USE)
    shell.run("policy memmap_on_memory")
    assert shell.leave() == 0
    assert USE in (tmp_path / ".local/state/memshell/history").read_text()
    shell = terminal()
    shell.type("use\x1b[A", 0.3)  # Up, with a prefix
    assert "x86_64" in shell.run("")
    for keys in ("\x12", "memmap_on", "\r"):  # Ctrl-R, and Enter takes what it found
        shell.type(keys, 0.3)
    assert "policy memmap_on_memory" in shell.run("")


@pytest.mark.slow
def test_ctrl_c_clears_the_line_and_ctrl_d_leaves(terminal):
    shell = terminal()
    shell.type("garbage", 0.2)
    shell.type("\x03")
    shell.result()
    assert "x86_64" in shell.run(USE)
    assert shell.leave() == 0


@pytest.mark.slow
def test_ctrl_c_stops_the_command_and_the_machine_is_as_before(terminal):
    shell = terminal()
    shell.run(USE)
    shell.type("repeat 1000000000; true; end\r", 1.0)
    shell.type("\x03")
    assert "interrupted: the step in hand is undone" in shell.result()
    assert "actual 0" in shell.run("expect step == 9")


@pytest.mark.slow
def test_a_long_command_shows_that_it_is_at_work(terminal):
    shell = terminal()
    shell.run(USE)
    shell.type("repeat 1000000000; true; end\r", 1.8)
    shell.type("\x03")
    assert re.search(r"true: \d+ s, Ctrl-C stops it", shell.result())


@pytest.mark.slow
def test_nothing_is_drawn_over_another_program(terminal):
    shell = terminal()
    assert "stops it" not in shell.run("!sleep 1.6")


@pytest.mark.slow
def test_a_result_begins_on_a_line_of_its_own(terminal):
    shell = terminal()
    shell.run(USE)
    shell.type("repeat 1000000; true; end; policy buddy\r", 1.8)
    shell.type("\x03")
    shell.process.expect_exact("\r\x1b[Kinterrupted:")


@pytest.mark.slow
def test_pipes_files_and_the_systems_shell(terminal, tmp_path):
    shell = terminal()
    shell.run(USE)
    assert "2" in shell.run("history | wc -l")
    shell.run(f"policy -F csv > {tmp_path}/out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("NAME,NOW,SUMMARY\n")
    assert "here 7" in shell.run("!echo here $((3+4))")


@pytest.mark.slow
def test_what_is_taller_than_the_screen_is_paged_and_the_rest_is_not(terminal):
    shell = terminal(PAGER="sed 's/^/PAGED /'", rows=15)
    assert "PAGED" not in shell.run(USE)
    assert "PAGED session" in shell.run("help")


@pytest.mark.slow
def test_rc_is_a_scenario_and_can_be_left_out(terminal, tmp_path):
    rc = tmp_path / ".config/memshell/rc.mem"
    rc.parent.mkdir(parents=True)
    rc.write_text(f"{USE}\nalias pol policy\n")
    shell = terminal()
    assert "memmap_on_memory" in shell.run("pol")
    assert "unknown command 'pol'" in terminal("--no-rc").run("pol")


@pytest.mark.slow
def test_xdg_places_are_used(terminal, tmp_path):
    shell = terminal(XDG_STATE_HOME=str(tmp_path / "state"))
    shell.run("true")
    shell.leave()
    assert (tmp_path / "state/memshell/history").exists()


@pytest.mark.slow
def test_a_home_that_cannot_be_written_costs_the_history_and_not_the_session(terminal, tmp_path):
    shell = Terminal(tmp_path, XDG_STATE_HOME="/proc/nowhere")
    assert "no history and no journal" in shell.ready()
    assert "x86_64" in shell.run(USE)
    assert shell.leave() == 0


@pytest.mark.slow
def test_colour_only_where_it_is_wanted(terminal):
    coloured = re.compile(r"\x1b\[[0-9;]*(3[1-7]|9[1-7])[0-9;]*m")
    shell = terminal()
    shell.type("undo ")
    assert coloured.search(shell.screen())
    shell = terminal(NO_COLOR="1")
    shell.type("undo ")
    assert not coloured.search(shell.screen())


def test_a_dumb_terminal_gets_plain_lines(terminal):
    shell = Terminal(Path("/nonexistent"), TERM="dumb", XDG_STATE_HOME="/proc/nowhere")
    shell.process.expect_exact("memshell>")
    shell.type(USE + "\r")
    shell.process.expect_exact("blocks of 128M")
    assert "\x1b[3" not in shell.process.before
    shell.process.close(force=True)


@pytest.mark.slow
def test_the_toolbar_is_under_the_prompt(tmp_path):
    shell = Terminal(tmp_path, PROMPT_TOOLKIT_NO_CPR="")
    shell.process.expect_exact("\x1b[6n")  # where is the cursor?
    shell.type("\x1b[1;1R")
    assert "no machine yet: use x86_64 ram=2G" in plain(shell.screen())
    shell.type(USE + "\r")
    shell.process.expect_exact("\x1b[6n")
    shell.type("\x1b[4;1R")
    assert re.search(r"x86_64 4K · block 128M · v6\.12 · buddy · DMA32 1\.\d+G free · step 0", plain(shell.screen()))
    shell.process.close(force=True)


@pytest.mark.slow
def test_a_line_of_several_commands_and_an_error_in_it_says_where(terminal):
    shell = terminal()
    assert "unknown command 'nosuch'" in shell.run("true; nosuch; true")


@pytest.mark.slow
def test_help_names_every_command_and_shows_examples(terminal):
    shell = terminal(rows=60)
    assert "lsmem" in shell.run("help")
    assert "EXAMPLES" in shell.run("help undo")
    assert "EXAMPLES" in shell.run("undo --help")


@pytest.mark.slow
def test_vi_keys(terminal):
    shell = terminal(MEMSHELL_KEYS="vi")
    shell.type("undox\x1b", 0.7)  # Escape: to normal mode
    shell.type("x", 0.3)  # deletes the letter under the cursor
    shell.type("\r")
    assert "there is no machine yet" in shell.result()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["exit", "quit"])
def test_a_word_leaves(terminal, word):
    shell = terminal()
    assert shell.run("2G / 128M").rstrip().endswith("16")
    assert "help [COMMAND...]" in shell.run("? help")
    shell.type(word + "\r")
    shell.process.expect(pexpect.EOF)
    shell.process.close()
    assert shell.process.exitstatus == 0


@pytest.mark.slow
def test_what_people_type_and_paste(terminal):
    shell = terminal(columns=80)
    shell.run(USE)
    shell.run("add 1.5G")
    pasted = shell.run("echo online_movable > /sys/devices/system/memory/memory32/state")
    assert "that is: online 32 movable" in pasted
    assert "memory32 online in Movable: 128M" in pasted
    assert "a line that begins with # is a comment" in shell.run(
        "# echo online > /sys/devices/system/memory/memory33/state"
    )
    assert "384M" in shell.run("lsmem -b -n -o RANGE,SIZE,STATE; chmem -e 256M; print zone.Movable.present")
    assert "online_policy = contig-zones" in shell.run("set online_policy")
    assert "help daxctl shows" in shell.run("daxctl list")
    assert "did you mean quit?" in shell.run("quti")
    pages = shell.run("help memmap").splitlines()
    assert max(map(len, pages)) <= 80
    assert "768K" in shell.run("48M / 64")
