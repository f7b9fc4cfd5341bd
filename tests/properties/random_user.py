"""A user who types anything that a machine takes: the same words, whether hypothesis or a seed chooses them.

`Chance` is who chooses; `Words` makes a command line for the machine that there is now; `User` plays it and looks whether
the state holds together, whether undo gives back what was, and whether what is saved replays to the same state.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from memshell.api import Session
from memshell.commands.experiment import FAULTS
from memshell.errors import KernelCrash, KernelError, MemshellError
from memshell.machine import Machine, diff_states
from memshell.mm.invariants import violations
from memshell.mm.programs import allocations
from memshell.profiles import PROFILES

RELEASES = [name for name in PROFILES if name.startswith("v")]
POLICIES = ["buddy", "memmap_on_memory", "memmap_on_memory_force"]
ARCHES = {
    "x86_64": {
        "ram": ["256M", "512M", "3G"], "block": ["", "128M", "1G"], "nodes": ["1", "2"], "struct_page": ["64", "56"],
        "gbpages": ["on", "off"],
    },
    "powerpc": {
        "ram": ["512M", "1G"], "block": ["16M", "256M", "1G"], "page": ["64K", "4K"], "mmu": ["radix", "hash"],
        "large_pages": ["on", "off"], "nodes": ["1", "2"],
    },
    "s390": {"ram": ["512M", "2G"], "standby": ["0", "512M", "1G"], "block": ["", "1M", "256M"], "edat": ["off", "1", "2"]},
    "arm64": {"ram": ["1G"], "page": ["4K", "16K", "64K"], "direct_map": ["pages", "blocks"], "nodes": ["1", "2"]},
}  # fmt: skip
CALLERS = {
    "x86_64": ["acpi", "driver", "module", "probe", "kmem", "hv_balloon", "xen"],
    "powerpc": ["dlpar", "driver", "module", "probe", "kmem"],
    "s390": ["sclp", "driver", "module"],
    "arm64": ["acpi", "driver", "module", "probe", "kmem"],
}
KINDS = ["movable", "unmovable", "pinned", "ballooned", "atomic"]


class Chance(Protocol):
    """Who chooses."""

    def pick(self, items: Sequence[Any]) -> Any:
        """Return one of *items*."""

    def between(self, low: int, high: int) -> int:
        """Return a number from *low* to *high*."""


class Seeded:
    """A seed chooses."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self._random.randrange(len(items))]

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


class Drawn:
    """Hypothesis chooses, and can make it shorter."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def pick(self, items: Sequence[Any]) -> Any:
        from hypothesis import strategies as st

        return self._data.draw(st.sampled_from(list(items)))

    def between(self, low: int, high: int) -> int:
        from hypothesis import strategies as st

        return self._data.draw(st.integers(low, high))


def use_line(chance: Chance) -> str:
    """Return a `use` for any machine that is small enough to play with."""
    arch = chance.pick(list(ARCHES))
    keys = {key: chance.pick(values) for key, values in ARCHES[arch].items()}
    keys |= {"profile": chance.pick(RELEASES), "policy": chance.pick(POLICIES)}
    keys |= {"auto_online": chance.pick(["offline", "offline", "online", "online_movable"])}
    if PROFILES[keys["profile"]].features.mhp.memory_groups:
        keys |= {"online_policy": chance.pick(["contig-zones", "auto-movable"])}
    return " ".join(["use", arch, *(f"{key}={value}" for key, value in keys.items() if value)])


class Words:
    """Command lines for one machine."""

    def __init__(self, chance: Chance, machine: Machine) -> None:
        self.chance, self.mm = chance, machine.mm
        base = max(machine.steps[0].mm.max_pfn << self.mm.arch.page_shift, self.mm.block_size)
        if self.mm.arch.name == "x86_64":
            base = max(base, 4 << 30)
        self.first = -(-base // self.mm.block_size)

    def line(self) -> str:
        """Return any command."""
        make = self.chance.pick(
            [self.add, self.add, self.online, self.online, self.offline, self.offline, self.remove, self.eject, self.alloc,
             self.alloc, self.programs, self.programs, self.device, self.virtio, self.fault, self.settings, self.pages]
        )  # fmt: skip
        return make()

    def _number(self) -> int:
        known = list(self.mm.blocks)
        if known and self.chance.between(0, 3):
            return self.chance.pick(known)
        return self.first + self.chance.between(0, 11)

    def _address(self) -> str:
        return hex(self._number() * self.mm.block_size)

    def _blocks(self) -> str:
        number = self._number()
        kind = self.chance.between(0, 4)
        if kind == 0:
            return self.chance.pick(["all", "last", "online"])
        return str(number) if kind < 3 else f"{number}-{number + self.chance.between(1, 4)}"

    def _node(self) -> str:
        return self.chance.pick(["", "", *(f" node={nid}" for nid in self.mm.arch.possible_nodes[:2])])

    def add(self) -> str:
        """Return an `add`, by any caller."""
        size = self.mm.block_size >> 20
        amount = self.chance.pick([size, size, 2 * size, 3 * size, 5 * size, size // 2 or 1])
        where = self.chance.pick(["", "", self._address() + " "])
        via = self.chance.pick(["", "", *(f" via={name}" for name in CALLERS[self.mm.arch.name])])
        flags = self.chance.pick(["", " flags=memmap_on_memory", " flags=merge_resource"]) if "module" in via else ""
        return f"add {where}{amount}M{via}{flags}{self._node()}"

    def online(self) -> str:
        """Return an `online`."""
        return f"online {self._blocks()} {self.chance.pick(['', 'kernel', 'movable', 'movable'])}".strip()

    def offline(self) -> str:
        """Return an `offline`, or a `write` of a wrong word."""
        if self.chance.between(0, 9):
            return f"offline {self._blocks()}"
        return f"write memory{self._number()}/state {self.chance.pick(['offline', 'online', 'junk', 'online_movable'])}"

    def remove(self) -> str:
        """Return a `remove`."""
        return f"remove {self._blocks()}"

    def eject(self) -> str:
        """Return an `eject`, of blocks or of an exact range."""
        via = self.chance.pick(["", "", "", *(f" via={name}" for name in CALLERS[self.mm.arch.name])])
        if self.chance.between(0, 2):
            return f"eject {self._blocks()}{via}"
        return f"eject {self._address()} {(self.mm.block_size >> 20) * self.chance.between(1, 3)}M{via}"

    def alloc(self) -> str:
        """Return an `alloc`."""
        page, order = self.mm.arch.page_size >> 10, self.chance.between(0, self.mm.arch.max_order)
        free = sum(zone.free for zone in self.mm.zones.values())
        pieces = max((free >> order) * self.chance.between(1, 6) // 5, 1)
        kind, node = self.chance.pick(KINDS), self._node()
        return f"alloc {(pieces << order) * page}K {kind} order={order}{node}"

    def programs(self) -> str:
        """Return what a program does with what it has."""
        known = list(allocations(self.mm))
        which = str(self.chance.pick(known)) if known else "1"
        what = self.chance.pick(["free", "free", "free all", "pin", "unpin", "migrate", "migrate"])
        return what if what == "free all" else f"{what} {which}" + (self._node() if what == "migrate" else "")

    def pages(self) -> str:
        """Return a touch of memory, or pools of huge pages."""
        if self.chance.between(0, 1):
            return f"touch {self.chance.pick(['1M', '64M'])}"
        shifts = self.mm.arch.hugepage_shifts
        if not shifts:
            return "true"
        return f"hugepages {(1 << self.chance.pick(shifts)) >> 10}K={self.chance.between(0, 12)}{self._node()}"

    def device(self) -> str:
        """Return a driver's bind or unbind."""
        at = self._number() * self.mm.block_size + self.chance.pick([0, 0, 2 << 20])
        if not self.chance.between(0, 2):
            return f"probe {at:#x} --off"
        mode = self.chance.pick(["raw", "fsdax", "devdax", "kmem"])
        size = self.chance.pick([2, 34, self.mm.block_size >> 20, 2 * self.mm.block_size >> 20])
        align = self.chance.pick(["", "", " align=64K", " align=1G"]) if mode != "kmem" else ""
        return f"probe {at:#x} {size}M mode={mode} map={self.chance.pick(['mem', 'dev'])}{align}{self._node()}"

    def virtio(self) -> str:
        """Return a request to the virtio-mem device."""
        block = self.mm.block_size >> 20
        size = self.chance.pick([0, 2, 16, block // 2, block, block + 64, 3 * block])
        units = self.chance.pick(["", "", " block_size=4M", f" block_size={block}M", f" block_size={2 * block}M"])
        return f"virtio-mem {size}M" + ("" if self.mm.virtio_mem else f" region={8 * block}M{units}")

    def fault(self) -> str:
        """Return a fault, at any point and any call."""
        return f"fault {self.chance.pick(sorted(FAULTS))} at={self.chance.between(1, 6)}"

    def settings(self) -> str:
        """Return a change of policy, profile parameters or the history."""
        return self.chance.pick(
            [*(f"policy {name}" for name in POLICIES), "set auto_online=online_movable", "set auto_online=offline",
             "set online_policy=auto-movable", "set auto_movable_ratio=50", "undo", "undo", "redo", "undo 3", "true", "reboot",
             f"branch b{self.chance.between(1, 3)}", f"switch b{self.chance.between(1, 3)}", "switch main"]
        )  # fmt: skip


class User:
    """A session whose every step is checked. *played* is the scenario so far."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.session = Session()
        self.session.shell.output.err = StringIO()
        self.played: list[str] = []
        while self.session.shell.machine is None:
            self.do(use_line(chance))

    @property
    def machine(self) -> Machine:
        machine = self.session.shell.machine
        assert machine is not None
        return machine

    def step(self) -> None:
        """Type one command, and look."""
        before = self.machine.steps[-1]
        self.do(Words(self.chance, self.machine).line())
        if self.machine.mm.crashed:
            self.do("undo")
        last = self.machine.steps[-1]
        if last is not before and len(self.machine.steps) > 1 and not self.chance.between(0, 5):
            after = self.machine.mm
            self.machine.undo()
            self.machine.redo()
            assert self.machine.mm is after

    def do(self, line: str) -> None:
        """Type *line*; an errno and a refusal are answers, anything else is a fault."""
        self.played.append(line)
        try:
            self.session.run(line)
        except (KernelError, KernelCrash):
            pass
        except MemshellError as error:
            if error.exit_code == 3:
                raise
            self.played[-1] = f"# {line}: {error}"
        if self.session.shell.machine is not None and not self.machine.mm.crashed:
            found = violations(self.machine.mm)
            assert not found, "\n".join(found[:3])

    def replays(self) -> None:
        """Save what was done, play it in another session, and compare the two states."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "saved.mem"
            self.session.run(f"save {path}")
            again = Session()
            again.shell.output.err = StringIO()
            again.run(path.read_text())
        assert again.shell.machine is not None
        assert diff_states(self.machine.mm, again.shell.machine.mm) == []

    def scenario(self) -> str:
        """Return what was typed, to be typed again."""
        return "\n".join(self.played)


class Nobody:
    """Chooses nothing: the lines are given."""

    def pick(self, items: Sequence[Any]) -> Any:
        return items[0]

    def between(self, low: int, high: int) -> int:
        del low
        return high


def fault_of(lines: list[str]) -> str | None:
    """Type *lines* on a machine of their own; return what breaks, without the numbers, or None."""
    user = User.__new__(User)
    user.chance, user.session, user.played = Nobody(), Session(), []
    try:
        for line in lines:
            user.do(line)
            if user.session.shell.machine is None:
                return None
            if user.machine.mm.crashed:
                user.do("undo")
        user.replays()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: " + re.sub(r"0x[0-9a-f]+|\d+", "N", str(error).partition("\n")[0])
    return None


def shorten(lines: list[str]) -> list[str]:
    """Return the fewest of *lines* that break in the same way."""
    lines = [line for line in lines if not line.startswith("#")]
    wanted = fault_of(lines)
    at = len(lines) - 1
    while wanted is not None and at > 0:
        fewer = [*lines[:at], *lines[at + 1 :]]
        if fault_of(fewer) == wanted:
            lines = fewer
        at -= 1
    return lines


def play(seed: int, steps: int) -> User:
    """Let the user of *seed* type *steps* commands, save and replay.  What breaks has the scenario in its note."""
    user: User | None = None
    try:
        user = User(Seeded(seed))
        for _ in range(steps):
            user.step()
        user.replays()
    except BaseException as error:
        error.add_note(f"seed {seed}\n{user.scenario() if user else ''}")
        raise
    return user
