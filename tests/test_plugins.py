"""Plugins of strangers: found, named, isolated; the machine is as it was whatever they do."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

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
        ("memshell_api = 2", "cannot be loaded: it is for memshell_api 2, this memshell has 1"),
        ("del memshell_api", "cannot be loaded: it states no memshell_api, this memshell has 1"),
        ("@hookimpl\ndef memshell_check(machine): pass", "cannot be loaded: PluginValidationError"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line_and_the_rest_go_on(plugin, text, reason):
    plugins, warnings = load(plugin(text))
    assert only(plugins).state == "failed"
    assert len(warnings) == 1
    assert f"plugin strange {reason}" in warnings[0]
    assert "x86_64" in plugins.arches()


@pytest.mark.parametrize(
    "hook", ["memshell_arches", "memshell_policies", "memshell_commands", "memshell_columns"]
)
@pytest.mark.parametrize("body", ["raise ValueError('boom')", "return 7", "return ['text']", "return 'text'"])
def test_a_hook_that_fails_or_gives_the_wrong_thing_costs_only_its_plugin(plugin, hook, body):
    plugins, warnings = load(plugin(f"@hookimpl\ndef {hook}(ctx):\n    {body}\n"))
    assert "x86_64" in plugins.arches()
    assert "buddy" in plugins.policies()
    plugins.commands()
    plugins.columns("lsmem", None)
    assert len(warnings) == 1, warnings
    assert f"plugin strange failed in {hook}: " in warnings[0]
    assert only(plugins).state == "failed"


def test_strict_raises(plugin):
    with pytest.raises(PluginError, match="plugin strange cannot be loaded"):
        load(plugin("raise ValueError"), strict=True)


def test_a_misspelt_hook_is_told(plugin):
    _plugins, warnings = load(
        plugin("@hookimpl\ndef memshell_polices(ctx): pass\ndef memshell_check(ctx): pass\n")
    )
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


@pytest.mark.parametrize(
    "body, message",
    [
        ("raise ValueError('boom')", "plugin strange: policy bad: place_memmap failed: ValueError: boom"),
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
    again = run(
        "--plugin", file, "--keep-going", "-c", commands + "; expect blocks.total == 16; expect step == 1"
    )
    assert "expect failed" not in again.stderr


def test_a_policy_that_never_returns_is_stopped_by_ctrl_c(plugin):
    file = plugin(POLICY.format(body="import time; print('in', flush=True); time.sleep(100)"))
    command = [
        sys.executable,
        "-m",
        "memshell",
        "--plugin",
        file,
        "-c",
        "use x86_64 ram=2G; policy bad; add 1G",
    ]
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
    assert (
        done.stderr
        == "-c:1: plugin strange failed in wave: ZeroDivisionError: integer division or modulo by zero\n"
    )


def test_nobody_replaces_a_command(plugin):
    file = plugin(COMMAND.format(body="pass").replace("def wave", "def undo").replace("[wave]", "[undo]"))
    done = run("--plugin", file, "-c", "true")
    assert "plugin strange: command undo exists already, from memshell" in done.stderr
    assert done.returncode == 0
