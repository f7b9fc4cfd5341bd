"""Plugins of strangers: found, named, isolated; the machine is as it was whatever they do."""

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from memshell import Machine
from memshell.errors import PluginError
from memshell.plugins import load_plugins

HEAD = "from memshell import hookimpl\nmemshell_api = 1\n"


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="strange.py"):
        path = tmp_path / name
        path.write_text(HEAD + textwrap.dedent(text))
        return str(path)

    return write


def load(*files, **options):
    warnings = []
    plugins = load_plugins(files, warn=warnings.append, **options)
    return plugins, warnings


def only(plugins, name="strange"):
    return next(item for item in plugins.found if item.name == name)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("import nosuchmodule", "cannot be loaded: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("raise SystemExit(7)", "cannot be loaded: SystemExit: 7"),
        ("1 +", "cannot be loaded: SyntaxError"),
        ("memshell_api = 3", "cannot be loaded: it is for memshell_api 3, this memshell has 2"),
        ("from memshell import map_range", "cannot be loaded: map_range was in memshell_api 1, this memshell has 2"),
        (
            "memshell_api = 3\nfrom memshell import what_comes",
            "cannot be loaded: it is for memshell_api 3, this memshell has 2",
        ),
        ("memshell_api = 3\n1 // 0", "cannot be loaded: it is for memshell_api 3, this memshell has 2"),
        ("memshell_api = '2'", "cannot be loaded: it is for memshell_api '2', which is no number; memshell_api = 2"),
        ("memshell_api = True", "cannot be loaded: it is for memshell_api True, which is no number"),
        ("del memshell_api", "cannot be loaded: it states no memshell_api, this memshell has 2"),
        (
            "@hookimpl\ndef memshell_check(machine): pass",
            "cannot be loaded: memshell_check(machine) has to be memshell_check(ctx)",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line_and_the_rest_go_on(plugin, text, reason):
    plugins, warnings = load(plugin(text))
    assert only(plugins).state == "failed"
    assert len(warnings) == 1
    assert f"plugin strange {reason}" in warnings[0]
    assert "x86_64" in plugins.arches()


@pytest.mark.parametrize(
    "hook", ["memshell_arches", "memshell_policies", "memshell_commands", "memshell_columns", "memshell_check"]
)
@pytest.mark.parametrize("body", ["raise ValueError('boom')", "raise SystemExit", "return 7", "return [b'bytes']"])
def test_a_hook_that_fails_or_gives_the_wrong_thing_costs_only_its_plugin(plugin, hook, body):
    plugins, warnings = load(plugin(f"@hookimpl\ndef {hook}(ctx):\n    {body}\n"))
    assert "x86_64" in plugins.arches()
    assert "buddy" in plugins.policies()
    plugins.commands()
    plugins.columns("lsmem", None)
    plugins.check(Machine.boot("x86_64").mm)
    assert len(warnings) == 1, warnings
    assert f"plugin strange failed in {hook}: " in warnings[0]
    assert only(plugins).state == "failed"


def test_strict_raises(plugin):
    with pytest.raises(PluginError, match="plugin strange cannot be loaded"):
        load(plugin("raise ValueError"), strict=True)


def test_a_misspelt_hook_is_told(plugin):
    _plugins, warnings = load(plugin("@hookimpl\ndef memshell_polices(ctx): pass\ndef memshell_check(ctx): pass\n"))
    assert "there is no hook memshell_polices; did you mean memshell_policies?" in warnings[0]
    assert "memshell_check is not marked with @hookimpl" in warnings[1]


def test_a_blocked_plugin_is_not_even_imported(plugin):
    plugins, warnings = load(plugin("raise ValueError"), blocked=["strange", "x86_46"])
    assert only(plugins).state == "blocked"
    assert warnings == ["no plugin 'x86_46' to block; did you mean x86_64?"]


def test_a_file_that_does_not_exist():
    plugins, warnings = load("/no/such.py")
    assert only(plugins, "such").state == "failed"
    assert "there is no file /no/such.py" in warnings[0]


def run(*args, cwd=None):
    env = {**os.environ, "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "memshell", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=env, check=False)


@functools.cache
def shown_without(commands):
    """Return what memshell shows without a strange plugin."""
    return run("-c", commands).stdout


def test_nothing_is_loaded_from_the_working_directory(tmp_path):
    (tmp_path / "memshell_plugin.py").write_text("raise SystemExit(9)")
    (tmp_path / "sitecustomize_memshell.py").write_text("raise SystemExit(9)")
    done = run("plugins", "--json", cwd=tmp_path)
    names = {item["name"] for item in json.loads(done.stdout)}
    assert (done.returncode, "memshell_plugin" in names) == (0, False)


POLICY = """
from memshell import Placement

class Bad:
    name = "bad"
    summary = "misbehaves"
    parameter = "bad"

    def place_memmap(self, request):
        {body}

@hookimpl
def memshell_policies(ctx):
    return [Bad()]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "body, message",
    [
        ("raise ValueError('boom')", "plugin strange failed in place_memmap: ValueError: boom"),
        ("return None", "NoneType"),
        ("return Placement(reserve_pages=1)", "reserve_pages"),
        ("return Placement(reserve_pages=10**9)", "reserve_pages"),
        ("return Placement(nodes=(77,))", "77"),
        ("request.size = 3", "FrozenInstanceError"),
    ],
)
def test_a_policy_that_misbehaves_fails_its_command_and_nothing_else(plugin, body, message):
    commands = "use x86_64 ram=2G; policy bad; add 1G"
    file = plugin(POLICY.format(body=body))
    done = run("--plugin", file, "-c", commands)
    assert done.returncode == 3
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    again = run("--plugin", file, "--keep-going", "-c", commands + "; expect blocks.total == 16; expect step == 1")
    assert "expect failed" not in again.stderr


def test_a_policy_that_never_returns_is_stopped_by_ctrl_c(plugin):
    file = plugin(POLICY.format(body="import time; print('in', flush=True); time.sleep(100)"))
    command = [sys.executable, "-m", "memshell", "--plugin", file, "-c", "use x86_64 ram=2G; policy bad; add 1G"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "memshell: interrupted\n")


def test_what_a_plugin_prints_does_not_spoil_the_output(plugin):
    file = plugin(POLICY.format(body="print('noise'); return Placement()"))
    done = run("--plugin", file, "-c", "use x86_64 ram=2G; policy bad; add 1G; expect blocks.total == 24")
    assert (done.returncode, "noise" in done.stdout, "noise" in done.stderr) == (0, False, True)


def test_an_observer_sees_the_events_and_its_failure_stops_only_it(plugin):
    file = plugin("""
        @hookimpl
        def memshell_event(ctx, event):
            print("saw", event.kind)
            raise ValueError("once")
        """)
    done = run("--plugin", file, "-c", "use x86_64 ram=2G; add 1G; add 1G; expect blocks.total == 32")
    assert done.returncode == 0
    assert done.stderr.count("saw") == 1
    assert done.stderr.count("failed in memshell_event: ValueError: once") == 1


def test_an_observer_cannot_change_the_machine(plugin):
    file = plugin("""
        @hookimpl
        def memshell_event(ctx, event):
            ctx.mm.blocks.clear()
        """)
    done = run("--plugin", file, "-c", "use x86_64 ram=2G; add 1G; expect blocks.total == 24")
    assert (done.returncode, done.stderr) == (0, "")


COMMAND = """
from memshell import command, arg, INT

@command("look", arg("times", INT, "how often", nargs="?", default=1))
def wave(shell, args):
    \"\"\"Wave.\"\"\"
    {body}

@hookimpl
def memshell_commands(ctx):
    return [wave]
"""


def test_a_plugin_brings_a_command(plugin):
    file = plugin(COMMAND.format(body="return 'hello ' * args.times"))
    assert run("--plugin", file, "-c", "use x86_64; wave 2").stdout.endswith("hello hello \n")
    assert "wave [N]" in run("--plugin", file, "-c", "help wave").stdout


def test_a_command_of_a_plugin_that_fails_is_named(plugin):
    file = plugin(COMMAND.format(body="return 1 // 0"))
    done = run("--plugin", file, "-c", "use x86_64; wave")
    assert done.returncode == 3
    assert done.stderr == "-c:1: plugin strange failed in wave: ZeroDivisionError: integer division or modulo by zero\n"


def test_nobody_replaces_a_command(plugin):
    file = plugin(COMMAND.format(body="pass").replace("def wave", "def undo").replace("[wave]", "[undo]"))
    done = run("--plugin", file, "-c", "true")
    assert "plugin strange: command undo exists already, from memshell" in done.stderr
    assert done.returncode == 0


# --- whatever a plugin does, one line names it and its hook, and the machine is as it was ---

KEPT = "; expect blocks.total == 16; expect step == 0; expect meminfo.MemTotal == $before; check"


def session(file, commands, *, steps=0):
    """Play *commands* with the plugin; return the process, after the state of a machine before them was checked."""
    text = f"use x86_64 ram=2G; let before = meminfo.MemTotal; {commands}" + KEPT.replace(
        "step == 0", f"step == {steps}"
    )
    return run("--plugin", file, "--keep-going", "-c", text)


def test_startup_that_fails_costs_only_its_plugin(plugin):
    plugins, warnings = load(plugin("@hookimpl\ndef memshell_startup(ctx):\n    raise ValueError('boom')\n"))
    assert warnings == ["plugin strange failed in memshell_startup: ValueError: boom"]
    assert only(plugins).state == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body, message",
    [
        ("return 1 // 0", "plugin strange failed in wave: ZeroDivisionError"),
        ("raise SystemExit(0)", "plugin strange failed in wave: SystemExit: 0"),
        ("shell.need_machine().mm.blocks.clear()", "plugin strange: command wave changed the machine"),
        ("shell.need_machine().mm.counters['x'] = 1", "plugin strange: command wave changed the machine"),
        ("shell.machine.mm.zones.clear(); 1 // 0", "plugin strange: command wave changed the machine"),
        ("with shell.change() as mm: mm.blocks.clear(); 1 // 0", "plugin strange failed in wave: ZeroDivisionError"),
        ("return 7", "plugin strange: command wave returned int"),
    ],
)
def test_a_command_that_misbehaves_leaves_the_machine_as_it_was(plugin, body, message):
    done = session(plugin(COMMAND.format(body=body)), "wave")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert message in line


def test_what_a_command_prints_is_no_result(plugin):
    file = plugin(COMMAND.format(body="print('noise'); return 'result'"))
    done = run("--plugin", file, "-c", "use x86_64; wave")
    assert done.stdout.endswith("result\n")
    assert ("noise" in done.stdout, done.stderr) == (False, "noise\n")


ARCH = """
from memshell_plugins.x86_64 import X86

class Strange(X86):
    name = "strange64"

    def {method}(self, *args, **kwargs):
        {body}

@hookimpl
def memshell_arches(ctx):
    import dataclasses
    return [dataclasses.replace(Strange(), name="strange64")]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, body, message",
    [
        ("configure", "raise ValueError('boom')", "plugin strange failed in configure: ValueError: boom"),
        ("configure", "return None", "plugin memshell_plugin_strange: arch strange64: configure returned NoneType"),
        ("boot_memory", "return 7", "plugin memshell_plugin_strange: arch strange64: boot_memory returned int"),
        ("boot_mappings", "1 // 0", "plugin strange failed in boot_mappings: ZeroDivisionError"),
        ("vmemmap_populate", "1 // 0", "plugin strange failed in vmemmap_populate: ZeroDivisionError"),
        ("vmemmap_populate", "raise SystemExit(0)", "plugin strange failed in vmemmap_populate: SystemExit: 0"),
        ("arch_add_memory", "args[0].blocks.clear(); 1 // 0", "plugin strange failed in arch_add_memory"),
        ("mhp_range", "return None", "plugin memshell_plugin_strange: arch strange64: mhp_range returned NoneType"),
    ],
)
def test_an_architecture_that_misbehaves_leaves_the_machine_as_it_was(plugin, method, body, message):
    file = plugin(ARCH.format(method=method, body=body))
    start = (
        "use strange64"
        if method in {"configure", "boot_memory", "boot_mappings", "mhp_range"}
        else "use strange64 ram=2G; add 1G"
    )
    done = session(file, start)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert message in line


def test_what_an_architecture_prints_does_not_spoil_the_output(plugin):
    body = "print('noise'); X86.vmemmap_populate(self, *args, **kwargs)"
    done = run("--plugin", plugin(ARCH.format(method="vmemmap_populate", body=body)), "-c", "use strange64; add 1G")
    assert (done.returncode, "noise" in done.stdout, "noise" in done.stderr) == (0, False, True)


OBSERVERS = {
    "memshell_event": "(ctx, event):\n    {body}\n",
    "memshell_check": "(ctx):\n    {body}\n    return []\n",
    "memshell_columns": "(ctx):\n    {body}\n    return []\n",
}
MUTATIONS = [
    "ctx.mm.blocks.clear()",
    "ctx.mm.pages.delete(0, 1 << 40)",
    "ctx.mm.profile = ctx.mm.profile.with_feature('node_notifier', True)",
    "ctx.mm.blocks.update({n: b._replace(altmap=None) for n, b in ctx.mm.blocks.items()})",
    "ctx.mm.counters.clear(); ctx.mm.free.clear(); ctx.mm.zones.clear()",
]


@pytest.mark.slow
@pytest.mark.parametrize("hook", OBSERVERS)
@pytest.mark.parametrize("body", MUTATIONS)
def test_no_hook_can_change_the_machine_by_what_it_is_given(plugin, hook, body):
    file = plugin(f"@hookimpl\ndef {hook}" + OBSERVERS[hook].format(body=body))
    commands = (
        "use x86_64 ram=2G policy=memmap_on_memory; add 1G; lsmem -o +RANGE; check; altmap -F json; events -F json"
    )
    done = run("--plugin", file, "-c", commands)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", shown_without(commands))


def test_an_observer_cannot_change_an_event(plugin):
    file = plugin("@hookimpl\ndef memshell_event(ctx, event):\n    event.data.clear()\n")
    commands = "use x86_64 ram=2G; add 1G; events -F json"
    assert run("--plugin", file, "-c", commands).stdout == run("-c", commands).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, commands",
    [
        ("import time; print('in', file=__import__('sys').stderr, flush=True); time.sleep(100)", "add 1G"),
        (COMMAND.format(body="import time; print('in', flush=True); time.sleep(100)"), "use x86_64; wave"),
        (
            ARCH.format(method="vmemmap_populate", body="import time; print('in', flush=True); time.sleep(100)"),
            "use strange64; add 1G",
        ),
        (
            "@hookimpl\ndef memshell_event(ctx, event):\n    print('in', flush=True)\n    while True: pass\n",
            "use x86_64; add 1G",
        ),
    ],
    ids=["import", "command", "arch", "event"],
)
def test_whatever_never_returns_is_stopped_by_ctrl_c(plugin, text, commands):
    command = [sys.executable, "-m", "memshell", "--plugin", plugin(text), "-c", commands]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "memshell: interrupted\n")


@pytest.mark.parametrize(
    "text, says",
    [
        (
            ARCH.format(method="unused", body="pass").replace("strange64", "x86_64"),
            "architecture x86_64 exists already, from plugin x86_64",
        ),
        (POLICY.format(body="pass").replace('"bad"', '"buddy"'), "policy buddy exists already, from plugin policies"),
    ],
)
def test_nobody_replaces_what_another_brings(plugin, text, says):
    plugins, warnings = load(plugin(text))
    assert type(plugins.arches()["x86_64"]).__name__ == "X86"
    assert plugins.policies()["buddy"].summary.startswith("memmap from existing memory")
    assert len(warnings) == 1
    assert says in warnings[0]
