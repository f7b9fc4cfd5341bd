"""The command ``plan``: what should I do? Each way to add memory, played on the model."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from memshell.commands.compare import Base, Start, bring, session_base, start
from memshell.errors import CommandError, UsageError
from memshell.result import Column, Result
from memshell.shell.registry import arg, command
from memshell.shell.types import COUNT, FILE, SIZE

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from memshell.experiment.plan import Outcome, Way
    from memshell.mm.state import Mm
    from memshell.shell.shell import Player, Shell

BLOCKS = ("1G", "2G")  # sizes of blocks beside the machine's own that the best way is tried with


@command(
    "what if",
    arg("size", SIZE, "how much is to be added"),
    arg("--keep", None, "it stays for good: nothing has to be unplugged again"),
    arg("way=", COUNT, "show this row's commands instead of the recommended one's"),
    arg("out=", FILE, "write the scenario that shows it"),
    arg("--force", None, "write over what is there"),
    examples="""
> use x86_64 ram=1G
x86_64, <...>
> plan 64G
 # POLICY           ZONE       DIMMS BLOCK FITS   MEMMAP   USABLE KERNEL UNPLUG LOST  MOST
 1 memmap_on_memory movable        1  128M ok     1G in       63G 853.2M    64G   8K
 2 memmap_on_memory movable        1    1G ok     1G in       63G 853.4M    64G   8K
 3 memmap_on_memory movable        1    2G ok     1G in       63G 853.4M    64G   8K
 4 memmap_on_memory auto 6500%     8  128M ok     1G in       63G 853.2M    64G   8K
 5 buddy            mixed          2  128M ok     1G out      63G 853.4M    63G  16M
 6 memmap_on_memory kernel         1  128M ok     1G in       63G  63.8G      0   1G
 7 buddy            kernel         8  128M ok     1G out      63G  63.8G      0   1G
 8 buddy            auto 301%      8  128M ok     1G out      63G  63.8G      0   1G
 9 memmap_on_memory auto 301%      8  128M ok     1G in       63G  63.8G      0   1G
10 buddy            movable        1  128M ENOMEM 804M out         49.4M        804M 50.3G
11 buddy            kernel         1  128M ENOMEM 804M out         49.4M        804M 50.3G
12 buddy            movable        8  128M ENOMEM 804M out         49.4M         36M   48G
13 buddy            auto 6500%     8  128M ENOMEM 804M out         49.4M         36M   48G

recommended: all 64G can go again, 63G more are usable, 853.2M are left for the kernel, 8K are lost
mind: Movable is 6403% of kernel memory then; the kernel's auto-movable stops at 301%
on the host and in the guest:
    boot the kernel with memory_hotplug.memmap_on_memory=Y
    plug 64G; chmem -e -b 32-543 -z Movable
here:
    policy memmap_on_memory
    add 64G
    online offline movable
and to take it away again:
    offline 32-543; remove 32-543
""",
)
def plan(shell: Shell, args: Namespace) -> Result:
    """Say how to add memory that is later to be unplugged: each way is played on the model, the recommended one first.

    The ways differ in the policy (where the memmap goes), the zone, the number of DIMMs, the block size and
    auto_movable_ratio (auto N%); mixed onlines a first DIMM to a kernel zone, for the memmap of the rest. All begin with
    the session's machine as it stands.

    FITS is ok or the errno. MEMMAP says where it is: in each added block itself, or out of it, in other memory. USABLE is
    how much more memory is free when all is online, KERNEL what is free for all that cannot be moved. UNPLUG is what
    surely goes again, tried: what is in Movable. In a kernel zone a single page of the kernel keeps a whole DIMM. LOST is
    what is free neither before nor after: memmap that stays, and what a failed add leaves behind until reboot. MOST is the
    largest add that fits the same way, where this one does not.
    """
    from memshell.experiment.plan import ranked

    size, base = _whole_blocks(shell.need_machine().mm, args.size), session_base(shell)
    outcomes = ranked(_played(shell, base, size, unplug=not args.keep), unplug=not args.keep)
    number = 1 if args.way is None else args.way
    if not 1 <= number <= len(outcomes):
        raise UsageError(f"there is no way {number}", hint=f"the table has 1 to {len(outcomes)}")
    chosen = outcomes[number - 1]
    lines = _advice(shell, base, chosen, number, unplug=not args.keep)
    if args.out is not None:
        lines += ["", _write(shell, base, chosen, args)]
    rows = [_row(shell, place, one) for place, one in enumerate(outcomes, start=1)]
    data = {"ways": [_data(place, one) for place, one in enumerate(outcomes, start=1)], "recommended": lines}
    columns = tuple(column for column in COLUMNS if not (args.keep and column.name in ("UNPLUG", "LOST")))
    return Result(rows=rows, columns=columns, data=data, footer="\n" + "\n".join(lines))


COLUMNS = (
    Column("#", right=True),
    Column("POLICY"),
    Column("ZONE"),
    Column("DIMMS", right=True),
    Column("BLOCK", right=True, drop=3),
    Column("FITS"),
    Column("MEMMAP"),
    Column("USABLE", right=True),
    Column("KERNEL", right=True, drop=2),
    Column("UNPLUG", right=True),
    Column("LOST", right=True),
    Column("MOST", right=True, drop=1),
)


def _whole_blocks(mm: Mm, size: int) -> int:
    from memshell.mm.pfn import format_size

    if not size or size % mm.block_size:
        raise UsageError(f"{format_size(size)} is not whole blocks", hint=f"a block has {format_size(mm.block_size)}")
    return size


# --- playing ---


def _played(shell: Shell, base: Base, size: int, *, unplug: bool) -> list[Outcome]:
    """Play all ways, then the best of them with other block sizes."""
    from memshell.experiment.plan import ranked, ways, with_blocks

    mm, known = shell.need_machine().mm, dict[object, int]()
    one_way = partial(_one, shell, base, size=size, unplug=unplug, known=known)
    found = [one for way in shell.track(ways(mm, size, _policies(mm))) for one in one_way(way)]
    if mm.features.memmap_on_memory.exists and not any(one.inside for one in found):  # padding may help
        found += [one for way in ways(mm, size, ["memmap_on_memory_force"]) for one in one_way(way)]
    if not found:
        raise CommandError("no way can be played from here", hint="start a machine with: use x86_64 ram=8G")
    best = ranked(found, unplug=unplug)[0].way
    if base.use and any(option.name == "block" for option in mm.arch.options):
        found += [one for way in with_blocks(best, BLOCKS) for one in one_way(way)]
    return _different(found)


def _policies(mm: Mm) -> list[str]:
    """Return where this kernel can have the memmap of added memory."""
    if mm.seam.memmap_from_range:
        return [mm.policy.name]
    return ["buddy", *["memmap_on_memory"] * mm.features.memmap_on_memory.exists]


def _one(shell: Shell, base: Base, way: Way, *, size: int, unplug: bool, known: dict[object, int]) -> list[Outcome]:
    """Play one way; nothing where this kernel or architecture has no such thing. *known*: what one DIMM may hold."""
    from memshell.experiment.plan import largest, play

    column = start(shell, base, ",".join(f"{key}={value}" for key, value in way.changes))
    fresh = partial(_begun, shell, column)
    player = fresh()
    block = player.shell.need_machine().mm.block_size if player is not None else 0
    if player is None or size % block:
        return []
    outcome = play(way, size, player, unplug=unplug)
    key = (way.policy, way.options)
    if outcome.error is not None and way.count > 1:
        outcome.largest = sum(map(len, outcome.blocks)) * block
    elif outcome.error is not None:
        known[key] = outcome.largest = known[key] if key in known else largest(size, block, _again(fresh))
    return [outcome]


def _again(fresh: Callable[[], Player | None]) -> Callable[[], Player]:
    """Return *fresh*, which has brought a player before and brings one again."""

    def bring() -> Player:
        player = fresh()
        assert player is not None
        return player

    return bring


def _begun(shell: Shell, column: Start) -> Player | None:
    """Return a player on the machine with which a way begins; None where there cannot be such a machine."""
    player = shell.player.fresh()
    problem = bring(player, column)
    if problem is None:
        return player
    if isinstance(problem, CommandError):
        return None
    raise problem


def _different(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Leave out a way that comes out as one before it that asks for less."""
    found: dict[object, Outcome] = {}
    for one in outcomes:
        zone = one.way.zone if one.way.zone != "auto" else f"auto {one.way.ratio}"
        block = dict(one.way.options).get("block")
        key = (one.inside > 0, zone, one.way.count, block, one.fits, one.usable, one.unplugged, one.lost)
        found.setdefault(key, one)
    return list(found.values())


# --- showing ---


def _row(shell: Shell, place: int, one: Outcome) -> dict[str, Any]:
    fits = one.error is None
    return {
        "#": place,
        "policy": one.way.policy,
        "zone": one.way.zone_name,
        "dimms": one.way.count,
        "block": _block(shell, one),
        "fits": one.fits,
        "memmap": _memmap(one),
        "usable": _size(one.usable) if fits else "",
        "kernel": _size(one.kernel),
        "unplug": _size(one.unplugged) if fits else "",
        "lost": _size(one.lost),
        "most": "" if one.largest is None else _size(one.largest),
    }


def _block(shell: Shell, one: Outcome) -> str:
    from memshell.mm.pfn import format_size

    return dict(one.way.options).get("block") or format_size(shell.need_machine().mm.block_size)


def _memmap(one: Outcome) -> str:
    parts = ((one.memmap, "out"), (one.inside, "in"))
    return " + ".join(f"{_size(size)} {where}" for size, where in parts if size >= 1 << 20) or "0"


def _data(place: int, one: Outcome) -> dict[str, Any]:
    return {
        "way": place,
        "policy": one.way.policy,
        "zone": one.way.zone,
        "ratio": one.way.ratio,
        "dimms": one.way.count,
        "options": dict(one.way.options),
        "fits": one.fits,
        "message": "" if one.error is None else one.error.message,
        "existing": one.memmap,
        "inside": one.inside,
        "usable": one.usable,
        "kernel": one.kernel,
        "unplug": one.unplugged,
        "lost": one.lost,
        "wasted": one.wasted,
        "largest": one.largest,
    }


def _advice(shell: Shell, base: Base, one: Outcome, number: int, *, unplug: bool) -> list[str]:
    """Return what is recommended, why, and the commands: for the machine and its host, and here."""
    title = "recommended" if number == 1 and one.error is None else f"way {number}"
    prose = partial(wrap, width=min(shell.output.width or 100, 100), subsequent_indent="    ")
    lines = prose(f"{title}: {_why(one, unplug=unplug)}")
    if one.error is not None and number == 1:
        lines = prose(f"no way fits; the largest add is {_size(one.largest or 0)}: {one.error.message}")
    limit = shell.need_machine().mm.params.auto_movable_ratio
    if one.error is None and one.ratio > limit:
        lines += prose(
            f"mind: Movable is {one.ratio}% of kernel memory then; the kernel's auto-movable stops at {limit}%"
        )
    lines += ["on the host and in the guest:", *(f"    {line}" for line in _real(shell, one))]
    lines += ["here:", *(f"    {line}" for line in _commands(shell, base, one))]
    lines += ["and to take it away again:", *(f"    {line}" for line in _away(one))] if unplug and one.unplugged else []
    return lines


def _why(one: Outcome, *, unplug: bool) -> str:
    if one.error is not None:
        return f"{one.error.message} ({one.fits}); {_size(one.largest or 0)} fit"
    lost = f", {_size(one.lost)} are lost" if unplug else ""
    usable = f"{_size(one.usable)} more are usable, {_size(one.kernel)} are left for the kernel{lost}"
    return (_goes(one) if unplug else "") + usable


def _goes(one: Outcome) -> str:
    if one.unplugged == one.size:
        return f"all {_size(one.size)} can go again, "
    return f"{_size(one.unplugged)} of {_size(one.size)} surely go again, "


def _size(size: int) -> str:
    """Return a size as people say it: with one decimal."""
    from memshell.views.lsmem import human

    return human(size) if size > 0 else "0"


def _real(shell: Shell, one: Outcome) -> list[str]:
    """Return what is done on a real machine and its host."""
    mm, changes = shell.need_machine().mm, dict(one.way.changes)
    parameter = shell.plugins.policies()[one.way.policy].parameter
    lines = []
    if parameter != mm.policy.parameter:
        lines.append(f"boot the kernel with memory_hotplug.memmap_on_memory={parameter}")
    if "block" in changes:
        lines.append(f"boot it with memory blocks of {changes['block']}")
    if "auto_online" in changes:
        lines.append("echo offline > /sys/devices/system/memory/auto_online_blocks")
    module = "/sys/module/memory_hotplug/parameters"
    if one.way.ratio is not None:
        lines += [f"echo {changes[name]} > {module}/{name}" for name in ("online_policy", "auto_movable_ratio")]
    for add, blocks in zip(one.way.adds(mm, one.size), one.blocks, strict=False):
        zone = {"movable": " -z Movable", "kernel": " -z Normal"}.get(add.zone, "")
        online = f"chmem -e -b {blocks.start}-{blocks.stop - 1}{zone}" if add.zone else _each(blocks)
        lines.append(f"plug {_size(add.size)}; {online}")
    return lines if len(lines) <= 7 else [*lines[:4], f"... {len(lines) - 5} more of the kind", lines[-1]]


def _each(blocks: range) -> str:
    return f"echo online > /sys/devices/system/memory/memoryN/state for N from {blocks.start} to {blocks.stop - 1}"


def _commands(shell: Shell, base: Base, one: Outcome) -> list[str]:
    """Return the commands that do it here, from the machine as it stands."""
    column = start(shell, base, ",".join(f"{key}={value}" for key, value in one.way.changes))
    lines = [*([column.use] if column.use else []), *_settings(base, column)]
    lines += _adds(shell, one)
    return lines if len(lines) <= 7 else [*lines[:5], f"... {(len(lines) - 6) // 2} times", lines[-1]]


def _adds(shell: Shell, one: Outcome) -> list[str]:
    """Return the commands that add the memory: what else is offline is left alone."""
    from memshell.experiment.plan import online_line
    from memshell.mm.pfn import format_size

    mm, lines = shell.need_machine().mm, list[str]()
    alone = all(block.state == "online" for block in mm.blocks.values())
    for add, blocks in zip_longest(one.way.adds(mm, one.size), one.blocks):
        named = "" if blocks is None or alone else online_line(blocks, add.zone)
        lines += [f"add {format_size(add.size)}", named or f"online offline {add.zone}".rstrip()]
    return lines


def _settings(base: Base, column: Start) -> list[str]:
    """Return the commands that change a setting: not the policy that there is already."""
    return [line for line in column.settings if line != f"policy {base.machine.mm.policy.name}"]


def _away(one: Outcome) -> list[str]:
    names = [f"{blocks.start}-{blocks.stop - 1}" for blocks in reversed(one.sure)]
    lines = [f"offline {name}; remove {name}" for name in names]
    return lines if len(lines) <= 4 else [*lines[:2], f"... {len(lines) - 3} more", lines[-1]]


# --- the scenario ---


def _write(shell: Shell, base: Base, one: Outcome, args: Namespace) -> str:
    """Write the scenario that shows a way.  Raises CommandError."""
    from pathlib import Path

    shell.guard(f"plan out={args.out}")
    column = start(shell, base, ",".join(f"{key}={value}" for key, value in one.way.changes))
    text = "\n".join(_scenario(shell, base, column, one)) + "\n"
    try:
        with Path(args.out).open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CommandError(f"{args.out} exists", hint="--force writes over it") from error
    except OSError as error:
        raise CommandError(f"cannot write {args.out}: {error.strerror}") from error
    return f"{args.out}: memshell run {args.out} plays it"


def _scenario(shell: Shell, base: Base, column: Start, one: Outcome) -> list[str]:
    from memshell.commands.machine import describe
    from memshell.mm.pfn import format_size

    steps = column.steps if column.machine is None else base.steps
    lines = [
        f"# why: {_size(one.size)} for {describe(base.machine.mm)}: {_why(one, unplug=True)}",
        column.use or base.use,
    ]
    lines += [line for step in steps for line in (step.command if step.error is None else f"! {step.command}",)]
    lines += _settings(base, column)
    adds = _adds(shell, one)
    lines += ["let before = free", "let had = added.size"]
    if one.error is not None:
        done = 2 * max(len(one.blocks), 1) - 2 if not one.blocks else 2 * len(one.blocks)
        return [*lines, *adds[:done], f"! {adds[done]}", f"expect error == {one.fits}"]
    lines += [*adds, f"expect added.size == $had + {format_size(one.size)}", f"expect free == $before + {one.usable}B"]
    names = [f"{b.start}-{b.stop - 1}" for b in reversed(one.blocks)] if one.unplugged == one.size else []
    lines += [line for name in names for line in (f"offline {name}", f"remove {name}")]
    return [*lines, "expect added.size == $had"] if names else lines
