"""``make demo``: play the first tutorial, draw the memory before and after, hold a real kernel against it."""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMSHELL = Path(sys.executable).parent / "memshell"
RECORDING = ROOT / "tests" / "recordings" / "x86_64-k612-Y-1G-movable.json.xz"
GUEST = "use x86_64 ram=2G profile=v6.12 policy=memmap_on_memory"
PLUG = "add 2G; online all movable"


def memshell(*arguments, show=True):
    """Run memshell; return what it printed.  Whatever goes wrong ends the demo."""
    if show:
        words = " ".join(f"'{word}'" if " " in word else str(word) for word in arguments)
        print(f"\n$ memshell {words}", flush=True)
    done = subprocess.run([MEMSHELL, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    if show:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main():
    """Play the demo."""
    started = time.perf_counter()
    memshell("run", "tutorial/first")
    played = memshell("run", "tutorial/first", "--json", show=False)
    steps = [json.loads(line) for line in played.splitlines()]
    memshell("-c", f"{GUEST}; map")
    memshell("-c", f"{GUEST}; {PLUG}; map")
    recording = str(RECORDING.relative_to(ROOT))
    memshell("verify", recording)
    found = json.loads(memshell("verify", recording, "--json", show=False))
    quantities = found["quantities"]
    verdicts = {name: sum(item["verdict"] == name for item in quantities) for name in ("equal", "within")}
    expectations = sum(step["command"].startswith("expect") for step in steps)
    rows = len({item["step"] for item in quantities})
    print(
        f"\nSeen: a tutorial of {len(steps)} steps, {expectations} of them expectations that held;\n"
        f"the map of a 2G guest before and after 2G more, each block with its memmap (m) at its start;\n"
        f"{len(quantities)} quantities in {rows} steps of Debian's {found['kernel'].split()[2]} predicted, "
        f"{verdicts['equal']} equal, {verdicts['within']} within the stated tolerance "
        f"({time.perf_counter() - started:.1f} s in all)."
    )


if __name__ == "__main__":
    main()
