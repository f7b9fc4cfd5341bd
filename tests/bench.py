"""``make bench``: whole-process figures, as medians and as ratios to starting Python on the same machine."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

MEMSHELL = str(Path(sys.executable).parent / "memshell")
RUNS = 9
ISSUE = "use x86_64 ram=2G profile=v6.12; policy memmap_on_memory; add 10G; online all movable; lsmem; meminfo"
TERABYTE = "use x86_64 ram=64G block=128M; add 1T 1T; online {0} movable; offline {0}; remove {0}"
BLOCKS = f"{(1 << 40) >> 27}-{((1 << 40) >> 27) + 8191}"
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "memshell -c true": [MEMSHELL, "-c", "true"],
    "2G + 10G, memmap_on_memory, lsmem, meminfo": [MEMSHELL, "-c", ISSUE],
    "1T: add, online, offline, remove (8,192 blocks)": [MEMSHELL, "-c", TERABYTE.format(BLOCKS)],
}


def seconds(command):
    """Return how long one run takes; a run that fails ends the benchmark."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    spent = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return spent


def main():
    """Print the table; the cases take turns, so that a slow moment of the machine meets them all."""
    for command in CASES.values():
        seconds(command)
    spent = {name: [] for name in CASES}
    for _ in range(RUNS):
        for name, command in CASES.items():
            spent[name].append(seconds(command))
    bare = statistics.median(spent["python -c pass"])
    print(f"{'whole process, median of ' + str(RUNS):<50} {'ms':>8} {'least':>8} {'x python':>9}")
    for name, times in spent.items():
        median = statistics.median(times)
        print(f"{name:<50} {median * 1000:>8.1f} {min(times) * 1000:>8.1f} {median / bare:>9.1f}")


if __name__ == "__main__":
    main()
