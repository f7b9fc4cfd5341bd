"""export: what it writes is read by the real tools."""

import json
import shutil
import subprocess
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


@pytest.mark.skipif(shutil.which("lsmem") is None, reason="util-linux is not installed")
@pytest.mark.parametrize("arch", MACHINES)
@pytest.mark.parametrize("options", ["", "-o +NODE,ZONES", "-b", "-a"])
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
    assert "memory32: online, node 1" in titles
    assert "memory40: offline, node 0" in titles


def test_the_page_is_whole(tmp_path):
    session(["use x86_64 ram=2G", f"export html {tmp_path}/a.html"])
    opened = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "rect"}:
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
