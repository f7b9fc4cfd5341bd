"""The tutorial's scenario on a real kernel: the one that MEMSHELL_LAB_KERNEL names, or the one in /boot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memshell.lab.doctor import default_kernel, findings

KERNEL = os.environ.get("MEMSHELL_LAB_KERNEL") or default_kernel()
MISSING = [one.what for one in findings("x86_64") if one.missing and one.what != "a kernel"]
if MISSING:
    pytest.skip(f"not here: {', '.join(MISSING)}; memshell lab doctor says how to install it", allow_module_level=True)
if KERNEL is None:
    pytest.skip("there is no kernel in /boot, and MEMSHELL_LAB_KERNEL names none", allow_module_level=True)


def test_the_tutorial_agrees(tmp_path):
    out = tmp_path / "rec.json"
    command = [sys.executable, "-m", "memshell", "lab", "run", "tutorial/first", "--kernel", str(KERNEL), "--json"]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode in {0, 1}, done.stderr  # 1 on kernels that the scenario is not written for
    answer = json.loads(done.stdout)
    assert [boot["differences"] for boot in answer["boots"]] == [[], []]
    again = subprocess.run(
        [sys.executable, "-m", "memshell", "lab", "check", str(out)], capture_output=True, check=False
    )
    assert again.returncode == 0, again.stdout
    assert Path(out.with_name("rec-2.json")).exists()
