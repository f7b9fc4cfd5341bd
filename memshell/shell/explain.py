"""``--explain``: the kernel's call chain that a command ran through, with the arithmetic of each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memshell.errors import KernelCrash, KernelError
from memshell.result import Result

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.machine import Machine
    from memshell.mm.events import Call, Trace
    from memshell.shell.registry import Command
    from memshell.shell.shell import Shell

_MOST = 200  # lines; a command on thousands of blocks repeats the same calls


def explained(item: Command, args: Namespace, shell: Shell) -> Result:
    """Run a command with its calls recorded; the result is its own text and the call tree under it."""
    machine = shell.machine
    if machine is None:
        return as_result(item.function(shell, args))
    machine.tracing, machine.last_trace = True, None
    try:
        result = as_result(item.function(shell, args))
    except (KernelError, KernelCrash):
        if machine.last_trace is not None:
            shell.write(tree_text(machine.last_trace))
        raise
    finally:
        machine.tracing = False
    if machine.last_trace is None:
        return Result(text=f"{item.name} reads the state and calls nothing in the kernel\n")
    if args.form == "json":
        return Result(data=[_record(call) for call in machine.last_trace.calls])
    return Result(text=(result.text or "").rstrip() + "\n" + (tree_text(machine.last_trace) or _events_text(machine)))


def _events_text(machine: Machine) -> str:
    """Return what a step without recorded calls did: its events, each with the kernel function that has this effect."""
    lines = [f"{event.function}: {event.text}\n" for event in machine.step.events]
    return "".join(lines) or "a setting was changed, no kernel function ran\n"


def as_result(found: Result | str | None) -> Result:
    """Return what a command gave as a Result."""
    return found if isinstance(found, Result) else Result(text=found)


def _record(call: Call) -> dict[str, object]:
    arguments = [str(argument) for argument in call.args]
    return {"depth": call.depth, "name": call.name, "where": call.where, "args": arguments, "ret": call.ret}


@dataclass(slots=True)
class _Branch:
    """A call, the notes that it left, and what it called."""

    call: Call
    notes: list[str]
    children: list[_Branch] = field(default_factory=list)
    shape: int = 0  # equal for subtrees that differ in numbers only


def tree_text(trace: Trace) -> str:
    """Return the call tree, one call a line, with the notes under the calls that left them."""
    lines = [f"    | {text}" for index, text in trace.notes if index < 0]
    lines += _lines(_grown(trace), "")
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"... {len(lines) - _MOST} more lines; -F json has every call"]
    return "".join(line + "\n" for line in lines)


def _grown(trace: Trace) -> list[_Branch]:
    """Return the trees that the recorded calls make."""
    roots: list[_Branch] = []
    path: list[_Branch] = []
    branches = [_Branch(call, []) for call in trace.calls]
    for index, text in trace.notes:
        if index >= 0:
            branches[index].notes.append(text)
    for branch in branches:
        del path[branch.call.depth :]
        (path[-1].children if path else roots).append(branch)
        path.append(branch)
    known: dict[tuple[object, ...], int] = {}
    for branch in reversed(branches):
        shape = (branch.call.name, branch.call.ret, *(child.shape for child in branch.children))
        branch.shape = known.setdefault(shape, len(known))
    return roots


def _lines(branches: list[_Branch], indent: str) -> list[str]:
    """Return the lines of siblings; a run of siblings that repeats is shown once, with how often it came."""
    lines, at = [], 0
    while at < len(branches):
        period, times = _repetition(branches, at)
        for branch in branches[at : at + period]:
            lines += _head(branch, indent, f"  x {times}" if times > 1 else "")
            lines += _lines(branch.children, indent + "  ")
        at += period * times
    return lines


def _repetition(branches: list[_Branch], at: int) -> tuple[int, int]:
    """Return (how many siblings from *at* on repeat, how often): (1, 1) when none do."""
    shapes = [branch.shape for branch in branches[at:]]
    for period in range(1, 5):
        first, times = shapes[:period], 1
        while shapes[times * period : (times + 1) * period] == first:
            times += 1
        if times > 1:
            return period, times
    return 1, 1


def _head(branch: _Branch, indent: str, times: str) -> list[str]:
    from memshell.mm import LEDGER

    call = branch.call
    outcome = f" = -{call.ret}" if call.ret else ""
    if call.ret == KernelCrash.__name__:
        outcome = " never returns"
    mark = LEDGER.get(call.where)
    word = f", {mark.word}" if mark is not None and mark.word != "complete" else ""
    place = call.where.rpartition(":")[0] + word
    head = f"{indent}{call.name}({_arguments(call)}){outcome}{times}"
    return [f"{head}  [{place}]" if place else head, *(f"{indent}    | {text}" for text in branch.notes)]


def _arguments(call: Call) -> str:
    """Return the arguments that say something in one line: numbers, names; not whole records."""
    shown = []
    for argument in call.args:
        if isinstance(argument, bool) or argument is None or isinstance(argument, str):
            shown.append(str(argument))
        elif isinstance(argument, int):
            shown.append(str(argument) if argument < 1 << 16 else hex(argument))
        else:
            shown.append("...")
    return ", ".join(shown)
