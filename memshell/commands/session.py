"""The commands around the machine: going back and forth, looking back, keeping and replaying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import COUNT, FILE, INT, TEXT, choice, named

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.machine import Step
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


@command("session", needs_machine=False, examples="> exit")
def exit_(shell: Shell, _args: Namespace) -> None:
    """Leave: the prompt, or a script where it stands.  `quit` and Ctrl-D do the same."""
    shell.leaving = True


@command("session", needs_machine=False, examples="> true")
def true(_shell: Shell, _args: Namespace) -> None:
    """Do nothing, successfully."""


@command(
    "session",
    arg("count", COUNT, "how many steps", nargs="?", default=1),
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 1G
1G at <...>
<...>
> undo
back before step 1: add 1G
""",
)
def undo(shell: Shell, args: Namespace) -> str:
    """Take back the last step, or the last N steps.

    Every command is a step: undo gives back exactly the state before it, whatever it did.
    """
    step = shell.need_machine().undo(args.count)
    return f"back before step {step.n}: {step.command}"


@command(
    "session",
    arg("count", COUNT, "how many steps", nargs="?", default=1),
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 1G
1G at <...>
<...>
> undo
back before step 1: add 1G
> redo
again after step 1: add 1G
""",
)
def redo(shell: Shell, args: Namespace) -> str:
    """Do again what undo took back; what has failed since then is taken back."""
    machine = shell.need_machine()
    before = list(machine.steps)
    step = machine.redo(args.count)
    failed = [one for one in before if one not in machine.steps]
    gone = f"; what failed is taken back: {', '.join(one.command for one in failed)}" if failed else ""
    return f"again after step {step.n}: {step.command}{gone}"


def outcome(step: Step) -> str:
    """Return how a step ended in a word or two: ok, an errno, or what the kernel crashed with."""
    if step.crashed:
        return f"crashed: {step.crashed}"
    return "ok" if step.error is None else (step.error.errno or "failed")


@command(
    "session",
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 1G
1G at <...>
<...>
> online all movable
memory32-39 online in Movable<...>
> history
STEP OUTCOME EVENTS COMMAND
   0 ok           0 use x86_64 ram=2G
   1 ok           2 add 1G
   2 ok           8 online all movable
""",
)
def history(shell: Shell, _args: Namespace) -> Result:
    """Show the steps that led to this state; ``diff A B`` compares two of them."""
    rows = [
        {"step": step.n, "command": step.command, "outcome": outcome(step), "events": len(step.events)}
        for step in shell.need_machine().steps
    ]
    columns = (Column("STEP", right=True), Column("OUTCOME"), Column("EVENTS", right=True), Column("COMMAND"))
    return Result(rows=rows, columns=columns)


@command(
    "session",
    arg("step", INT, "the step; the last one if it is left out", nargs="?"),
    arg("--all", None, "the events of every step"),
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 128M
128M at <...>
<...>
> events
STEP KIND          TEXT
   1 SectionsAdded pfns 0x100000-0x107fff, memmap from existing memory
   1 MemoryAdded   0x100000000-0x107ffffff (128M) on node 0
""",
)
def events(shell: Shell, args: Namespace) -> Result:
    """Show what a step did, effect by effect, with the kernel function that had it."""
    steps = shell.need_machine().steps
    if not args.all:
        number = steps[-1].n if args.step is None else args.step
        if not 0 <= number < len(steps):
            raise UsageError(f"there is no step {number}", hint=f"steps go from 0 to {len(steps) - 1}")
        steps = steps[number : number + 1]
    rows = [
        {"step": step.n, "kind": event.kind, "text": event.text, "function": event.function, **event.data}
        for step in steps
        for event in step.events
    ]
    columns = (Column("STEP", right=True), Column("KIND"), Column("TEXT"), Column("FUNCTION", drop=1))
    return Result(rows=rows, columns=columns)


@command(
    "session",
    arg("file", FILE, "a scenario"),
    needs_machine=False,
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> save small.mem
small.mem: 1 command
> use x86_64 ram=4G
x86_64, 4G, blocks of 128M, kernel v6.12, policy buddy
> source small.mem
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
""",
)
def source(shell: Shell, args: Namespace) -> None:
    """Play a scenario file in this session, on the present machine; or one that a plugin brings, by its name."""
    shell.player.play_file(str(shell.plugins.scenarios().get(args.file, args.file)))


@command(
    "session",
    arg("file", FILE, "where to write"),
    arg("--expect", None, "write what came out too, as expectations"),
    arg("--force", None, "replace the file if it exists"),
    examples="""
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
> add 1G
1G at <...>
<...>
> save mine.mem --expect
mine.mem: 2 commands
> !cat mine.mem
use x86_64 ram=2G
add 1G
expect blocks.total == 24
expect blocks.online == 16
expect zone.0.DMA.present == 3998
expect zone.0.DMA.managed == 3840
expect zone.0.DMA32.present == 520160
expect zone.0.DMA32.managed == 483937
""",
)
def save(shell: Shell, args: Namespace) -> str:
    """Write a scenario that replays to this state.

    The steps that were undone are left out.  A step that failed is written as ``! CMD`` with its errno
    expected.
    """
    from pathlib import Path

    steps = shell.need_machine().steps
    shell.guard(f"save {args.file}")
    lines = [line for step in steps for line in _saved(step)]
    if args.expect:
        lines += _expectations(shell)
    try:
        with Path(args.file).open("w" if args.force else "x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except FileExistsError as error:
        raise CommandError(f"{args.file} exists", hint="--force replaces it") from error
    except OSError as error:
        raise CommandError(f"cannot write {args.file}: {error.strerror}") from error
    return f"{args.file}: {len(steps)} command{'s' if len(steps) > 1 else ''}"


def _saved(step: Step) -> list[str]:
    if step.error is None:
        return [step.command]
    expected = [f"expect error == {step.error.errno}"] if step.error.errno else []
    return [f"! {step.command}", *expected]


def _expectations(shell: Shell) -> list[str]:
    mm = shell.need_machine().mm
    online = sum(block.state == "online" for block in mm.blocks.values())
    lines = [f"expect blocks.total == {len(mm.blocks)}", f"expect blocks.online == {online}"]
    for (nid, kind), zone in sorted(mm.zones.items()):
        if zone.present:
            name = f"zone.{nid}.{kind.label}"
            lines += [f"expect {name}.present == {zone.present}", f"expect {name}.managed == {zone.managed}"]
    return lines


@command(
    "session",
    arg("expression", TEXT, "what to show after each step", nargs="*"),
    arg("--off", None, "stop watching"),
    needs_machine=False,
    settings=True,
    examples="""
> watch blocks.online
> use x86_64 ram=2G
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
blocks.online = 16
""",
)
def watch(shell: Shell, args: Namespace) -> str | None:
    """Show an expression after each step; without one, list what is watched.

    An expression is what `expect` takes: ``zone.Movable.free``, ``blocks.online``. With --off alone nothing is
    watched any more.
    """
    text = " ".join(args.expression or [])
    if args.off:
        shell.settings.watches = [known for known in shell.settings.watches if text and known != text]
    elif text:
        if shell.machine is not None:
            shell.player.value_of(text)
        if text not in shell.settings.watches:
            shell.settings.watches.append(text)
    else:
        return "\n".join(shell.settings.watches)
    return None


def _session_names(shell: Shell, _prefix: str) -> Suggestions:
    yield from ((str(row["name"]), str(row["machine"])) for row in (shell.sessions.rows() if shell.sessions else ()))


def _session_name(word: str, _shell: Shell) -> str:
    if not word[:1].isalnum() or not word.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"{word!r} is no name of a session", hint="letters, digits, dots and dashes")
    return word


SESSION = ArgType("NAME", _session_name, _session_names)


@command(
    "session",
    arg("name", SESSION, "the name"),
    needs_machine=False,
    settings=True,
    examples="""
> session planning
this session is planning: memshell --resume planning
""",
)
def session(shell: Shell, args: Namespace) -> str:
    """Give this session a name, by which ``memshell --resume NAME`` brings it back; it is kept until it is forgotten."""
    shell.session = args.name
    return f"this session is {args.name}: memshell --resume {args.name}"


@command(
    "session",
    arg("name", SESSION, "one of them, with --off", nargs="?"),
    arg("--off", None, "forget the session of this name"),
    arg("--prune", None, "forget all that have no name of their own"),
    needs_machine=False,
    examples="""
> ! sessions
failed as it should: only a prompt keeps sessions
""",
)
def sessions(shell: Shell, args: Namespace) -> str | Result:
    """List the sessions at the prompt that have ended: ``memshell --resume NAME`` brings one back.

    One that was not named with ``session NAME`` goes by the time of its beginning. The newest ten are kept, and all that
    were named.
    """
    if shell.sessions is None:
        raise CommandError("only a prompt keeps sessions")
    if args.off or args.name is not None:
        if args.name is None or not args.off:
            raise UsageError("sessions lists them", hint="sessions NAME --off forgets one; memshell --resume NAME")
        return f"session {shell.sessions.forget(args.name)} is forgotten"
    if args.prune:
        count = shell.sessions.prune()
        return f"{count} session{'s' * (count != 1)} forgotten"
    rows = shell.sessions.rows()
    columns = (Column("NAME"), Column("AGE", right=True), Column("COMMANDS", right=True), Column("MACHINE"))
    return Result(text=None if rows else "no session has ended", rows=rows, columns=columns, data=rows)


def _aliases(shell: Shell, _prefix: str) -> Suggestions:
    return shell.settings.aliases.items()


ALIAS = ArgType("NAME", lambda word, _shell: word, _aliases)


@command(
    "session",
    arg("name", ALIAS, "the new word", nargs="?"),
    arg("words", TEXT, "what it stands for; quote it if it has a ;", nargs="*"),
    arg("--off", None, "forget the alias"),
    needs_machine=False,
    settings=True,
    examples="""
> alias ls 'lsmem -o RANGE,SIZE,STATE'
> alias
ls = lsmem -o RANGE,SIZE,STATE
""",
)
def alias(shell: Shell, args: Namespace) -> str | None:
    """Give a command, or several, a name of your own.

    What follows the name when it is used is added at the end.
    """
    if args.name is None:
        return "\n".join(f"{name} = {text}" for name, text in sorted(shell.settings.aliases.items()))
    if args.off:
        if args.name not in shell.settings.aliases:
            hint = did_you_mean(args.name, shell.settings.aliases)
            raise UsageError(f"there is no alias {args.name!r}", hint=hint)
        del shell.settings.aliases[args.name]
        return None
    if not args.words:
        return f"{args.name} = {shell.settings.aliases.get(args.name, '')}"
    if args.name in shell.registry:
        raise UsageError(f"{args.name} is a command", hint="choose another word")
    shell.settings.aliases[args.name] = " ".join(args.words)
    (shell.settings.foreign.discard if shell.trusted else shell.settings.foreign.add)(args.name)
    return None


def plugin_rows(shell: Shell, *, time: bool) -> Result:
    """Return the plugins as rows; with *time*, how long each took to load."""
    rows: list[dict[str, Any]] = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "origin": plugin.origin,
            "hooks": list(plugin.hooks),
            "state": plugin.state,
            "ms": round(plugin.seconds * 1000, 1),
            "error": plugin.error,
        }
        for plugin in shell.plugins.found
    ]
    columns = (
        Column("NAME"),
        Column("VERSION"),
        Column("STATE"),
        Column("MS", right=True, default=time),
        Column("HOOKS"),
        Column("ORIGIN", drop=1),
        Column("ERROR"),
    )
    return Result(rows=rows, columns=columns)


PLUGIN = named("plugin", lambda shell: {plugin.name: plugin.state for plugin in shell.plugins.found})
DOINGS = {"reload": "import it anew, as its files are now", "disable": "do without it from here on"}


@command(
    "session",
    arg("action", choice("action", DOINGS), "what to do with it"),
    arg("name", PLUGIN, "the plugin, as plugins lists it"),
    needs_machine=False,
    settings=True,
    examples="""
> plugin disable s390
plugin s390 <...> is disabled
> ! use s390
unknown architecture 's390'; known: arm64, powerpc, x86_64
> plugin reload s390
plugin s390 0.1.0 is loaded: memshell_arches, memshell_commands
""",
)
def plugin(shell: Shell, args: Namespace) -> str:
    """Load a plugin anew, or do without it, without leaving the prompt.

    The machine keeps what it has: an architecture or a policy of the old code, until ``use`` or ``policy`` takes the new one.
    One that cannot be loaded is out, with the reason; mend it and reload it.
    """
    plugins = shell.plugins
    origin = next(one.title for one in plugins.found if one.name == args.name)
    try:
        done = plugins.reload(args.name) if args.action == "reload" else plugins.disable(args.name)
    finally:
        shell.renew_commands(origin)
    return f"{done.title} is {done.state}" + (f": {', '.join(done.hooks)}" if args.action == "reload" else "")


@command(
    "session",
    arg("--time", None, "show how long each took to load"),
    needs_machine=False,
    examples="""
> plugins -o NAME,STATE,HOOKS
NAME<...>STATE  HOOKS
<...>
x86_64<...>loaded memshell_arches
<...>
""",
)
def plugins(shell: Shell, args: Namespace) -> Result:
    """Show the plugins: name, version, origin, hooks, and the reason where one failed."""
    return plugin_rows(shell, time=args.time)
