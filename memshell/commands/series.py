"""The commands for the series of 2017 to 2019: ``mutate``, ``explore``, ``compare``, ``touch``, ``put``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.registry import arg, command
from memshell.commands.types import FILE, INT, PFN
from memshell.errors import UsageError
from memshell.report import Column, Result

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.commands.shell import Shell


@command(
    "what if",
    arg("file", FILE, "a scenario"),
    arg("--pairs", None, "two checks off at a time"),
    arg("jobs=", INT, "processes; all cores without it", default=0),
    needs_machine=False,
)
def mutate(shell: Shell, args: Namespace) -> Result:
    """Play a scenario once per check of the 2018 series with that check off, and show what goes wrong first.

    "What happens when we get one wrong?" (Dave Hansen, 2018-11-16). After each step a process runs that reads the memory
    blocks and the free lists, in every play. "silent" means that numbers differ and nothing complains.
    """
    from memshell.experiment.mutate import rows

    if shell.mutate_file is None:
        raise UsageError("there is no scenario player here")
    table = rows(shell.mutate_file(args.file, pairs=bool(args.pairs), jobs=args.jobs or None))
    return Result(rows=table, columns=MUTANT_COLUMNS)


MUTANT_COLUMNS = (
    Column("SITE"), Column("CHECK", drop=2), Column("FIRST"), Column("FUNCTION"), Column("STEP", right=True), Column("COMMAND"),
    Column("ADDRESS", right=True), Column("SILENT", drop=1),
)


@command(
    "what if",
    arg("times=", INT, "how often", default=1),
    examples="""
> use x86_64 profile=rfc-2018
x86_64, <...>
> add 256M
256M at <...>
<...>
> touch
nobody stumbled
""",
)
def touch(shell: Shell, args: Namespace) -> str:
    """Let a process run that reads the memory blocks and the free lists: there a memmap that was lost is noticed."""
    from memshell.mm.use_rfc import process_runs

    with shell.change() as mm:
        for _ in range(args.times):
            process_runs(mm)
    return "nobody stumbled"


@command("memory", arg("pfn", PFN, "the page"), arg("times=", INT, "how many references", default=1))
def put(shell: Shell, args: Namespace) -> str:
    """Drop a reference of a page, as a driver with a bug does; the last one frees it.

    Only kernels that mark memmap pages (profiles rfc-*, patch-*) keep what a struct page holds.
    """
    from memshell.mm.use_rfc import put_page
    from memshell.mm.vmemmap_rfc import marks_memmap

    if not marks_memmap(shell.need_machine().mm):
        raise UsageError("this kernel's struct pages are not kept", hint="use x86_64 profile=rfc-2018")
    with shell.change() as mm:
        for _ in range(args.times):
            put_page(mm, args.pfn)
    return f"pfn {args.pfn:#x}: {args.times} put"
