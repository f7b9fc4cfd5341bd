"""``make fidelity``: verify recordings on all cores, and write down what came out.

``python tests/verify/fidelity.py RECORDING...`` writes memshell/verify/fidelity.json, probes.json and docs/fidelity.md.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from memshell.capture.recording import load_recording
from memshell.plugins import load_plugins
from memshell.scenario.player import Player
from memshell.verify.calls import fully_probed, minor, probes, shown_names
from memshell.verify.fidelity import markdown, reasons, stored
from memshell.verify.quantity import GOOD, Quantity, summary
from memshell.verify.report import verify_recording

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tally:
    """The outcome of one recording: counts by verdict, the quantities behind each function, and what differs."""

    recording: str
    release: str
    counts: dict[str, int]
    functions: dict[str, int]
    differs: list[str]


@cache
def player() -> Player:
    """Return a player with memshell's plugins."""
    plugins = load_plugins()
    return Player(lambda: plugins)


def tally(path: str) -> Tally:
    """Verify one recording with the call trace on."""
    recording = load_recording(path)
    behind: Counter[str] = Counter()

    def watch(functions: set[str], quantities: list[Quantity]) -> None:
        good = sum(q.verdict in GOOD for q in quantities)
        behind.update(dict.fromkeys(functions, good))

    quantities = verify_recording(recording, player(), watch)
    differs = [f"{recording.name} {q.step} {q.name}" for q in quantities if q.verdict == "differs"]
    return Tally(
        recording.name,
        recording.release,
        {str(verdict): count for verdict, count in summary(quantities).items()},
        dict(behind),
        differs,
    )


def probes_of(path: str) -> tuple[str, frozenset[str]]:
    """Return the release of a recording and the functions that it shows can be probed there; none of a partial one."""
    recording = load_recording(path)
    names = shown_names(recording)
    return minor(recording.release), names if fully_probed(names) else frozenset()


def gather_probes(paths: list[str]) -> dict[str, list[str]]:
    """Return what ``probes.json`` holds, with what the recordings at *paths* add to it."""
    table = {release: set(names) for release, names in probes().items()}
    with ProcessPoolExecutor() as pool:
        for release, names in pool.map(probes_of, sorted(paths), chunksize=4):
            if names:
                table.setdefault(release, set()).update(names)
    return {release: sorted(names) for release, names in table.items()}


def gather(paths: list[str]) -> dict[str, Any]:
    """Verify all *paths* on all cores; return what ``fidelity.json`` holds."""
    with ProcessPoolExecutor() as pool:
        tallies = list(pool.map(tally, sorted(paths), chunksize=4))
    functions: Counter[str] = Counter()
    for one in tallies:
        functions.update(one.functions)
    return {
        "functions": dict(sorted(functions.items())),
        "recordings": {one.recording: {"release": one.release, **one.counts} for one in tallies},
        "differs": [line for one in tallies for line in one.differs],
    }


def main(paths: list[str]) -> int:
    """Verify *paths*, write the table, and say what is not explained."""
    (ROOT / "memshell" / "verify" / "probes.json").write_text(json.dumps(gather_probes(paths), indent=1) + "\n")
    probes.cache_clear()
    data = gather(paths)
    (ROOT / "memshell" / "verify" / "fidelity.json").write_text(json.dumps(data, indent=1) + "\n")
    stored.cache_clear()
    (ROOT / "docs" / "fidelity.md").write_text(markdown(data))
    known = {where for entry in reasons() for where in entry["where"]}
    print((ROOT / "docs" / "fidelity.md").read_text().split("\n## What differs")[0])
    for line in sorted(set(data["differs"]) ^ known):
        print("not explained:" if line in data["differs"] else "does not differ any more:", line)
    return int(set(data["differs"]) != known)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
