# ruff: noqa: E501
"""Hostile inputs at every door: scenarios, machine files, recordings, journals, copied trees, lists of lsmem.

    python tests/hostile.py [COUNT] [SEED]

Each input is a good one with something wrong in it. It may be refused in a line or taken; what counts as a fault is an internal
error, a traceback, more than ten seconds, and a machine whose parts do not go together. The exit code is 1 with any of these.
"""

from __future__ import annotations

import copy
import json
import lzma
import random
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memshell.api import Session
from memshell.capture import capture
from memshell.errors import MemshellError
from memshell.mm.invariants import violations
from memshell.modes.capture import as_text, refusal
from memshell.repl.journal import Entry
from memshell.repl.resume import Replay
from memshell.scenario.suite import play_case, shared_plugins

HERE = Path(__file__).parent
LIMIT = 10.0  # seconds
WORDS = [
    "use x86_64 ram=512M", "use powerpc ram=512M", "add 1G", "online all movable", "offline 32", "remove 32", "alloc 1M", "free 1",
    "let x = 1", "expect blocks.online == 4", "repeat 3 as i", "end", "subtest a", "undo", "redo", "save x", "! add 1", "virtio-mem 2M",
    "probe 0x100000000 1G mode=devdax", "set auto_movable_ratio=1", "policy memmap_on_memory", "profile v6.1", "fault memmap_page at=2",
    "hold kernel=0x100", "page 0x100", "map", "lsmem -a", "alias a b", "watch blocks.online", "reboot", "branch b", "switch main", "touch",
]  # fmt: skip
BITS = ["", "-1", "0", "9" * 30, "9" * 5000, "1E", "0x", "$x", "'", '"', ";", "\n", "\\", "|", ">", "--", "=", "\x00", "\x1b[2J", "é", "\udcff",
        "[arch:x]", "!", "#", "((", "))", "inf", "nan", "1.5", "all", "last", "none", "../..", "%s", "{}", "node=99", "at=-1", "-F json"]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 2**63, 2**64, 10**40, 1.5, float("inf"), "", "junk", "9" * 400, "\x1b[2J", [], {}, [[]], {"a": 1}, "online", "none",
]  # fmt: skip


class Doors:
    """The doors; each takes one wrong input, and returns the session in which it was tried."""

    def __init__(self, chance: random.Random, folder: Path) -> None:
        self.chance, self.folder = chance, folder
        raw = lzma.decompress((HERE / "recordings" / "x86_64-k612-N-1G-movable.json.xz").read_bytes())
        self.recording = json.loads(raw)
        self.recording["steps"] = self.recording["steps"][:2]
        self.tree = folder / "vm-half-used"
        with tarfile.open(HERE / "capture" / "trees" / "vm-half-used.tar.gz") as tar:
            tar.extractall(folder, filter="data")
        self.machine = json.loads(as_text(capture(shared_plugins().arches().values(), self.tree, "x86_64")))
        self.files = sorted(path for path in self.tree.rglob("*") if path.is_file())
        self.lsmem = (HERE / "capture" / "trees" / "lsmem-sos.txt").read_text()

    def all(self) -> dict[str, Callable[[], Session | None]]:
        """Return the doors by name."""
        return {
            "scenario": self.scenario, "machine file": self.machine_file, "recording": self.recorded, "journal": self.journal,
            "tree": self.copied, "lsmem": self.listed,
        }  # fmt: skip

    def scenario(self) -> None:
        lines = ["use x86_64 ram=512M"] + [self._line() for _ in range(self.chance.randint(1, 8))]
        path = self.folder / "hostile.mem"
        path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
        for failure in play_case(str(path)).all_failures():
            if "internal error" in failure:
                raise AssertionError(failure)

    def _line(self) -> str:
        words = self.chance.choice(WORDS).split(" ")
        for _ in range(self.chance.randint(0, 2)):
            at = self.chance.randrange(len(words))
            words[at] = self.chance.choice([self.chance.choice(BITS), words[at] + self.chance.choice(BITS)])
        return " ".join(words)

    def machine_file(self) -> Session:
        return self._use(self._wrong(self.machine))

    def recorded(self) -> Session:
        return self._use(self._wrong(self.recording))

    def _wrong(self, good: dict[str, Any]) -> str:
        raw = copy.deepcopy(good)
        for _ in range(self.chance.randint(1, 3)):
            places = list(_places(raw))
            holder, key = self.chance.choice(places)
            held = holder[key]
            near = [held * 2, held + 1, held - 1, -held] if isinstance(held, int) else []
            if self.chance.random() < 0.2:
                del holder[key]
            else:
                holder[key] = self.chance.choice([*near, *near, *VALUES])
        text = json.dumps(raw)
        return text[: self.chance.randrange(len(text))] if self.chance.random() < 0.05 else text

    def _use(self, text: str) -> Session:
        path = self.folder / "m.json"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        session = _session()
        session.run(f"use {path}")
        return session

    def journal(self) -> Session:
        data = bytearray(
            b"".join(
                Entry(0, n, line).record()
                for n, line in enumerate(["use x86_64 ram=512M", "add 256M", "online 32", "undo"])
            )
        )
        for _ in range(self.chance.randint(1, 6)):
            at = self.chance.randrange(len(data))
            data[at : at + self.chance.randint(0, 4)] = (
                self.chance.choice(BITS).encode(errors="surrogateescape")[:40] or b"\0"
            )
            data = data or bytearray(b"x")
        path = self.folder / "j.mem"
        path.write_bytes(bytes(data))
        session = _session()
        replay = Replay(session.player)
        replay.play(path)
        if any("internal error" in text for text in replay.skipped):
            raise AssertionError("\n".join(replay.skipped))
        return session

    def copied(self) -> Session:
        path = self.chance.choice(self.files)
        good = path.read_text()
        lines = good.splitlines(keepends=True) or [""]
        at = self.chance.randrange(len(lines))
        words = lines[at].split(" ")
        words[self.chance.randrange(len(words))] = self.chance.choice(BITS)
        lines[at] = " ".join(words)
        path.write_text("".join(lines), errors="surrogateescape")
        try:
            machine = capture(shared_plugins().arches().values(), self.tree, "x86_64")
        finally:
            path.write_text(good)
        refusal(machine, shared_plugins())
        return self._use(as_text(machine))

    def listed(self) -> Session:
        at = self.chance.randrange(len(self.lsmem))
        text = self.lsmem[:at] + self.chance.choice(BITS) + self.lsmem[at + self.chance.randint(0, 30) :]
        path = self.folder / "lsmem.txt"
        path.write_text(text, errors="surrogateescape")
        return self._use(as_text(capture(shared_plugins().arches().values(), path, "x86_64")))


def _session() -> Session:
    session = Session(shared_plugins())
    session.shell.output.err = StringIO()
    return session


def _places(raw: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(raw) if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else []
    for key in keys:
        yield raw, key
        yield from _places(raw[key])


def attempt(door: Callable[[], Session | None]) -> str:
    """Return how one input ended: taken, refused, or what is wrong."""
    started, out, session = time.monotonic(), StringIO(), None
    try:
        with redirect_stdout(out), redirect_stderr(out):
            session = door()
        ended = "taken"
    except MemshellError as error:
        ended = (
            "refused" if error.exit_code < 3 and "\n" not in str(error) else f"FAULT {type(error).__name__}: {error}"
        )
    except Exception as error:  # noqa: BLE001
        ended = f"FAULT {type(error).__name__}: {error}"
    machine = session.shell.machine if session is not None else None
    if machine is not None and not machine.mm.crashed and violations(machine.mm):
        ended = f"FAULT nonsense is taken: {violations(machine.mm)[0]}"
    if time.monotonic() - started > LIMIT:
        ended = f"FAULT it takes {time.monotonic() - started:.0f} s"
    return ended


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try *count* inputs; return how many ended how, by door, and the faults."""
    ended: Counter[str] = Counter()
    faults: list[str] = []
    with TemporaryDirectory() as folder:
        chance = random.Random(seed)
        doors = Doors(chance, Path(folder)).all()
        for number in range(count):
            name = list(doors)[number % len(doors)]
            chance.seed(f"{seed} {number}")
            how = attempt(doors[name])
            ended[f"{name}: {how.partition(' ')[0]}"] += 1
            if how.startswith("FAULT"):
                faults.append(f"{number} {name}: {how[:300]}")
    return ended, faults


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    counted, wrong = run(numbers[0] if numbers else 10_000, numbers[1] if len(numbers) > 1 else 1)
    print("\n".join([*(f"{n:6} {what}" for what, n in sorted(counted.items())), *wrong]))
    sys.exit(1 if wrong else 0)
