"""sweep: every cell is a row, once, wherever it is played and whatever becomes of it."""

import argparse
import csv
import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from memshell import UsageError
from memshell.errors import MemshellError
from memshell.modes.players import kept_plugins
from memshell.modes.sweep import run
from memshell.scenario.cells import Cells
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.sweep.axes import axes_of, cells, read_axis
from memshell.sweep.pools import Task, here, in_processes, on_dask

SCENARIO = """\
let size ?= 1G
let policy ?= buddy
use x86_64 ram=2G policy=$policy
add $size
online all movable
"""
GRID = {"size": ["128M", "1G", "4G", "300M", "512G"], "policy": ["buddy", "memmap_on_memory"]}
SHOW = ("usable", "memmap.altmap", "errno", "zone.DMA32.managed")
PLUGIN = """\
import os
import time
from memshell import command, hookimpl

memshell_api = 2

@command("what if", needs_machine=False)
def stop(shell, args):
    \"\"\"Take for ever, or die.\"\"\"
    fate = shell.settings.variables.get("fate")
    if fate == "die":
        os._exit(9)
    while fate == "hang":
        pass
    time.sleep(100 if fate == "sleep" else 0)

@hookimpl
def memshell_commands(ctx):
    return [stop]
"""


@pytest.fixture
def scenario(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.mem").write_text(SCENARIO)
    return "a.mem"


def made(path, loader=shared_plugins):
    return Cells.of(path, loader, Player)


def tasks(axes, show=SHOW, seconds=60):
    return [Task(at, values, show, seconds) for at, values in enumerate(cells(axes))]


def by_number(played):
    rows = list(played)
    assert max(Counter(number for number, _ in rows).values()) == 1, "a cell is there twice"
    return dict(rows)


def sweep(*words, form=None):
    return run(argparse.Namespace(form=form, debug=False, plugin=[], block_plugin=[], strict_plugins=False), [*words])


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("size=1G", ["1G"]),
        ("size=1G,4G,..,1T", ["1G", "4G", "16G", "64G", "256G", "1T"]),
        ("size=1G,..,8G", ["1G", "2G", "4G", "8G"]),
        ("n=1,2,..,8", ["1", "2", "4", "8"]),
        ("n=1,2,..,5", ["1", "2", "3", "4", "5"]),
        ("size=1G,3G,..,7G,16G", ["1G", "3G", "5G", "7G", "16G"]),
        ("policy=buddy,memmap_on_memory,buddy", ["buddy", "memmap_on_memory"]),
    ],
)
def test_an_axis_has_the_values_that_the_dots_stand_for(word, values):
    assert read_axis(word) == (word.partition("=")[0], values)


@pytest.mark.parametrize("word", ["size", "=1G", "size=", "size=1G,", "size=..", "size=1G,..", "size=..,1G", "size=4G,..,1G",
                                  "size=3G,..,7G", "policy=buddy,..,none"])  # fmt: skip
def test_an_axis_that_cannot_be_is_one_line(word):
    with pytest.raises(UsageError) as caught:
        read_axis(word)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_axis_twice_is_refused():
    with pytest.raises(UsageError, match="size is an axis twice"):
        axes_of(["size=1G", "size=2G"])


def test_each_combination_is_a_row_and_failures_are_rows(scenario):
    rows = by_number(here(made(scenario), tasks(GRID)))
    assert len(rows) == 10
    assert [row["outcome"] for row in rows.values()] == [*["ok"] * 6, "EINVAL", "EINVAL", "ENOMEM", "ok"]
    first, second = rows[2], rows[3]
    assert (first["size"], first["policy"], second["policy"]) == ("1G", "buddy", "memmap_on_memory")
    assert first["usable"] - second["usable"] == 16 << 20  # what a block keeps is not managed
    assert (first["memmap.altmap"], second["memmap.altmap"]) == (0, 16 << 20)
    assert rows[8]["errno"] == "ENOMEM"
    assert "the memmap of 512G needs 8G" in rows[8]["why"]


def test_a_value_that_a_machine_does_not_have_is_empty(scenario):
    Path("b.mem").write_text("let arch ?= x86_64\nuse $arch\n")
    rows = by_number(here(made("b.mem"), tasks({"arch": ["x86_64", "powerpc", "vax"]})))
    assert rows[0]["zone.DMA32.managed"] > 1 << 30
    assert rows[1]["zone.DMA32.managed"] is None
    assert rows[2]["outcome"] == "refused"
    assert "unknown architecture 'vax'" in rows[2]["why"]


def test_cells_share_what_use_builds(scenario, monkeypatch):
    import memshell.machine

    boots = []
    boot = memshell.machine.boot
    monkeypatch.setattr(memshell.machine, "boot", lambda *args: boots.append(args) or boot(*args))
    Path("c.mem").write_text(SCENARIO.replace("ram=2G", "ram=1152M"))  # a machine that no other test has
    play = made("c.mem")
    rows = by_number(here(play, tasks(GRID)))
    assert len(boots) == 2, "one for each policy"
    again = by_number(here(play, tasks(GRID)))
    assert again == rows, "no cell changes what another begins with"


def test_processes_give_the_rows_that_one_gives(scenario):
    grid = tasks({**GRID, "size": [f"{n * 128}M" for n in range(1, 30)]})
    assert by_number(in_processes(made(scenario), grid, 2)) == by_number(here(made(scenario), grid))


def with_plugin(tmp_path):
    (tmp_path / "fate.py").write_text(PLUGIN)
    (tmp_path / "fate.mem").write_text("let fate ?= none\nuse x86_64 ram=2G\nstop\n")
    options = argparse.Namespace(plugin=[str(tmp_path / "fate.py")], block_plugin=[], strict_plugins=False)
    return made(str(tmp_path / "fate.mem"), kept_plugins(options))


FATES = ["none", "hang", "a", "die", "b", "sleep", "c"]
ENDS = ["ok", "hung", "ok", "crashed", "ok", "hung", "ok"]


@pytest.mark.slow
def test_a_cell_that_hangs_or_dies_is_a_row_and_no_other_is_lost(tmp_path):
    rows = by_number(in_processes(with_plugin(tmp_path), tasks({"fate": FATES}, ("errno",), 3), 2))
    assert [rows[at]["outcome"] for at in range(len(FATES))] == ENDS
    assert rows[1]["why"] == "not done after 3 s"
    assert rows[3]["why"] == "the process that played it died"
    assert [rows[at]["fate"] for at in range(len(FATES))] == FATES


@pytest.mark.slow
def test_a_cell_that_hangs_in_this_process_is_a_row(tmp_path):
    rows = by_number(here(with_plugin(tmp_path), tasks({"fate": ["hang", "none"]}, ("errno",), 1.5)))
    assert [row["outcome"] for row in rows.values()] == ["hung", "ok"]


@pytest.mark.slow
def test_a_cell_that_hangs_in_a_thread_is_a_row(tmp_path):
    """As dask plays them."""
    from concurrent.futures import ThreadPoolExecutor

    play = with_plugin(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        rows = list(pool.map(play, tasks({"fate": ["hang", "none"]}, ("errno",), 1.5)))
    assert [row["outcome"] for row in rows] == ["hung", "ok"]


# --- dask ---


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_costs_no_cell_and_doubles_none(scenario):
    dask = pytest.importorskip("dask.distributed", reason="memshell-mm[dask] is not installed")
    grid = tasks({**GRID, "size": [f"{n * 128}M" for n in range(1, 60)]})
    with dask.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        came = on_dask(made(scenario), grid, cluster.scheduler_address, 2)
        first = [next(came) for _ in range(20)]
        victim = next(iter(cluster.workers.values()))
        os.kill(victim.pid, signal.SIGKILL)
        rest = list(came)
    assert len(rest) > 40, "there was work left when it died"
    assert by_number([*first, *rest]) == by_number(here(made(scenario), grid))


def test_without_dask_it_says_so(scenario, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dask", None)
    assert sweep("a.mem", "-D", "size=1G", "--on", "local") == 1
    assert capsys.readouterr().err == "on= needs dask, which is not installed; pip install 'memshell-mm[dask]'\n"


@pytest.mark.filterwarnings("ignore")
def test_no_scheduler_is_one_line(scenario, capsys):
    pytest.importorskip("dask.distributed", reason="memshell-mm[dask] is not installed")
    assert sweep("a.mem", "-D", "size=1G", "--on", "nowhere") == 1
    assert capsys.readouterr().err.startswith("no dask scheduler answers at nowhere")


# --- what is kept ---


def test_the_ending_says_the_form(scenario, capsys):
    axes = ["-D", "size=1G,512G", "-D", "policy=buddy", "--jobs", "1", "--show", "usable,errno"]
    for name in ("a.csv", "a.md", "a.json", "a.sqlite", "a.txt"):
        assert sweep("a.mem", *axes, "--out", name) == 0
        assert capsys.readouterr().out == f"{name}: 2 cells: 1 ok, 1 ENOMEM\n"
        assert not Path(name + ".part").exists()
    rows = json.loads(Path("a.json").read_text())
    assert list(rows[0].values())[:5] == ["1G", "buddy", rows[0]["usable"], "", "ok"]
    with Path("a.csv").open(newline="") as file:
        assert [row["errno"] for row in csv.DictReader(file)] == ["", "ENOMEM"]
    with closing(sqlite3.connect("a.sqlite")) as base:
        assert base.execute("SELECT usable FROM sweep WHERE outcome = 'ok'").fetchall() == [(rows[0]["usable"],)]
    assert Path("a.md").read_text().startswith("| size | policy | usable | errno | outcome | why |\n")


def test_parquet_keeps_numbers_as_numbers(scenario):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet is written by pyarrow")
    assert sweep("a.mem", "-D", "size=1G,2G", "--jobs", "1", "--out", "a.parquet") == 0
    assert [type(value) for value in parquet.read_table("a.parquet").to_pydict()["usable"]] == [int, int]


def test_an_interrupted_sweep_goes_on_where_it_ended(scenario, monkeypatch, capsys):
    words = ("a.mem", "-D", "size=128M,256M,..,1G", "-D", "policy=buddy,memmap_on_memory", "--jobs", "1")
    assert sweep(*words, "--out", "whole.csv") == 0
    played, play = [], Cells.__call__

    def until_the_third(self, task):
        played.append(task.number)
        if len(played) == 3:
            raise KeyboardInterrupt
        return play(self, task)

    monkeypatch.setattr(Cells, "__call__", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        sweep(*words, "--out", "a.csv")
    assert "2 of 8 cells are done, in a.csv.part: --resume goes on" in capsys.readouterr().err
    assert sweep(*words, "--out", "a.csv") == 2, "what is done is not thrown away in silence"
    assert "--resume goes on, --force begins anew" in capsys.readouterr().err
    with Path("a.csv.part").open("a") as file:
        file.write('[3, {"size": "25')  # as the power fails
    played.extend([0] * 9)
    assert sweep(*words, "--out", "a.csv", "--resume") == 0
    assert played[-6:] == [2, 3, 4, 5, 6, 7], "and no cell is played twice"
    assert Path("a.csv").read_text() == Path("whole.csv").read_text()


def test_what_is_done_is_shown_when_there_is_no_file(scenario, monkeypatch, capsys):
    play = Cells.__call__

    def until_the_second(self, task):
        if task.number == 1:
            raise KeyboardInterrupt
        return play(self, task)

    monkeypatch.setattr(Cells, "__call__", until_the_second)
    with suppress(KeyboardInterrupt):
        sweep("a.mem", "-D", "size=128M,256M", "--jobs", "1")
    out, err = capsys.readouterr()
    assert "1 cells: 1 ok" in out
    assert "1 of 2 cells are done" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mem", "-D", "sise=1G"], "sise is no parameter of a.mem; did you mean size?"),
        (["a.mem", "--show", "usabel"], "unknown name 'usabel'; did you mean usable?"),
        (["a.mem", "--out", "a.xls"], "a.xls: a table ends in .csv, .md, .json, .parquet, .sqlite, .db or .txt"),
        (["a.mem", "--out", "no/a.csv"], "there is no folder no"),
        (["a.mem", "--resume"], "--resume goes on with a file; name it: out=FILE.csv"),
        (["b.mem"], "no scenario b.mem"),
        (["a.mem", "-D", "size"], "'size' is no axis"),
    ],
)
def test_what_is_typed_wrong_is_one_line_and_nothing_is_played(scenario, monkeypatch, capsys, words, said):
    monkeypatch.setattr(Cells, "__call__", lambda *_: pytest.fail("it was played"))
    with suppress(MemshellError):
        assert sweep(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert not list(Path().glob("*.part"))


def test_the_matrix_of_a_scenario_is_played_too(scenario, capsys):
    Path("m.mem").write_text("# matrix: policy=buddy,memmap_on_memory\n" + SCENARIO)
    assert sweep("m.mem", "-D", "size=1G,2G", "--jobs", "1", form="csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4


def test_it_is_a_command_at_the_prompt_too(scenario):
    from memshell.scenario.transcript import Session

    said = Session(shared_plugins).type(
        "sweep a.mem -D size=1G -D policy=buddy,memmap_on_memory show=added.wasted jobs=1"
    )
    assert said[0].split() == ["SIZE", "POLICY", "ADDED.WASTED", "OUTCOME"]
    assert said[-1] == "2 cells: 2 ok"


def test_a_cell_runs_no_program_and_a_file_writes_no_table(scenario, tmp_path):
    Path("w.mem").write_text("let n ?= 1\n!touch stolen\n")
    rows = by_number(here(made("w.mem"), tasks({"n": ["1"]}, ("errno",))))
    assert rows[0]["outcome"] == "refused"
    assert not Path("stolen").exists()
    player = Player(shared_plugins)
    Path("s.mem").write_text("sweep a.mem -D size=1G out=stolen.csv jobs=1\n")
    with pytest.raises(MemshellError, match="a file may not"):
        player.play_file("s.mem")
    assert not Path("stolen.csv").exists()
