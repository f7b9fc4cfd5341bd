"""One machine that a plugin is tried on: memory blocks behind boot memory, and what is done to them."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from memshell.conformance_reference import map_faults
from memshell.drivers.base.memory.state import state_store
from memshell.drivers.callers import Request, caller, remover
from memshell.errors import KernelCrash, KernelError, MemshellError, PluginError, UsageError
from memshell.machine import boot, diff_states
from memshell.mm.invariants import violations
from memshell.mm.memory_hotplug.memmap_on_memory import mhp_supports_memmap_on_memory
from memshell.mm.page_alloc.allocation import nr_free_pages
from memshell.mm.pfn import align_up, format_size
from memshell.mm.profile import RELEASES
from memshell.policy import configured, since_of
from memshell.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.arch import Arch, BootMemory
    from memshell.mm.state import Mm
    from memshell.policy import Policy

USUAL = "v6.12"  # the release that options are tried on
TRIED = ("v5.10", "v5.15", "v6.1", "v6.6", USUAL, "v6.18", RELEASES[-1])  # the long-term ones, and the newest
IDLE = "changes nothing"  # what an architecture says that refuses an option without effect
LEAKS = ("bug.x86_memmap_leaf_freed_as_page",)  # of the kernel: off, for what a plugin loses is looked for
KEPT = ("bug.memmap_off_node",)  # without it the first memory of a node has no memmap
STATES = ("online_kernel", "online_movable")


class Broken(Exception):
    """What a plugin broke, in words, and the commands that lead there."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where


class Action(NamedTuple):
    """Something that is done to the machine, with the command that does the same in a session, and the blocks it is about."""

    text: str
    run: Callable[[Mm], object]
    numbers: range = range(0)


def described(error: BaseException) -> str:
    """Return an error in words: ours as they are, others with their type."""
    if isinstance(error, MemshellError):
        return error.message
    return f"{type(error).__name__}: {error}".rstrip(": ")


@dataclass(slots=True)
class Trial:
    """A machine that has booted with *memory*; *plain* when it is one that the random user plays on too."""

    title: str
    mm: Mm
    memory: BootMemory
    plain: bool
    mended: bool = False  # a kernel without its known bugs: what is added must go without a trace

    @property
    def first(self) -> int:
        """The first of the blocks to play with: behind all that iomem lists."""
        ends = [resource.end + 1 for resource in self.mm.resources]
        end = max([*ends, self.mm.max_pfn * self.mm.arch.page_size])
        return align_up(end, self.mm.block_size) // self.mm.block_size

    def step(self, mm: Mm, action: Action, before: tuple[str, ...] = ()) -> tuple[Mm, bool]:
        """Return the state after *action*, and whether the kernel did it. Raises `Broken`."""
        work, done, dead = mm.copy(), True, False
        where = "; ".join([self.title, *before, action.text])
        try:
            action.run(work)
        except KernelError as error:
            done = False
            for sentence in errno_faults(action, error):
                raise Broken(sentence, where) from error
        except KernelCrash:
            done, dead = False, True
        except (Exception, SystemExit) as error:
            raise Broken(_blamed(error), where) from error
        if dead:
            return mm, False
        judges = (
            left_behind(mm, work) if done else (),
            violations(work),
            map_faults(work, idle=not done),
            told(mm, work, action, done),
        )
        for sentence in chain.from_iterable(judges):
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

    def refuse(self, mm: Mm, action: Action, path: tuple[str, ...]) -> None:
        """Raise `Broken`: with nothing in the way *action* failed."""
        verb, where = action.text.split()[0], "; ".join([self.title, *path])
        try:
            action.run(mm.copy())
        except MemshellError as error:
            raise Broken(f"{verb} fails on an idle machine: {error}", where) from error

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
    text = f"add {start:#x} {format_size(size)}{node}{via}"
    return Action(text, lambda mm: caller(mm, "acpi").adds(mm, request), range(number, number + count))


def remove(mm: Mm, number: int, count: int) -> Action:
    """Return the action that removes *count* blocks."""
    start, size, numbers = number * mm.block_size, count * mm.block_size, range(number, number + count)
    blocks = f"{number}-{number + count - 1}" if count > 1 else str(number)
    return Action(f"remove {blocks}", lambda mm: remover(mm, start, size).removes(mm, start, size), numbers)


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


# What the kernel's functions return, by what a user types. A notifier's veto is EPERM (notifier_to_errno); powerpc makes EFAULT
# of a mapping that cannot be made (arch/powerpc/mm/mem.c), s390 ERANGE of one that is too high (arch/s390/mm/vmem.c).
ERRNOS = {
    "add": ("ENOMEM", "EEXIST", "EINVAL", "E2BIG", "EFAULT", "ERANGE", "EBUSY", "EIO"),
    "remove": ("EBUSY", "EINVAL", "ENOMEM", "EIO"),
    "online": (
        "EINVAL",
        "EBUSY",
        "ENOMEM",
        "EPERM",
        "EIO",
        "EAGAIN",
        "EEXIST",
        "ENOENT",
    ),  # ENOENT: no such file in sysfs
    "offline": ("EINVAL", "EBUSY", "ENOMEM", "EPERM", "EIO", "EAGAIN", "EINTR", "ENOENT"),
    "alloc": ("ENOMEM",),
}


def errno_faults(action: Action, error: KernelError) -> Iterator[str]:
    """Yield what is wrong with the errno of an action that failed."""
    verb = action.text.split()[0]
    name: object = error.errno
    if not isinstance(name, str):
        yield f"{verb} failed with the errno {name!r}: KernelError takes its name, such as 'ENOMEM'"
    elif name not in errno.errorcode.values():
        yield f"{verb} failed with {name!r}, which is no errno of the kernel"
    elif name not in ERRNOS.get(verb, (name,)):
        yield f"{verb} failed with {name}, which the kernel's function never returns: it has {', '.join(ERRNOS[verb])}"


def told(before: Mm, mm: Mm, action: Action, done: bool) -> Iterator[str]:
    """Yield what the kernel that is modelled warns of, though nothing failed; and new blocks of another node than asked."""
    verb = action.text.split()[0]
    for event in mm.events if done else ():
        alloc = event.data.get("alloc")
        if event.kind == "Warning" and alloc is not None:
            what = f"{abs(alloc)} pages {'fewer' if alloc > 0 else 'more'}"
            yield f"vmemmap_free() gave {what} back to the altmap than vmemmap_populate() took ({event.text})"
        elif event.kind == "Warning" and (
            verb != "remove" or all(number in before.blocks for number in action.numbers)
        ):
            yield f"the kernel warns: {event.text}"
    yield from _new_tables(before, mm)
    nid = re.search(r" node=(\d+)", action.text)
    # A DIMM whose add failed before is tried again with this one: its blocks are not what was asked for now.
    new = [number for number in action.numbers if number in mm.blocks and number not in before.blocks]
    for number in new if verb == "add" else ():
        if mm.blocks[number].nid != int(nid[1] if nid else 0):
            yield f"memory{number} came to node {mm.blocks[number].nid}"
        if mm.max_pfn < (number + 1) * mm.block_pages:
            yield f"max_pfn is {mm.max_pfn:#x} after memory{number} was added: arch_add_memory() has to raise it"
        yield from _own_memmap(before, mm, number, range(new[0], new[-1] + 1))


def _new_tables(before: Mm, mm: Mm) -> Iterator[str]:
    """Yield page tables that came without a page: those of boot, but for the top level, are there before anything is added."""
    levels = mm.arch.table_levels()
    for level, address in mm.tables.keys_of_unshared(before.tables):
        early = mm.tables[level, address].owner == "early" and (level, address) not in before.tables
        if early and levels and level != levels[-1].name:
            yield f"the {level} table at {address:#x} came without a page: early=True is for what boot maps"


def _own_memmap(before: Mm, mm: Mm, number: int, added: range) -> Iterator[str]:
    """Yield when one of the *added* blocks could hold its memmap and has it elsewhere, in leaves of its own."""
    block = mm.blocks[number]
    start, size = added[0] * mm.block_size, len(added) * mm.block_size
    low, high = (mm.arch.vmemmap_address(pfn) for pfn in (number * mm.block_pages, (number + 1) * mm.block_pages))
    new = [leaf for _, _, leaf in mm.leaves.items(low, high)]
    inside = all(leaf.owner == "buddy" and not low % leaf.size and not high % leaf.size for leaf in new)
    if block.altmap is not None or not inside or before.leaves.intersects(low, high):
        return
    try:
        kept = mhp_supports_memmap_on_memory(before.copy(), block.nid, start, size).reserve_pages
    except PluginError:
        return  # it is the policy that is wrong: whoever asks it says so
    if kept:
        yield f"memory{number} should hold its memmap: vmemmap_populate() took no page from the altmap that it got"


def trials_of(arch: Arch, policies: list[Policy]) -> Iterator[Trial]:
    """Yield machines: the defaults under each release, each choice of an option, each without known bugs. Raises `Broken`."""
    newest = [release for release in TRIED if PROFILES[release].has(arch.since)]
    usual = USUAL if USUAL in newest else newest[0]
    other = [{option.name: choice} for option in arch.options for choice in option.choices if choice != option.default]
    for policy in policies:
        for options, release in [({}, release) for release in newest] + [(options, usual) for options in other]:
            if PROFILES[release].has(since_of(policy)):
                yield from _trial(arch, options, release, policy)
    for policy in policies:
        for options in ({}, *other) if PROFILES[usual].has(since_of(policy)) else ():
            yield from _trial(arch, options, usual, policy, mended=True)


def _trial(
    arch: Arch, options: dict[str, str], release: str, policy: Policy, *, mended: bool = False
) -> Iterator[Trial]:
    """Yield a machine that has booted; one that is *mended* has two nodes, where that can be. Raises `Broken`.

    There is none for an option that the architecture refuses because it changes nothing.
    """
    kernel, extra = PROFILES[release], ""
    keys = dict(options)
    if mended:
        nodes = next((option for option in arch.options if option.name == "nodes"), None)
        keys |= {"nodes": "2"} if nodes is not None and len(arch.possible_nodes) > 1 else {}
        extra = "; set bug.* off; set bug.memmap_off_node on"
    off = [name for name in kernel.features if name.startswith("bug.") and name not in KEPT] if mended else LEAKS
    for name in off:
        kernel = kernel.with_feature(name, value=False)
    words = [f"{key}={value}" for key, value in keys.items()]
    words += [f"{name}=off" for name in LEAKS if not mended and PROFILES[release].features[name]]
    title = f"use {' '.join([arch.name, *words, f'profile={release}'])}{extra}; policy {policy.name}"
    try:
        mm = boot(arch, keys, kernel, configured(policy, {})).mm
        again = boot(arch, keys, kernel, configured(policy, {})).mm if mended else mm
        values = {option.name: option.default for option in arch.options} | keys
        memory = mm.arch.boot_memory(values, kernel)
    except Exception as error:
        if options and isinstance(error, UsageError) and IDLE in error.message:
            return
        raise Broken(f"it does not boot: {_blamed(error)}", title) from error
    for what in diff_states(mm, again):
        raise Broken(f"it boots differently the second time: {what.path} is {what.after}, was {what.before}", title)
    plain = not mended and not options and release in {"v6.1", USUAL}
    yield Trial(title, mm, memory, plain, mended)
