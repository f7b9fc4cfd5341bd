"""The pure model of Linux memory hotplug: no print, no I/O, no plugins, no clock.

One module stands for one kernel source file, under the kernel's own function names. Model functions take the
working state (`memshell.mm.state.Mm`) first and change it in place: a `memshell.machine.Machine` hands them a
private copy for each command, so a failed command leaves the committed state as it was. They raise
`memshell.errors.KernelError` where the kernel returns an errno.

`mirrors` says which kernel function a function is and how far it goes; the ledger that it fills is what the
``fidelity`` command prints, and the call trace that ``--explain`` shows comes from the same mark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

from memshell.mm.state import Mm

Word = Literal["complete", "simplified", "stubbed"]
P = ParamSpec("P")
R = TypeVar("R")


class Mark(NamedTuple):
    """One row of the fidelity ledger."""

    where: str  # "mm/memory_hotplug.c:online_pages"
    version: str  # the newest kernel whose text the function was compared with
    word: Word
    note: str  # what a simplified function leaves out
    module: str  # where the model has it

    @property
    def name(self) -> str:
        """The kernel function's name."""
        return self.where.rpartition(":")[2]


LEDGER: dict[str, Mark] = {}


def mirrors(
    where: str, version: str, word: Word, note: str = ""
) -> Callable[[Callable[Concatenate[Mm, P], R]], Callable[Concatenate[Mm, P], R]]:
    """Mark a model function as the image of the kernel function *where* ("file:function").

    The marked function is entered in the ledger; while a trace is on (`Mm.trace`), each call of it is recorded.
    """
    name = where.rpartition(":")[2]

    def wrap(function: Callable[Concatenate[Mm, P], R]) -> Callable[Concatenate[Mm, P], R]:
        LEDGER[where] = Mark(where, version, word, note, function.__module__)

        @functools.wraps(function)
        def call(mm: Mm, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if mm.trace is None:
                return function(mm, *args, **kwargs)
            with mm.trace.call(name, where, args):
                return function(mm, *args, **kwargs)

        return call

    return wrap
