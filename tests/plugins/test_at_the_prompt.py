"""The prompt stays alive: completions of strangers are guarded, and a plugin is reloaded or left out without leaving."""

import time

import pytest

from memshell import PluginError, UsageError
from memshell.api import Session
from memshell.plugins import load_plugins
from memshell.repl.complete import ShellCompleter

HEAD = "import time\nfrom memshell import *\nmemshell_api = 2\n"
COMMAND = """
def complete(shell, prefix):
    {complete}

KIND = ArgType("KIND", lambda word, shell: word, complete)

@command("look", arg("word", KIND, "a word"), needs_machine=False)
def say(shell, args):
    "Say it."
    return "{says}"

@hookimpl
def memshell_commands(ctx):
    return [say]

@hookimpl
def memshell_columns(ctx):
    return [Column("SEEN", compute=lambda row: 1)] if ctx.view == "lsmem" else []
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"

    def write(complete="return []", says="one", rest=""):
        path.write_text(HEAD + COMMAND.format(complete=complete, says=says) + rest)
        return path

    return write


def begin(path):
    warnings = []
    session = Session(load_plugins([str(path)], warn=warnings.append))
    _ = session.shell.plugins
    return session, warnings


def complete(session, before):
    return list(ShellCompleter(session.shell).items(before, ""))


@pytest.mark.parametrize(
    "text, says",
    [
        ("1 // 0", "the completion of KIND failed: ZeroDivisionError: integer division or modulo by zero; it is off"),
        ("raise SystemExit", "the completion of KIND failed: SystemExit; it is off"),
        ("return 3", "the completion of KIND failed: TypeError"),
        ("return ['a']", "the completion of KIND gave 'a', not (word, description); it is off"),
        ("yield 'a', 'b'; 1 // 0", "the completion of KIND failed: ZeroDivisionError"),
    ],
)
def test_a_completion_that_fails_is_one_line_and_is_not_asked_again(plugin, text, says):
    session, warnings = begin(plugin(text))
    assert complete(session, "say ") == []
    assert complete(session, "say ") == []
    assert len(warnings) == 1
    assert says in warnings[0]
    assert session.run("say a") == "one\n"


def test_one_that_never_returns_keeps_the_prompt_for_a_second(plugin, monkeypatch):
    monkeypatch.setattr("memshell.plugins_guard.PATIENCE", 0.1)
    session, warnings = begin(plugin("\n    while True: time.sleep(0.01)".replace("\n    while", "while")))
    started = time.perf_counter()
    assert complete(session, "say ") == []
    assert time.perf_counter() - started < 1
    assert warnings == ["plugin mine: the completion of KIND took more than 0.1 s; it is off"]


def test_an_endless_one_gives_what_can_be_read(plugin):
    session, warnings = begin(plugin("yield from ((f'w{n}', '') for n in range(10**9))"))
    assert len(complete(session, "say ")) == 500
    assert warnings == []


def test_columns_of_plugins_are_completed(plugin):
    session, _ = begin(plugin())
    session.run("use x86_64")
    assert ("+SEEN", "a plugin's column") in complete(session, "lsmem -o ")


def test_reload_takes_the_file_as_it_is_now(plugin):
    session, _ = begin(plugin())
    assert session.run("say a") == "one\n"
    plugin(says="two")
    assert session.run("plugin reload mine").startswith("plugin mine is loaded: memshell_columns, memshell_commands")
    assert session.run("say a") == "two\n"


def test_one_that_cannot_be_loaded_is_out_until_it_is_mended(plugin):
    session, warnings = begin(plugin())
    plugin(rest="1 +\n")
    with pytest.raises(PluginError, match=r"SyntaxError.*; mend it, and plugin reload mine"):
        session.run("plugin reload mine")
    with pytest.raises(UsageError, match="unknown command 'say'"):
        session.run("say a")
    plugin(says="three")
    session.run("plugin reload mine")
    assert session.run("say a") == "three\n"
    assert warnings == []


def test_disable_goes_on_without_it_and_the_machine_keeps_what_it_has(plugin):
    session, _ = begin(plugin())
    session.run("use x86_64; plugin disable x86_64; add 1G; plugin disable mine")
    with pytest.raises(UsageError, match="unknown architecture 'x86_64'"):
        session.run("use x86_64")
    with pytest.raises(UsageError, match="unknown command 'say'"):
        session.run("say a")
    assert "disabled" in session.run("plugins")
    session.run("plugin reload x86_64; use x86_64; expect blocks.total == 16")


def test_a_package_is_reloaded_with_its_modules():
    session = Session(load_plugins())
    before = session.shell.plugins.arches()["x86_64"]
    session.run("plugin reload x86_64")
    after = session.shell.plugins.arches()["x86_64"]
    assert type(after) is not type(before)
    assert (
        type(after).arch_add_memory.__globals__["x86_arch_add_memory"]
        is not (type(before).arch_add_memory.__globals__["x86_arch_add_memory"])
    )


@pytest.mark.parametrize(
    "text, says", [("plugin reload mne", "did you mean mine"), ("plugin stop mine", "is no action")]
)
def test_what_cannot_be(plugin, text, says):
    session, _ = begin(plugin())
    with pytest.raises(UsageError, match=says):
        session.run(text)
