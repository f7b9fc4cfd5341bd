"""Every error that memshell raises on purpose.

::

    MemshellError              one line for the user: what, where, what to do      exit 1
    +-- KernelError            a modelled kernel function returned an errno        exit 1
    |   +-- OutOfMemory        ... and it was ENOMEM, with the sums                exit 1
    +-- KernelCrash            the modelled kernel died: the machine is dead       exit 1
    +-- CommandError           a command cannot do what it was asked               exit 1
    |   +-- UsageError         ... because it was typed wrong                      exit 2
    +-- ScenarioError          a scenario cannot be read, or a step of it failed   exit 1
    |   +-- ExpectFailed       an expectation did not hold                         exit 1
    +-- ImageError             a kernel image cannot be read                       exit 1
    +-- RecordingError         a recording or machine file cannot be read          exit 1
    +-- InvariantError         the model broke a rule of its own                   exit 3
    +-- PluginError            a plugin failed; names it and the hook              exit 3

Anything else that reaches the top is a defect of memshell's: exit 3, and ``--debug`` shows the traceback.
"""

from __future__ import annotations

import errno as _errno
import re as _re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

# C0 but tab and newline, DEL, C1; and what turns the order of letters around (Unicode's bidi controls).
_CONTROL = _re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return *text*, which may be of a file, as a terminal may have it: control characters are shown, not sent.

    >>> printable("a name\x1b[2J")
    'a name\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_LONG = _re.compile(r"[^\s:;,'\"()]{200,}")


def _short(text: str) -> str:
    """Return a message in which no word fills the screen."""
    return _LONG.sub(lambda found: f"{found[0][:60]}... ({len(found[0])} characters)", text)


def os_error(error: OSError) -> str:
    """Return what the system said, and about which file where it is known."""
    said = error.strerror or str(error)
    return f"cannot use {error.filename}: {said}" if error.filename is not None else said


class MemshellError(Exception):
    """The root: a message, and optionally an errno name and the next step for the user."""

    exit_code = 1

    def __init__(self, message: str, *, errno: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno
        self.hint = hint
        self.advise: Callable[[], str | None] | None = None  # looks for the next step when the error is told
        self.blocks: tuple[int, ...] = ()  # memory blocks that failed
        self.details: Callable[[], Any] | None = None  # the rows of what failed, a `memshell.result.Result`
        self.shown = ""  # what the user saw of them

    @property
    def said(self) -> str:
        """The line without the next step."""
        return self.message if self.errno is None else f"{self.message} ({self.errno})"

    def __str__(self) -> str:
        if self.advise is not None:
            advise, self.advise = self.advise, None
            with suppress(KeyboardInterrupt):  # whoever does not wait for it gets the error without
                self.hint = advise() or self.hint
        return printable(_short(self.said if self.hint is None else f"{self.said}; {self.hint}"))

    @property
    def errno_number(self) -> int:
        """The number that the kernel returns for the errno name; 0 without one."""
        return int(getattr(_errno, self.errno)) if self.errno else 0


class KernelError(MemshellError):
    """A kernel function returned an errno; *where* is its ``file:function``, *pfn* the page that it stumbled over.

    *facts* are what was found and what is left behind.
    """

    def __init__(
        self, message: str, errno: str, *, where: str = "", hint: str | None = None, pfn: int | None = None
    ) -> None:
        super().__init__(message, errno=errno, hint=hint)
        self.where, self.pfn = where, pfn
        self.facts: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The line without the next step."""
        by = f" from {self.where}" if self.where else ""
        return "; ".join([f"{self.message} ({self.errno}{by})", *self.facts])


class OutOfMemory(KernelError):
    """An allocation found no page of the order and zones that it may use."""

    def __init__(self, message: str, *, where: str = "", hint: str | None = None, pfn: int | None = None) -> None:
        super().__init__(message, "ENOMEM", where=where, hint=hint, pfn=pfn)


class KernelCrash(MemshellError):
    """The modelled kernel died or hangs: a result of the command, not a failure of memshell.

    *kind* is the first line of what it printed without the address ("unable to handle kernel paging request", "kernel BUG",
    "hang", ...), *function* where, *address* what it touched, if it says so.
    """

    def __init__(self, kind: str, function: str, address: int | None = None, why: str = "") -> None:
        at = "" if address is None else f" at {address:016x}"
        super().__init__(f"{kind}{at} in {function}" + (f": {why}" if why else ""), hint="undo brings the machine back")
        self.kind, self.function, self.address, self.why = kind, function, address, why
        self.where = function


class CommandError(MemshellError):
    """The command was understood and cannot be carried out."""


class UsageError(CommandError):
    """The command was not understood."""

    exit_code = 2


class ScenarioError(MemshellError):
    """A scenario file cannot be read, or one of its steps failed."""


class ExpectFailed(ScenarioError):
    """An ``expect`` did not hold."""


class ImageError(MemshellError):
    """A kernel image is missing, broken, hostile or of the wrong kind."""


class RecordingError(MemshellError):
    """A recording or a machine file is missing, broken or of an unknown schema."""


class InvariantError(MemshellError):
    """The state breaks a rule that must hold after every step."""

    exit_code = 3


class PluginError(MemshellError):
    """A plugin failed to load or raised; the message names it, its version and the hook."""

    exit_code = 3


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came: memshell tidies up and leaves, whatever it was doing."""


def nearest(word: str, known: Iterable[str], *, count: int = 1) -> str:
    """Return the known words closest to *word*, joined by "or"; empty when none is close."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(word.lower(), [item.lower() for item in names], n=count, cutoff=0.6)
    original = {item.lower(): item for item in names}
    return " or ".join(original[item] for item in close)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a hint for an error, or None when nothing is close."""
    close = nearest(word, known)
    return f"did you mean {close}?" if close else None
