"""plot: what is drawn is what the states and the tables say, in letters and in pictures."""

import argparse
import json
import re
import sys
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from memshell.commands.plot import of_steps, of_table
from memshell.modes.plot import run
from memshell.pictures.canvas import THEMES
from memshell.pictures.chart import LINES, Chart, Line, text_chart
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session

TABLE = """\
size,policy,usable,memmap,errno,outcome,why
1G,buddy,3221225472,16777216,,ok,
1G,memmap_on_memory,3204448256,16777216,,ok,
4G,buddy,6442450944,67108864,,ok,
4G,memmap_on_memory,6375342080,67108864,,ok,
512G,buddy,2147483648,0,ENOMEM,ENOMEM,the memmap of 512G needs 8G
"""


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    made = Session(shared_plugins)
    for line in ("use x86_64 ram=2G policy=memmap_on_memory", "add 1G", "online 32-35 movable"):
        made.type(line)
    return made


def table(**wishes):
    rows = [
        dict(zip(TABLE.splitlines()[0].split(","), line.split(","), strict=True)) for line in TABLE.splitlines()[1:]
    ]
    rows = [{k: int(v) if v.isdecimal() else v for k, v in row.items()} for row in rows]
    return of_table(rows, "t.csv", argparse.Namespace(**{"x": None, "y": None, "by": None, **wishes}))


def test_the_lines_are_the_states(session):
    machine = session.player.shell.machine
    blocks = {line.name: line.values for line in of_steps(machine, "blocks").lines}
    assert blocks == {"online": (16, 16, 20), "offline": (0, 8, 4)}
    free = {line.name: line.values for line in of_steps(machine, "free").lines}
    assert free["managed"][2] - free["managed"][1] == 4 * 126 << 20
    memmap = {line.name: line.values for line in of_steps(machine, "memmap").lines}
    assert memmap["in the blocks themselves"] == (0, 16 << 20, 16 << 20)
    zones = {line.name: line.values for line in of_steps(machine, "zones").lines}
    assert zones["node 0 Movable"] == (0, 0, 512 << 20)


def test_a_table_is_drawn_without_being_told_how():
    chart = table()
    assert (chart.x, chart.y, chart.places) == ("size", "usable", ("1G", "4G"))
    assert chart.lines == (Line("buddy", (3221225472, 6442450944)), Line("memmap_on_memory", (3204448256, 6375342080)))
    assert chart.note == "1 of 5 cells failed and are left out"
    assert table(y="memmap").lines[0] == Line("buddy", (16777216, 67108864))
    assert [line.name for line in table(y="usable,memmap", by="policy").lines][:2] == ["buddy, usable", "buddy, memmap"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("plot fre", "'fre' is nothing to plot; did you mean free?"),
        ("plot free y=usable", "x=, y= and by= are for a table that sweep wrote; plot FILE.csv y=usable"),
        ("plot t.csv y=usabel", "there is no column 'usabel'; did you mean usable?"),
        ("plot t.csv y=policy", "t.csv: policy holds nothing measured; y=COLUMN"),
        ("plot t.csv by=outcome", "several cells of one line have size=1G; by= names what they differ in"),
        ("plot none.csv", "cannot read none.csv: No such file or directory"),
        ("plot t.txt", "t.txt: a table to plot ends in .csv or .json"),
        ("plot free out=a.pdf", "a.pdf: a picture ends in .svg or .png"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(session, words, said):
    assert session.type(words) == [said]


def test_letters_fit_the_terminal_and_stand_where_the_values_are():
    chart = Chart(
        "Title", "step", "size", ("0", "1", "2"), (Line("up", (0, 5, 10)), Line("flat", (10, 10, None))), bytes=False
    )
    lines = text_chart(chart, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("      10 |b")
    assert lines[1].endswith("a"), "the highest is at the top, to the right"
    assert lines[7][10 + round(0.5 * 49)] == "a"
    assert lines[13] == "       0 |a"
    assert lines[-2:] == ["          a up", "          b flat"]


def test_large_factors_are_shown_on_a_logarithmic_axis():
    chart = Chart("T", "size", "memmap", ("1G", "1T"), (Line("a", (16 << 20, 16 << 30)),))
    assert chart.logarithmic
    text = text_chart(chart, 80)
    assert "logarithmic" in text
    assert "     16G |" in text
    assert "    512M |" in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_picture_has_axes_units_and_names(session, theme):
    pytest.importorskip("matplotlib", reason="a chart is drawn by matplotlib")
    said = session.type(f"plot t.csv out=a.svg theme={theme}")
    assert said[1] == "1 of 5 cells failed and are left out"
    text = Path("a.svg").read_text()
    words = [node.text for node in fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert {"size", "usable [bytes]", "buddy", "memmap_on_memory", "1G", "4G", "usable by size"} <= {*words}
    assert LINES[theme][0] in text
    assert THEMES[theme]["paper"] in text
    assert session.type("plot t.csv out=a.svg") == ["a.svg exists; --force writes over it"]
    session.type(f"plot t.csv out=b.svg theme={theme}")
    assert Path("b.svg").read_bytes() == Path("a.svg").read_bytes(), "the same chart is the same file"


def test_without_matplotlib_it_says_so(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    hint = "pip install 'memshell-mm[plot]'; without out= it is drawn in letters"
    said = session.type("plot free out=a.png")
    assert said == [f"a chart is drawn by matplotlib, which is not installed; {hint}"]
    assert session.type("plot free")[0].startswith("Managed and free memory")


@pytest.mark.parametrize("theme", LINES)
def test_lines_are_told_apart_on_paper_and_screen(theme):
    """Each has three times the contrast that separates it from its background (WCAG 1.4.11)."""

    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    paper = light(THEMES[theme]["paper"])
    for colour in LINES[theme]:
        low, high = sorted([light(colour), paper])
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_the_mode_reads_json_too(session, capsys):
    rows = [{"size": "1G", "usable": 1 << 30, "outcome": "ok"}, {"size": "2G", "usable": 1 << 31, "outcome": "ok"}]
    Path("t.json").write_text(json.dumps(rows))
    options = argparse.Namespace(
        form=None, debug=False, plugin=[], block_plugin=[], strict_plugins=False, keep_going=False, allow_shell=False
    )  # fmt: skip
    assert run(options, ["t.json"]) == 0
    assert re.search(r"^ +2G \|", capsys.readouterr().out, re.MULTILINE)
    Path("t.json").write_text("{}")
    assert run(options, ["t.json"]) == 1
    assert capsys.readouterr().err.startswith("t.json has no rows")
