"""What a plugin brings besides architectures, policies and commands: found, completed, and refused when it cannot be."""

import textwrap

import pytest

from memshell import KernelError, PluginError, UsageError
from memshell.api import Session
from memshell.commands.export import KIND
from memshell.commands.machine import SETTING, USE_WORD
from memshell.paths import find_scenario
from memshell.plugins import load_plugins
from memshell.repl.complete import ShellCompleter

HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from memshell import *
memshell_api = 2
"""
ACME = """
@dataclass(frozen=True, slots=True, kw_only=True)
class Acme:
    fast: bool = feature("adds are fast", False, {"v6.6": True})
    cards: int = feature("how many cards", 1, {"acme-6.12": 4})
    mode: str = feature("a word", "old")

@hookimpl
def memshell_features(ctx):
    return [FeatureGroup("acme", Acme)]

@hookimpl
def memshell_profiles(ctx):
    return [released("v6.12").called("acme-6.12").with_feature("bug.memmap_off_node", False)]

@hookimpl
def memshell_quantities(ctx):
    return [
        Quantity("acme.tables", "page tables", lambda mm: len(mm.tables), 4096),
        Quantity("acme.fast", "whether", lambda mm: mm.feature("acme.fast")),
        Quantity("acme.half", "no", lambda mm: 0.5),
        Quantity("acme.clears", "changes what it gets", lambda mm: mm.blocks.clear() or 1),
        Quantity("acme.raises", "no", lambda mm: 1 // 0),
    ]

@hookimpl
def memshell_formats(ctx):
    return [Format("states", "blocks", lambda mm: "".join(f"{n} {b.state};" for n, b in mm.blocks.items())),
            Format("nothing", "no text", lambda mm: None)]

@hookimpl
def memshell_faults(ctx):
    return [FaultPoint("acme_card", "EIO")]

def plug(mm, request):
    if mm.fault("acme_card"):
        raise KernelError("no answer", "EIO")
    add_memory(mm, request.nid, request.start, request.size)

@hookimpl
def memshell_callers(ctx):
    return [Caller("acme", "Acme's card", plug, remove_memory)]

@hookimpl
def memshell_scenarios(ctx):
    return [Path(__file__).parent / "scenarios"]

@command("hotplug", arg("size", SIZE, "how much"))
def plug_movable(shell, args):
    "Plug in and online."
    return shell.run(f"add {format_size(args.size)}; online offline movable")

@command("hotplug")
def half_done(shell, args):
    "Fail in the middle."
    return shell.run("add 128M; offline 32")

@command("hotplug")
def forgiving(shell, args):
    "Fail, and go on."
    try:
        shell.run("add 128M; offline 32")
    except KernelError:
        shell.run("online 32")
    return "done"

@command("hotplug")
def no_command(shell, args):
    "Say what is no command."
    return shell.run("expect blocks.total == 1")

@hookimpl
def memshell_commands(ctx):
    return [plug_movable, half_done, forgiving, no_command]
"""


def load(tmp_path, text):
    warnings = []
    path = tmp_path / "acme.py"
    path.write_text(HEAD + textwrap.dedent(text))
    return load_plugins([str(path)], warn=warnings.append), warnings


@pytest.fixture
def session(tmp_path):
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "first.mem").write_text("use x86_64 profile=acme-6.12\nexpect acme.fast\n")
    plugins, warnings = load(tmp_path, ACME)
    session = Session(plugins)
    session.shell.plugins.commands()
    yield session
    assert warnings == []


def test_a_vendor_kernel_has_its_features_and_the_release_that_it_is_made_from(session):
    session.run("use x86_64 profile=acme-6.12; expect feature.acme.cards == 4; expect feature.acme.fast")
    kernel = session.shell.need_machine().mm.profile
    assert (kernel.name, kernel.release, kernel.has("v6.8"), kernel.has("v6.16")) == ("acme-6.12", "v6.12", True, False)
    assert kernel.features["bug.memmap_off_node"] is False
    session.run(
        "use x86_64 profile=v6.1; expect feature.acme.cards == 1; ! false" if False else "use x86_64 profile=v6.1"
    )
    assert session.shell.need_machine().mm.feature("acme.fast") is False


def test_its_features_are_switches(session):
    session.run("use x86_64 acme.cards=7 acme.mode=new; expect feature.acme.cards == 7; set acme.fast off")
    mm = session.shell.need_machine().mm
    assert (mm.feature("acme.fast"), mm.feature("acme.mode")) == (False, "new")
    with pytest.raises(UsageError, match=r"acme.cards is a whole number, not 'many'"):
        session.run("set acme.cards many")
    assert dict(SETTING.complete(session.shell, ""))["acme.fast"] == "adds are fast"
    assert "profile=acme-6.12" in dict(USE_WORD.suggest(session.shell, "profile=", ["x86_64"]))


def test_the_features_of_one_session_are_not_those_of_the_next(session):
    session.run("use x86_64 acme.cards=7")
    with pytest.raises(UsageError, match=r"unknown key 'acme.cards'"):
        Session(load_plugins()).run("use x86_64 acme.cards=7")


def test_quantities_in_expressions_and_tables(session):
    session.run("use x86_64; add 1G; expect acme.tables > 4K; let n = acme.tables; expect $n == acme.tables")
    text = session.run("compare acme-6.12 v6.1 -o KERNEL,ACME.TABLES -- add 128M")
    assert text.splitlines()[-2].split()[0] == "acme-6.12"
    assert int(text.splitlines()[-1].split()[1]) > 0
    words = [text for text, _ in ShellCompleter(session.shell).items("expect ", "acme")]
    assert words[:2] == ["acme.tables", "acme.fast"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("expect acme.half", "the quantity acme.half is 0.5, no whole number, text or truth"),
        ("expect acme.raises", "ZeroDivisionError"),
        ("expect acme.tabels", "did you mean acme.tables?"),
        ("export nothing out.txt", "the format nothing wrote NoneType, no text"),
        ("export stats out.txt", "did you mean states?"),
        ("fault acme_cards", "did you mean acme_card?"),
        ("no-command", "'expect blocks.total == 1' is no command; expect, let and others stand in scenarios"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(session, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    session.run("use x86_64")
    with pytest.raises((UsageError, PluginError, ZeroDivisionError)) as refused:
        session.run(text)
    assert says in f"{type(refused.value).__name__}: {refused.value}"


def test_a_quantity_gets_a_copy(session):
    session.run("use x86_64; expect acme.clears == 1; expect blocks.total == 16")


def test_a_format_of_export(session, tmp_path):
    session.run(f"use x86_64; export states {tmp_path / 'out.txt'}")
    assert (tmp_path / "out.txt").read_text().startswith("0 online;1 online;")
    assert {"svg", "states"} <= dict(KIND.complete(session.shell, "")).keys()


@pytest.mark.parametrize("arch", ["x86_64", "powerpc", "s390", "arm64"])
def test_a_caller_and_its_fault_point_on_every_architecture(session, arch):
    session.run(f"use {arch}; fault acme_card; ! add 512M via=acme; expect error == EIO; add 512M via=acme")
    number = session.shell.need_machine().mm.blocks.last()
    session.run(f"remove {number}")
    assert "acme_card" in session.run("fault")


def test_scenarios_that_come_with_a_plugin(session):
    session.run("source acme/first")
    scenarios = session.shell.plugins.scenarios
    assert find_scenario("acme/first", scenarios).endswith("first.mem")
    with pytest.raises(UsageError, match="did you mean acme/first"):
        find_scenario("acme/frist", scenarios)


def test_a_command_made_of_commands_is_one_step(session):
    session.run("use x86_64")
    assert "memory32-39 online in Movable" in session.run("plug-movable 1G")
    machine = session.shell.need_machine()
    assert [step.command for step in machine.steps] == ["use x86_64", "plug-movable 1G"]
    assert {event.kind for event in machine.step.events} >= {"MemoryAdded", "BlockOnlined"}
    session.run("undo; expect blocks.total == 16; redo; expect blocks.online == 24")


def test_one_that_fails_has_done_what_came_before_as_a_step_that_failed(session):
    session.run("use x86_64")
    with pytest.raises(KernelError, match="EINVAL"):
        session.run("half-done")
    machine = session.shell.need_machine()
    assert (len(machine.steps), machine.step.command, machine.step.error.errno) == (2, "half-done", "EINVAL")
    assert 32 in machine.mm.blocks
    session.run("undo; forgiving")
    assert (machine.step.command, machine.step.error) == ("forgiving", None)


@pytest.mark.parametrize(
    "hook, says",
    [
        ("memshell_profiles(ctx): return [released('v6.12')]", "profile v6.12 exists already, from memshell"),
        (
            "memshell_profiles(ctx): return [released('v6.12').called('a b')]",
            "profile a b cannot be: a name begins with",
        ),
        ("memshell_features(ctx): return [FeatureGroup('bug', object)]", "group of features bug exists already"),
        (
            "memshell_quantities(ctx): return [Quantity('', '', len)]",
            "quantity  cannot be: a name begins with a letter",
        ),
        ("memshell_formats(ctx): return [3]", "memshell_formats returned a int, not a Format"),
        ("memshell_scenarios(ctx): return ['scenarios']", "memshell_scenarios returned a str, not a PosixPath"),
    ],
)
def test_what_a_hook_cannot_bring(tmp_path, hook, says):
    plugins, warnings = load(tmp_path, f"@hookimpl\ndef {hook}\n")
    assert plugins.profiles()["v6.12"].name == "v6.12"
    plugins.quantities(), plugins.formats(), plugins.scenarios()
    assert len(warnings) == 1
    assert says.replace("PosixPath", "Path") in warnings[0]
