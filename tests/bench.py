"""``make bench``: what memshell costs, each line beside what is wanted and beside its floor or peer in the same run.

``python tests/bench.py [-n RUNS] [-k WORD] [--history FILE]``. Seconds are user seconds of a whole process, the least and
the most of the runs; what a prompt takes is waited for. The history (build/bench.jsonl) gets a line of JSON a run, and the
table has what its last line says. ipython, QEMU with a kernel (`memshell lab doctor`) and pahole (on VMLINUX=FILE)
are measured where they are.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pexpect

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
MEMSHELL = [PYTHON, "-m", "memshell"]
BARE = "bare Python"
T, G, M = 1 << 40, 1 << 30, 1 << 20


@dataclass
class Line:
    """A command, and what it may take: seconds (beyond bare Python where it says so) and MB."""

    name: str
    command: list[str]
    seconds: float | None = None
    megabytes: int | None = None
    beyond: bool = False
    prompt: str | None = None  # what is waited for on a terminal
    code: int = 0


def commands(name, text, seconds=None, megabytes=None):
    return Line(name, [*MEMSHELL, "-c", text], seconds, megabytes)


def life(use, size, block):
    """Return the commands that add, online, offline and remove *size* bytes from 1T on."""
    blocks = f"{T // block}-{(T + size) // block - 1}"
    return f"use {use}; add 1T {size}; online {blocks} movable; offline {blocks}; remove {blocks}"


DEVDAX = "use x86_64 ram=64G; probe 1T 2T mode=devdax align=2M map=mem; probe 1T --off"
VIRTIO = "use x86_64 ram=4G auto_online=online_movable; virtio-mem 64G region=64G; virtio-mem 0"
LINES = [
    Line(BARE, [PYTHON, "-c", "pass"]),
    Line("-c true", [*MEMSHELL, "-c", "true"], 0.060, beyond=True),
    Line("-c 'use x86_64'", [*MEMSHELL, "-c", "use x86_64"], 0.090, beyond=True),
    Line("first prompt", MEMSHELL, 0.200, beyond=True, prompt="memshell>"),
    commands("1T of 128M, buddy", life("x86_64 ram=64G block=128M", T, 128 * M), 0.5, 100),
    commands("1T of 128M, memmap_on_memory", life("x86_64 block=128M policy=memmap_on_memory", T, 128 * M), 0.5, 100),
    commands("16T of 128M, buddy", life("x86_64 ram=512G block=128M", 16 * T, 128 * M)),
    commands("16T of 128M, memmap_on_memory", life("x86_64 block=128M policy=memmap_on_memory", 16 * T, 128 * M)),
    commands("62T of 2G, memmap_on_memory", life("x86_64 block=2G policy=memmap_on_memory", 62 * T, 2 * G), 6, 250),
    commands("devdax 2T align=2M, bind, unbind", DEVDAX, 1),
    commands("s390, 4T of standby", "use s390 ram=8G standby=4T", 1),
    commands("powerpc, 1T of 256M", life("powerpc ram=64G", T, 256 * M)),
    commands("arm64, 1T of 128M", life("arm64 ram=64G", T, 128 * M)),
    commands("virtio-mem, 64G", VIRTIO),
    Line(
        "all recordings", [*MEMSHELL, "verify", *map(str, sorted(ROOT.glob("tests/recordings/*.json.xz")))], 20, code=1
    ),
]

# At a machine with 1T in blocks of 128M, in a process that is there already.
AT_1T = {
    "check": 0.05,
    "map": 0.05,
    "diff": 0.05,
    "undo": 0.05,
    "redraw of the prompt": 0.05,
    "copy of the machine": None,
}
AT_1T["explore: seconds for 5,000 states"] = 1
SCRIPT = """
import json, time
from memshell.api import Session
session = Session()
run = session.run
run("use x86_64 block=128M policy=memmap_on_memory; add 1T 1T; online 8192-16383 movable")
run("offline 9000")
shell, found = session.shell, {}
def timed(name, action, times=1):
    started = time.process_time()
    for _ in range(times):
        action()
    found[name] = (time.process_time() - started) / times
from memshell.shell.screen import toolbar
timed("redraw of the prompt", lambda: toolbar(shell, 80))
timed("copy of the machine", shell.machine.mm.copy, 10)
for line in ("check", "map", "diff", "undo"):
    timed(line, lambda: run(line))
from memshell.experiment.explore import explore
session = Session()
session.run("use x86_64; policy memmap_on_memory")
started = time.process_time()
search = explore(session.shell.machine.mm, depth=4, limit=1500)
found["explore: seconds for 5,000 states"] = (time.process_time() - started) / search.states * 5000
print(json.dumps(found))
"""
LIFE = "use x86_64 ram=2G\nadd 1G\nonline 32-39 movable\noffline 32-39\nremove 32-39\n"


def peers(folder):
    """Return the lines of other programs that are here, each behind memshell at the same."""
    found = []
    if shutil.which("ipython"):
        found.append(Line("ipython: first prompt", ["ipython"], prompt=r"In \["))
    vmlinux = os.environ.get("VMLINUX")
    if vmlinux and shutil.which("pahole"):
        found.append(Line("vmlinux --struct page", [*MEMSHELL, "vmlinux", vmlinux, "--struct", "page"]))
        found.append(Line("pahole -C page", ["pahole", "-C", "page", vmlinux]))
    if not subprocess.run([*MEMSHELL, "lab", "doctor"], capture_output=True, check=False).returncode:
        scenario = folder / "life.mem"
        scenario.write_text(LIFE)
        found.append(Line("a life of 1G", [*MEMSHELL, "run", str(scenario)]))
        found.append(Line("a life of 1G in QEMU", [*MEMSHELL, "lab", "run", str(scenario)], code=1))
    return found


def prompt_seconds(line):
    """Return how long it takes until the program shows its first prompt on a terminal."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "HOME": home, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        started = time.perf_counter()
        child = pexpect.spawn(line.command[0], line.command[1:], env=env, encoding="utf-8", timeout=60)
        child.expect(line.prompt)
        spent = time.perf_counter() - started
        child.close(force=True)
    return spent


def measure(line):
    """Run it once; return its seconds and MB (None for a prompt). One that fails ends the benchmark."""
    if line.prompt:
        return prompt_seconds(line), None
    with subprocess.Popen(line.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        complaint = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, line.code):
        sys.exit(f"{line.name}: {complaint}")
    return usage.ru_utime, usage.ru_maxrss // 1024


def at_1t():
    """Return what single commands take at a machine of 1T, and how many states explore looks at in a second."""
    done = subprocess.run([PYTHON, "-c", SCRIPT], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def collect(runs, word, folder):
    """Return {name: {"least", "most", "megabytes", "wanted", ...}}; the lines take turns, so that a slow moment meets all."""
    lines = [line for line in [*LINES, *peers(folder)] if word in line.name or line.name == BARE]
    found = {line.name: {"wanted": line.seconds, "megabytes_wanted": line.megabytes, "runs": []} for line in lines}
    for _ in range(runs):
        for line in lines:
            seconds, megabytes = measure(line)
            found[line.name]["runs"].append(seconds)
            found[line.name]["megabytes"] = megabytes
    bare = min(found[BARE]["runs"])
    for line in lines:
        floor = bare if line.beyond else 0
        times = found[line.name].pop("runs")
        found[line.name] |= {"least": min(times) - floor, "most": max(times) - floor}
    for name, seconds in at_1t().items() if not word else ():
        found[name] = {"least": seconds, "wanted": AT_1T.get(name)}
    return found


def text(value, digits=3):
    return "" if value is None else f"{value:.{digits}f}"


def table(found, last):
    """Yield the lines of the table; *last* is what the history's last line has."""
    head = f"{'least':>8} {'most':>8} {'wanted':>7} {'':4} {'MB':>5} {'x Python':>8} {'last':>8}"
    yield f"{'user seconds (prompts: waited for)':<36} {head}"
    bare = found[BARE]["least"]
    for name, row in found.items():
        missed = row.get("wanted") is not None and row["least"] > row["wanted"]
        missed |= bool(row.get("megabytes_wanted")) and row["megabytes"] > row["megabytes_wanted"]
        before = last.get(name, {}).get("least")
        yield (
            f"{name:<36} {row['least']:>8.3f} {text(row.get('most')):>8} {text(row.get('wanted'), 2):>7} "
            f"{'over' if missed else '':4} {row.get('megabytes') or '':>5} {row['least'] / bare:>8.1f} {text(before):>8}"
        )


def main():
    """Measure, print the table, write the history."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=3, help="how often each is run")
    parser.add_argument("-k", default="", help="only lines that have this word")
    parser.add_argument("--history", type=Path, default=ROOT / "build" / "bench.jsonl")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = collect(args.n, args.k, Path(folder))
    known = args.history.read_text().splitlines() if args.history.exists() else []
    print("\n".join(table(found, json.loads(known[-1])["lines"] if known else {})))
    git = ["git", "rev-parse", "--short", "HEAD"]
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "lines": found,
    }
    args.history.parent.mkdir(parents=True, exist_ok=True)
    with args.history.open("a") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
