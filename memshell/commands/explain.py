"""``--explain``: the kernel's call chain that a command ran through, with the arithmetic of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import KernelError
from memshell.report import Result

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from memshell.commands.registry import Command
    from memshell.commands.shell import Shell
    from memshell.mm.events import Call, Trace

_MOST = 200  # lines; a command on thousands of blocks repeats the same calls


def explained(item: Command, args: Namespace, shell: Shell) -> Result:
    """Run a command with its calls recorded; the result is its own text and the call tree under it."""
    machine = shell.machine
    if machine is None:
        return as_result(item.function(shell, args))
    machine.tracing, machine.last_trace = True, None
    try:
        result = as_result(item.function(shell, args))
    except KernelError:
        if machine.last_trace is not None:
            shell.write(tree_text(machine.last_trace))
        raise
    finally:
        machine.tracing = False
    if machine.last_trace is None:
        return Result(text=f"{item.name} reads the state and calls nothing in the kernel\n")
    data = [_record(call) for call in machine.last_trace.calls]
    return Result(text=(result.text or "").rstrip() + "\n" + tree_text(machine.last_trace), data=data)


def as_result(found: Result | str | None) -> Result:
    """Return what a command gave as a Result."""
    return found if isinstance(found, Result) else Result(text=found)


def _record(call: Call) -> dict[str, object]:
    arguments = [str(argument) for argument in call.args]
    return {"depth": call.depth, "name": call.name, "where": call.where, "args": arguments, "ret": call.ret}


def tree_text(trace: Trace) -> str:
    """Return the call tree, one call a line, with the notes under the calls that left them."""
    notes: dict[int, list[str]] = {}
    for index, text in trace.notes:
        notes.setdefault(index, []).append(text)
    lines = [f"    {text}" for text in notes.get(-1, [])]
    lines += [line for found in _grouped(trace.calls, notes) for line in found]
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"... {len(lines) - _MOST} more lines; -F json has every call"]
    return "".join(line + "\n" for line in lines)


def _grouped(calls: list[Call], notes: dict[int, list[str]]) -> Iterator[list[str]]:
    """Yield the lines of each call; equal calls in a row, with all they call, become one with a count."""
    at = 0
    while at < len(calls):
        end = _end(calls, at)
        times, after = 1, end
        shape = _shape(calls, notes, at, end)
        while after < len(calls) and _shape(calls, notes, after, _end(calls, after)) == shape:
            times, after = times + 1, _end(calls, after)
        if times > 1:
            yield [*_lines(calls[at], notes.get(at, []), f"  x {times}")]
            yield from _grouped_inside(calls, notes, at + 1, end)
            at = after
        else:
            yield _lines(calls[at], notes.get(at, []), "")
            at += 1


def _grouped_inside(
    calls: list[Call], notes: dict[int, list[str]], start: int, end: int
) -> Iterator[list[str]]:
    inside = {index - start: texts for index, texts in notes.items() if start <= index < end}
    yield from _grouped(calls[start:end], inside)


def _end(calls: list[Call], at: int) -> int:
    """Return the index behind everything that call *at* called."""
    end = at + 1
    while end < len(calls) and calls[end].depth > calls[at].depth:
        end += 1
    return end


def _shape(calls: list[Call], notes: dict[int, list[str]], at: int, end: int) -> tuple[object, ...]:
    """Return what makes two subtrees equal for a reader: the calls, their outcomes, and the notes."""
    if end == at:
        return (at,)
    return tuple(
        (calls[i].depth, calls[i].name, calls[i].ret, tuple(notes.get(i, ()))) for i in range(at, end)
    )


def _lines(call: Call, notes: list[str], times: str) -> list[str]:
    indent = "  " * call.depth
    outcome = f" = -{call.ret}" if call.ret else ""
    place = call.where.rpartition(":")[0]
    head = f"{indent}{call.name}({_arguments(call)}){outcome}{times}"
    return [f"{head}  [{place}]" if place else head, *(f"{indent}    | {text}" for text in notes)]


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
