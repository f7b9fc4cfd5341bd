"""A shell that is killed comes back with every command that was finished."""

import os
import random
import signal
import sys
from io import StringIO
from pathlib import Path

import pexpect
import pytest

from memshell.api import Session
from memshell.errors import UsageError
from memshell.machine import diff_states
from memshell.repl.history import History
from memshell.repl.journal import Entry, Journal, last_journal, new_journal, read_journal
from memshell.repl.resume import resume
from memshell.repl.sessions import Sessions

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal

KILLS = int(os.environ.get("MEMSHELL_KILLS", "5"))  # fifty take three minutes


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, KILLS))])
def test_a_killed_shell_comes_back(tmp_path, seed):
    chance = random.Random(seed)
    shell = Terminal(tmp_path)
    shell.ready()
    shell.run("use x86_64 ram=2G")
    finished = 0
    for number in range(chance.randrange(1, 5)):
        shell.run(f"set auto_movable_ratio={100 + number}")
        finished += 1
    # The next command is on its way when the shell dies: it may be lost, the finished ones may not.
    shell.type("set auto_movable_ratio=999\r", chance.random() * 0.02)
    shell.process.kill(signal.SIGKILL)
    shell.process.close(force=True)
    again = Terminal(tmp_path, "--resume")
    assert "resumed at step" in again.ready()
    text = again.run("expect step == -1")
    assert f"actual {finished}," in text or f"actual {finished + 1}," in text
    if f"actual {finished}," in text:
        assert f"actual {99 + finished}," in again.run("expect param.auto_movable_ratio == -1")
    again.process.close(force=True)


@pytest.mark.slow
def test_undo_and_settings_come_back_too(tmp_path):
    shell = Terminal(tmp_path)
    shell.ready()
    for line in ("use x86_64 ram=2G", "policy memmap_on_memory", "undo", "alias pol policy", "let a = 3 * 128M"):
        shell.run(line)
    shell.process.kill(signal.SIGKILL)
    shell.process.close(force=True)
    again = Terminal(tmp_path, "--resume")
    again.ready()
    assert "memmap_on_memory" in again.run("pol")
    assert again.run("expect policy == buddy and $a == 384M").endswith("\n") is False
    assert "again after step 1" in again.run("redo")
    again.process.close(force=True)


def test_what_the_disk_has_only_in_part_is_no_command(tmp_path):
    path = tmp_path / "j.mem"
    path.write_bytes(b"use x86_64\nadd 1")
    assert [entry.text for entry in read_journal(path)] == ["use x86_64"]
    path.write_bytes(Entry(0, 0, "use x86_64").record() + Entry(0, 1, "add 1G").record()[:-3])
    assert [entry.text for entry in read_journal(path)] == ["use x86_64"]


def test_a_journal_in_use_is_not_resumed(tmp_path):
    warnings = []
    journal = new_journal(tmp_path, warnings.append)
    journal.add("true")
    assert last_journal(tmp_path) is None
    journal.close()
    assert [entry.text for entry in read_journal(last_journal(tmp_path))] == ["true"]
    assert warnings == []


def test_old_journals_are_forgotten_and_empty_ones_are_not_kept(tmp_path):
    for _ in range(14):
        journal = new_journal(tmp_path, print)
        journal.add("true")
        journal.close()
    new_journal(tmp_path, print).close()
    assert len(list((tmp_path / "journal").glob("*.mem"))) == 10


@pytest.mark.slow
def test_a_full_disk_costs_the_journal_and_not_the_session():
    warnings = []
    journal = Journal(Path("/dev/full"), warnings.append)
    journal.add("true")
    journal.add("true")
    assert len(warnings) == 1
    assert "no journal from here on" in warnings[0]


OPEN = []


@pytest.fixture(autouse=True)
def _all_are_closed():
    yield
    while OPEN:
        OPEN.pop().journal.close()


class Kept:
    """A session whose journal is kept, and another that comes back from it."""

    def __init__(self, folder):
        OPEN.append(self)
        self.folder = folder
        self.session = Session()
        self.told = []
        self.journal = new_journal(folder, self.told.append)
        self.session.player.journal = lambda text: self.journal.add(text, self.step())

    def step(self):
        machine = self.session.shell.machine
        return machine.step.n if machine else 0

    def run(self, text):
        self.session.run(text)
        return self

    def back(self, *, damage=None):
        """End the session, and return the one that is resumed."""
        self.journal.close()
        path = last_journal(self.folder)
        if damage is not None:
            path.write_bytes(damage(path.read_bytes()))
        new = Kept.__new__(Kept)
        OPEN.append(new)
        new.folder, new.session, new.told = self.folder, Session(), []
        new.session.shell.output.err = StringIO()
        new.journal = resume(new.session.player, path, new.told.append)
        new.session.player.journal = lambda text: new.journal.add(text, new.step())
        return new


def same(a, b):
    one, two = a.session.shell.machine, b.session.shell.machine
    return diff_states(one.mm, two.mm) == [] and len(one.steps) == len(two.steps)


COMPOUND = {
    "source": "use x86_64; source {file}",
    "a source that sources": "use x86_64; source {outer}; add 128M",
    "subtest": "use x86_64; add 1G\nsubtest one\n online all\n let seen = blocks.online\n alias x true\nend\nx; add 128M",
    "subtest that undoes": "use x86_64; add 1G\nsubtest one\n undo\nend\nexpect blocks.total == 24",
    "subtest with another machine": "use x86_64; add 1G\nsubtest one\n use powerpc\n add 256M\nend\nadd 1G",
    "subtest in a repeat": "use x86_64\nrepeat 3 as i\n add 128M\n subtest s\n  online last\n end\nend",
    "repeat": "use x86_64\nrepeat 3 as i\n let size = ($i + 1) * 128M\n add $size\nend\nadd 128M; expect $i == 2",
    "include": "use x86_64\ninclude {file}",
    "alias of several": "use x86_64; alias two 'add 128M; online last'; two; two",
    "alias with a quote": "use x86_64; alias q \"add 128M; watch 'blocks.total'\"; q",
    "undo and redo": "use x86_64; add 1G; online all; undo 2; redo; add 128M; undo",
    "an errno": "use x86_64; add 128M; ! offline 0; add 128M",
    "a crash": "use x86_64; add 1G; ! remove 0x100000000 128M",
    "part of a failure": "use x86_64; add 1G; online 32-35; ! offline 0-3",
    "two machines": "use powerpc; add 256M; use x86_64; add 1G",
    "let of words": "use x86_64; let a = arch; let b = $a; let c = 1 == 1; let d = $c",
    "a fault that is armed": "use x86_64; fault section_usage at=2; ! add 1G; add 1G",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOUND)
def test_what_a_statement_did_comes_back_as_it_ended(name, tmp_path):
    inner = tmp_path / "inner.mem"
    inner.write_text("add 1G; offline 8; online all movable; undo; online 32\n")
    outer = tmp_path / "outer.mem"
    outer.write_text(f"add 128M\nsource {inner}\nsubtest s\n offline 9\nend\n")
    kept = Kept(tmp_path)
    text = COMPOUND[name].format(file=inner, outer=outer)
    kept.run(text)
    back = kept.back()
    assert back.told == []
    assert same(kept, back)
    assert back.session.shell.settings == kept.session.shell.settings
    again = back.run("use x86_64; add 128M").back()
    assert same(back, again)
    assert len(list((tmp_path / "journal").glob("*"))) == 1


@pytest.mark.slow
def test_relative_paths_are_resumed_from_another_folder(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    recording = Path(__file__).parents[1] / "recordings" / "x86_64-k612-N-1G-movable.json.xz"
    Path("me.json.xz").write_bytes(recording.read_bytes())
    kept = Kept(tmp_path).run("use me.json.xz; add 1G")
    monkeypatch.chdir("/")
    back = kept.back()
    assert back.told == []
    assert same(kept, back)


def test_what_cannot_be_replayed_is_named_and_swallows_nothing(tmp_path):
    gone = tmp_path / "gone.json.xz"
    recording = Path(__file__).parents[1] / "recordings" / "x86_64-k612-N-1G-movable.json.xz"
    gone.write_bytes(recording.read_bytes())
    kept = Kept(tmp_path).run(f"use x86_64; branch a; use {gone}; add 1G; use x86_64; add 128M; online last")
    old = last_journal(tmp_path)
    assert old is None, "it is held"
    gone.unlink()
    back = kept.back()
    assert [text.partition(":")[0] for text in back.told[:1]] == ["line 6 is skipped"]
    assert "cannot read" in back.told[0]
    assert "stays:" in back.told[-1]
    assert same(kept, back)
    later = back.run("add 256M; online all movable").back()
    assert later.told == []
    assert same(back, later)


@pytest.mark.parametrize("seed", range(6))
def test_a_garbled_journal_loses_what_is_garbled_alone(tmp_path, seed):
    chance = random.Random(seed)
    kept = Kept(tmp_path).run("use x86_64; add 128M; add 256M; undo; add 512M; online last; undo 2; alias a true")

    def damage(data):
        places = sorted(chance.randrange(len(data) - 40) for _ in range(2))
        if seed < 2:
            return data[: places[0]] + b"\0" * 16 + data[places[0] + 16 :]
        flipped = bytearray(data)
        for place in places:
            flipped[place] ^= 1 << chance.randrange(7)
        return bytes(flipped)

    back = kept.back(damage=damage)
    assert any("skipped" in text for text in back.told)
    assert "a" in back.session.shell.settings.aliases, "the last line is whole"
    later = back.run("use x86_64; add 128M").back()
    assert later.told == []
    assert same(back, later)


def test_an_undo_takes_back_what_it_took_back_or_nothing(tmp_path):
    kept = Kept(tmp_path).run("use x86_64; add 128M; add 256M; undo; online all")
    back = kept.back(damage=lambda data: data.replace(b"add 256M", b"add 999M"))
    assert len(back.told) == 2
    assert same(kept, back), "the undo was of the damaged line"


def test_a_journal_gives_a_file_no_rights(tmp_path):
    """What has no mark may be anybody's, and an alias that a file made is the file's after a resume too."""
    place = tmp_path / "journal"
    place.mkdir()
    lines = b"use x86_64\n!touch %b\ntrue | touch %b\n" % ((os.fsencode(tmp_path / "ran"),) * 2)
    alias = Entry(0, 1, f"alias x 'true | touch {tmp_path}/ran'", typed=False)
    (place / "1-1.mem").write_bytes(lines + alias.record() + Entry(0, 1, "alias y true").record())
    kept = Kept.__new__(Kept)
    kept.folder, kept.journal = tmp_path, Journal(tmp_path / "nothing", print)
    OPEN.append(kept)
    back = kept.back()
    assert [text.partition(" is")[0] for text in back.told[:-1]] == ["line 2", "line 3"]
    with pytest.raises(UsageError, match="a file may not"):
        back.run("x")
    with pytest.raises(UsageError, match="a file may not"):
        back.back().run("x")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("folder", ["a file", "a full disk", "a folder"])
def test_a_history_that_cannot_be_kept_costs_one_word(tmp_path, folder):
    told = []
    path = {"a file": tmp_path / "x" / "history", "a full disk": Path("/dev/full"), "a folder": tmp_path}[folder]
    (tmp_path / "x").write_text("")
    history = History(path, told.append)
    if folder != "a full disk":  # it reads as zeros without an end
        assert list(history.load_history_strings()) == []
    for line in ("add 1G", "online all"):
        history.append_string(line)
    assert len(told) == 1
    assert "no history from here on" in told[0]
    assert history.get_strings() == ["add 1G", "online all"]


# --- which session, and how much of it ---


def test_a_machine_that_was_left_is_not_played_again(tmp_path, monkeypatch):
    """Minutes of old machines, and a file that is gone by now, are nothing to the one that the session ended with."""
    gone = tmp_path / "gone.json.xz"
    gone.write_bytes((Path(__file__).parents[1] / "recordings" / "x86_64-k612-N-1G-movable.json.xz").read_bytes())
    kept = Kept(tmp_path).run(f"use {gone}; add 64G; alias plug 'add 256M'; let size = 3 * 128M; watch step")
    kept.run("let online = blocks.online; use powerpc ram=2G; plug; use x86_64; add $size")
    gone.unlink()
    played = []
    monkeypatch.setattr("memshell.drivers.callers.Caller.adds", lambda *a: played.append(a))
    back = kept.back()
    assert back.told == []
    assert len(played) == 1
    settings = back.session.shell.settings
    assert settings.aliases == {"plug": "add 256M"}
    assert [str(settings.variables[name]) for name in ("size", "online")] == ["384M", "16"]
    assert settings.watches == ["step"]


def test_branches_come_back_with_their_machines(tmp_path):
    kept = Kept(tmp_path).run(
        "use x86_64; branch a; use powerpc ram=2G; add 1G; switch a; add 2G; undo; ! online 3; redo"
    )
    back = kept.back()
    assert back.told == []
    assert same(kept, back)
    assert back.session.shell.branch == "a"
    back.run("switch main")
    assert back.session.shell.machine.mm.arch.name == "powerpc"
    assert back.step() == 1


def test_sessions_have_names_and_are_found_by_them(tmp_path):
    for text in ("use x86_64; session plan; add 1G", "use powerpc ram=2G", "use s390 ram=2G; session work"):
        Kept(tmp_path).run(text).journal.close()
    sessions = Sessions(tmp_path)
    rows = sessions.rows()
    assert [row["machine"] for row in rows] == ["s390 ram=2G", "powerpc ram=2G", "x86_64"]
    assert (rows[0]["name"], rows[2]["name"], rows[2]["commands"]) == ("work", "plan", 3)
    assert sessions.find("plan").machine == sessions.find("pl").machine == "x86_64"
    assert sessions.find(rows[1]["name"]).machine == "powerpc ram=2G"
    with pytest.raises(UsageError, match="no session 'plon' that has ended; did you mean plan"):
        sessions.find("plon")
    assert sessions.forget("work") == "work"
    assert sessions.prune() == 1
    assert [row["name"] for row in sessions.rows()] == ["plan"]


def test_a_name_keeps_a_journal(tmp_path):
    for number in range(14):
        Kept(tmp_path).run("use x86_64" + ("; session first" if number == 0 else "")).journal.close()
    names = [row["name"] for row in Sessions(tmp_path).rows()]
    assert names[-1] == "first"
    assert len(names) == 12  # ten, the named one, and the last that ended


@pytest.mark.slow
def test_a_session_is_resumed_by_its_name(tmp_path):
    for line in ("session one", "session two"):
        shell = Terminal(tmp_path)
        shell.ready()
        shell.run("use x86_64 ram=2G")
        shell.run(line)
        if line == "session one":
            shell.run("add 1G")
        shell.process.kill(signal.SIGKILL)
        shell.process.close(force=True)
    again = Terminal(tmp_path, "--resume", "one")
    told = " ".join(again.ready().split())
    assert "resumed at step 1 of one" in told
    assert "others, for --resume NAME: two (0 min ago, x86_64 ram=2G)" in told
    assert "two " in again.run("sessions")
    assert "session two is forgotten" in again.run("sessions two --off")
    assert "no session has ended" in again.run("sessions")
    again.process.close(force=True)


def test_a_session_that_there_is_not(tmp_path):
    shell = Terminal(tmp_path, "--resume", "nothing")
    shell.process.expect("there is no session 'nothing' that has ended; no session has ended")
    shell.process.expect(pexpect.EOF)
    shell.process.close()
    assert shell.process.exitstatus == 2
