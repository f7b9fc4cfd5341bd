"""Random sequences on both engines: what differs is made as short as it can be, and saved."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import KernelCrash, KernelError
from memshell.lab.plan import make_plan
from memshell.lab.play import Lab
from memshell.lab.report import Compared, compare_runs
from memshell.mm.pfn import format_size
from memshell.scenario.player import Player, StepFailed
from memshell.shell.shell import Output

if TYPE_CHECKING:
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins

PARAMETERS = ("N", "Y", "force")
SIZES = (1, 1, 2, 3, 4, 8)  # blocks of a DIMM
MOST_DIMMS = 4
KINDS = ("", "movable", "kernel")


@dataclass(slots=True)
class Generator:
    """Writes a random scenario: the model says what there is to online, offline and eject, and how each command ends."""

    seed: int
    loader: Callable[[], Plugins]
    lines: list[str] = field(default_factory=list)

    def scenario(self, steps: int) -> str:
        """Return a scenario of *steps* commands."""
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        player = Player(self.loader, Output(StringIO(), StringIO()), echo=False)
        parameter = chance.choice(PARAMETERS)
        first = f"use x86_64 ram=2G memmap_on_memory={parameter}"
        player.play_text(first, "fuzz")
        self.lines = [f"# lab fuzz --seed {self.seed} --steps {steps}", first]
        for _ in range(steps):
            command = self._command(chance, player.shell.need_machine().mm)
            self.lines.append(command if _succeeds(player, command) else f"! {command}")
        return "\n".join(self.lines) + "\n"

    def _command(self, chance: random.Random, mm: Mm) -> str:
        hot = [block for block in mm.blocks.values() if not block.early]
        dimms = {block.group for block in hot}
        offline = [block.id for block in hot if block.state == "offline"]
        online = [block.id for block in hot if block.state == "online"]
        weights = {
            "add": 0 if len(dimms) == MOST_DIMMS else 1 if hot else 8,
            "online": 5 * bool(offline),
            "offline": 3 * bool(online),
            "eject": bool(hot),
            "policy": 1,
            "state": 1,
        }
        kind = chance.choices(list(weights), list(weights.values()))[0]
        if kind == "add":
            return f"add {format_size(chance.choice(SIZES) * mm.block_size)}"
        if kind == "online":
            return f"online {_some(chance, offline)} {chance.choice(KINDS)}".strip()
        if kind == "offline":
            return f"offline {_some(chance, online)}"
        if kind == "eject":
            return f"eject {chance.choice(hot).id}"
        if kind == "policy":
            return f"set online_policy={chance.choice(('contig-zones', 'auto-movable'))}"
        return f"set auto_online_blocks={chance.choice(('offline', 'online', 'online_movable'))}"


def _some(chance: random.Random, numbers: list[int]) -> str:
    """Return one block, or a few of a row."""
    first = chance.choice(numbers)
    last = first
    while last + 1 in numbers and chance.random() < 0.5:
        last += 1
    return str(first) if first == last else f"{first}-{last}"


def _succeeds(player: Player, command: str) -> bool:
    try:
        player.play_text(command, "fuzz")
    except StepFailed as failure:
        if isinstance(failure.cause, (KernelError, KernelCrash)):
            return False
        raise
    return True


@dataclass(slots=True)
class Found:
    """A scenario on which the engines differ, and the run that shows it."""

    text: str
    compared: list[Compared]

    @property
    def where(self) -> set[str]:
        """The quantities that differ, without the numbers in their names; what the guest died of."""
        names = {"".join(c for c in q.name if not c.isdigit()) for one in self.compared for q in one.differs}
        return names | {one.ran.died for one in self.compared if one.ran.died}


@dataclass(slots=True)
class Fuzz:
    """Runs scenarios on both engines."""

    lab: Lab
    loader: Callable[[], Plugins]

    def try_out(self, text: str) -> Found:
        """Run a scenario on both."""
        plan = make_plan("fuzz.mem", text, self.loader)
        return Found(text, compare_runs(self.lab.run(plan), self.loader()))

    def shrink(self, found: Found) -> Found:
        """Leave out one command after the other, from the last, as long as something of the same still differs."""
        at = len(found.text.splitlines()) - 1
        while at > 1:
            lines = found.text.splitlines()
            shorter = "\n".join([*lines[:at], *lines[at + 1 :]]) + "\n"
            again = self._try_shorter(shorter)
            if again is not None and again.where & found.where:
                found = again
            at -= 1
        return found

    def _try_shorter(self, text: str) -> Found | None:
        """Run a scenario whose commands may end otherwise than they did; None where it is none any more."""
        plain = [line.removeprefix("! ") for line in text.splitlines()]
        player = Player(self.loader, Output(StringIO(), StringIO()), echo=False)
        lines = plain[:1]
        try:
            lines += [line if _succeeds(player, line) else f"! {line}" for line in plain[1:]]
        except StepFailed:
            return None
        return self.try_out("\n".join(lines) + "\n")


def save(found: Found, folder: Path, seed: int) -> Path:
    """Write the scenario and its recording; return the scenario's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fuzz-{seed}.mem"
    path.write_text(found.text, encoding="utf-8")
    for number, one in enumerate(found.compared, start=1):
        data = json.dumps(one.ran.raw, separators=(",", ":")).encode()
        (folder / f"fuzz-{seed}{f'-{number}' if number > 1 else ''}.json.xz").write_bytes(lzma.compress(data))
    return path
