"""The what-if commands: ``fault``, ``check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import CommandError, InvariantError
from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import COUNT, named

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.shell import Shell

FAULTS = {
    "sparse_index_init": "no memory for a page of section roots: ENOMEM",
    "section_usage": "no memory for a section's usage map: ENOMEM",
    "memmap_page": "the buddy has no block for a piece of the memmap: a smaller one is tried, or ENOMEM",
    "vmemmap_table": "no page for a page table of the vmemmap: ENOMEM",
    "direct_map_table": "no page for a page table of the direct map: ENOMEM, EFAULT on powerpc, a crash on x86_64",
    "add_memory_block": "no memory for a block device: ENOMEM",
    "device_register": "a block device cannot be registered: ENOMEM",
    "MEM_GOING_ONLINE": "a notifier refuses an online: EPERM",
    "MEM_GOING_OFFLINE": "a notifier refuses an offline: EPERM",
    "sclp_assign": "s390: the hypervisor assigns no storage increment: EIO, EPERM where an online asks for it",
}


def faults_of(shell: Shell) -> dict[str, str]:
    """Return the fault points: the model's, those of the machine's architecture and of plugins."""
    own = dict(shell.machine.mm.arch.faults) if shell.machine is not None else {}
    return {**FAULTS, **own}


@command(
    "what if",
    arg("name", named("fault", faults_of), "what fails; without it, list the faults", nargs="?"),
    arg("at=", COUNT, "the first N-1 calls pass", default=1),
    arg("--off", None, "take the fault back"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 256M
256M at <...>
memmap <...>
> fault MEM_GOING_ONLINE at=2
MEM_GOING_ONLINE will fail at call 2
> ! online all
failed as it should: memory33: a notifier refused MEM_GOING_ONLINE; 1 of 2 blocks are online (EPERM <...>); memory32 went online
> expect error == EPERM
> expect blocks.offline == 1
""",
)
def fault(shell: Shell, args: Namespace) -> Result | str:
    """Let a call of the kernel fail, once, to see what its error path leaves behind."""
    if args.name is None:
        armed = shell.need_machine().mm.faults
        rows = [{"fault": name, "at": armed.get(name), "text": text} for name, text in faults_of(shell).items()]
        return Result(rows=rows, columns=(Column("FAULT"), Column("AT", right=True), Column("TEXT")))
    with shell.change() as mm:
        if args.off:
            mm.faults.pop(args.name, None)
            return f"{args.name} is off"
        mm.faults[args.name] = args.at
        return f"{args.name} will fail at call {args.at}"


@command(
    "what if",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> check
the state holds together: <...>
""",
)
def check(shell: Shell, _args: Namespace) -> str:
    """Check that the state holds together: owners, sums, free lists, memmaps, altmaps, spans, mappings.

    The plugins' own checks run too. What a modelled bug of a released kernel has done is named with its switch, and is
    no failure. In the profiles with known faults (rfc-*, patch-*) a rule that is broken is the kernel's doing.
    Elsewhere it is a defect of the model (or of a plugin): exit code 3.
    """
    from memshell.mm.invariants import excused, rules, violations

    mm = shell.need_machine().mm
    found = [*violations(mm), *shell.plugins.check(mm)]
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        if mm.seam.marks_memmap:  # a kernel with faults
            raise CommandError(f"the modelled kernel has broken its state: {'; '.join(found[:3])}{more}")
        raise InvariantError("; ".join(found[:3]) + more)
    counts = f"{len(rules(mm))} rules, {len(mm.pages)} runs of pages, {len(mm.blocks)} blocks"
    known = "".join(f"\nas the kernel's bug leaves it: {text}" for text in excused(mm))
    return f"the state holds together: {counts}{known}"
