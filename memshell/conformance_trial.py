"""One machine that a plugin is tried on: memory blocks behind boot memory, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from memshell.drivers.base.memory.blocks import block_start
from memshell.drivers.base.memory.state import state_store
from memshell.drivers.callers import Request, caller, remover
from memshell.errors import KernelCrash, KernelError, MemshellError
from memshell.machine import boot
from memshell.mm.invariants import violations
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.pfn import align_up, format_size
from memshell.mm.profile import RELEASES
from memshell.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.arch import Arch
    from memshell.mm.state import Mm
    from memshell.policy import Policy

USUAL = "v6.12"  # the release that options are tried on
TRIED = ("v5.10", "v5.15", "v6.1", "v6.6", USUAL, "v6.18", RELEASES[-1])  # the long-term ones, and the newest
LEAKS = ("bug.x86_memmap_leaf_freed_as_page",)  # of the kernel: off, for what a plugin loses is looked for
STATES = ("online_kernel", "online_movable")


class Broken(Exception):
    """What a plugin broke, in words, and the commands that lead there."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where


class Action(NamedTuple):
    """Something that is done to the machine, with the command that does the same in a session."""

    text: str
    run: Callable[[Mm], object]


def described(error: BaseException) -> str:
    """Return an error in words: ours as they are, others with their type."""
    if isinstance(error, MemshellError):
        return error.message
    return f"{type(error).__name__}: {error}".rstrip(": ")


@dataclass(slots=True)
class Trial:
    """A machine that has booted; *plain* when it is one that the random user plays on too."""

    title: str
    mm: Mm
    plain: bool

    @property
    def first(self) -> int:
        """The first of the blocks to play with: behind all that iomem lists."""
        ends = [resource.end + 1 for resource in self.mm.resources]
        end = max(*ends, self.mm.max_pfn * self.mm.arch.page_size)
        return align_up(end, self.mm.block_size) // self.mm.block_size

    def step(self, mm: Mm, action: Action, before: tuple[str, ...] = ()) -> tuple[Mm, bool]:
        """Return the state after *action*, and whether the kernel did it. Raises `Broken`."""
        work, done, dead = mm.copy(), True, False
        where = "; ".join([self.title, *before, action.text])
        try:
            action.run(work)
        except KernelError:
            done = False
        except KernelCrash:
            done, dead = False, True
        except (Exception, SystemExit) as error:
            raise Broken(_blamed(error), where) from error
        if dead:
            return mm, False
        for sentence in violations(work):
            raise Broken(sentence, where)
        for sentence in leaf_faults(work):
            raise Broken(sentence, where)
        for sentence in left_behind(mm, work) if done else ():
            raise Broken(sentence, where)
        return work, done

    def actions(self) -> Iterator[Action]:
        """Yield all that can be done to the two blocks."""
        first = self.first
        for number, count in ((first, 1), (first + 1, 1), (first, 2)):
            yield add(self.mm, number, count)
            yield remove(self.mm, number, count)
        for number in (first, first + 1):
            yield from (change(number, state) for state in (*STATES, "offline"))

    def signature(self, mm: Mm) -> tuple[object, ...]:
        """Return what tells the states of the two blocks apart."""
        blocks = [mm.blocks.get(number) for number in (self.first, self.first + 1)]
        return tuple(None if b is None else (b.state, b.zone, b.altmap is not None, b.nr_vmemmap_pages) for b in blocks)

    def walk(self) -> None:
        """Go through every order of the actions that leads to a state not seen before. Raises `Broken`."""
        actions = list(self.actions())
        todo: list[tuple[Mm, tuple[str, ...]]] = [(self.mm, ())]
        seen = {self.signature(self.mm)}
        for mm, path in todo:
            for action in actions:
                work, done = self.step(mm, action, path)
                if done and self.signature(work) not in seen:
                    seen.add(self.signature(work))
                    todo.append((work, (*path, action.text)))

    def cycle(self) -> None:
        """Add, online, offline and remove a block thrice: only the first may cost pages. Raises `Broken`.

        What a known bug of the kernel forbids is not held against the plugin.
        """
        mm, free, number = self.mm, [], self.first
        steps = (add(mm, number, 1), change(number, "online_movable"), change(number, "offline"), remove(mm, number, 1))
        for _ in range(3):
            for at, action in enumerate(steps):
                mm, done = self.step(mm, action, tuple(step.text for step in steps[:at]))
                if not done:
                    self.refused(mm, steps[: at + 1])
                    return
            free.append(nr_free_pages(mm))
        if free[2] < free[1]:
            where = "; ".join([self.title, "repeat 3", *(step.text for step in steps), "end"])
            raise Broken(f"each time a block is added and removed {free[1] - free[2]} pages are lost", where)

    def refused(self, mm: Mm, steps: tuple[Action, ...]) -> None:
        """Raise `Broken`: with nothing in the way the last of *steps* failed, whether the kernel has bugs or not."""
        try:
            steps[-1].run(mm.copy())
        except MemshellError as error:
            if isinstance(error, KernelError) and self.works_without_bugs(steps):
                return
            verb, path = steps[-1].text.split()[0], "; ".join([self.title, *(step.text for step in steps)])
            raise Broken(f"{verb} fails on an idle machine: {error}", path) from error

    def works_without_bugs(self, steps: tuple[Action, ...]) -> bool:
        """Whether a kernel without known bugs does all of *steps*."""
        mm = self.mm.copy()
        for name in mm.profile.features:
            if name.startswith("bug."):
                mm.profile = mm.profile.with_feature(name, value=False)
        try:
            for step in steps:
                step.run(mm)
        except MemshellError:
            return False
        return True


def add(mm: Mm, number: int, count: int, nid: int = 0) -> Action:
    """Return the action that plugs a DIMM of *count* blocks."""
    start, size = number * mm.block_size, count * mm.block_size
    node = f" node={nid}" if nid else ""
    via = "" if mm.arch.hotplug_driver == "acpi" else " via=acpi"
    request = Request(nid, start, size)
    return Action(f"add {start:#x} {format_size(size)}{node}{via}", lambda mm: caller(mm, "acpi").adds(mm, request))


def remove(mm: Mm, number: int, count: int) -> Action:
    """Return the action that removes *count* blocks."""
    start, size = number * mm.block_size, count * mm.block_size
    blocks = f"{number}-{number + count - 1}" if count > 1 else str(number)
    return Action(f"remove {blocks}", lambda mm: remover(mm, start, size).removes(mm, start, size))


def change(number: int, state: str) -> Action:
    """Return the action that writes *state* to a block."""
    verb, _, kind = state.partition("_")
    return Action(f"{verb} {number} {kind}".rstrip(), lambda mm: state_store(mm, number, state))


def _blamed(error: BaseException) -> str:
    """Name the function of the plugin, or the innermost one, that an exception came from."""
    if isinstance(error, MemshellError):
        return error.message
    trace, name = error.__traceback__, ""
    while trace is not None:
        name, trace = trace.tb_frame.f_code.co_name, trace.tb_next
    return f"{name} raised {described(error)}"


def left_behind(before: Mm, mm: Mm) -> Iterator[str]:
    """Yield the blocks that went and stayed in the direct map."""
    for number in before.blocks.keys() - mm.blocks.keys():
        low = mm.arch.page_offset + number * mm.block_size
        if mm.leaves.intersects(low, low + mm.block_size):
            yield f"memory{number} was removed and is still in the direct map"


def leaf_faults(mm: Mm) -> Iterator[str]:
    """Yield the vmemmap leaves of hot-added memory that hang in no page table.

    `Arch.vmemmap_tables` makes what is above a PMD entry: for a leaf that stands it has nothing left to make.
    A smaller leaf hangs in a "pte" table, where the architecture has page tables at all.
    """
    size = 1 << mm.arch.pmd_shift
    work = mm.copy()
    for start, end, leaf in mm.leaves.items():
        if leaf.owner not in ("buddy", "altmap"):
            continue
        for va in range(start, end, max(leaf.size, size)):
            work.arch.vmemmap_tables(work, va, 0)
            if len(work.tables) != len(mm.tables):
                level, base = next(key for key in work.tables if key not in mm.tables)
                yield f"the vmemmap leaf at {va:#x} hangs in no page table: no {level} table at {base:#x}"
                return
            if leaf.size < size and has_tables(mm) and ("pte", va - va % size) not in mm.tables:
                yield f"the vmemmap leaf of {format_size(leaf.size)} at {va:#x} hangs in no pte table"
                return


def has_tables(mm: Mm) -> bool:
    """Whether the vmemmap of this machine is in page tables: not on a hash MMU."""
    work = mm.copy()
    work.tables.clear()
    work.arch.vmemmap_tables(work, work.arch.vmemmap_address(block_start(work, 0)), 0, early=True)
    return bool(work.tables)


def trials_of(arch: Arch, policies: list[Policy]) -> Iterator[Trial]:
    """Yield machines: the defaults under each release, each choice of an option. Raises `Broken`."""
    plain: list[tuple[dict[str, str], str]] = [({}, release) for release in TRIED]
    other = [
        ({option.name: choice}, USUAL)
        for option in arch.options
        for choice in option.choices
        if choice != option.default
    ]
    for options, release in plain + other:
        kernel = PROFILES[release]
        keys = [f"{key}={value}" for key, value in options.items()]
        for name in LEAKS:
            keys += [f"{name}=off"] if kernel.features[name] else []
            kernel = kernel.with_feature(name, value=False)
        words = " ".join([arch.name, *keys, f"profile={release}"])
        for policy in policies:
            title = f"use {words}; policy {policy.name}"
            try:
                mm = boot(arch, options, kernel, policy).mm
            except Exception as error:
                raise Broken(f"it does not boot: {_blamed(error)}", title) from error
            yield Trial(title, mm, plain=not options and release in {"v6.1", USUAL})
