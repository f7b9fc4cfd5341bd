"""The commands that keep several states apart: ``branch``, ``switch``, and ``diff`` between them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.machine import Machine
    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


def _names(shell: Shell) -> list[str]:
    return sorted([shell.branch, *shell.branches])


def _branches(shell: Shell, _prefix: str) -> Suggestions:
    yield from ((name, "a branch") for name in _names(shell))


def _name(word: str, _shell: Shell) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", word):
        raise UsageError(f"{word!r} is no name of a branch", hint="a letter, then letters, digits, dots and dashes")
    return word


NAME = ArgType("NAME", _name, _branches)


@command(
    "session",
    arg("name", NAME, "the new branch; without it, list them", nargs="?"),
    arg("--off", None, "forget the branch"),
    settings=True,
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> branch before
branch before is at step 0; this is main
> add 1G
1G at <...>
<...>
> diff before main -o WHAT,AFTER
WHAT <...>
<...>
> switch before
branch before, step 0: use x86_64 ram=2G
""",
)
def branch(shell: Shell, args: Namespace) -> str | Result:
    """Give the present state a name, from which it can go another way.

    A branch has its own history, undo and redo. The session goes on where it is, at first on `main`; ``switch NAME`` goes
    to a branch, ``diff NAME NAME`` compares two.
    """
    machine = shell.need_machine()
    if args.name is None:
        return _list(shell, machine)
    if args.off:
        _known(shell, args.name)
        if args.name == shell.branch:
            raise CommandError(f"the session is on branch {args.name}", hint="switch to another one first")
        del shell.branches[args.name]
        return f"branch {args.name} is forgotten"
    if args.name in _names(shell):
        raise CommandError(f"there is a branch {args.name}", hint=f"switch {args.name}, or branch {args.name} --off")
    shell.branches[args.name] = machine.branch()
    return f"branch {args.name} is at step {machine.step.n}; this is {shell.branch}"


def _list(shell: Shell, machine: Machine) -> Result:
    from memshell.commands.machine import describe

    machines = {**shell.branches, shell.branch: machine}
    rows = [
        {
            "name": name,
            "now": name == shell.branch,
            "step": machines[name].step.n,
            "command": machines[name].step.command,
            "machine": describe(machines[name].mm),
        }
        for name in _names(shell)
    ]
    columns = (Column("NAME"), Column("NOW"), Column("STEP", right=True), Column("COMMAND"), Column("MACHINE", drop=1))
    return Result(rows=rows, columns=columns)


def _known(shell: Shell, name: str) -> str:
    if name not in _names(shell):
        known = f"there are {', '.join(_names(shell))}; branch {name} makes one"
        raise UsageError(f"there is no branch {name}", hint=did_you_mean(name, _names(shell)) or known)
    return name


@command(
    "session",
    arg("name", NAME, "the branch"),
    settings=True,
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> branch other
branch other is at step 0; this is main
> switch other
branch other, step 0: use x86_64 ram=2G
> switch main
branch main, step 0: use x86_64 ram=2G
""",
)
def switch(shell: Shell, args: Namespace) -> str:
    """Go to a branch: to its machine, with its history."""
    machine, name = shell.need_machine(), _known(shell, args.name)
    if name != shell.branch:
        shell.branches[shell.branch] = machine.branch()
        shell.machine, shell.branch = shell.branches.pop(name), name
    step = shell.need_machine().step
    return f"branch {name}, step {step.n}: {step.command}"


# --- what differs ---


class State(NamedTuple):
    """A state that was named: by a step of this branch, or by a branch."""

    mm: Mm
    step: int


def _state(word: str, shell: Shell) -> State:
    machine = shell.need_machine()
    if word in shell.branches:
        return State(shell.branches[word].mm, shell.branches[word].step.n)
    if word == shell.branch:
        return State(machine.mm, machine.step.n)
    try:
        number = int(word, 0)
    except ValueError as error:
        _known(shell, word)
        raise AssertionError(word) from error
    if not 0 <= number < len(machine.steps):
        raise CommandError(f"there is no step {number}", hint=f"steps are 0 to {len(machine.steps) - 1}")
    return State(machine.steps[number].mm, number)


STATE = ArgType("STEP|NAME", _state, _branches)


@command(
    "session",
    arg("first", STATE, "a step, 0 is the machine as it booted; or a branch", nargs="?"),
    arg("second", STATE, "another one; the present state if it is left out", nargs="?"),
    arg("--all", None, "each change in a row of its own"),
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 128M
128M at <...>
<...>
> online last movable
memory32 online in Movable<...>
> diff
WHAT                           BEFORE      AFTER
zone.0.Movable.start_pfn            0    1048576
zone.0.Movable.spanned              0      32768
zone.0.Movable.present              0      32768
zone.0.Movable.managed              0      32768
zone.0.Movable.free                 0      32768
zone.0.Movable.initialized         no        yes
zone.0.Movable.pageset             no        yes
node.0.spanned                 524255    1081343
node.0.present                 524158     556926
memory.32.state               offline     online
memory.32.zone                           Movable
MemTotal                   1951108 kB 2082180 kB
""",
)
def diff(shell: Shell, args: Namespace) -> Result:
    """Show what differs between two steps or branches; without any, what the last step changed.

    Blocks and page tables that changed alike are one row, unless with --all; JSON has each of them.
    """
    from memshell.machine import diff_states
    from memshell.views.changes import Row, fold, plain

    machine = shell.need_machine()
    steps = machine.steps
    first = args.first.mm if args.first is not None else steps[max(machine.step.n - 1, 0)].mm
    second = args.second.mm if args.second is not None else machine.mm
    changes = diff_states(first, second)
    every = [Row(item.path, plain(item.before), plain(item.after)) for item in changes]
    rows = [row._asdict() for row in (every if args.all else fold(changes))]
    columns = (
        Column("WHAT"),
        Column("BEFORE", right=True),
        Column("AFTER", right=True),
        Column("COUNT", right=True, default=False, key="nr"),
    )
    data = [{"what": item.path, "before": plain(item.before), "after": plain(item.after)} for item in changes]
    return Result(rows=rows, columns=columns, data=data, footer="" if rows else "nothing differs")
