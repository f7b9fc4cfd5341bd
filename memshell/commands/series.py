"""The commands for the series of 2017 to 2019: ``mutate``, ``explore``, ``touch``, ``put``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import UsageError
from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import COUNT, PFN, SCENARIO, SIZE, TIMES

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.shell import Shell


@command(
    "what if",
    arg("file", SCENARIO, "a scenario"),
    arg("--pairs", None, "two checks off at a time"),
    arg("--json", None, "the same as -F json"),
    arg("jobs=", COUNT, "processes; all cores without it"),
    needs_machine=False,
    examples="""
> mutate experiments/E1 jobs=1
SITE CHECK                             FIRST            FUNCTION                 STEP            ADDRESS
1    free_pagetable                    NULL dereference free_unref_page_prepare     6                0x0
2    powerpc_vmemmap_free              no difference
3    s390_veto                         no difference
4    online_pages_range                bad page state   bad_page                    3           0x100001
5a   init_single_page_zero             NULL dereference free_unref_page_prepare     6                0x0
5b   init_single_page_count            page fault       free_pagetable              6 0xffffea0004008000
6    isolate_migratepages_block        redundant
7    free_pages_check                  no difference
8    has_unmovable_pages               WARN_ON          has_unmovable_pages         3           0x100000
9    do_migrate_range                  no difference
10   __test_page_isolated_in_pageblock EINTR            offline_pages               5
11   test_pages_isolated               redundant
12   __offline_isolated_pages          BUG              __offline_isolated_pages    5
13   __kfree_section_memmap            page fault       free_pagetable              6 0xffffea0004008000
""",
)
def mutate(shell: Shell, args: Namespace) -> Result:
    """Play a scenario once per check of the 2018 series with that check off, and show what goes wrong first.

    "What happens when we get one wrong?" (Dave Hansen, 2018-11-16). After each step a process runs that reads
    the memory blocks and the free lists, in every play. "silent" means that numbers differ and nothing
    complains, "redundant" that the check decides nothing, wherever it is.
    """
    from memshell.experiment.mutate import mutate as play
    from memshell.experiment.mutate import rows
    from memshell.paths import find_scenario

    args.form = "json" if args.json else args.form
    mutants = play(
        find_scenario(args.file, shell.plugins.scenarios), shell.player.fresh, pairs=bool(args.pairs), jobs=args.jobs
    )
    table = rows(mutants)
    return Result(rows=table, columns=MUTANT_COLUMNS)


MUTANT_COLUMNS = (
    Column("SITE"),
    Column("CHECK"),
    Column("FIRST", key="short"),
    Column("FUNCTION"),
    Column("STEP", right=True),
    Column("ADDRESS", right=True),
    Column("COMMAND", drop=2),
    Column("SILENT", drop=1),
)


@command(
    "what if",
    arg("depth=", COUNT, "operations in a sequence, at most", default=4),
    arg("blocks=", COUNT, "memory blocks in an add, at most", default=3),
    arg("limit=", COUNT, "states to look at, at most", default=20000),
    arg("--scenarios", None, "print a scenario that replays each finding"),
    examples="""
> use x86_64 profile=rfc-2018
x86_64, <...>
> explore depth=2
STEPS FAULT <...>
<...>
""",
)
def explore(shell: Shell, args: Namespace) -> Result:
    """Search all short sequences of adds, onlines, offlines and removals for one that breaks something.

    From the machine as it stands, breadth first, so the first sequence for a fault is a shortest one. Adds
    may fail half way (no memory for a section's usage map), removals may be of a part. After each operation
    the invariants are checked, and a process runs that reads the memory blocks and the free lists.
    """
    from memshell.experiment.explore import explore as search
    from memshell.experiment.explore import scenario

    machine = shell.need_machine()
    found = search(machine.mm, depth=args.depth, sections=args.blocks, limit=args.limit)
    start = "\n".join(step.command for step in machine.steps if step.error is None)
    if args.scenarios:
        return Result(text="\n".join(scenario(start, finding) for finding in found.findings) or "nothing found")
    rows = [
        {
            "steps": len([line for line in f.lines if not line.startswith("expect")]),
            "fault": f.what,
            "text": f.text,
            "sequence": "; ".join(f.lines),
        }
        for f in found.findings
    ]
    plural = "s" * (found.states != 1)
    tally = f"{found.states} state{plural}, {found.operations} operations, up to {found.depth} deep"
    tally += "; the limit of states is reached" if found.capped else ""
    columns = (Column("STEPS", right=True), Column("FAULT"), Column("SEQUENCE"), Column("TEXT", drop=1))
    return Result(
        rows=rows, columns=columns, footer=f"{tally}: {len(rows) or 'no'} fault{'s' if len(rows) != 1 else ''}"
    )


@command(
    "what if",
    arg("size", SIZE, "new memory that a process touches, as far as there is any", nargs="?"),
    arg("times=", TIMES, "how often", default=1),
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
    """Let a process run that reads the blocks and the free lists: there a memmap that was lost is noticed.

    With a size, a process touches so much new anonymous memory instead, pageblock by pageblock.
    """
    from memshell.series.processes import process_runs, use_memory

    with shell.change() as mm:
        for _ in range(args.times):
            if args.size is None:
                process_runs(mm)
            else:
                use_memory(mm, args.size)
    return "nobody stumbled"


@command(
    "memory",
    arg("pfn", PFN, "the page"),
    arg("times=", TIMES, "how many references", default=1),
    examples="""
> use x86_64 profile=rfc-2018
x86_64, <...>
> add 1G
1G at <...>
<...>
> online 32 movable
memory32 online <...>
> put 0x100100
pfn 0x100100: 1 put
> ! touch
<...>
""",
)
def put(shell: Shell, args: Namespace) -> str:
    """Drop a reference of a page, as a driver with a bug does; the last one frees it.

    Only kernels that mark memmap pages (profiles rfc-*, patch-*) keep what a struct page holds.
    """
    from memshell.series.page_alloc import put_page

    if not shell.need_machine().mm.seam.marks_memmap:
        raise UsageError("this kernel's struct pages are not kept", hint="use x86_64 profile=rfc-2018")
    with shell.change() as mm:
        for _ in range(args.times):
            put_page(mm, args.pfn)
    return f"pfn {args.pfn:#x}: {args.times} put"
