"""What a start may import. Seconds are measured by tests/bench.py; what costs them is held here."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "prompt_toolkit", "rich", "lark", "elftools", "pluggy", "importlib.metadata", "hypothesis", "pytest",
    "subprocess", "difflib", "asyncio", "memshell.mm.memory_hotplug", "memshell.vmlinux", "memshell.verify",
}  # fmt: skip


def loaded(*argv):
    code = f"""
import json, sys
before = set(sys.modules)
sys.argv = ["memshell", *{list(argv)!r}]
from memshell.__main__ import main
code = main()
print(json.dumps([code, sorted(set(sys.modules) - before)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    return set(modules)


def test_a_command_that_needs_no_machine_loads_nothing_heavy():
    assert loaded("-c", "true; let a = 3; expect $a == 3") & HEAVY == set()


def test_a_machine_loads_no_prompt_and_no_grammar_compiler():
    found = loaded("-c", "use x86_64 ram=2G")
    assert found & {"prompt_toolkit", "rich", "lark", "elftools", "hypothesis", "pytest", "asyncio"} == set()


@pytest.mark.parametrize("mode", ["--version", "--help"])
def test_the_version_and_the_help_load_next_to_nothing(mode):
    assert not any(name.startswith(("memshell.mm", "memshell.scenario")) for name in loaded(mode))
