"""How true the model is: which kernel functions it has, and how many recorded quantities stand behind each.

``python -m memshell.verify.fidelity RECORDING...`` (``make fidelity``) verifies the recordings and writes
``memshell/verify/fidelity.json``, which the ``fidelity`` command reads, ``docs/fidelity.md``, and the functions
that the recordings show (``memshell/verify/probes.json``).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import memshell.mm
from memshell.capture.recording import load_recording
from memshell.mm import LEDGER, Mark
from memshell.verify.calls import fully_probed, minor, probes, shown_names
from memshell.verify.quantity import Quantity
from memshell.verify.report import summary, verify_recording

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
def _plugins() -> Any:
    from memshell.plugins import load_plugins

    return load_plugins()


def tally(path: str) -> Tally:
    """Verify one recording with the call trace on."""
    recording = load_recording(path)
    behind: Counter[str] = Counter()

    def watch(functions: set[str], quantities: list[Quantity]) -> None:
        good = sum(q.verdict in ("equal", "within") for q in quantities)
        behind.update(dict.fromkeys(functions, good))

    quantities = verify_recording(recording, _plugins().arches(), _plugins().policies(), watch)
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


@cache
def stored() -> dict[str, Any]:
    """Return the counts that were gathered last."""
    found: dict[str, Any] = json.loads((files("memshell.verify") / "fidelity.json").read_text())
    return found


def reasons() -> list[dict[str, Any]]:
    """Return the known differences: {"reason", "where": ["RECORDING STEP QUANTITY", ...]}."""
    found: list[dict[str, Any]] = json.loads((files("memshell.verify") / "differences.json").read_text())
    return found


def marks() -> list[Mark]:
    """Return the marks of the model and of the built-in plugins, by file and name."""
    for module in iter_modules(memshell.mm.__path__, "memshell.mm."):
        import_module(module.name)
    _plugins().arches()
    own = ("memshell.", "memshell_plugins.")
    return [mark for _, mark in sorted(LEDGER.items()) if mark.module.startswith(own)]


def ledger() -> list[tuple[Mark, int]]:
    """Return every modelled kernel function with the number of recorded quantities behind it, by file and name."""
    counts = stored()["functions"]
    return [(mark, counts.get(mark.where, 0)) for mark in marks()]


def markdown(data: dict[str, Any]) -> str:
    """Return docs/fidelity.md."""
    return "\n".join([*_head(data), *_differences(), *_functions(data), *_recordings(data)]) + "\n"


def _head(data: dict[str, Any]) -> list[str]:
    total = Counter[str]()
    for row in data["recordings"].values():
        total.update({verdict: row[verdict] for verdict in ("equal", "within", "differs", "not-modelled")})
    everything = sum(total.values())
    count = {verdict: f"{number} ({100 * number / everything:.2f} %)" for verdict, number in total.items()}
    return [
        "# Fidelity",
        "",
        "Generated by `make fidelity` from the recordings of real kernels in `tests/recordings`; do not edit.",
        "",
        (
            f"{len(data['recordings'])} recordings, {everything} compared quantities: {count['equal']} equal, "
            f"{count['within']} within the tolerance, {count['differs']} differ, {count['not-modelled']} not modelled."
        ),
        "",
        (
            "A tolerance is only for the change of free pages (per-cpu lists counted in): the guest's own programs and "
            "the slab allocator disturb it. 16 pages on x86_64, 32 elsewhere, after the step's own change of Slab."
        ),
        "",
    ]


def _differences() -> list[str]:
    lines = ["## What differs", ""]
    for entry in reasons():
        lines += [f"- {entry['reason']}", *(f"  - `{where}`" for where in entry["where"])]
    return [*lines, ""]


def _functions(data: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{mark.where}` | {mark.version} | {mark.word} | {data['functions'].get(mark.where, 0)} | {mark.note} |"
        for mark in marks()
    ]
    return [
        "## Kernel functions",
        "",
        "Quantities: those of the steps in which the function ran, equal or within.",
        "",
        "| function | compared with | word | quantities | simplified how |",
        "|---|---|---|---:|---|",
        *rows,
        "",
    ]


def _recordings(data: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {row['release']} | {row['equal']} | {row['within']} | {row['differs']} | {row['not-modelled']} |"
        for name, row in data["recordings"].items()
    ]
    head = "| recording | kernel | equal | within | differs | not modelled |"
    return ["## Recordings", "", head, "|---|---|---:|---:|---:|---:|", *rows]


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
