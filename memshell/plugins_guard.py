"""What stands between a stranger's code and the machine: copies of what it is given, and judges of what it does."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import wraps
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from memshell.errors import KernelCrash, KernelError, MemshellError, PluginError
from memshell.profiles import is_profile
from memshell.result import Result
from memshell.shell import types
from memshell.shell.registry import ArgType

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from memshell.mm.events import Event
    from memshell.mm.state import Mm
    from memshell.policy import MemmapRequest, Placement
    from memshell.shell.registry import Command, Suggestions
    from memshell.shell.shell import Shell


def one_line(error: BaseException) -> str:
    """Return an error in one line, with its type where it is not one of ours."""
    text = str(error).strip().splitlines()
    name = "" if isinstance(error, MemshellError) else type(error).__name__
    return ": ".join(part for part in (name, text[0] if text else "") if part)


def isolated(mm: Mm) -> Mm:
    """Return a copy of the state with which a plugin may do what it likes: its values are frozen."""
    return mm.copy()


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


OWN_TYPES = [one for one in vars(types).values() if isinstance(one, ArgType)]
PATIENCE = 1.0  # seconds that a completion may take
MOST = 500  # words that one may give


def guarded_type(kind: ArgType, title: str, warn: Callable[[str], None]) -> ArgType:
    """Return a plugin's type of words so that its completion neither raises nor keeps the prompt for more than a second.

    One that did is not asked again. A thread that never returns is left behind: nothing can stop it.
    """
    dead: list[str] = []

    def guard(function: Callable[..., Suggestions]) -> Callable[..., Suggestions]:
        def ask(*given: Any) -> Suggestions:
            if dead:
                return ()
            found: list[tuple[str, str]] = []
            failed: list[str] = []
            thread = Thread(target=_complete, args=(function, given, found, failed), daemon=True)
            thread.start()
            thread.join(PATIENCE)
            if thread.is_alive():
                failed.append(f"took more than {PATIENCE:g} s")
            if failed:
                dead.append(failed[0])
                warn(f"{title}: the completion of {kind.name} {failed[0]}; it is off")
                return ()
            return found

        return ask

    after = None if kind.after is None else guard(kind.after)
    return replace(kind, complete=guard(kind.complete), after=after)


def _complete(
    function: Callable[..., Suggestions], given: tuple[Any, ...], found: list[tuple[str, str]], failed: list[str]
) -> None:
    """Ask for completions in a thread of their own: what comes back goes to *found*, what goes wrong to *failed*."""
    try:
        with redirect_stdout(sys.stderr):
            words = list(islice(function(*given), MOST))
        wrong = next((pair for pair in words if not _is_pair(pair)), None)
        if wrong is None:
            found.extend(words)
        else:
            failed.append(f"gave {wrong!r}, not (word, description)")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's
        failed.append(f"failed: {one_line(error)}")


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def guarded_command(item: Command, title: str, warn: Callable[[str], None]) -> Command:
    """Return a plugin's command so that it changes the machine by ``shell.change()`` only, and prints to stderr."""
    function = item.function
    arguments = tuple(
        one if one.type is None or one.type in OWN_TYPES else replace(one, type=guarded_type(one.type, title, warn))
        for one in item.arguments
    )

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
        if isinstance(found, Result) and (fault := _rows_fault(found)):
            raise PluginError(f"{title}: command {item.name}: {fault}")
        return found

    return replace(item, origin=title, function=call, arguments=arguments)


def _rows_fault(result: Result) -> str:
    """Return what is wrong with the rows of a result: "" where every column finds its value."""
    for number, row in enumerate(result.rows or ()):
        for column in result.columns:
            key = column.key or column.name.lower()
            if column.compute is None and key not in row:
                return f"row {number} has no {key!r}, which the column {column.name} shows"
    return ""


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
