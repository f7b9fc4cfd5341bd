"""Ways to add memory, each played on the model: whether it fits, what it costs, and what can go again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from memshell.errors import KernelCrash, KernelError, MemshellError
from memshell.experiment.compare import free_bytes, memmap_bytes, wasted_bytes
from memshell.mm.mmzone import ZoneType
from memshell.mm.pfn import align_up, format_size
from memshell.mm.state import Mm

if TYPE_CHECKING:
    from memshell.shell.shell import Player

SEVERAL = 8  # how many DIMMs "several" are


class Add(NamedTuple):
    """One DIMM: bytes, and the word behind `online offline`; "" where the kernel chooses the zone."""

    size: int
    zone: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way: where the memmap goes, in how many DIMMs the memory comes, in which zones they go online.

    *ratio* is auto_movable_ratio where online_policy=auto-movable chooses; *options* are keys of ``use``.
    """

    policy: str
    zone: str  # movable, kernel, mixed (first a kernel part that pays for the rest) or auto
    count: int = 1
    ratio: int | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def zone_name(self) -> str:
        """The zone as the table has it."""
        return f"auto {self.ratio}%" if self.zone == "auto" else self.zone

    @property
    def changes(self) -> tuple[tuple[str, str], ...]:
        """What is different from the machine as it stands: keys of ``use`` with their values."""
        auto = (("online_policy", "auto-movable"), ("auto_movable_ratio", str(self.ratio))) if self.ratio else ()
        return (("policy", self.policy), *auto, *self.options)

    def adds(self, mm: Mm, size: int) -> list[Add]:
        """Return the DIMMs that make *size* bytes, each of whole blocks."""
        if self.zone == "mixed":
            first = min(align_up(_memmap_of(mm, size), mm.block_size), size)
            return [Add(part, zone) for part, zone in ((first, "kernel"), (size - first, "movable")) if part]
        word = "" if self.zone == "auto" else self.zone
        part = max(size // self.count // mm.block_size, 1) * mm.block_size
        parts = [part] * (min(self.count, size // part) - 1)
        return [Add(one, word) for one in (*parts, size - sum(parts))]


def online_line(blocks: range, zone: str) -> str:
    """Return the command that onlines the blocks of one DIMM."""
    return f"online {blocks.start}-{blocks.stop - 1} {zone}".rstrip()


def _memmap_of(mm: Mm, size: int) -> int:
    return (size >> mm.arch.page_shift) * mm.arch.struct_page_size


def ways(mm: Mm, size: int, policies: Sequence[str]) -> list[Way]:
    """Return the ways worth a try for *size* bytes on a machine, under each of *policies*."""
    found = []
    for policy in policies:
        inside = policy != "buddy"
        found += [Way(policy, "movable"), Way(policy, "kernel")]
        if not inside:
            found += [Way(policy, "movable", SEVERAL), Way(policy, "kernel", SEVERAL), Way(policy, "mixed", 2)]
        if mm.features.mhp.memory_groups:
            ratios = dict.fromkeys((mm.params.auto_movable_ratio, ratio_for(mm, size)))
            found += [Way(policy, "auto", SEVERAL, ratio) for ratio in ratios]
    by_hand = (("auto_online", "offline"),) if mm.params.auto_online_blocks != "offline" else ()
    return [replace(way, options=by_hand) for way in found]


def ratio_for(mm: Mm, size: int) -> int:
    """Return the auto_movable_ratio, in whole hundreds of percent, up to which *size* bytes may all be Movable."""
    movable = sum(zone.present for (_, kind), zone in mm.zones.items() if kind is ZoneType.MOVABLE)
    kernel = sum(zone.present for (_, kind), zone in mm.zones.items() if kind < ZoneType.MOVABLE)
    return align_up(-(-(movable + (size >> mm.arch.page_shift)) * 100 // max(kernel, 1)), 100)


@dataclass(slots=True)
class Outcome:
    """What became of a way; sizes are bytes."""

    way: Way
    size: int
    error: MemshellError | None  # of the first command that failed
    memmap: int  # that it needs or took from existing memory
    inside: int  # that lies on the added memory itself
    usable: int  # how much more memory is free
    kernel: int  # free in kernel zones: all that is not movable must find room there
    ratio: int  # of Movable to kernel memory, in percent
    unplugged: int  # what surely goes again: it was offlined and removed, and nothing unmovable can be on it
    lost: int  # what is free neither before nor after: memmap that stays, and padding
    wasted: int
    blocks: tuple[range, ...] = ()  # of each DIMM
    sure: tuple[range, ...] = ()  # of those that surely go again
    largest: int | None = None  # the most that fits this way, in as many DIMMs; None: at least *size*

    @property
    def fits(self) -> str:
        """ok, or the errno."""
        return "ok" if self.error is None else self.error.errno or "crash"


def play(way: Way, size: int, player: Player, *, unplug: bool) -> Outcome:
    """Play a way on the machine of *player*, which goes on after failures; with *unplug* what surely goes is removed again."""
    machine = player.shell.need_machine()
    before = machine.mm
    dimms, error = _added(way, size, player)
    after = machine.mm
    sure = [dimm for dimm in dimms if all(after.blocks[number].zone is ZoneType.MOVABLE for number in dimm)]
    for dimm in reversed(sure if unplug else ()):
        name = f"{dimm.start}-{dimm.stop - 1}"
        player.play_text(f"offline {name}; remove {name}", "plan")
        player.forget_failures()
    end = machine.mm
    left = len(end.blocks.keys() - before.blocks.keys()) * end.block_size
    return Outcome(
        way,
        size,
        error,
        memmap=memmap_bytes(after, "buddy") - memmap_bytes(before, "buddy"),
        inside=memmap_bytes(after, "altmap") - memmap_bytes(before, "altmap"),
        usable=free_bytes(after) - free_bytes(before),
        kernel=_kernel_free(after),
        ratio=_ratio(after),
        unplugged=sum(map(len, dimms)) * end.block_size - left,
        lost=free_bytes(before) + left - free_bytes(end),
        wasted=wasted_bytes(after) - wasted_bytes(before),
        blocks=tuple(dimms),
        sure=tuple(sure),
    )


def _added(way: Way, size: int, player: Player) -> tuple[list[range], MemshellError | None]:
    """Add the memory; return the blocks of each DIMM that came, and the first failure."""
    machine, dimms = player.shell.need_machine(), list[range]()
    for add in way.adds(machine.mm, size):
        known = machine.mm.blocks
        player.play_text(f"add {format_size(add.size)}", "plan")
        new = sorted(machine.mm.blocks.keys() - known.keys())
        if new:
            dimms.append(range(new[0], new[-1] + 1))
        if new and not player.failures:
            player.play_text(online_line(dimms[-1], add.zone), "plan")
        if player.failures:
            return dimms, _kernels(player.failures[0])
    return dimms, None


def _kernels(failure: MemshellError) -> MemshellError:
    """Return the kernel's error behind a failure; raise any other: it is no answer."""
    cause = getattr(failure, "cause", failure)
    if isinstance(cause, (KernelError, KernelCrash)):
        return cause
    raise failure


def _ratio(mm: Mm) -> int:
    present = [0, 0]
    for (_, kind), zone in mm.zones.items():
        present[kind is ZoneType.MOVABLE] += zone.present if kind <= ZoneType.MOVABLE else 0
    return present[1] * 100 // max(present[0], 1)


def _kernel_free(mm: Mm) -> int:
    pages = sum(zone.free for (_, kind), zone in mm.zones.items() if kind < ZoneType.MOVABLE)
    return pages << mm.arch.page_shift


def largest(size: int, block: int, begin: Callable[[], Player]) -> int:
    """Return the most that one DIMM may hold, in whole blocks, where *size* bytes do not fit; *begin* brings a fresh player."""
    low, high = 0, size // block
    while high - low > 1:
        middle = (low + high) // 2
        player = begin()
        player.play_text(f"add {format_size(middle * block)}", "plan")
        low, high = (middle, high) if not player.failures else (low, middle)
    return low * block


def ranked(outcomes: Sequence[Outcome], *, unplug: bool) -> list[Outcome]:
    """Return the outcomes, the recommended one first.

    What fits comes first. What is to be unplugged again is ranked by how much surely goes and how little is lost; then,
    and else at once, by how much is usable, by what is left for the kernel, and by how little has to be done.
    """
    return sorted(outcomes, key=lambda one: _rank(one, unplug=unplug))


def _rank(one: Outcome, *, unplug: bool) -> tuple[int | bool, ...]:
    """Return what sorts *one*: hundredths of what is added, for less than that decides nothing."""
    effort = (len(one.way.changes), one.way.count)
    if one.error is not None:
        return (True, -(one.largest or 0), *effort)
    part = max(one.size // 100, 1)
    gone = (-one.unplugged // part, round(one.lost / part)) if unplug else ()
    kept = -int(math.log2(max(one.kernel, 1)) * 4)  # a fifth more or less
    return (False, *gone, -round(one.usable / part), kept, *effort)


def with_blocks(best: Way, sizes: Sequence[str]) -> Iterator[Way]:
    """Yield the best way with other block sizes."""
    for size in sizes:
        yield replace(best, options=(*best.options, ("block", size)))
