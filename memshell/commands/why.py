"""The command ``why``: what is in a memory block, and what keeps it from going offline or online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, KernelCrash, KernelError, UsageError
from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import ONLINE_BLOCKS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell
    from memshell.views.obstacles import Held


@command(
    "look",
    arg("block", ONLINE_BLOCKS, "a block", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 256M
256M at <...>
memmap <...>
> online 32-33 kernel
memory32-33 online in Normal: 256M
> alloc 24M unmovable
alloc 1: <...>
> alloc 8M
alloc 2: <...>
> why 32
memory32 is online in Normal: it cannot go offline
KIND      WHOSE          FIRST PAGES SIZE RUNS STAYS
unmovable alloc 1     0x100000  <...>
<...>
offline 32: EBUSY, pfn 0x100000 is unmovable (kernel); `free 1` frees it
""",
)
def why(shell: Shell, args: Namespace) -> Result:
    """Explain a memory block: what its pages are and whose, which keep it from going offline, and what would free it.

    The offline (or online) is tried on a copy of the state, and so is what would help: nothing of it stays. STAYS are
    pages that keep the block: unmovable and reserved ones, page tables, the memmap of other memory, and pinned pages.
    Movable pages are migrated away, free ones taken; the block's own memmap goes with it.
    """
    if not args.block:
        raise CommandError("no block is so: there is nothing to explain")
    if len(args.block) > 1:
        raise UsageError("why explains one block", hint=f"why {args.block[0]}")
    mm, number = shell.need_machine().mm, args.block[0]
    pages = _pages(mm, number)
    verb = "offline" if mm.blocks[number].state == "online" else "online"
    error = attempt(mm, number, verb)
    rows = [_row(mm, one) for one in pages]
    return Result(
        text=None if rows else _title(mm, number, verb, error),
        rows=rows,
        columns=COLUMNS,
        data={"block": number, "outcome": error.errno or "crashed" if error else "ok", "pages": rows},
        header=_title(mm, number, verb, error),
        footer=_end(shell, mm, number, verb, error),
    )


COLUMNS = (
    Column("KIND"),
    Column("WHOSE"),
    Column("FIRST", right=True),
    Column("PAGES", right=True),
    Column("SIZE", right=True),
    Column("RUNS", right=True, drop=1),
    Column("STAYS"),
)


def _pages(mm: Mm, number: int) -> Sequence[Held]:
    from memshell.views.obstacles import held

    return held(mm, number)


def _row(mm: Mm, one: Held) -> dict[str, Any]:
    from memshell.views.lsmem import human

    size = human(one.pages << mm.arch.page_shift)
    return {**one._asdict(), "first": f"{one.first:#x}", "size": size}


def attempt(mm: Mm, number: int, verb: str) -> KernelError | KernelCrash | None:
    """Return what writing *verb* to the block's state gives on a copy of the state; None where it ends well."""
    from memshell.drivers.base.memory.state import state_store

    try:
        state_store(mm.copy(), number, verb)
    except (KernelError, KernelCrash) as error:
        return error
    return None


def _title(mm: Mm, number: int, verb: str, error: KernelError | KernelCrash | None) -> str:
    from memshell.commands.hotplug import named_states

    can = "cannot" if error else "can"
    return f"{named_states(mm, [number]).replace(' ', ' is ', 1)}: it {can} go {verb}"


def _end(shell: Shell, mm: Mm, number: int, verb: str, error: KernelError | KernelCrash | None) -> str:
    if error is None:
        return ""
    text = f"{verb} {number}: {error.errno or 'crash'}, {error.message}"
    if verb == "online" or isinstance(error, KernelCrash):
        return text
    from memshell.commands.advice import frees_block

    advice = frees_block(shell, mm, number)
    return f"{text}; `{advice}` frees it" if advice else text
