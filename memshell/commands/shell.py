"""The shell: what lives between two commands, and the one way to run one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memshell.commands.registry import REGISTERED, Registry
from memshell.errors import CommandError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import TextIO

    from memshell.machine import Machine

    from memshell.mm import Mm


@dataclass(slots=True)
class Options:
    """How results are drawn when a command does not say."""

    form: str = "table"
    width: int = 0
    colour: bool = False
    timing: bool = False


@dataclass(slots=True)
class Shell:
    """A session: one machine at a time, and the settings around it."""

    machine: Machine | None = None
    registry: Registry = field(default_factory=lambda: Registry(REGISTERED))
    options: Options = field(default_factory=Options)
    variables: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    command_text: str = ""
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def need_machine(self) -> Machine:
        """Return the machine, or raise CommandError that says how to get one."""
        if self.machine is None:
            raise CommandError("there is no machine yet", hint="start one with: use x86_64 ram=2G")
        return self.machine

    def change(self) -> AbstractContextManager[Mm]:
        """Return the running command's transaction: a working copy that model functions change."""
        return self.need_machine().transaction(self.command_text)

    def note(self, text: str) -> None:
        """Tell the user something that is not a result, on stderr."""
        print(text, file=self.err, flush=True)
