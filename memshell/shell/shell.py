"""The shell: what lives between two commands."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from memshell.errors import CommandError, KernelCrash, KernelError, PluginError, UsageError, did_you_mean, printable
from memshell.shell.registry import Command, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from memshell.commands.image import Loaded
    from memshell.errors import MemshellError
    from memshell.machine import Machine, Step
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins
    from memshell.result import Column
    from memshell.sweep.pools import Task

T = TypeVar("T")
SYNONYMS = {"?": "help", "quit": "exit"}  # other words for a command


class Played(Protocol):
    """What one step of a script did, for those who watch its player."""

    @property
    def n(self) -> int:
        """The number of the step, from 1 on."""

    @property
    def command(self) -> str:
        """The words, with variables replaced."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The machine's steps in it."""


class Player(Protocol):
    """What plays text on a shell, for the commands that need it: `memshell.scenario.player.Player`."""

    @property
    def shell(self) -> Shell:
        """The shell that it plays on."""

    @property
    def hand_over(self) -> Callable[[], AbstractContextManager[None]]:
        """What leaves the terminal to another program, or to what draws on it itself."""

    @property
    def failures(self) -> Sequence[MemshellError]:
        """What failed, where the player goes on."""

    @property
    def directives(self) -> Mapping[str, tuple[str, str]]:
        """The words of the language that are no commands, each with its form and a text."""

    @property
    def known_words(self) -> Iterable[str]:
        """The words beside the commands that a line may begin with, and those that `help` knows."""

    def topic(self, word: str) -> str | None:
        """Return what `help` says of a tool or a subject, or None."""

    def play_text(self, text: str, file: str) -> None:
        """Play the statements of *text*, which stands in *file*."""

    def play_file(self, path: str) -> None:
        """Play a scenario file.  Raises UsageError when it cannot be read."""

    def run_inside(self, text: str) -> str:
        """Run commands for a command that is made of them, and return what they show."""

    def forget_failures(self) -> None:
        """Begin to collect failures anew."""

    def value_of(self, expression: str) -> str:
        """Return the value of an expression, as text."""

    def cells(self, path: str) -> Cells:
        """Return what plays a scenario cell by cell.  Raises UsageError when it cannot be read."""

    def fresh(self, observe: Callable[[Played], None] | None = None) -> Self:
        """Return a player on a shell of its own that shows nothing and goes on after failures."""


class Cells(Protocol):
    """A scenario that is played cell by cell, each with its values of the parameters."""

    @property
    def text(self) -> str:
        """The scenario."""

    @property
    def before(self) -> str:
        """What is played before it: the session's steps, where it boots no machine."""

    @property
    def travels(self) -> bool:
        """Whether other processes can play them."""

    def axes(self, given: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the axes: those *given*, and those that the scenario brings.  Raises UsageError."""

    def check(self, show: Iterable[str]) -> None:
        """Raise UsageError for a wish that can be asked of no cell."""

    def __call__(self, task: Task) -> dict[str, Any]:
        """Play one cell; return its row."""


class Sessions(Protocol):
    """The sessions of a user that have ended, where a prompt keeps them: `memshell.repl.sessions.Sessions`."""

    def rows(self) -> list[dict[str, object]]:
        """Return them as rows: name, age, commands, machine."""

    def forget(self, name: str) -> str:
        """Delete the journal of one; return its name."""

    def prune(self) -> int:
        """Delete the journals of those without a name; return how many."""


class Writer(Protocol):
    """Where results and notes go: a text file, or the prompt's screen."""

    def write(self, text: str, /) -> object:
        """Write *text*."""

    def flush(self) -> None:
        """Bring everything out."""


@dataclass(slots=True)
class Output:
    """Where what a shell says goes, and how results are drawn when a command does not say."""

    out: Writer = field(default_factory=lambda: sys.stdout)
    err: Writer = field(default_factory=lambda: sys.stderr)
    form: str = "table"
    width: int = 0  # of the terminal; 0 where there is none
    colour: bool = False


@dataclass(slots=True)
class Settings:
    """What the user has set: none of it is the machine's."""

    variables: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)  # the aliases that a file made
    watches: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Running:
    """The command that runs, or ran last."""

    text: str = ""
    progress: tuple[int, int] | None = None  # done, total


def _as_it_is(_shell: Shell, _error: KernelError | KernelCrash, _before: Mm) -> None:
    """Pass an error of the kernel on as it is."""


class Shell:
    """A session: one machine at a time, the commands for it, and the user's settings.

    *player* plays text on it, *commands* are memshell's own, *loader* brings the plugins when they are asked for.
    """

    def __init__(
        self, player: Player, commands: Iterable[Command], loader: Callable[[], Plugins], output: Output
    ) -> None:
        self.player = player
        self.registry = Registry(commands)
        self.output = output
        self.settings = Settings()
        self.running = Running()
        self.machine: Machine | None = None
        self.sessions: Sessions | None = None  # only a prompt has some
        self.session = ""  # the name of this one
        self.branch = "main"  # the name of what the machine is
        self.branches: dict[str, Machine] = {}  # the others
        self.booted: dict[str, Mm] | None = None  # what each `use` line built, where many shells start alike
        self.image: Loaded | None = None  # the kernel image that struct, sizeof, enum and sym look into
        self.allow_shell = False  # files may run programs and write files
        self.trusted = True  # what is played now was typed, and does not stand in a file
        self.last_error: MemshellError | None = None  # of the last `!` command
        self.explain: Callable[[Shell, KernelError | KernelCrash, Mm], None] = _as_it_is
        self.tries = False  # what is played here is only tried: no observer sees it, and no advice is looked for
        self.leaving = False  # `exit` was typed: nothing more is played
        self.loader = loader
        self._plugins: Plugins | None = None

    # --- the plugins ---

    @property
    def plugins(self) -> Plugins:
        """The plugins, loaded when they are asked for the first time."""
        if self._plugins is None:
            self._plugins = self.loader()
            for item in self._plugins.commands():
                self._add(item)
        return self._plugins

    def renew_commands(self, origin: str) -> None:
        """Forget the commands of the plugin *origin*, and take those that the plugins have now."""
        self.registry.remove_of(origin)
        for item in self.plugins.commands():
            if item.name not in self.registry:
                self._add(item)

    def _add(self, item: Command) -> None:
        try:
            if item.name in {*self.player.directives, *SYNONYMS}:
                raise PluginError(f"command {item.name} cannot be: that is a word of the language")
            self.registry.add(item)
        except PluginError as error:
            self.note(f"memshell: {item.origin}: {error}")

    def announce(self, step: Step) -> None:
        """Show a step's events to the observers among the plugins."""
        if self._plugins is not None and self._plugins.observed and not self.tries:
            self._plugins.event(step.mm, step.events)

    def blame(self, error: BaseException) -> PluginError | None:
        """Return the error as a plugin's, when a plugin's code raised it."""
        return None if self._plugins is None else self._plugins.blame(error)

    def columns(self, view: str, own: Collection[str] = ()) -> list[Column]:
        """Return the columns that plugins add to a view, which has *own* ones."""
        mm = None if self.machine is None else self.machine.mm
        return [] if self._plugins is None else self._plugins.columns(view, mm, own)

    # --- the words ---

    def find_command(self, name: str) -> Command:
        """Return the command, a plugin's too.  Raises UsageError with the nearest right word."""
        name = SYNONYMS.get(name, name)
        if name not in self.registry:
            _ = self.plugins
        if name not in self.registry and self.player.topic(name) is not None:
            raise UsageError(f"unknown command {name!r}", hint=f"help {name} shows what is typed here instead")
        known = [*self.settings.aliases, *self.player.known_words]
        if name not in self.registry and _program(name):
            close = did_you_mean(name, [*known, *self.registry.names()]) or "help lists the commands"
            raise UsageError(f"unknown command {name!r}", hint=f"{close} (!{name} runs this computer's)")
        return self.registry.get(name, known)

    def known_words(self) -> set[str]:
        """Return the names that stand for themselves in an expression: architectures, policies, profiles."""
        return {*self.plugins.arches(), *self.plugins.policies()}

    def guard(self, what: str) -> None:
        """Raise `UsageError` where a file wants *what*: to run a program or to write, which it may not."""
        if not self.trusted and not self.allow_shell:
            raise UsageError(f"{what}: a file may not", hint="memshell --allow-shell lets files run programs and write")

    # --- the machine ---

    def need_machine(self) -> Machine:
        """Return the machine, or raise CommandError that says how to get one."""
        if self.machine is None:
            raise CommandError("there is no machine yet", hint="start one with: use x86_64 ram=2G")
        return self.machine

    @contextmanager
    def change(self) -> Iterator[Mm]:
        """Yield a working copy that model functions change: the running command's transaction.

        What the kernel refuses is passed on with what it found and what it left behind.
        """
        machine = self.need_machine()
        before = machine.mm
        try:
            with machine.transaction(self.running.text) as mm:
                yield mm
        except (KernelError, KernelCrash) as error:
            if not self.tries:
                self.explain(self, error, before)
            raise

    def run(self, text: str) -> str:
        """Run commands for the command that runs, and return what they show: ``shell.run("add 1G; online all movable")``.

        Raises what the command that fails raises; together they are one step, which one ``undo`` takes back.
        """
        return self.player.run_inside(text)

    def track(self, items: Collection[T]) -> Iterator[T]:
        """Yield *items* and keep count, so that a prompt can show how far a long command has come."""
        total = len(items)
        try:
            for done, item in enumerate(items):
                self.running.progress = (done, total)
                yield item
        finally:
            self.running.progress = None

    # --- the output ---

    def write(self, text: str) -> None:
        """Write a result to stdout.  Raises CommandError when it cannot be, as on a full disk."""
        try:
            self.output.out.write(text)
            self.output.out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"cannot write the output: {error.strerror}") from error

    def note(self, text: str) -> None:
        """Tell the user something that is not a result, on stderr."""
        print(printable(text), file=self.output.err, flush=True)


def _program(name: str) -> bool:
    """Whether the system's shell has a program of that name."""
    from shutil import which

    return which(name) is not None
