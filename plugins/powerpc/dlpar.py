"""arch/powerpc/platforms/pseries/dlpar.c: what is written to /sys/kernel/dlpar, which is how drmgr asks for LMBs."""

from __future__ import annotations

from argparse import Namespace

from memshell import TEXT, Column, Command, CommandError, Mm, Result, Shell, UsageError, arg, command, format_size

from .drmem import assigned_lmbs, first_base, free_lmbs, lmb_at, lmb_of_index
from .hotplug_memory import (
    DLPAR,
    by_index,
    dlpar_memory_add_by_count,
    dlpar_memory_add_by_ic,
    dlpar_memory_remove_by_count,
    dlpar_memory_remove_by_ic,
)

FORMS = "memory add|remove count N, index DRC_INDEX, or indexed-count N DRC_INDEX"
COLUMNS = (Column("DRC INDEX", key="drc_index"), Column("START"), Column("SIZE"), Column("STATE"))


@command(
    "hotplug",
    arg("words", TEXT, FORMS + "; without them, list the LMBs", nargs="*"),
    examples="""
> use powerpc ram=2G max=4G
powerpc, <...>
> dlpar memory add count 2
2 LMBs of 256M: 0x80000008 0x80000009
> dlpar memory remove index 0x80000008
1 LMB of 256M: 0x80000008
""",
)
def dlpar(shell: Shell, args: Namespace) -> str | Result:
    """Write to /sys/kernel/dlpar, as drmgr does: the partition gets LMBs or gives them back (powerpc).

    By count the kernel takes the lowest that are free, or the lowest that go, and passes over those that fail. What does
    not come or go in the number that was asked for is taken back. ``use powerpc max=`` says how many LMBs the partition
    can have, ``hypervisor=phyp`` that those of boot can go too.

    Errors: EINVAL where there are too few, for an index that no LMB has, and when the count is not reached; by index
    what adding, onlining or offlining that LMB returns.
    """
    mm = shell.need_machine().mm
    if mm.arch.name != "powerpc":
        raise CommandError(f"{mm.arch.name} has no LMBs", hint="use powerpc")
    if not args.words:
        return _listed(mm)
    with shell.change() as work:
        before = work.blocks.copy()
        _write(work, args.words)
        DLPAR.notes(work, before)
        changed = sorted({*before} ^ {*work.blocks})
        names = " ".join(f"{lmb_at(work, number * work.block_size).drc_index:#x}" for number in changed)
        plural = "" if len(changed) == 1 else "s"
        return f"{len(changed)} LMB{plural} of {format_size(work.block_size)}: {names or 'nothing to do'}"


def _write(mm: Mm, words: list[str]) -> None:
    """dlpar_store(): resource, action and which LMBs."""
    match words:
        case ["memory", "add" | "remove" as action, "count", count]:
            number = _number(count)
            if action == "add":
                dlpar_memory_add_by_count(mm, 0, number)
            else:
                dlpar_memory_remove_by_count(mm, number)
        case ["memory", "add" | "remove" as action, "index", index]:
            by_index(mm, _number(index), add=action == "add")
        case ["memory", "add" | "remove" as action, "indexed-count", count, index]:
            start, size = lmb_of_index(mm, _number(index)).base, _number(count) * mm.block_size
            if action == "add":
                dlpar_memory_add_by_ic(mm, 0, start, size)
            else:
                dlpar_memory_remove_by_ic(mm, start, size)
        case _:
            raise UsageError(f"dlpar: {' '.join(words)!r} is nothing that the file takes", hint=FORMS)


def _number(word: str) -> int:
    try:
        return int(word, 0)
    except ValueError as error:
        raise UsageError(f"dlpar: {word!r} is no number", hint="such as 4, or 0x80000008") from error


def _listed(mm: Mm) -> Result:
    size, first = mm.block_size, first_base(mm)
    boot = [lmb_at(mm, number * size) for number, block in sorted(mm.blocks.items()) if block.early]
    free = free_lmbs(mm, 1)
    more = [lmb for lmb in assigned_lmbs(mm) if lmb.base >= first]
    rows = [
        {
            "drc_index": f"{lmb.drc_index:#x}",
            "start": f"{lmb.base:#x}",
            "size": format_size(size),
            "state": "reserved" if lmb.reserved else mm.blocks[lmb.base // size].state if lmb.assigned else "free",
        }
        for lmb in sorted({*boot, *more, *free})
    ]
    return Result(rows=rows, columns=COLUMNS)


COMMANDS: tuple[Command, ...] = (dlpar,)
