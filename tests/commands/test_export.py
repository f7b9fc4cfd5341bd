"""export: what it writes is read by the real tools."""

import io
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree.ElementTree import fromstring

import pytest

from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session

MACHINES = {
    "x86_64": ["use x86_64 ram=2G nodes=2", "add 1G node=1", "add 256M", "online 32-35 movable"],
    "powerpc": ["use powerpc ram=2G", "add 1G", "online 8-9 movable"],
    "s390": ["use s390 ram=2G", "lsmem"],
}


def session(lines):
    made = Session(shared_plugins)
    for line in lines:
        made.type(line)
    return made


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("lsmem") is None, reason="util-linux is not installed")
@pytest.mark.parametrize("arch", MACHINES)
@pytest.mark.parametrize("options", ["", "--output-all", "-b", "-a"])
def test_the_real_lsmem_prints_what_ours_prints(arch, options, tmp_path):
    shell = session(MACHINES[arch])
    shell.type(f"export sysroot {tmp_path}/root")
    ours = shell.type(f"lsmem {options}")
    command = ["lsmem", "--sysroot", f"{tmp_path}/root", *options.split()]
    real = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    assert ours == real.stdout.splitlines()


@pytest.mark.skipif(shutil.which("lsmem") is None, reason="util-linux is not installed")
@pytest.mark.parametrize("arch", MACHINES)
def test_the_real_lsmem_gives_the_same_json(arch, tmp_path):
    shell = session(MACHINES[arch])
    shell.type(f"export sysroot {tmp_path}/root")
    ours = json.loads("\n".join(shell.type("lsmem -J")))
    command = ["lsmem", "-J", "--sysroot", f"{tmp_path}/root"]
    real = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    assert ours == json.loads(real.stdout)


def test_the_picture_shows_every_block(tmp_path):
    shell = session([*MACHINES["x86_64"], f"export svg {tmp_path}/a.svg"])
    root = fromstring((tmp_path / "a.svg").read_text())
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    blocks = shell.player.shell.machine.mm.blocks
    assert len(titles) == len(blocks)
    assert "memory32: online, node 1, 128M free" in titles
    assert "memory40: offline, node 0, 128M offline" in titles


def test_the_page_is_whole(tmp_path):
    session(["use x86_64 ram=2G", f"export html {tmp_path}/a.html"])
    opened = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "link", "input"}:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    Parser().feed((tmp_path / "a.html").read_text())
    assert opened == []


def test_the_json_has_the_views_under_their_names(tmp_path):
    shell = session([*MACHINES["x86_64"], f"export json {tmp_path}/a.json"])
    state = json.loads((tmp_path / "a.json").read_text())
    assert state["meminfo"] == json.loads("\n".join(shell.type("meminfo -F json")))
    assert state["zoneinfo"] == json.loads("\n".join(shell.type("zoneinfo -F json")))
    assert state["policy"] == "buddy"


def test_nothing_is_written_over_without_being_asked(tmp_path):
    (tmp_path / "a.svg").write_text("mine")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine").touch()
    shell = session(["use x86_64 ram=2G"])
    for kind, name in (("svg", "a.svg"), ("sysroot", "root")):
        assert shell.type(f"export {kind} {tmp_path}/{name}") == [f"{tmp_path}/{name} exists; --force writes over it"]
    shell.type(f"export sysroot {tmp_path}/root --force")
    assert (tmp_path / "root" / "mine").exists()
    assert (tmp_path / "a.svg").read_text() == "mine"


def test_the_ending_says_the_form(tmp_path):
    pytest.importorskip("matplotlib", reason="a PNG is drawn by matplotlib")
    shell = session(["use x86_64 ram=2G", f"export svg {tmp_path}/m.png"])
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert shell.type(f"export svg {tmp_path}/m.gif") == [f"{tmp_path}/m.gif: a picture ends in .svg or .png"]


def test_without_matplotlib_a_png_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = session(["use x86_64 ram=2G"]).type(f"export svg {tmp_path}/m.png")
    assert said[0].startswith("a PNG is drawn by matplotlib, which is not installed; pip install 'memshell-mm[plot]'")
    assert len(said) == 1
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show=blok", "show='blok' is no picture; did you mean block?"),
        ("step=9", "there is no step 9; steps are 0 to 3"),
        ("show=block blocks=40 step=0", "there is no memory40 at that step"),
        ("show=zones blocks=3", "show=zones shows all blocks; blocks= is for show=block, sections or tables"),
        ("show=block blocks=all", "26 blocks are too many for a picture; 8 at most"),
    ],
)
def test_what_a_picture_cannot_show_is_one_line_and_no_file(words, said, tmp_path):
    assert session(MACHINES["x86_64"]).type(f"export svg {tmp_path}/a.svg {words}") == [said]
    assert not (tmp_path / "a.svg").exists()


def test_the_mode_takes_what_the_command_takes(tmp_path, capsys, monkeypatch):
    from memshell.__main__ import main

    monkeypatch.setattr(sys, "stdin", io.StringIO("use x86_64 ram=2G\nadd 256M\nonline all movable\n"))
    assert main(["export", "svg", f"{tmp_path}/b.svg", "show=block", "blocks=32", "theme=dark"]) == 0
    assert "memory32: one memory block, 128M, online" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    "kind, name", [("svg", "m.html"), ("svg", "m.json"), ("html", "m.svg"), ("html", "m.PNG"), ("json", "m.html")]
)
def test_a_name_that_says_another_kind(prompt, tmp_path, kind, name):
    """A picture in a file that ends in .html is shown by nothing."""
    message = prompt.fails(f"export {kind} {tmp_path / name}")
    assert f"is no name for {kind}: it ends in ." in message
    assert not list(tmp_path.iterdir())


def test_other_names_are_anybody_s(prompt, tmp_path):
    prompt(f"export json {tmp_path / 'm.txt'}; export html {tmp_path / 'page.htm'}; export json {tmp_path / 'state'}")
    assert len(list(tmp_path.iterdir())) == 3
