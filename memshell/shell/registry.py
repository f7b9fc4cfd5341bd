"""What a command is: one declaration that serves parsing, help, completion and the reference page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memshell.errors import PluginError, UsageError, did_you_mean

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator

    from memshell.result import Result
    from memshell.shell.shell import Shell

    CommandFunction = Callable[["Shell", Namespace], "Result | str | None"]
    Suggestions = Iterable[tuple[str, str]]

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
FAMILIES = ("machine", "hotplug", "memory", "look", "what if", "session")


def _no_suggestions(_shell: Shell, _prefix: str) -> Suggestions:
    return ()


@dataclass(frozen=True, slots=True)
class ArgType:
    """How one kind of word is read and completed.

    *convert* gets the word and the shell and returns the value, or raises UsageError.
    *complete* gets the shell and what is typed so far and gives (word, description) pairs. Where they depend on the
    words of the command that stand before, *after* gets these too.
    """

    name: str
    convert: Callable[[str, Shell], Any]
    complete: Callable[[Shell, str], Suggestions] = _no_suggestions
    after: Callable[[Shell, str, list[str]], Suggestions] | None = None
    names_files: bool = False  # the word, or what stands behind its =, may be the path of a file

    def suggest(self, shell: Shell, prefix: str, before: list[str]) -> Suggestions:
        """Return the completions of *prefix* behind the words *before*."""
        return self.complete(shell, prefix) if self.after is None else self.after(shell, prefix, before)


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: ``word`` is positional, ``word=`` a key (``--word`` too), ``--word`` or ``-w`` an option.

    *long* has the other names of an option; *bare* is its value where it is typed without one.
    """

    name: str
    type: ArgType | None
    help: str
    nargs: str | None = None
    default: Any = None
    long: str = ""
    bare: str | None = None

    @property
    def is_key(self) -> bool:
        """Whether it is typed as ``word=value``."""
        return self.name.endswith("=")

    @property
    def is_option(self) -> bool:
        """Whether it is typed with a name, as ``word=value`` or ``--word``."""
        return self.is_key or self.name.startswith("-")

    @property
    def is_repeated(self) -> bool:
        """Whether it is an option that may be given more than once, each time with a value."""
        return self.is_option and self.nargs == "+"

    @property
    def dest(self) -> str:
        """The attribute of the parsed arguments that carries the value."""
        return self.name.strip("-=").replace("-", "_")

    @property
    def flag(self) -> str:
        """The option as argparse knows it."""
        return "--" + self.name[:-1] if self.is_key else self.name

    @property
    def flags(self) -> tuple[str, ...]:
        """All names of the option."""
        return (self.flag, *self.long.split())


def arg(
    name: str,
    kind: ArgType | None,
    text: str,
    *,
    nargs: str | None = None,
    default: Any = None,
    long: str = "",
    bare: str | None = None,
) -> Arg:
    """Declare an argument; ``kind=None`` with an option name makes a switch.  *nargs* as in argparse."""
    return Arg(name, kind, text, nargs, default, long, bare)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words, its help and the function that does it."""

    name: str
    family: str
    function: CommandFunction
    arguments: tuple[Arg, ...] = ()
    examples: str = ""
    needs_machine: bool = True
    tail: bool = False
    raw: bool = False
    settings: bool = False  # changes the session and not the machine: the journal keeps it all the same
    origin: str = "memshell"
    summary: str = field(init=False)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        # A terminal shows the marks of code as they are: one on each side will do.
        lines = (self.function.__doc__ or "").replace("``", "`").strip().splitlines()
        object.__setattr__(self, "summary", lines[0].strip() if lines else "")
        body = "\n".join(line.removeprefix("    ") for line in lines[1:])
        object.__setattr__(self, "text", body.strip())


def command(
    family: str,
    *arguments: Arg,
    name: str | None = None,
    examples: str = "",
    needs_machine: bool = True,
    tail: bool = False,
    raw: bool = False,
    settings: bool = False,
) -> Callable[[CommandFunction], Command]:
    """Make a Command of the function below.  memshell's own are found in their modules; a plugin returns its own.

    The docstring's first line is the summary, the rest the text of ``help``.  *examples* is a transcript:
    lines that start with ``> `` are typed, the others are the output that a test expects (``<...>`` matches
    any run of characters).  With *tail*, what follows `` -- `` arrives as one string in ``args.tail``.  With
    *raw*, all words arrive unparsed in ``args.words``.
    """

    def make(function: CommandFunction) -> Command:
        word = name or function.__name__.strip("_").replace("_", "-")
        text = examples.strip("\n")
        return Command(word, family, function, arguments, text, needs_machine, tail, raw, settings)

    return make


class Registry:
    """The commands that one shell knows, built-in ones and those of plugins."""

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        self._commands: dict[str, Command] = {}
        for item in commands:
            self.add(item)

    def __iter__(self) -> Iterator[Command]:
        return iter(sorted(self._commands.values(), key=lambda item: item.name))

    def names(self) -> Iterable[str]:
        """Return the commands' names."""
        return self._commands.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._commands

    def add(self, item: Command) -> None:
        """Add a command.  Raises PluginError when the name is taken: nobody replaces a command silently."""
        if not NAME.fullmatch(item.name):
            raise PluginError(f"command {item.name!r} cannot be: small letters and digits, with - or _ between words")
        if item.family not in FAMILIES:
            hint = did_you_mean(item.family, FAMILIES) or "one of " + ", ".join(FAMILIES)
            raise PluginError(f"command {item.name}: there is no family {item.family!r}", hint=hint)
        held = self._commands.get(item.name)
        if held is not None and held is not item:
            raise PluginError(f"command {item.name} exists already, from {held.origin}")
        self._commands[item.name] = item

    def remove_of(self, origin: str) -> None:
        """Forget the commands of a plugin."""
        self._commands = {name: item for name, item in self._commands.items() if item.origin != origin}

    def get(self, name: str, extra: Iterable[str] = ()) -> Command:
        """Return the command, or raise UsageError with the nearest right word, of *extra* too."""
        found = self._commands.get(name)
        if found is None:
            hint = did_you_mean(name, [*self._commands, *extra]) or "help lists the commands"
            raise UsageError(f"unknown command {name!r}", hint=hint)
        return found
