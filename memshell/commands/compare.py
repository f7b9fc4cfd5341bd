"""The command ``compare``: the same commands from the session's machine, with one thing changed in each column."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.errors import KernelCrash, KernelError, MemshellError, PluginError, UsageError
from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import FILE, TEXT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from memshell.machine import Machine, Step
    from memshell.shell.shell import Player, Shell

DEFAULT = "use x86_64"


@command(
    "what if",
    arg(
        "kernels",
        TEXT,
        "PROFILE, POLICY, ARCH or KEY=VALUE, several joined by commas: 'powerpc,ram=16G,rfc-2018'",
        nargs="+",
    ),
    arg("file=", FILE, "a scenario instead of commands; its `use` line is the machine then"),
    arg("out=", FILE, "a page with the columns side by side (.html), or the block that each added last (.svg, .png)"),
    arg("--force", None, "write over what is there"),
    needs_machine=False,
    tail=True,
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> compare buddy memmap_on_memory rfc-2018 -- add 1G; online offline movable
from x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
rfc-2018: x86_64, 2G, blocks of 128M, kernel rfc-2018, policy memmap_from_range
KERNEL           EXISTING INSIDE WASTED LARGEST 1G VISITS TABLES LEFT OUTCOME
buddy                 16M      0      0      1G  1      0      0      ok
memmap_on_memory        0    16M      0    126M  0      0      1      ok
rfc-2018                0    16M      0   1008M  0 262145      0      ok
> compare buddy memmap_on_memory out=policies.html -- add 1G; online offline movable
from x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
KERNEL           EXISTING <...>
<...>
policies.html: <...> bytes
""",
)
def compare(shell: Shell, args: Namespace) -> Result:
    """Play the same commands on several kernels, policies or architectures, and compare what they cost.

    Each begins with the session's machine as it stands, with what its name says changed; the machine stands above
    the table. What only a boot can change (a kernel, an architecture, ram=) boots the session's `use` line anew and
    plays its steps again: which machine that gives is said too. Without a machine it is x86_64 as `use x86_64` boots it.

    EXISTING and INSIDE are the memmap taken from memory that was there and from the range; WASTED is padding;
    LARGEST is the longest run of free added memory, 1G how many aligned 1 GiB runs are free, VISITS the
    struct pages that the online code of the series looks at beyond initialising them, TABLES the new
    page-table pages, LEFT what is not free again when all is removed. OUTCOME is ok, the errno of the first
    command that failed, what the kernel died in, or "refused" where a kernel has no such thing; why stands below.
    """
    text, base = _commands(args), _base(shell, args)
    columns = [_played(shell, start(shell, base, name), text) for name in args.kernels]
    _raise_what_was_typed_wrong(columns)
    written = _drawn(shell, columns, args)
    rows = [column.row for column in columns]
    sizes = ("existing", "inside", "wasted", "largest", "left")
    shown = [{**row, **{name: _size(row.get(name)) for name in sizes}} for row in rows]
    return Result(
        rows=shown,
        columns=(*COMPARED, *_own_columns(shell, columns)),
        data=rows,
        header=_header(base, columns),
        footer="\n".join(filter(None, (_reasons(rows), written))),
    )


COMPARED = (
    Column("KERNEL"),
    Column("EXISTING", right=True),
    Column("INSIDE", right=True),
    Column("WASTED", right=True),
    Column("LARGEST", right=True),
    Column("1G", right=True, key="gigantic"),
    Column("VISITS", right=True),
    Column("TABLES", right=True),
    Column("LEFT", right=True),
    Column("OUTCOME"),
    Column("WHY", default=False),
    Column("MACHINE", default=False),
)


def _size(value: int | None) -> str:
    from memshell.mm.pfn import format_size

    return "" if value is None else format_size(value)


def _commands(args: Namespace) -> str:
    if args.file:
        return "\n".join(line for line in _lines(args.file) if not line.lstrip().startswith("use "))
    if not args.tail:
        raise UsageError("compare what?", hint="compare v6.1 v6.12 -- add 1G; online offline movable")
    return str(args.tail)


def _lines(path: str) -> list[str]:
    from pathlib import Path

    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


# --- the machine that a column begins with ---


class Base(NamedTuple):
    """What all columns change: the line that boots it, the steps since, and the machine."""

    use: str
    steps: tuple[Step, ...]
    machine: Machine
    said: str  # where that machine comes from


class Start(NamedTuple):
    """Where a column begins: a machine as it is, or the line that boots one; then what leads from there to the column."""

    name: str
    machine: Machine | None
    use: str
    steps: tuple[Step, ...]  # of the session, to be played again
    settings: tuple[str, ...]  # commands that change what can change while a kernel runs


def _base(shell: Shell, args: Namespace) -> Base:
    own = (
        next((line.strip() for line in _lines(args.file) if line.lstrip().startswith("use ")), None)
        if args.file
        else None
    )
    if own is None and shell.machine is not None:
        return session_base(shell)
    player = shell.player.fresh()
    player.play_text(own or DEFAULT, "compare")
    if player.failures:
        raise _cause(player.failures[0])
    assert player.shell.machine is not None
    return Base(
        own or DEFAULT, (), player.shell.machine, f", as {args.file} boots it" if own else f", as `{DEFAULT}` boots it"
    )


def session_base(shell: Shell) -> Base:
    """Return the session's machine as what all columns change.  Raises CommandError where there is none."""
    machine = shell.need_machine()
    since = f"; after step {machine.step.n}" if len(machine.steps) > 1 else ""
    return Base(machine.steps[0].command, tuple(machine.steps[1:]), machine, since)


def start(shell: Shell, base: Base, name: str) -> Start:
    """Return how the column *name* begins; each of its words is a profile, a policy, an architecture or key=value."""
    arch, wanted = _wanted(shell, name)
    known, options = _boot_words(base.use)
    arch = None if arch == known else arch
    options_now = {**options, "profile": base.machine.mm.profile.name}
    wanted = {key: value for key, value in wanted.items() if key == "policy" or options_now.get(key) != value}
    boots = arch is not None or not all(_runs(base.machine, key) for key in wanted)
    settings = tuple(_setting(key, value) for key, value in wanted.items())
    if not boots:
        return Start(name, base.machine, "", (), settings)
    if not known:
        raise UsageError(f"{name}: nobody knows how this machine was booted", hint="start one with: use x86_64 ram=2G")
    options = _carried(shell, arch, options) | wanted
    if "auto_online" in wanted:
        options.pop("auto_online_blocks", None)  # the same by its other name
    if _gives_no_choice(wanted.get("profile", "")) and "policy" not in wanted:
        options.pop("policy", None)
        options.pop("memmap_on_memory", None)
    steps = tuple(step for step in base.steps if not _overridden(step.command, wanted))
    words = [f"{key}={value}" for key, value in options.items()]
    return Start(name, None, shlex.join(["use", arch or known, *words]), steps, ())


def _wanted(shell: Shell, name: str) -> tuple[str | None, dict[str, str]]:
    from memshell.profiles import is_profile

    arch, wanted = None, dict[str, str]()
    for word in name.replace(":", ",").split(","):
        key, equals, value = word.partition("=")
        if word in shell.plugins.arches():
            arch = word
        elif is_profile(word) or word in shell.plugins.profiles():
            wanted["profile"] = word
        elif word in shell.plugins.policies():
            wanted["policy"] = word
        elif equals and key and value:
            wanted[key] = value
        else:
            hint = "such as v6.12:memmap_on_memory, rfc-2018, ram=16G"
            raise UsageError(f"{word!r} is no profile, policy or architecture", hint=hint)
    return arch, wanted


def _boot_words(use: str) -> tuple[str, dict[str, str]]:
    """Return the architecture, or file, of a line that boots a machine, and its options; nothing where it is another line."""
    words = [word for word in shlex.split(use) if not word.startswith("-")]
    if words[:1] != ["use"] or len(words) < 2:
        return "", {}
    return words[1], dict(word.partition("=")[::2] for word in words[2:])


def _runs(machine: Machine, key: str) -> bool:
    """Whether *key* can be changed while the kernel runs, as ``policy`` and ``set`` do."""
    from memshell.mm.params import PARAMETERS

    if key in ("policy", "memmap_on_memory", "auto_online"):
        return True
    if key in PARAMETERS:
        return not PARAMETERS[key].at_boot
    return key in machine.mm.profile.features


def _setting(key: str, value: str) -> str:
    key = "auto_online_blocks" if key == "auto_online" else key
    return shlex.join(["policy", value] if key == "policy" else ["set", f"{key}={value}"])


def _carried(shell: Shell, arch: str | None, options: dict[str, str]) -> dict[str, str]:
    """Return which of the machine's *options* another architecture has too."""
    if arch is None:
        return dict(options)
    from memshell.mm.params import PARAMETERS

    known = {*(option.name for option in shell.plugins.arches()[arch].options), *PARAMETERS}
    known |= {"profile", "policy", "memmap_on_memory", "auto_online"}
    return {key: value for key, value in options.items() if key in known}


def _gives_no_choice(profile: str) -> bool:
    from memshell.profiles import find_profile, is_profile

    return is_profile(profile) and find_profile(profile).seam.memmap_from_range


def _overridden(text: str, wanted: dict[str, str]) -> bool:
    """Whether the step *text* says again what the column decides."""
    words = text.split()
    first, name = words[0] if words else "", words[1].partition("=")[0] if len(words) > 1 else ""
    if first == "policy":
        return "policy" in wanted or _gives_no_choice(wanted.get("profile", ""))
    return (first == "profile" and "profile" in wanted) or (first == "set" and name in wanted)


# --- a column ---


class Played(NamedTuple):
    """What became of a column: its row, and what was typed wrong in the commands for all columns."""

    start: Start
    row: dict[str, Any]
    mistake: MemshellError | None = None
    steps: Sequence[Step] = ()


def _played(shell: Shell, begin: Start, text: str) -> Played:
    from memshell.experiment.compare import row

    player = shell.player.fresh()
    player.shell.settings.variables.update(shell.settings.variables)
    player.shell.settings.aliases.update(shell.settings.aliases)
    problem = bring(player, begin)
    machine = player.shell.machine
    if problem is not None or machine is None:
        return Played(begin, {"kernel": begin.name, "outcome": _word(problem), "why": _text(problem), "machine": ""})
    mark = len(machine.steps) - 1
    player.play_text(text, "compare")
    errors = [_cause(failure) for failure in player.failures]
    for error in errors:
        if isinstance(error, PluginError) or not isinstance(error, MemshellError):
            raise error
    now = player.shell.machine
    assert now is not None
    steps = machine.steps[mark:] if now is machine else now.steps
    found = row(begin.name, steps)
    first = errors[0] if errors else None
    why = _text(first) or _fallback(steps)
    found |= {"outcome": _outcome(steps, first), "why": why, "machine": _described(steps[0])}
    return Played(begin, found, first if isinstance(first, UsageError) else None, steps)


def bring(player: Player, begin: Start) -> BaseException | None:
    """Bring the player's machine to where the column begins; return what kept it from there."""
    from memshell.machine import Machine

    if begin.machine is not None:
        player.shell.machine = Machine(begin.machine.mm, begin.machine.step.command)
    else:
        player.play_text(begin.use, "compare")
    for step in begin.steps if not player.failures else ():
        player.play_text(step.command, "compare")
        if step.error is None and player.failures:
            break
        player.forget_failures()
    for text in begin.settings:
        player.play_text(text, "compare")
    return _cause(player.failures[0]) if player.failures else None


def _cause(failure: MemshellError) -> BaseException:
    cause: BaseException = getattr(failure, "cause", failure)
    return cause


def _outcome(steps: Sequence[Step], first: BaseException | None) -> str:
    from memshell.experiment.series import crash

    if steps[-1].crashed:
        return str(crash(steps)["function"])
    return "ok" if first is None else _word(first)


def _word(error: BaseException | None) -> str:
    if isinstance(error, (KernelError, KernelCrash)):
        return error.errno or "crashed"
    return "refused" if isinstance(error, UsageError) else "failed"


def _text(error: BaseException | None) -> str:
    return "" if error is None else error.said if isinstance(error, MemshellError) else str(error)


def _fallback(steps: Sequence[Step]) -> str:
    """Return why a memmap went elsewhere than the policy wants it."""
    events = (event for step in steps[1:] for event in step.events if event.kind == "MemmapFallback")
    return next((event.text for event in events), "")


def _described(step: Step) -> str:
    from memshell.commands.machine import describe

    return describe(step.mm)


def _own_columns(shell: Shell, columns: Sequence[Played]) -> list[Column]:
    """Return a column for each quantity of a plugin, which is asked when it is shown."""
    last = {column.start.name: column.steps[-1].mm for column in columns if column.steps}

    def value(name: str, row: Any) -> int | str | bool | None:
        mm = last.get(row["kernel"])
        return None if mm is None else shell.plugins.quantity(name, mm)

    names = shell.plugins.quantities()
    return [Column(name.upper(), right=True, default=False, compute=partial(value, name)) for name in names]


def _raise_what_was_typed_wrong(columns: Sequence[Played]) -> None:
    """Raise what no column understood. Raises `UsageError`."""
    mistakes = [column.mistake for column in columns if column.mistake is not None]
    if mistakes and len(mistakes) == len(columns):
        raise mistakes[0]


# --- what stands around the table ---


def _drawn(shell: Shell, columns: Sequence[Played], args: Namespace) -> str:
    """Write what out= asks for, of the columns that began; return what was written."""
    if args.out is None:
        return ""
    from pathlib import Path

    from memshell.commands.drawing import side_by_side

    out, machines = Path(args.out), {column.start.name: column.steps for column in columns if column.steps}
    if out.suffix.lower() not in {".html", ".svg", ".png"}:
        raise UsageError(f"{out}: out= ends in .html, .svg or .png")
    return side_by_side(machines, out, shell, force=args.force) if machines else ""


def _header(base: Base, columns: Sequence[Played]) -> str:
    """Name the machine that the columns begin with, and that of each column that had to be booted."""
    booted = [column for column in columns if column.start.machine is None and column.row["machine"]]
    lines = [f"from {_described(base.machine.step)}{base.said}"]
    return "\n".join([*lines, *(f"{column.start.name}: {column.row['machine']}" for column in booted)])


def _reasons(rows: Sequence[dict[str, Any]]) -> str:
    return "\n".join(f"{row['kernel']}: {row['why']}" for row in rows if row["why"])
