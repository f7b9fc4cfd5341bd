"""Search all short sequences of hotplug operations for one that crashes the kernel or breaks an invariant.

Breadth first, so that the first sequence found for a fault is a shortest one; states that are equal by value
are visited once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from memshell.drivers.base.memory.state import state_store
from memshell.drivers.callers import Request, caller, remover
from memshell.errors import KernelCrash, KernelError
from memshell.mm.invariants import rules
from memshell.mm.pfn import align_up, format_size
from memshell.mm.state import Mm
from memshell.series.processes import process_runs


class Op(NamedTuple):
    """One operation: the lines of a scenario, and what they do. The last line is the one that may fail."""

    lines: tuple[str, ...]
    act: Callable[[Mm], object]


class Finding(NamedTuple):
    """A fault and a shortest way to it."""

    what: str  # "crash: ..." or the name of the rule that does not hold
    text: str
    lines: tuple[str, ...]


@dataclass(slots=True)
class Search:
    """What a search has seen. *capped* says that it stopped at the limit of states, not at the depth."""

    findings: list[Finding] = field(default_factory=list)
    states: int = 0
    operations: int = 0
    depth: int = 0
    capped: bool = False


def explore(start: Mm, *, depth: int = 4, sections: int = 3, limit: int = 20000) -> Search:
    """Try every sequence of up to *depth* operations from *start*, with adds of 1 to *sections* blocks.

    A state in which a rule is broken is gone on from, a crash is not. Returns one finding for each kind of
    fault.
    """
    search = Search()
    known = {what for what, _ in broken(start)}
    seen = {digest(start)}
    frontier: list[tuple[Mm, tuple[str, ...]]] = [(start, ())]
    base = first_address(start)
    while frontier and search.depth < depth:
        search.depth += 1
        following: list[tuple[Mm, tuple[str, ...]]] = []
        for mm, lines in frontier:
            for op in operations(mm, base, sections):
                search.operations += 1
                state, done, faults = attempt(mm, op)
                for what, text in faults:
                    if what not in known:
                        known.add(what)
                        search.findings.append(Finding(what, text, lines + done))
                if any(what.startswith("crash") for what, _ in faults):
                    continue
                key = digest(state)
                if key not in seen:
                    seen.add(key)
                    following.append((state, lines + done))
                if len(seen) >= limit:
                    search.capped = True
                    search.states = len(seen)
                    return search
        frontier = following
    search.states = len(seen)
    return search


def attempt(mm: Mm, op: Op) -> tuple[Mm, tuple[str, ...], list[tuple[str, str]]]:
    """Return the state after *op*, the lines that replay it, and the faults that it shows."""
    work = mm.copy()
    lines = op.lines
    try:
        op.act(work)
    except KernelError as error:
        expected = (f"expect error == {error.errno}",) if error.errno else ()
        lines = (*op.lines[:-1], f"! {op.lines[-1]}", *expected)
    except KernelCrash as crash:
        return (
            work,
            (*op.lines[:-1], f"! {op.lines[-1]}", "expect crashed"),
            [(f"crash: {crash.kind} in {crash.function}", crash.message)],
        )
    work.events = []
    return work, lines, broken(work)


def broken(mm: Mm) -> list[tuple[str, str]]:
    """Return the rules that do not hold, with a sentence each, and what a process that runs now dies of."""
    found = []
    for rule in rules(mm):
        sentence = next(rule(mm), None)
        if sentence is not None:
            found.append((rule.__name__, sentence))
    try:
        process_runs(mm.copy())
    except KernelCrash as crash:
        found.append((f"crash: {crash.kind} in {crash.function}", crash.message))
    return found


def first_address(mm: Mm) -> int:
    """Return where the search plugs: behind all memory, at 4 GiB or above, at a whole GiB."""
    top = max((r.end + 1 for r in mm.resources if r.name.startswith("System RAM")), default=0)
    low, _ = mm.arch.mhp_range()
    return align_up(max(top, 4 << 30, low), max(1 << 30, mm.block_size))


def operations(mm: Mm, base: int, sections: int) -> Iterator[Op]:
    """Yield what can be tried in this state.

    Adds (that fail, too), online, offline, remove whole or in part.
    """
    size = mm.block_size
    first = base // size
    here = [number for number in range(first, first + 2 * sections + 1) if number in mm.blocks]
    if len(here) < sections:
        for count in range(1, sections + 1):
            yield _add(mm, base, count)
            for at in range(2, count + 1):
                yield _failing_add(mm, base, count, at)
    if here and here[-1] < first + sections:
        yield _add(mm, base + sections * size, 2)
    offline = [number for number in here if mm.blocks[number].state == "offline"]
    online = [number for number in here if mm.blocks[number].state == "online"]
    for numbers in _choices(offline):
        yield _states(numbers, "online_movable", f"online {_words(numbers)} movable")
        if _contiguous(numbers):
            yield _remove(mm, numbers)
    for numbers in _choices(online):
        yield _states(numbers[::-1], "offline", f"offline {_words(numbers[::-1])}")


def _choices(numbers: list[int]) -> list[list[int]]:
    """Return all of them, the first, and the last, without doubles."""
    options = [numbers, numbers[:1], numbers[-1:]]
    return [choice for at, choice in enumerate(options) if choice and choice not in options[:at]]


def _contiguous(numbers: list[int]) -> bool:
    return numbers[-1] - numbers[0] == len(numbers) - 1


def _words(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))


def _add(mm: Mm, start: int, blocks: int) -> Op:
    return Op((f"add {start:#x} {format_size(blocks * mm.block_size)}",), lambda work: _plug(work, start, blocks))


def _plug(mm: Mm, start: int, blocks: int) -> None:
    """Do what ``add`` does when nobody is named."""
    caller(mm, mm.arch.hotplug_driver).adds(mm, Request(0, start, blocks * mm.block_size))


def _failing_add(mm: Mm, start: int, blocks: int, at: int) -> Op:
    """An add whose section number *at* finds no memory for its usage map."""
    size = blocks * mm.block_size
    calls = (at - 1) * (mm.block_size >> mm.arch.section_size_bits) + 1

    def act(work: Mm) -> None:
        work.faults["section_usage"] = calls
        try:
            _plug(work, start, blocks)
        finally:
            work.faults.pop("section_usage", None)

    return Op((f"fault section_usage at={calls}", f"add {start:#x} {format_size(size)}"), act)


def _states(numbers: list[int], value: str, line: str) -> Op:
    def act(work: Mm) -> None:
        for number in numbers:
            state_store(work, number, value)

    return Op((line,), act)


def _remove(mm: Mm, numbers: list[int]) -> Op:
    start, size = numbers[0] * mm.block_size, len(numbers) * mm.block_size
    return Op((f"remove {_words(numbers)}",), lambda work: remover(work, start, size).removes(work, start, size))


def digest(mm: Mm) -> int:
    """Return a number that equal states share: everything that a later operation can see."""
    altmaps = tuple((n, repr(block)) for n, block in sorted(mm.blocks.items()))
    free = tuple((key, tuple(sorted(area.runs()))) for key, area in sorted(mm.free.items()))
    maps = tuple(tuple(runs.items()) for runs in (mm.pages, mm.pageblocks, mm.sections, mm.leaves, mm.struct_pages))
    rest = (
        tuple(sorted(mm.zones.items())),
        tuple(sorted(mm.nodes.items())),
        tuple(sorted(mm.tables)),
        tuple(mm.resources),
        mm.failed_dimms,
        tuple(mm.devices.items()),
    )
    counters = tuple(sorted((name, value) for name, value in mm.counters.items() if name != "next_group"))
    return hash((altmaps, free, maps, rest, counters, tuple(sorted(mm.faults.items())), mm.vmemmap_head, mm.crashed))


def scenario(use: str, finding: Finding) -> str:
    """Return a scenario that replays a finding on the machine that *use* starts."""
    text = finding.text if finding.what.startswith("crash") else f"{finding.what}: {finding.text}"
    return "\n".join([f"# why: {text}", use, *finding.lines, *_ending(finding)]) + "\n"


def _ending(finding: Finding) -> list[str]:
    if not finding.what.startswith("crash: "):
        return ["! check"]
    return [] if finding.lines[-1] == "expect crashed" else ["! touch", "expect crashed"]
