"""The commands around the machine: undo, history, settings, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.registry import arg, command
from memshell.commands.types import INT

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.commands.shell import Shell


@command("session", needs_machine=False, examples="> true")
def true(_shell: Shell, _args: Namespace) -> None:
    """Do nothing, successfully."""


@command("session", arg("count", INT, "how many steps", nargs="?", default=1))
def undo(shell: Shell, args: Namespace) -> str:
    """Take back the last step, or the last COUNT steps."""
    step = shell.need_machine().undo(args.count)
    return f"back before step {step.n}: {step.command}"
