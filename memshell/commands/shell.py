"""The shell: what lives between two commands."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from memshell.commands.registry import REGISTERED, Command, Registry
from memshell.errors import CommandError, PluginError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    from memshell.commands.image import Loaded
    from memshell.errors import MemshellError
    from memshell.experiment.mutate import Verdict
    from memshell.machine import Machine, Step
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins
    from memshell.report import Column

T = TypeVar("T")


class Writer(Protocol):
    """Where results and notes go: a text file, or the prompt's screen."""

    def write(self, text: str, /) -> object:
        """Write *text*."""

    def flush(self) -> None:
        """Bring everything out."""


@dataclass(slots=True)
class Options:
    """How results are drawn when a command does not say."""

    form: str = "table"
    width: int = 0
    colour: bool = False


def _no_journal(_text: str) -> None:
    """Keep nothing: only the prompt has a journal."""


@dataclass(slots=True)
class Shell:
    """A session: one machine at a time, and the settings around it."""

    machine: Machine | None = None
    image: Loaded | None = None  # the kernel image that struct, sizeof, enum and sym look into
    registry: Registry = field(default_factory=lambda: Registry(REGISTERED))
    options: Options = field(default_factory=Options)
    variables: dict[str, Any] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    watches: list[str] = field(default_factory=list)
    last_error: MemshellError | None = None  # of the last `!` command
    command_text: str = ""
    progress: tuple[int, int] | None = None  # done, total; of the command that runs
    directives: dict[str, tuple[str, str]] = field(default_factory=dict)  # word -> (form, text), for help
    play_file: Callable[[str], None] | None = None
    play_fresh: Callable[[str], list[Step]] | None = None  # plays a text on a machine of its own
    value_of: Callable[[str], str] | None = None  # of an expression, as text
    mutate_file: Callable[..., list[Verdict]] | None = None  # plays a file once per mutant of the kernel
    journal: Callable[[str], None] = _no_journal
    out: Writer = field(default_factory=lambda: sys.stdout)
    err: Writer = field(default_factory=lambda: sys.stderr)
    loader: Callable[[], Plugins] | None = None
    _plugins: Plugins | None = None

    @property
    def plugins(self) -> Plugins:
        """The plugins, loaded when they are asked for the first time."""
        if self._plugins is None:
            if self.loader is not None:
                self._plugins = self.loader()
            else:
                from memshell.plugins import load_plugins

                self._plugins = load_plugins()
            for item in self._plugins.commands():
                self._add(item)
        return self._plugins

    def _add(self, item: Command) -> None:
        try:
            self.registry.add(item)
        except PluginError as error:
            self.note(f"memshell: {item.origin}: {error}")

    def announce(self, step: Step) -> None:
        """Show a step's events to the observers among the plugins."""
        if self._plugins is not None:
            self._plugins.event(step.mm, step.events)

    def blame(self, error: BaseException) -> PluginError | None:
        """Return the error as a plugin's, when a plugin's code raised it."""
        return None if self._plugins is None else self._plugins.blame(error)

    def columns(self, view: str) -> list[Column]:
        """Return the columns that plugins add to a view."""
        mm = None if self.machine is None else self.machine.mm
        return [] if self._plugins is None else self._plugins.columns(view, mm)

    def find_command(self, name: str) -> Command:
        """Return the command, a plugin's too.  Raises UsageError with the nearest right word."""
        if name not in self.registry:
            _ = self.plugins
        return self.registry.get(name, self.aliases)

    def known_words(self) -> set[str]:
        """Return the names that stand for themselves in an expression: architectures, policies, profiles."""
        return {*self.plugins.arches(), *self.plugins.policies()}

    def need_machine(self) -> Machine:
        """Return the machine, or raise CommandError that says how to get one."""
        if self.machine is None:
            raise CommandError("there is no machine yet", hint="start one with: use x86_64 ram=2G")
        return self.machine

    def change(self) -> AbstractContextManager[Mm]:
        """Return the running command's transaction: a working copy that model functions change."""
        return self.need_machine().transaction(self.command_text)

    def source(self, path: str) -> None:
        """Play a scenario file in this session.  Raises UsageError where there is no player."""
        if self.play_file is None:
            raise UsageError("there is no scenario player here")
        self.play_file(path)

    def track(self, items: Collection[T]) -> Iterator[T]:
        """Yield *items* and keep count, so that a prompt can show how far a long command has come."""
        total = len(items)
        try:
            for done, item in enumerate(items):
                self.progress = (done, total)
                yield item
        finally:
            self.progress = None

    def write(self, text: str) -> None:
        """Write a result to stdout.  Raises CommandError when it cannot be, as on a full disk."""
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"cannot write the output: {error.strerror}") from error

    def note(self, text: str) -> None:
        """Tell the user something that is not a result, on stderr."""
        print(text, file=self.err, flush=True)
