"""docs/plugins.md is enough to write a plugin by: it is complete, and what it shows works."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memshell
from memshell import hookspecs
from memshell.plugins import HOOKS

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
PLUGINS = [block for block in BLOCKS if "memshell_api" in block]
TESTS = [block for block in BLOCKS if "memshell_api" not in block]


def mentioned(name):
    return re.search(rf"\b{re.escape(name)}\b", GUIDE)


@pytest.mark.parametrize("hook", HOOKS)
def test_the_hooks_of_the_guide_are_the_hooks_of_the_code(hook):
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"| `{hook}{signature}` |" in GUIDE


def test_every_public_name_is_in_the_guide():
    assert [name for name in memshell.__all__ if not mentioned(name)] == []


@pytest.mark.parametrize(
    "record", ["MemmapRequest", "Placement", "Context", "BootMemory", "BootZone", "Option", "Arch"]
)
def test_every_field_that_a_plugin_sees_is_in_the_guide(record):
    left_out = {"BootMemory": {"standby", "block_zones"}, "BootZone": {"pcp"}}  # of recordings and of s390
    fields = {field.name for field in dataclasses.fields(getattr(memshell, record)) if field.name[0] != "_"}
    assert {name for name in fields - left_out.get(record, set()) if not mentioned(name)} == set()


def test_every_method_that_an_architecture_may_have_is_in_the_guide():
    own = {"is_machine", "has_option", "vmemmap_address", "kernel_zone_of", "with_constants"}  # the model's to call
    methods = {name for name, value in vars(memshell.Arch).items() if inspect.isfunction(value) and name[0] != "_"}
    assert {name for name in methods - own if not mentioned(name)} == set()
    abstract = [re.search(rf"^\| `{name}\(", GUIDE, re.MULTILINE) for name in memshell.Arch.__abstractmethods__]
    assert all(abstract)


COMMANDS = [
    ("use x86_64 ram=2G; policy large_only; add 1G; add 8G; expect memmap.altmap == 128M", "", ""),
    (
        "use x86_64 ram=2G policy=quota policy.quota=1M; add 1G; expect memmap.altmap == 16M",
        "policy quota quota=1M",
        "",
    ),
    ("use x86_64; zones size; help zones", "DMA32", ""),
    ("use x86_64; plug-movable 1G; undo; expect blocks.total == 16", "memory32-39 online in Movable", ""),
    ("use x86_64 ram=2G; add 1G; events -o KIND,PAGES", "262144", ""),  # 1G of pages of 4K
    (
        "use x86_64 ram=2G; add 256M node=1; online all movable; check",
        "node 1 has only 256M",
        "memory32 online in Movable\nmemory33 online in Movable\n",
    ),
    (
        "use x86_64 profile=acme-6.12; set acme.whole_cards; fault acme_card; ! add 1G via=acme; compare acme-6.12 -- true",
        "acme.whole_cards = on",
        "",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PLUGINS)))
def test_the_plugins_of_the_guide_work(number, tmp_path):
    commands, shown, told = COMMANDS[number]
    plugin = tmp_path / "guide.py"
    plugin.write_text(PLUGINS[number])
    command = [sys.executable, "-m", "memshell", "--strict-plugins", "--plugin", str(plugin), "-c", commands]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert shown in done.stdout + done.stderr
    assert told in done.stderr
    assert done.returncode == 3 * ("check" in commands)  # check found something


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(TESTS)))
def test_the_tests_of_the_guide_pass(number, tmp_path):
    (tmp_path / "test_guide.py").write_text(TESTS[number])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
