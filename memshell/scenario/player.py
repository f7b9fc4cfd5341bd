"""Play statements on a shell: the one way in which text becomes calls, whoever typed it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, nullcontext, redirect_stdout
from copy import copy
from dataclasses import InitVar, dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.commands.builtin import COMMANDS
from memshell.commands.topics import TOPICS, topic_text
from memshell.errors import (
    CommandError,
    ExpectFailed,
    KernelCrash,
    KernelError,
    MemshellError,
    ScenarioError,
    Terminated,
    UsageError,
    did_you_mean,
    os_error,
    printable,
)
from memshell.result import Result, render
from memshell.scenario.cells import Cells
from memshell.scenario.expression import Names, Number, evaluate, plain_value, show, spoken, why_not
from memshell.scenario.files import read_scenario, run_shell, write_output
from memshell.scenario.golden import mismatch
from memshell.scenario.names import TOP, State, begins_expression
from memshell.scenario.pasted import as_run, kernel_file
from memshell.scenario.syntax import (
    DIRECTIVES,
    Condition,
    Escape,
    Expect,
    Include,
    Let,
    Repeat,
    Run,
    Statement,
    Subtest,
    SyntaxProblem,
    Where,
    parse_expression,
    parse_text,
)
from memshell.scenario.words import expand, literal, quote
from memshell.shell.dispatch import invoke, located_words, shown
from memshell.shell.shell import SYNONYMS, Output, Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from memshell.machine import Step
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins
    from memshell.scenario.lalr import Node, Token


def installed_plugins() -> Plugins:
    """Load the plugins that are installed."""
    from memshell.plugins import load_plugins

    return load_plugins()


def explain(shell: Shell, error: KernelError | KernelCrash, before: Mm) -> None:
    """Let an error of the kernel tell what it found, what it left behind and, where something does, what helps."""
    from memshell.commands.left import explained

    explained(shell, error, before)


def _no_journal(_text: str) -> None:
    """Keep nothing: only the prompt has a journal."""


MOST_REPEATS = 100_000
MOST_FILES = 20
CONDITIONS = ("arch", "policy", "profile", "page_size", "plugin", "command")


class StepFailed(ScenarioError):
    """A step of a script failed: the cause, with ``file:line`` and the include chain around it.

    What it says is made when it is told: *text* is the cause's own words where it is None.
    """

    def __init__(self, where: Where, cause: BaseException, text: str | None = None) -> None:
        self._text = text
        self.where = where
        self.cause = cause
        super().__init__("", errno=getattr(cause, "errno", None))
        self.exit_code = getattr(cause, "exit_code", 3)

    @property
    def message(self) -> str:
        """The cause with its place."""
        if self._text is None:
            self._text = str(self.cause)
        return located(self.where, self._text)

    @message.setter
    def message(self, _text: str) -> None:
        """Keep nothing: it is made of the cause."""

    def __str__(self) -> str:
        return printable(self.message)


@dataclass(slots=True)
class Played:
    """What one step did, for those who watch the player."""

    n: int
    statement: Statement
    command: str
    error: MemshellError | None = None
    output: str = ""
    steps: tuple[Step, ...] = ()
    seconds: float = 0.0
    skipped: bool = False
    errno: str | None = None  # of a failure, also of one that `!` expected

    @property
    def crashed(self) -> str | None:
        """What the modelled kernel crashed with, if this step crashed it."""
        return next((step.crashed for step in self.steps if step.crashed), None)


@dataclass(slots=True)
class Player:
    """A shell and what plays statements on it.

    *loader* brings the plugins when they are asked for.  With *keep_going* the failures are collected in *failures*
    instead of raised.
    """

    loader: InitVar[Callable[[], Plugins]] = installed_plugins
    output: InitVar[Output | None] = None
    keep_going: bool = False
    observe: Callable[[Played], None] | None = None
    echo: bool = True
    capture: bool = False  # take what the system's shell writes, where the terminal is not to have it
    update: Callable[[Run, str], None] | None = None
    subtest: Callable[[Subtest, Player], None] | None = None
    hand_over: Callable[[], AbstractContextManager[None]] = nullcontext  # around other programs
    turn: Callable[[], AbstractContextManager[None]] = nullcontext  # around a step, where others have the machine too
    journal: Callable[[str], None] = _no_journal
    failures: list[StepFailed] = field(default_factory=list)
    count: int = 0
    shell: Shell = field(init=False)
    names: Names = field(init=False)  # what names mean in it
    _current: Played | None = None
    _inside: list[str] = field(default_factory=list)  # the aliases that are being played
    _kept: int = 0  # commands that were given to the journal
    _repeats: int = 0  # rounds of all `repeat` of one text
    _files: int = 0  # that are being played, each from the one before
    _subtests: int = 0  # how many of them are being played
    _others: list[Step] = field(default_factory=list)  # the machine's steps that were made beside the step in hand

    def __post_init__(self, loader: Callable[[], Plugins], output: Output | None) -> None:
        self.shell = Shell(self, COMMANDS, loader, output or Output())
        self.shell.explain = explain
        self.names = Names(State(self.shell).look_up, self.shell.settings.variables)

    @property
    def directives(self) -> Mapping[str, tuple[str, str]]:
        """The words of the language that are no commands, each with its form and a text."""
        return DIRECTIVES

    @property
    def known_words(self) -> Iterable[str]:
        """The words beside the commands that a line may begin with, and those that `help` knows."""
        return [*DIRECTIVES, *SYNONYMS, *TOPICS, *TOP]

    def topic(self, word: str) -> str | None:
        """Return what `help` says of a tool or a subject, or None."""
        return topic_text(word)

    def fresh(self, observe: Callable[[Played], None] | None = None) -> Player:
        """Return a player on a shell of its own that shows nothing and goes on after failures."""
        output = Output(StringIO(), StringIO())
        player = Player(lambda: self.shell.plugins, output, keep_going=True, observe=observe, echo=False, capture=True)
        player.shell.tries = True
        player.shell.allow_shell, player.shell.trusted = self.shell.allow_shell, self.shell.trusted
        return player

    def cells(self, path: str) -> Cells:
        """Return what plays a scenario cell by cell, here or in other processes.  Raises UsageError."""
        steps = self.shell.machine.steps if self.shell.machine is not None else ()
        before = "\n".join(f"! {step.command}" if step.error else step.command for step in steps)
        return Cells.of(path, self.shell.loader, Player, allow_shell=self.shell.allow_shell, before=before)

    def forget_failures(self) -> None:
        """Begin to collect failures anew."""
        self.failures.clear()

    def play_beside(self, text: str, file: str) -> str:
        """Play *text* on the same shell while this player may be amid a step; return what the last command gave out.

        The caller has the turn. Raises StepFailed at the first failure.
        """
        before, said = self._position(), [""]
        try:
            self._other(lambda played: said.append(played.output)).play_text(text, file)
        finally:
            self._others += self._steps_since(before)
        return said[-1]

    def _other(self, observe: Callable[[Played], None]) -> Player:
        """Return a player with a hand of its own on the same shell; *observe* sees its steps as those who watch this one do."""
        other = copy(self)
        fresh: dict[str, Any] = {"echo": False, "keep_going": False, "_current": None, "_inside": [], "_others": []}
        for name, value in fresh.items():
            setattr(other, name, value)

        def watch(played: Played) -> None:
            observe(played)
            if self.observe is not None:
                self.observe(played)

        other.observe = watch
        return other

    def play_text(self, text: str, file: str, *, first_line: int = 1, parent: Where | None = None) -> None:
        """Play the statements of *text*."""
        if not self._files and not self._inside:
            self._repeats = 0
        self.play(parse_text(text, file, first_line=first_line, parent=parent))

    def play_file(self, path: str, *, parent: Where | None = None) -> None:
        """Play a file.  Raises UsageError when it cannot be read."""
        if self._files >= MOST_FILES:
            raise UsageError(
                f"{path}: files that play files, more than {MOST_FILES} deep", hint="does one play itself?"
            )
        with self.in_file():
            self.play_text(read_scenario(path), path, parent=parent)

    @contextmanager
    def in_file(self) -> Iterator[None]:
        """What is played inside stands in a file: it runs no program and writes no file, unless that is allowed."""
        self._files += 1
        try:
            with self._trusting(whom=False):
                yield
        finally:
            self._files -= 1

    @contextmanager
    def _trusting(self, *, whom: bool) -> Iterator[None]:
        trusted, self.shell.trusted = self.shell.trusted, self.shell.trusted and whom
        try:
            yield
        finally:
            self.shell.trusted = trusted

    def play(self, statements: Iterable[Statement]) -> None:
        """Play statements in order; the first failure ends it, unless *keep_going*."""
        for statement in statements:
            if self.shell.leaving:
                return
            try:
                self._step(statement)
            except StepFailed as failure:
                if not self.keep_going:
                    raise
                self.failures.append(failure)

    def _step(self, statement: Statement) -> None:
        if isinstance(statement, (Repeat, Subtest, Include)):
            self._guard(statement, lambda: self._block(statement))
            return
        with self.turn():
            self._one_step(statement)

    def _one_step(self, statement: Statement) -> None:
        self.count += 1
        self._others.clear()
        current = self._current = Played(self.count, statement, statement.text)
        before = self._position()
        started = time.perf_counter()
        try:
            self._guard(statement, lambda: self._action(statement))
        except StepFailed as failure:
            cause = failure.cause
            current.error = cause if isinstance(cause, MemshellError) else failure
            current.errno = current.error.errno
            raise
        finally:
            current.seconds = time.perf_counter() - started
            current.steps = self._steps_since(before)
            if self.observe is not None:
                self.observe(current)
        for step in current.steps:
            self.shell.announce(step)
            self._complaints(step)
        if current.steps:
            self._show_watches()

    def _guard(self, statement: Statement, action: Callable[[], None]) -> None:
        """Run *action* where its conditions hold; give an error its place."""
        try:
            if all(self._holds(condition) for condition in statement.conditions):
                action()
            elif self._current is not None:
                self._current.skipped = True
        except (StepFailed, BrokenPipeError, Terminated):
            raise
        except MemshellError as error:
            raise StepFailed(statement.where, error) from error
        except MemoryError as error:
            full = CommandError("no memory is left for this command", hint="the state is as before; see ulimit -v")
            raise StepFailed(statement.where, full) from error
        except OSError as error:
            told = self.shell.blame(error) or CommandError(os_error(error))
            raise StepFailed(statement.where, told) from error
        except (Exception, SystemExit) as error:  # a plugin's: nobody else leaves by it
            blamed = self.shell.blame(error)
            text = f"internal error: {type(error).__name__}: {error}" if blamed is None else str(blamed)
            cause = error if blamed is None else blamed
            raise StepFailed(statement.where, cause, text) from error

    def _holds(self, condition: Condition) -> bool:
        value = condition.value
        if condition.key == "command":
            found = value in self.shell.registry
        elif condition.key == "plugin":
            found = value in self.shell.plugins.names()
        elif condition.key in CONDITIONS:
            seen = State(self.shell).look_up(condition.key)
            found = str(seen).lower() == value.lower()
        else:
            hint = did_you_mean(condition.key, CONDITIONS) or "one of " + ", ".join(CONDITIONS)
            raise UsageError(f"unknown condition {condition.key!r}", hint=hint)
        return found != condition.negated

    # --- blocks ---

    @contextmanager
    def in_subtest(self) -> Iterator[None]:
        """What is played inside leaves the machine as it was: the journal keeps only settings of it."""
        self._subtests += 1
        try:
            yield
        finally:
            self._subtests -= 1

    def _block(self, statement: Statement) -> None:
        if isinstance(statement, Include):
            self._include(statement)
        elif isinstance(statement, Repeat):
            self._repeat(statement)
        elif isinstance(statement, Subtest):
            (self.subtest or play_subtest)(statement, self)

    def _include(self, statement: Include) -> None:
        above = statement.where
        path = str(Path(above.file).parent / expand(statement.path, self.names))
        if any(place.file == path for place in (above, *above.chain())):
            raise UsageError(f"{path} includes itself")
        self.play_file(path, parent=above)

    def _repeat(self, statement: Repeat) -> None:
        assert statement.count is not None
        times = evaluate(statement.count, self.names)
        if not isinstance(times, Number) or times.number < 0 or times.number != int(times.number):
            raise UsageError(f"cannot repeat {show(times)} times")
        for at in range(int(times.number)):
            self._repeats += 1
            if self._repeats > MOST_REPEATS:
                raise UsageError(f"more than {MOST_REPEATS} repeats", hint="take fewer, or several scenarios")
            if statement.name is not None:
                self.shell.settings.variables[statement.name] = Number(at)
            self.play(statement.body)
        if statement.name is not None and times.number:
            self._keep(f"let {statement.name} = {int(times.number) - 1}", state=False)

    # --- single steps ---

    def _action(self, statement: Statement) -> None:
        if isinstance(statement, Run):
            self._run(statement)
        elif isinstance(statement, Expect):
            self._expect(statement)
        elif isinstance(statement, Let):
            self._let(statement)
        elif isinstance(statement, Escape):
            self.shell.guard(f"!{statement.command}")
            with self.hand_over():
                output = run_shell(statement.command, capture=self.capture)
            self.shell.write(output)

    def _let(self, statement: Let) -> None:
        assert statement.expression is not None
        variables = self.shell.settings.variables
        if statement.default and statement.name in variables:
            return
        value = variables[statement.name] = evaluate(statement.expression, self.names)
        # What it was made of (a counter, a machine) may not be there when the journal is played: the value is kept.
        self._keep(f"let {statement.name} = {literal(value)}", state=False)

    def _run(self, statement: Run) -> None:
        if statement.expression is None:
            statement = self._bare(self._pasted(statement))
        if statement.pipe is not None:
            self.shell.guard(f"| {statement.pipe}")
        if statement.redirect is not None:
            self.shell.guard(" ".join(statement.redirect))
        if statement.expression is not None:
            self._output(statement, self._value(statement.expression))
            return
        words = [expand(word, self.names) for word in statement.words]
        if words[0] in self.shell.settings.aliases and not statement.words[0].startswith("\\"):
            self._alias(statement, words)
            return
        assert self._current is not None
        self._current.command = " ".join(quote(word) for word in words)
        try:
            with self._drawn_for(statement):
                text = self.command(words, statement.tail)
        except (KernelError, KernelCrash, CommandError) as error:
            rows = error.shown
            if not statement.must_fail or isinstance(error, UsageError):
                if self.echo and rows:
                    self.shell.write(rows)
                raise
            self.shell.last_error = error
            self._current.errno = error.errno
            error.advise = None  # nobody asked for it to end well
            self._output(statement, f"failed as it should: {error}\n{rows}")
            return
        if statement.must_fail:
            self.shell.last_error = None
            raise ExpectFailed(f"had to fail, and did not: {statement.text}")
        self._output(statement, text)

    def _pasted(self, statement: Run) -> Run:
        """Return a line for a Linux machine's shell as the command that it is here, and say which."""
        first = statement.words[0]
        known = first in self.shell.registry or first in self.shell.settings.aliases
        writes = statement.redirect is not None or statement.pipe is not None
        if known and not (writes and kernel_file(statement, self.names)):
            return statement
        found, path = as_run(statement, self.names, self.shell)
        if path and self.echo:
            self.shell.note(f"that is: {found.text}")
        return found

    def _bare(self, statement: Run) -> Run:
        """Return a line that begins as no command does, but is one expression, as that: ``2G / 128M``, ``$a``, ``free > 1G``."""
        first = statement.words[0]
        if statement.must_fail or first in self.shell.registry or first in self.shell.settings.aliases:
            return statement
        if not begins_expression(first):
            return statement
        text = statement.text if statement.pipe is None else statement.text.partition("|")[0]
        try:
            return replace(statement, expression=parse_expression(text), redirect=None)
        except SyntaxProblem as problem:
            if first[0] not in "0123456789$(":
                return statement
            raise UsageError(f"{text}: no command, and {problem.message.partition(': ')[2]}") from problem

    def _value(self, expression: Node | Token) -> str:
        """Return a value as the session shows results."""
        value = evaluate(expression, self.names)
        form = self.shell.output.form
        return render(Result(text=spoken(value), data=plain_value(value)), form if form == "json" else "table")

    @contextmanager
    def _drawn_for(self, statement: Run) -> Iterator[None]:
        """Draw for the terminal only what goes there: a file or another program gets no colour and all columns."""
        output = self.shell.output
        if statement.pipe is not None or statement.redirect is not None or statement.golden is not None:
            self.shell.output = replace(output, width=0, colour=False)
        try:
            yield
        finally:
            self.shell.output = output

    def _alias(self, statement: Run, words: list[str]) -> None:
        name = words[0]
        if name in self._inside or len(self._inside) >= MOST_FILES:
            raise UsageError(f"alias {name} calls itself")
        self._inside.append(name)
        with self._trusting(whom=name not in self.shell.settings.foreign):
            self._play_alias(statement, words)

    def _play_alias(self, statement: Run, words: list[str]) -> None:
        name = words[0]
        try:
            text = " ".join([self.shell.settings.aliases[name], *(quote(word) for word in words[1:])])
            inner = parse_text(text, f"alias {name}", parent=statement.where)
            if len(inner) == 1 and isinstance(inner[0], Run):
                self._run(_merged(statement, inner[0]))
            else:
                self.play(inner)
        finally:
            self._inside.remove(name)

    def command(self, words: list[str], tail: str | None = None) -> str:
        """Run one command from its words and return what it shows.  Raises what the command raises."""
        shell = self.shell
        item = shell.find_command(words[0])
        shell.running.text = _typed(words, tail)
        text = _typed([words[0], *located_words(item, words[1:], shell)], tail)
        before, kept = self._position(), self._kept
        try:
            with redirect_stdout(sys.stderr):  # what a plugin prints is no result
                result, args = invoke(item, words[1:], shell, tail)
        except (KernelError, KernelCrash, CommandError) as error:
            if self._position() != before and self._kept == kept and not isinstance(error, UsageError):
                self._keep("! " + text)
            raise
        # What played others, as `source` does, is kept as what they did.
        if (self._position() != before and self._kept == kept) or item.settings:
            self._keep(text, state=not item.settings)
        return shown(result, args, shell)

    def _keep(self, text: str, *, state: bool = True) -> None:
        """Put a finished command into the journal; what a subtest does to the machine is not, since it is undone."""
        self._kept += 1
        if not (state and self._subtests):
            self.journal(text)

    def run_inside(self, text: str) -> str:
        """Run commands for a command that is made of them, and return what they show. They are not in the journal: it is.

        Raises UsageError for what is no command, else what a command raises.
        """
        shell, outer = self.shell, self.shell.running.text
        parts: list[str] = []
        try:
            for statement in parse_text(text, outer):
                if not isinstance(statement, Run) or statement.expression is not None:
                    raise UsageError(
                        f"{statement.text!r} is no command", hint="expect, let and others stand in scenarios"
                    )
                words = [expand(word, self.names) for word in statement.words]
                tail = statement.tail
                shell.running.text = " ".join(quote(word) for word in words) + (f" -- {tail}" if tail else "")
                result, args = invoke(shell.find_command(words[0]), words[1:], shell, tail)
                parts.append(shown(result, args, shell))
        finally:
            shell.running.text = outer
        return "".join(parts)

    def _output(self, statement: Run, text: str) -> None:
        assert self._current is not None
        self._current.output = text
        if statement.golden is not None:
            self._golden(statement, text)
        if statement.pipe is not None:
            with self.hand_over():
                text = run_shell(statement.pipe, text, capture=self.capture or not self.echo)
            self._current.output = text
        if statement.redirect is not None:
            operator, path = statement.redirect
            with self.hand_over():
                write_output(expand(path, self.names), text, append=operator == ">>")
        elif self.echo and text:
            self.shell.write(text)

    def _golden(self, statement: Run, text: str) -> None:
        assert statement.golden is not None
        found = mismatch(statement.golden.lines, text.splitlines())
        if found is not None:
            if self.update is None:
                raise ExpectFailed(f"output differs from the golden block: {statement.text}\n{found}")
            self.update(statement, text)

    def _expect(self, statement: Expect) -> None:
        assert statement.expression is not None
        value = evaluate(statement.expression, self.names)
        if not isinstance(value, bool):
            raise UsageError(f"{show(value)} is neither true nor false", hint="compare it: expect A == B")
        if not value:
            wish = statement.text.removeprefix("expect").strip()
            reasons = why_not(statement.expression, self.names)
            raise ExpectFailed("\n".join([f"expect failed: {wish}", *reasons, *self._last_step()]))

    def _last_step(self) -> list[str]:
        machine = self.shell.machine
        if machine is None or not machine.steps:
            return []
        step = machine.steps[-1]
        ended = f" -> {step.error.errno or step.error}" if step.error else ""
        return [f"    last step: {step.command}{ended}"]

    def _position(self) -> tuple[int, int, int]:
        machine = self.shell.machine
        return (0, 0, 0) if machine is None else (id(machine), len(machine.steps), id(machine.mm))

    def _steps_since(self, before: tuple[int, int, int]) -> tuple[Step, ...]:
        machine = self.shell.machine
        if machine is None:
            return ()
        start = before[1] if before[0] == id(machine) else machine.known
        return tuple(step for step in machine.steps[start:] if not any(step is other for other in self._others))

    def _complaints(self, step: Step) -> None:
        """Say what the kernel complained about without dying of it: the first of it, and how much more."""
        texts = [event.text for event in step.events if event.kind in {"Warning", "BadPageState"}]
        if self.echo and texts:
            more = f"; {len(texts) - 1} more, see events" if len(texts) > 1 else ""
            self.shell.note(f"kernel: {texts[0]}{more}")

    def value_of(self, text: str) -> str:
        """Return the value of an expression, as text."""
        return spoken(evaluate(parse_expression(text), self.names))

    def eval(self, text: str) -> Any:
        """Return the value of an expression, for programs.  Raises UsageError."""
        return plain_value(evaluate(parse_expression(text), self.names))

    def _show_watches(self) -> None:
        for text in self.shell.settings.watches:
            try:
                value = self.value_of(text)
            except MemshellError as error:
                value = str(error)
            self.shell.write(f"{text} = {value}\n")


def _typed(words: list[str], tail: str | None) -> str:
    return " ".join(quote(word) for word in words) + (f" -- {tail}" if tail else "")


def _merged(statement: Run, body: Run) -> Run:
    """Return *statement* with the words of an alias's only command."""
    merged = replace(statement, words=body.words, tail=body.tail or statement.tail)
    return replace(merged, pipe=statement.pipe or body.pipe, redirect=statement.redirect or body.redirect)


def play_subtest(statement: Subtest, player: Player) -> None:
    """Play a subtest and put the machine back as it was."""
    shell = player.shell
    machine, mark = shell.machine, shell.machine.mark() if shell.machine else None
    branch, branches = shell.branch, {name: one.branch() for name, one in shell.branches.items()}
    with player.in_subtest():
        try:
            player.play(statement.body)
        finally:
            shell.machine, shell.branch, shell.branches = machine, branch, branches
            if machine is not None and mark is not None:
                machine.back_to(mark)


def located(where: Where, text: str) -> str:
    """Return ``file:line: text`` and the include chain under it."""
    chain = [f"    at {place}" for place in where.chain()]
    return "\n".join([f"{where}: {text}", *chain])
