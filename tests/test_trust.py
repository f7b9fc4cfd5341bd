"""Files of other people: they run nothing, write nothing, and do not drive the terminal."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from memshell.__main__ import main
from memshell.api import Session
from memshell.errors import UsageError, printable
from memshell.scenario.suite import play_case

HOSTILE = [
    "!touch {place}",
    "true | touch {place}",
    "history > {place}",
    "history >> {place}",
    "save {place}",
    "save {place} --force",
    "export json {place}",
    "export sysroot {place} --force",
    "alias x 'true | touch {place}'; x",
    "alias x '!touch {place}'; x",
    "alias x 'save {place}'; x",
    "alias y 'alias x \"save {place}\"; x'; y",
    "repeat 1; !touch {place}; end",
    "subtest s; !touch {place}; end",
    "[arch:x86_64] !touch {place}",
    "compare -- save {place}",
]


@pytest.fixture
def hostile(tmp_path):
    def write(line):
        place, path = tmp_path / "made", tmp_path / "hostile.mem"
        lines = (
            line.format(place=place).replace("; ", "\n")
            if line.startswith(("repeat", "subtest"))
            else line.format(place=place)
        )
        path.write_text(f"use x86_64 ram=512M\n{lines}\n")
        return path, place

    return write


@pytest.mark.parametrize("line", HOSTILE)
@pytest.mark.parametrize("how", ["run", "test", "mutate", "export", "source", "stdin"])
def test_a_file_runs_nothing_and_writes_nothing(how, line, hostile, tmp_path, monkeypatch, capsys):
    path, place = hostile(line)
    calls = {
        "run": ["run", str(path)],
        "test": ["test", str(path)],
        "mutate": ["mutate", str(path), "-j", "1"],
        "export": ["export", "json", str(tmp_path / "named"), str(path)],
        "source": ["-c", f"source {path}"],
        "stdin": [],
    }
    monkeypatch.setattr(sys, "stdin", StringIO(path.read_text()))
    code = main(["--no-rc", "--keep-going", *calls[how]])
    said = capsys.readouterr()
    assert not place.exists()
    if how in {"run", "source", "stdin"} and not line.startswith("compare"):
        assert code == 2
        assert "a file may not; memshell --allow-shell lets files" in said.err


@pytest.mark.parametrize("words", [["--allow-shell", "run"], ["run", "--allow-shell"], ["test", "--allow-shell"]])
def test_who_has_read_the_file_may_allow_it(words, hostile):
    path, place = hostile("!touch {place}")
    assert main([*words, str(path)]) == 0
    assert place.exists()


def test_what_is_typed_may(tmp_path):
    assert main(["-c", f"use x86_64; save {tmp_path}/a; history > {tmp_path}/b; !touch {tmp_path}/c"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_an_alias_of_a_file_has_the_rights_of_the_file(hostile):
    path, place = hostile("alias x 'save {place}'")
    session = Session()
    session.run(f"source {path}")
    with pytest.raises(UsageError, match="a file may not"):
        session.run("x")
    assert not place.exists()
    session.run(f"alias x 'save {place}'; x")
    assert place.exists(), "typed again it is the user's"


def test_a_python_test_may_do_what_it_likes(tmp_path):
    from memshell.testing import run_scenario

    run_scenario(f"use x86_64; history > {tmp_path}/a").assert_ok()


def test_export_does_not_follow_links_out_of_its_folder(tmp_path):
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    (out / "sys").mkdir(parents=True)
    (out / "sys" / "devices").symlink_to(victim)
    assert main(["-c", f"use x86_64; export sysroot {out} --force"]) == 1
    assert list(victim.iterdir()) == []
    (out / "sys" / "devices").unlink()
    assert main(["-c", f"use x86_64; export sysroot {out} --force"]) == 0
    assert main(["-c", f"use x86_64; export sysroot {out} --force"]) == 0, "its own links are no hindrance"


def pytest_in(folder, *words):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_pytest_plays_only_what_is_configured(tmp_path):
    (tmp_path / "evil.mem").write_text(f"!touch {tmp_path}/made\n")
    assert "no tests ran" in pytest_in(tmp_path).stdout
    assert "a file may not" in pytest_in(tmp_path, "-o", "memshell_paths=.").stdout
    assert not (tmp_path / "made").exists()
    assert "1 passed" in pytest_in(tmp_path, "-o", "memshell_paths=.", "-o", "memshell_allow_shell=true").stdout
    assert (tmp_path / "made").exists()


ESCAPE = "\x1b]0;title\x07\x1b[2Jx\x9b1m\u202e"


def test_control_characters_are_shown():
    assert printable(ESCAPE) == r"\x1b]0;title\x07\x1b[2Jx\x9b1m\u202e"
    assert printable("a\tb\nä✓") == "a\tb\nä✓"


def sent(text):
    return any(character in text for character in "\x1b\x07\x9b\u202e\r")


@pytest.mark.parametrize("how", ["name", "action", "iomem", "capture", "scenario", "path", "junit"])
def test_text_of_a_file_does_not_reach_the_terminal_as_it_is(how, tmp_path, capsys):
    path = tmp_path / "x"
    if how in {"name", "action"}:
        import lzma

        source = Path(__file__).parent / "recordings" / "x86_64-k612-N-1G-movable.json.xz"
        raw = json.loads(lzma.decompress(source.read_bytes()))
        raw["case" if "case" in raw else "name"] = raw["name"] = ESCAPE
        raw["kernel"] = raw.get("kernel", "") + ESCAPE
        path = tmp_path / "r.json"
        path.write_text(json.dumps(raw))
        main(["verify", str(path)] if how == "name" else ["-c", f"use {path}; lsmem"])
    elif how == "iomem":
        main(["-c", f"use x86_64; add 128M via=module name='{ESCAPE}'; iomem; history; events"])
    elif how == "capture":
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "version").write_text(f"Linux version 6.12.0 {ESCAPE}")
        main(["capture", "--root", str(tmp_path), "--arch", ESCAPE])
    elif how == "scenario":
        path.write_text(f"use x86_64\n{ESCAPE}\n")
        main(["run", str(path)])
        path.write_text(f"use x86_64\nexpect 'a{ESCAPE[:3]}' == 'b'\nsubtest {ESCAPE[:5]}\n true\nend\n")
        main(["run", "--keep-going", str(path)])
        main(["test", str(path)])
    elif how == "path":
        bad = tmp_path / f"a{ESCAPE[:4]}.mem"
        bad.write_text("expect 1 == 2\n")
        main(["run", str(bad)])
        main(["test", str(bad)])
    else:
        path.write_text(f"# {ESCAPE}\nfrobnicate {ESCAPE}\n")
        main(["test", str(path), "--ktap"])
    out, err = capsys.readouterr()
    assert out + err
    assert not sent(out), out
    assert not sent(err), err


def test_a_case_that_is_told_is_clean(tmp_path):
    path = tmp_path / "x.mem"
    path.write_text(f"use x86_64\nexpect '{ESCAPE}' == 'b'\n")
    assert not any(sent(text) for text in play_case(str(path)).all_failures())
