"""What is shown of blocks that could not change their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.result import Column, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memshell.errors import KernelError
    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

ADVISED = 100  # rows at most for which a way out is looked for


def failed_blocks(shell: Shell, mm: Mm, failed: Sequence[tuple[int, KernelError]], state: str) -> Result:
    """Return a row for each block that could not go *state*: errno, the first page in the way, whose, what frees it."""
    rows = [_failed_row(mm, number, error) for number, error in failed]
    if state == "online":
        return Result(rows=rows, columns=(Column("BLOCK"), Column("ERRNO"), Column("REASON")))
    from memshell.commands.advice import frees_block

    for row, (number, _) in list(zip(rows, failed, strict=True))[:ADVISED]:
        row["freed"] = frees_block(shell, mm, number)
    more = f"what frees them was looked for in the first {ADVISED}" if len(rows) > ADVISED else ""
    return Result(rows=rows, columns=FAILED, footer=more)


FAILED = (
    Column("BLOCK"),
    Column("ERRNO"),
    Column("PFN", right=True),
    Column("WHOSE"),
    Column("FREED BY", key="freed"),
    Column("REASON", drop=1),
)


def _failed_row(mm: Mm, number: int, error: KernelError) -> dict[str, Any]:
    from memshell.views.obstacles import whose_page

    return {
        "block": f"memory{number}",
        "errno": error.errno,
        "pfn": "" if error.pfn is None else f"{error.pfn:#x}",
        "whose": "" if error.pfn is None else whose_page(mm, error.pfn),
        "freed": None,
        "reason": error.message,
    }
