"""The cells of a sweep: the same scenario with other values of its parameters, here or in another process."""

from __future__ import annotations

import ctypes
import pickle
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any

from memshell.errors import KernelCrash, KernelError, MemshellError, ScenarioError, UsageError, did_you_mean
from memshell.scenario.expression import Number, evaluate
from memshell.scenario.files import read_scenario
from memshell.scenario.names import TOP
from memshell.scenario.parameters import check_given, define, matrix, parameters
from memshell.scenario.syntax import parse_expression, parse_text
from memshell.shell.shell import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from memshell.mm.state import Mm
    from memshell.plugins import Plugins
    from memshell.scenario.player import Player
    from memshell.scenario.syntax import Statement
    from memshell.sweep.pools import Task


class Hung(BaseException):
    """A cell took too long; no `Exception`, so that nothing on the way takes it for an error of its own."""


@dataclass(frozen=True)
class Cells:
    """A scenario that is played cell by cell, each by a new *player*.

    *loader* brings the plugins, pickled where it can be sent.
    """

    path: str
    text: str
    loader: bytes | Callable[[], Plugins]
    player: type[Player]
    allow_shell: bool = False  # as `Shell` has it: what stands in the file may run programs and write files
    before: str = ""  # what is played first, where the scenario boots no machine: the session's steps

    @classmethod
    def of(
        cls,
        path: str,
        loader: Callable[[], Plugins],
        player: type[Player],
        *,
        allow_shell: bool = False,
        before: str = "",
    ) -> Cells:
        """Return the cells of a file; *before* is for one without a machine.  Raises `UsageError` for one that cannot be read."""
        try:
            sent: bytes | Callable[[], Plugins] = pickle.dumps(loader)
        except (pickle.PicklingError, AttributeError, TypeError):
            sent = loader
        text = read_scenario(path)
        parse_text(text, path)
        boots = any(line.lstrip().startswith(("use ", "include ")) for line in text.splitlines())
        return cls(path, text, sent, player, allow_shell, "" if boots else before)

    @property
    def travels(self) -> bool:
        """Whether other processes can play them: the plugins can be loaded there."""
        return isinstance(self.loader, bytes)

    @cached_property
    def parameters(self) -> set[str]:
        """The names that the scenario takes."""
        return parameters(self.path)

    def axes(self, given: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the axes: those that are *given*, and those of the matrix in the scenario's head.

        Raises UsageError for a name that the scenario does not take.
        """
        cells = matrix(self.text, self.path, dict.fromkeys(given, ""))
        names = {name: [cell[name] for cell in cells] for name in cells[0]}
        check_given([*given, *names], [self.path])
        return {**given, **{name: list(dict.fromkeys(values)) for name, values in names.items()}}

    def check(self, show: Iterable[str]) -> None:
        """Raise UsageError for a wish that can be asked of no cell."""
        for wish in show:
            if wish == "errno":
                continue
            parse_expression(wish)
            name = wish.partition(".")[0]
            if name.isidentifier() and name not in TOP:
                raise UsageError(f"unknown name {name!r}", hint=did_you_mean(name, [*TOP, "errno"]))

    def __call__(self, task: Task) -> dict[str, Any]:
        """Play one cell; return its row: parameters, what is wished for, how it ended and why."""
        output = Output(StringIO(), StringIO())
        player = self.player(lambda: _plugins(self.loader), output, echo=False, capture=True)
        player.shell.allow_shell, player.shell.tries = self.allow_shell, True
        booted = player.shell.booted = _BOOTED.setdefault(self.loader, {})
        if len(booted) >= MOST_BOOTED:
            booted.clear()
        define(player, task.values)
        outcome, why = "ok", ""
        try:
            with limited(task.seconds), player.in_file():
                player.play(_statements(self.before, "session"))
                player.play(_statements(self.text, self.path))
        except ScenarioError as failed:
            outcome, why = _ended(failed)
        except Hung:
            outcome, why = "hung", f"not done after {task.seconds:g} s"
        wishes = {wish: _answer(player, wish, outcome) for wish in task.show}
        return {**task.values, **wishes, "outcome": outcome, "why": why}


MOST_BOOTED = 64  # an axis may be what boots the machine: not every one of ten thousand is kept
_BOOTED: dict[object, dict[str, Mm]] = {}  # what each `use` line has built in this process


@cache
def _plugins(loader: bytes | Callable[[], Plugins]) -> Plugins:
    return pickle.loads(loader)() if isinstance(loader, bytes) else loader()  # noqa: S301 - pickled by ourselves


@cache
def _statements(text: str, path: str) -> tuple[Statement, ...]:
    return parse_text(text, path)


def _ended(failed: ScenarioError) -> tuple[str, str]:
    """Return how a cell ended in a word, and why in a line."""
    cause: BaseException = getattr(failed, "cause", failed)
    if isinstance(cause, KernelCrash):
        return "kernel crash", cause.message
    if isinstance(cause, KernelError):
        return cause.errno or "failed", cause.message
    why = str(failed).splitlines()[0]
    return ("refused" if isinstance(cause, UsageError) else "failed"), why


def _answer(player: Player, wish: str, outcome: str) -> Any:
    """Return a value for the table: bytes for a size, None where this machine has no such thing."""
    if wish == "errno":
        return outcome if outcome.isupper() else ""
    try:
        value = evaluate(parse_expression(wish), player.names)
    except MemshellError:
        return None
    if isinstance(value, Number):
        number = value.bytes if value.unit else value.number
        return int(number) if number == int(number) else number
    return value


# --- a limit of time ---


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `Hung` in what runs longer: by a signal, or in another thread than the main one as Python allows it."""
    if threading.current_thread() is threading.main_thread():
        with _by_signal(seconds):
            yield
        return
    with _by_thread(seconds):
        yield


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    here, lock, over = threading.get_ident(), threading.Lock(), False

    def ring() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(here), ctypes.py_object(Hung))

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()
