"""How true it is: the fidelity table, and verification against recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import FILE, TEXT

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.shell import Shell


@command(
    "session",
    arg("name", TEXT, "only functions with this in their name or file", nargs="?", default=""),
    arg("--files", None, "show the kernel files and the modules that have them"),
    needs_machine=False,
    examples="""
> fidelity mhp_supports
FUNCTION                                          COMPARED WORD     QUANTITIES NOTE
mm/memory_hotplug.c:mhp_supports_memmap_on_memory v6.12    complete <...>
> fidelity mm/sparse --files
mm/sparse-vmemmap.c -> memshell/mm/sparse_vmemmap.py
mm/sparse.c -> memshell/mm/sparse.py
mm/sparse.c (with the series) -> memshell/series/sparse.py
""",
)
def fidelity(_shell: Shell, args: Namespace) -> Result:
    """Show which kernel functions the model has, how completely, and how many recorded quantities stand behind each.

    The quantities are those of the steps of real recordings in which the function ran, and which the model
    predicted. docs/fidelity.md has the whole table, and what differs with its reason.

    With --files, a line for each kernel file: the module (or package) that has what is modelled of it. The series of
    2017 to 2019 were written for v4.20 and v5.0, whose files are apart.
    """
    from memshell.verify.fidelity import ledger, marks
    from memshell.verify.files import homes

    if args.files:
        found = [home for home in homes(marks()) if args.name in home.file]
        data = [home._asdict() for home in found]
        return Result(text="\n".join(map(str, found)), data=data)
    rows = [
        {"function": mark.where, "compared": mark.version, "word": mark.word, "quantities": count, "note": mark.note}
        for mark, count in ledger()
        if args.name in mark.where
    ]
    columns = (
        Column("FUNCTION", "the kernel file and function"),
        Column("COMPARED", "the kernel whose text it was compared with"),
        Column("WORD", "complete, simplified or stubbed"),
        Column("QUANTITIES", "recorded quantities that it stands behind", right=True),
        Column("NOTE", "what is simplified", drop=1),
    )
    return Result(rows=rows, columns=columns)


@command(
    "session",
    arg("recordings", FILE, "NAME.json or NAME.json.xz", nargs="+"),
    needs_machine=False,
    examples="""
> verify x86_64-k612-Y-128M-movable.json.xz
x86_64-k612-Y-128M-movable (6.12.117): <...> equal, <...> within
""",
)
def verify(shell: Shell, args: Namespace) -> Result:
    """Replay recordings of real kernels and compare every quantity that they hold.

    One line for each recording, and one for each quantity that is not equal. The machine at the prompt is not touched.
    """
    from memshell.verify import load_recording, verify_recording
    from memshell.verify.cli import as_json, as_text

    texts, data = [], []
    for path in args.recordings:
        recording = load_recording(path)
        quantities = verify_recording(recording, shell.player)
        texts.append(as_text(recording, quantities))
        data.append(as_json(recording, quantities))
    return Result(text="\n".join(texts), data=data)
