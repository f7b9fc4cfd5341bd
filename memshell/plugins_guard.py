"""What stands between a stranger's code and the machine: copies of what it is given, and judges of what it does."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from memshell.errors import KernelCrash, KernelError, MemshellError, PluginError
from memshell.profiles import is_profile
from memshell.result import Result

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.mm.events import Event
    from memshell.mm.state import Mm
    from memshell.policy import MemmapRequest, Placement
    from memshell.shell.registry import Command
    from memshell.shell.shell import Shell


def one_line(error: BaseException) -> str:
    """Return an error in one line, with its type where it is not one of ours."""
    text = str(error).strip().splitlines()
    name = "" if isinstance(error, MemshellError) else type(error).__name__
    return ": ".join(part for part in (name, text[0] if text else "") if part)


def isolated(mm: Mm) -> Mm:
    """Return a copy of the state with which a plugin may do what it likes.

    Its values are frozen, but for the altmaps of blocks, which are copied too.
    """
    copy = mm.copy()
    for number, block in mm.blocks.items():
        if block.altmap is not None:
            copy.blocks[number] = block._replace(altmap=block.altmap.copy())
    return copy


def isolated_event(event: Event) -> Event:
    """Return a copy of an event."""
    return event._replace(data=dict(event.data))


@runtime_checkable
class PolicyLike(Protocol):
    """What a policy must have."""

    name: str
    summary: str
    parameter: str

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Decide where the memmap goes."""


NAME = re.compile(r"[A-Za-z_][\w.-]*")
RULE = "a name begins with a letter and has letters, digits, _, - and . only"


def name_fault(what: str, item: Any) -> str:
    """Return why something that a plugin brings cannot have its name; "" where it can."""
    name: object = item.name
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        return f"cannot be: {RULE}"
    if what in ("policy", "architecture") and is_profile(name):
        return "cannot be: it is the name of a kernel, and `use` would not know which is meant"
    options = getattr(item, "options", ())
    if what == "policy" and options and not callable(getattr(item, "configure", None)):
        return "has options, and no method configure(options) that applies them"
    return ""


def guarded_command(item: Command, title: str) -> Command:
    """Return a plugin's command so that it changes the machine by ``shell.change()`` only, and prints to stderr."""
    function = item.function

    @wraps(function)
    def call(shell: Shell, args: Namespace) -> Any:
        watch = Watch(shell, f"{title}: command {item.name}")
        machine, text, failed = shell.machine, shell.running.text, None
        first = len(machine.steps) if machine is not None else 0
        try:
            with redirect_stdout(sys.stderr):
                found = function(shell, args)
        except (KernelError, KernelCrash) as error:
            failed = error
            raise
        except SystemExit as error:
            raise PluginError(f"{title} failed in {item.name}: {one_line(error)}") from error
        finally:
            watch.close()
            if machine is not None and shell.machine is machine:
                machine.join(first, text, failed)
        if found is not None and not isinstance(found, (str, Result)):
            kind = type(found).__name__
            raise PluginError(f"{title}: command {item.name} returned {kind}, not a text, a Result or nothing")
        return found

    return replace(item, origin=title, function=call)


class Watch:
    """Remembers the committed state while a plugin's command runs, and puts it back when it was changed."""

    def __init__(self, shell: Shell, who: str) -> None:
        self.who = who
        self.machine = shell.machine
        if self.machine is not None:
            self.step = self.machine.step
            self.kept = isolated(self.machine.mm)

    def close(self) -> None:
        """Raise PluginError when the state that was committed is not what it was; it is again then."""
        if self.machine is None or self.step.mm == self.kept:
            return
        steps = self.machine.steps
        steps[:] = [replace(step, mm=self.kept) if step is self.step else step for step in steps]
        raise PluginError(f"{self.who} changed the machine behind its back", hint="with shell.change() as mm: ...")
