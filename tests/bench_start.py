"""How long a start takes beyond bare Python, the least of several runs: ``python tests/bench_start.py``.

ipython and ptpython are measured beside it where they are installed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import pexpect

RUNS = 10
BUDGET = {"memshell -c true": 80, "memshell prompt": 200}  # beyond bare Python


def least(action):
    return min(_timed(action) for _ in range(RUNS)) * 1000


def _timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def command(*argv):
    return lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def prompt(expected, *argv):
    """Return how long it takes until a program on a pty shows its first prompt, in ms."""

    def start():
        with tempfile.TemporaryDirectory() as home:
            env = {**os.environ, "HOME": home, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
            child = pexpect.spawn(argv[0], list(argv[1:]), env=env, encoding="utf-8", timeout=30)
            child.expect(expected)
            started.append(time.perf_counter())
            child.close(force=True)

    started = []

    def timed():
        before = time.perf_counter()
        start()
        return started[-1] - before

    return min(timed() for _ in range(RUNS)) * 1000


def main():
    """Print the table."""
    python = sys.executable
    bare = least(command(python, "-c", "pass"))
    rows = [
        ("memshell -c true", least(command(python, "-m", "memshell", "-c", "true"))),
        ("memshell -c 'use x86_64'", least(command(python, "-m", "memshell", "-c", "use x86_64"))),
        ("memshell prompt", prompt("memshell>", python, "-m", "memshell")),
    ]
    for name, mark in (("ipython", r"In \["), ("ptpython", ">>>")):
        found = shutil.which(name)
        if found:
            rows.append((f"{name} prompt", prompt(mark, found)))
    print(f"bare Python {bare:.0f} ms; beyond that:")
    for name, took in rows:
        budget = f"  (budget {BUDGET[name]})" if name in BUDGET else ""
        print(f"{name:<26} {took - bare:6.0f} ms{budget}")


if __name__ == "__main__":
    main()
