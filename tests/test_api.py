"""The Python API: what scripts and notebooks stand on."""

import ast
import json
import re
import sys
from html import unescape
from io import StringIO
from pathlib import Path

import pytest

from memshell import CommandError, GiB, KernelError, Machine, UsageError
from memshell.machine import Machine as BaseMachine


@pytest.fixture
def guest():
    return Machine.boot("x86_64", ram="2G", policy="memmap_on_memory")


def test_it_boots_and_runs(guest):
    assert guest.run("add 1G").startswith("1G at 0x100000000")
    assert (
        guest.run("online all movable; expect blocks.online == 24")
        == "memory32-39 online in Movable: 1008M and 16M memmap\n"
    )
    assert (guest.arch.name, guest.profile, guest.policy) == ("x86_64", "v6.12", "memmap_on_memory")
    assert guest.zones[0, "Movable"].present << 12 == GiB
    assert {event.kind for event in guest.events} == {"BlockOnlined"}
    assert guest.check() == []
    assert isinstance(guest, BaseMachine)


def test_options_may_be_numbers():
    assert sorted(Machine.boot("x86_64", nodes=3).mm.nodes) == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments, options, says",
    [
        (("x86_46",), {}, "unknown architecture 'x86_46'; did you mean x86_64?"),
        (("x86_64",), {"rm": "2G"}, "unknown key 'rm'; did you mean 'ram'?"),
        (("x86_64",), {"policy": "budy"}, "did you mean buddy?"),
        (("x86_64",), {"profile": "v9"}, "unknown profile 'v9'"),
        (("x86_64",), {"ram": "2G; add 1G"}, "is not a size"),
    ],
)
def test_a_wrong_name_is_one_line(arguments, options, says):
    with pytest.raises(UsageError) as failed:
        Machine.boot(*arguments, **options)
    assert says in str(failed.value)


def test_errors_are_those_of_the_commands(guest):
    with pytest.raises(KernelError) as failed:
        guest.run("add 1G; add 0x100000000 1G")
    assert failed.value.errno == "EEXIST"
    assert "<python>" not in str(failed.value)
    assert 32 in guest.blocks, "what came before the failure is done"


def test_views_as_data(guest):
    assert guest.data("meminfo")["MemTotal"] == guest.mem_total >> 10
    assert guest.data("zoneinfo")[0]["zone"] == "DMA"
    assert guest.mem_free == sum(row["free"] for row in guest.data("zoneinfo")) << 12


def test_history(guest):
    guest.run("add 1G; online 32 movable")
    assert "memory.32.state" in [change.path for change in guest.diff(1, 2)]
    guest.undo()
    assert guest.blocks[32].state == "offline"
    guest.redo()
    assert guest.blocks[32].state == "online"


def test_use_in_a_command_makes_it_another_machine(guest):
    guest.run("add 1G")
    guest.run("use s390 ram=4G")
    assert (guest.arch.name, len(guest.steps), 8 in guest.blocks) == ("s390", 1, True)
    guest.run("add 1G")
    assert len(guest.steps) == 2


def test_what_is_returned_is_not_the_state(guest):
    guest.blocks.clear()
    guest.zones.clear()
    assert guest.blocks
    assert guest.check() == []


def test_a_machine_draws_itself(guest):
    from rich.console import Console

    assert repr(guest) == "<Machine x86_64, 2G, blocks of 128M, kernel v6.12, policy memmap_on_memory>"
    assert "DMA32" in str(guest)
    console = Console(width=60, record=True, file=StringIO())
    console.print(guest)
    assert max(len(line) for line in console.export_text().splitlines()) <= 60
    html = guest._repr_html_()
    assert html.startswith("<iframe ")
    page = unescape(re.search('srcdoc="(.*?)"', html, re.DOTALL)[1])
    assert page.startswith("<!doctype html>")
    bundle = guest._repr_mimebundle_()
    assert bundle["text/plain"] == str(guest)
    assert bundle["text/html"] == html
    assert bundle["image/svg+xml"].startswith("<svg")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_machine_is_a_dataframe(guest):
    pytest.importorskip("pandas", reason="to_dataframe needs pandas")
    guest.run("add 1G; online 32-35 movable")
    blocks = guest.to_dataframe()
    assert blocks["state"].value_counts().to_dict() == {"online": 20, "offline": 4}
    assert blocks.loc[32, "memmap"] == 2 << 20
    zones = guest.to_dataframe("zones")
    assert zones.loc["Movable", "managed"] == 4 * 126 << 20
    steps = guest.to_dataframe("steps")
    assert steps["command"].to_list()[1:] == ["add 1G", "online 32-35 movable"]
    assert steps["managed"].diff().to_list()[2] == 4 * 126 << 20
    assert "MemTotal" in guest.to_dataframe("meminfo").columns
    with pytest.raises(UsageError, match="unknown command 'blok'"):
        guest.to_dataframe("blok")


def test_without_pandas_it_says_so(guest, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CommandError) as failed:
        guest.to_dataframe()
    assert str(failed.value) == "to_dataframe needs pandas, which is not installed; pip install 'memshell-mm[notebook]'"


NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(path, tmp_path, monkeypatch, capsys):
    """As a notebook runs them: in order, and the value of the last line is drawn."""
    for name in ("pandas", "matplotlib"):
        pytest.importorskip(name, reason=f"the notebook needs {name}")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert cell["outputs"] == [], "what it shows is not kept in the repository"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            assert str(value), "an expression at the end of a cell is there to be shown"
            if hasattr(value, "_repr_mimebundle_"):
                assert value._repr_mimebundle_()["text/html"]
