"""util-linux's two commands about memory blocks, with its options: ``lsmem`` and ``chmem``."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, KernelError, UsageError, did_you_mean
from memshell.result import Column, Result, cell, choose_columns
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import TEXT, choice

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping, Sequence

    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

LSMEM_HELP = {
    "RANGE": "start and end address of the memory range",
    "SIZE": "size of the memory range",
    "STATE": "online status of the memory range",
    "REMOVABLE": "memory is removable",
    "BLOCK": "memory block number or blocks range",
    "NODE": "numa node of memory",
    "ZONES": "valid zones for the memory range",
}
OF_FIRMWARE = {
    "CONFIGURED": "configuration status of memory, where it is configured by hand (s390)",
    "MEMMAP-ON-MEMORY": "the memmap is, or would be, on the memory itself (s390)",
}
EVERY = {**LSMEM_HELP, **OF_FIRMWARE}


def _lists(_shell: Shell, prefix: str) -> Suggestions:
    """Complete the last name of a list of columns."""
    before = prefix[: prefix.rfind(",") + 1] or prefix[: prefix.startswith("+")]
    return ((before + name, text) for name, text in EVERY.items())


COLUMNS = ArgType("LIST", TEXT.convert, _lists)
SUMMARY = choice("summary", {"never": "no summary", "always": "behind the table", "only": "nothing else"})


@command(
    "look",
    arg("-J", None, "use JSON output format", long="--json"),
    arg("-P", None, "use key=value output format", long="--pairs"),
    arg("-r", None, "use raw output format", long="--raw"),
    arg("-a", None, "list each individual memory block", long="--all"),
    arg("-b", None, "print SIZE in bytes", long="--bytes"),
    arg("-n", None, "don't print headings", long="--noheadings"),
    arg("-o", COLUMNS, "output columns: A,B or +C", long="--output"),
    arg("--output-all", None, "output all columns"),
    arg("-S", COLUMNS, "split ranges by these columns, or none", long="--split"),
    arg("-s", TEXT, "not here: the session's machine is listed", long="--sysroot"),
    arg("--summary", SUMMARY, "print summary information; only, where nothing is said", bare="only"),
    arg("-V", None, "show whose lsmem this is", long="--version"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> online 32-35 movable
memory32-35 <...>
> lsmem
RANGE                                  SIZE   STATE REMOVABLE BLOCK
0x0000000000000000-0x000000007fffffff    2G  online       yes  0-15
0x0000000100000000-0x000000011fffffff  512M  online       yes 32-35
0x0000000120000000-0x000000013fffffff  512M offline           36-39

Memory block size:       128M
Total online memory:     2.5G
Total offline memory:    512M
> lsmem -o RANGE,ZONES
RANGE                                          ZONES
0x0000000000000000-0x0000000007ffffff           None
0x0000000008000000-0x000000007fffffff          DMA32
0x0000000100000000-0x000000011fffffff        Movable
0x0000000120000000-0x000000013fffffff Normal/Movable

Memory block size:       128M
Total online memory:     2.5G
Total offline memory:    512M
> lsmem -bn -o RANGE,SIZE,STATE --summary=never
0x0000000000000000-0x000000007fffffff 2147483648  online
0x0000000100000000-0x000000011fffffff  536870912  online
0x0000000120000000-0x000000013fffffff  536870912 offline
""",
)
def lsmem(shell: Shell, args: Namespace) -> Result:
    """Show the memory blocks as util-linux's lsmem does, neighbours that are equal in one line.

    The options are those of util-linux 2.38, and the output is its output. A column that is shown keeps blocks apart
    that differ in it, unless -S says which do. Where memory is configured by hand (s390 since v6.19) it is the output of
    2.42: what is deconfigured is listed too, as offline, and there are the columns CONFIGURED and MEMMAP-ON-MEMORY.
    """
    from memshell.views.lsmem import DEFAULT_COLUMNS, SPLITTING, rows, summary

    mm, args.columns = shell.need_machine().mm, None
    if args.V:
        return Result(text="lsmem of memshell, as util-linux 2.38 has it")
    _check_lsmem(args)
    every = LSMEM_HELP if mm.arch.firmware_memory(mm) is None else EVERY
    args.columns = ",".join(every) if args.output_all else args.o
    split = None if args.S is None else _columns_of(args.S, [*EVERY, "NONE"], SPLITTING)
    names = _wished(args.columns, DEFAULT_COLUMNS)
    own = shell.columns("lsmem", EVERY)
    extra = [column for column in own if column.name.upper() in (args.columns or "").upper().lstrip("+").split(",")]
    more = _more(rows(mm, [*EVERY], every=True, plain_bytes=args.b), extra) if extra else {}
    found = rows(mm, names, split, every=args.a, plain_bytes=args.b, more=lambda number: more.get(number, {}))
    columns = tuple(
        Column(name, text, name != "RANGE", name in DEFAULT_COLUMNS, width=5 if name == "SIZE" else 0)
        for name, text in EVERY.items()
    )
    columns += tuple(replace(column, compute=None, key=column.name.lower()) for column in own)
    footer = summary(mm, plain_bytes=args.b)
    return _formed(shell, args, found, columns, footer)


def _more(singles: Iterable[Mapping[str, Any]], extra: Iterable[Column]) -> dict[int, dict[str, Any]]:
    """Return the values of plugins' columns by block: each is asked about a block alone, before lines are joined."""
    return {int(row["block"]): {column.name.lower(): column.of(row) for column in extra} for row in singles}


def _check_lsmem(args: Namespace) -> None:
    """Refuse what lsmem refuses.  Raises UsageError."""
    if args.J + args.P + args.r > 1:
        raise UsageError("lsmem: mutually exclusive arguments: --json --pairs --raw")
    if args.summary == "only" and args.J + args.P + args.r:
        raise UsageError("lsmem: options --{raw,json,pairs} and --summary=only are mutually exclusive")
    if args.a and args.S is not None:
        raise UsageError("lsmem: mutually exclusive arguments: --split --all")
    if args.s is not None:
        hint = f"memshell capture --root {args.s} -o FILE reads another; then: use FILE"
        raise UsageError("lsmem: the session's machine is listed", hint=hint)


def _columns_of(text: str, known: Sequence[str], kept: Iterable[str]) -> list[str]:
    """Return the names of a list that are among *kept*.  Raises UsageError for one that is not *known*."""
    names = [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown column {name!r}", hint=did_you_mean(name, known) or "known: " + ", ".join(known))
    return [name for name in names if name in kept]


def _wished(wish: str | None, default: tuple[str, ...]) -> list[str]:
    """Return the columns that ``-o`` asks for; one that does not exist is told when the table is drawn."""
    if wish is None:
        return list(default)
    names = [name.strip().upper() for name in wish.lstrip("+").split(",") if name.strip().upper() in EVERY]
    return list(dict.fromkeys([*(default if wish.startswith("+") else ()), *names]))


def _formed(
    shell: Shell, args: Namespace, found: list[dict[str, Any]], columns: tuple[Column, ...], footer: str
) -> Result:
    """Return the rows in the form that the options ask for."""
    shown = [{key: _yes_or_no(key, value) for key, value in row.items()} for row in found]
    data = {"memory": found}
    if args.summary == "only":
        return Result(text=footer, data=data)
    chosen = choose_columns(columns, args.columns)
    after = f"\n{footer}" if args.summary == "always" else ""
    if args.J:
        return _as_text(args, _json(chosen, found) + after, data)
    if args.P or args.r:
        lines = [[cell(column.of(row)) for column in chosen] for row in shown]
        text = "".join((_pairs(chosen, line) if args.P else _raw(line)) + "\n" for line in lines)
        head = _raw([column.name for column in chosen]) + "\n" if args.r and not args.n else ""
        return _as_text(args, head + text + after, data)
    tail = "" if args.summary == "never" else "\n" + footer
    result = Result(rows=shown, columns=columns, data=data, footer=tail, extended=True)
    return _without_head(shell, args, result) if args.n and args.form is None else result


def _yes_or_no(key: str, value: Any) -> Any:
    """Return a switch as lsmem writes it: REMOVABLE of offline memory is empty, and what is not known too."""
    if value is None or (key == "removable" and not value):
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _as_text(args: Namespace, text: str, data: Any) -> Result:
    """Return a text with its own layout: the columns are chosen already."""
    args.columns = None
    return Result(text=text, data=data)


def _without_head(shell: Shell, args: Namespace, result: Result) -> Result:
    from memshell.result import render

    whole = replace(result, columns=(*result.columns, *shell.columns("lsmem")))
    return _as_text(args, render(whole, wish=args.columns).partition("\n")[2], result.data)


def _pairs(columns: Sequence[Column], values: Sequence[str]) -> str:
    return " ".join(f'{column.name}="{value}"' for column, value in zip(columns, values, strict=True))


def _raw(values: Sequence[str]) -> str:
    return " ".join(value.replace(" ", "\\x20") for value in values)


def _json(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    """Return rows in libsmartcols' layout: each step in is three blanks."""
    import json

    objects = []
    for row in rows:
        values = [(column.key or column.name.lower(), column.of(row)) for column in columns]
        lines = [f"         {json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in values]
        objects.append("{\n" + ",\n".join(lines) + "\n      }")
    return '{\n   "memory": [\n      ' + ",".join(objects) + "\n   ]\n}\n"


# --- chmem ---

ZONES = ("DMA", "DMA32", "Normal", "Highmem", "Movable", "Device")
ZONE = ArgType("ZONE", TEXT.convert, lambda _s, _p: ((name, "") for name in ZONES))
_SIZE_UNITS = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]+")
_THOUSANDS = re.compile(r".*[0-9.][kmgtpe]b", re.IGNORECASE)


@command(
    "hotplug",
    arg(
        "what",
        ArgType("SIZE|RANGE|BLOCKRANGE", TEXT.convert),
        "1G, 0x100000000-0x13fffffff, or with -b 32-39",
        nargs="?",
    ),
    arg("-e", None, "enable memory", long="--enable"),
    arg("-d", None, "disable memory", long="--disable"),
    arg("-b", None, "use memory blocks", long="--block --blocks"),
    arg("-z", ZONE, "select memory zone: Movable, where it is among the valid ones, if nothing is said", long="--zone"),
    arg("-v", None, "say what was done", long="--verbose"),
    arg("-V", None, "show whose chmem this is", long="--version"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> chmem -v -e 256M
Memory Block 32 (0x0000000100000000-0x0000000107ffffff) enabled
Memory Block 33 (0x0000000108000000-0x000000010fffffff) enabled
> chmem -e -b 34-36 -z Normal
> chmem -vd 128M
Memory Block 36 (0x0000000120000000-0x0000000127ffffff) disabled
""",
)
def chmem(shell: Shell, args: Namespace) -> str:
    """Set memory online or offline as util-linux's chmem does, which says nothing unless asked to with -v.

    A size without a unit is MiB. It enables the lowest blocks that are offline and disables the highest that are online, and
    goes on to the next where one fails; a range is done block by block. Memory comes online in zone Movable where that is
    among the valid zones (lsmem -o +ZONES), elsewhere where the kernel puts it.
    """
    if args.V:
        return "chmem of memshell, as util-linux 2.38 has it"
    mm = shell.need_machine().mm
    zone = _check_chmem(args)
    numbers = None if not (args.b or "-" in args.what) else _range(mm, args)
    size = _size(mm, args.what) if numbers is None else 0
    job = Job(shell, enable=args.e, zone=zone, verbose=args.v)
    with shell.change() as mm:
        rest = job.size(mm, size) if numbers is None else job.range(mm, numbers)
    if rest is not None:
        raise rest
    return "".join(line + "\n" for line in job.lines)


def _check_chmem(args: Namespace) -> str | None:
    """Refuse what chmem refuses; return the zone in the kernel's spelling.  Raises UsageError."""
    if args.e and args.d:
        raise UsageError("chmem: mutually exclusive arguments: --disable --enable")
    if not (args.e or args.d) or args.what is None:
        raise UsageError("chmem: bad usage", hint="such as: chmem -e 1G, chmem -d -b 32-39")
    if args.z is None:
        return None
    zone = next((name for name in ZONES if name.lower() == args.z.lower()), None)
    if zone is None:
        raise UsageError(f"chmem: unknown memory zone: {args.z}", hint=did_you_mean(args.z, ZONES) or ", ".join(ZONES))
    return zone


def _size(mm: Mm, word: str) -> int:
    """Return a size in bytes: whole blocks.  Raises UsageError."""
    from memshell.mm.pfn import memparse
    from memshell.views.lsmem import human

    try:
        size = int(word, 0) << 20 if _SIZE_UNITS.fullmatch(word) else memparse(word)
    except UsageError as error:
        raise UsageError(
            f"chmem: Failed to parse size: {word!r}", hint="such as 512M, 4G; a bare number is MiB"
        ) from error
    if size % mm.block_size or _THOUSANDS.fullmatch(word):  # MB is a million bytes in util-linux
        raise UsageError(f"chmem: Size must be aligned to memory block size ({human(mm.block_size)})")
    return size


def _range(mm: Mm, args: Namespace) -> range:
    """Return the blocks of a range of addresses or numbers.  Raises UsageError, and CommandError where none is there."""
    from memshell.views.lsmem import human

    first, dash, last = args.what.partition("-")
    if args.b:
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(f"chmem: Failed to parse block number: {args.what!r}", hint="such as 32 or 32-39")
        start, end = int(first), int(last or first)
    else:
        if not (re.fullmatch(r"0x[0-9a-fA-F]+", first) and re.fullmatch(r"0x[0-9a-fA-F]+", last)):
            hint = f"-b takes block numbers: chmem {'-e' if args.e else '-d'} -b {args.what}"
            raise UsageError(f"chmem: Invalid start address format: {first}", hint=hint)
        low, high = int(first, 16), int(last, 16) + 1
        if low % mm.block_size or high % mm.block_size:
            aligned = f"aligned to memory block size ({human(mm.block_size)})"
            raise UsageError(f"chmem: Start address and (end address + 1) must be {aligned}")
        start, end = low // mm.block_size, high // mm.block_size - 1
    if end < start:
        raise UsageError(f"chmem: Invalid range: {args.what}")
    if not mm.blocks.between(start, end + 1):
        raise CommandError(f"chmem: there is no block in {args.what}", hint="lsmem shows the blocks")
    return range(start, end + 1)


class Job:
    """One run of chmem: what it writes to the states of blocks, and what it says of them."""

    def __init__(self, shell: Shell, *, enable: bool, zone: str | None, verbose: bool) -> None:
        self.shell = shell
        self.enable = enable
        self.zone = zone
        self.verbose = verbose
        self.lines: list[str] = []
        self.failed: list[tuple[str, KernelError]] = []

    @property
    def word(self) -> str:
        """What is done."""
        return "enable" if self.enable else "disable"

    def size(self, mm: Mm, size: int) -> CommandError | None:
        """Enable or disable *size* bytes; return the error where there is not so much, the kernel's raised."""
        from memshell.views.lsmem import human

        wanted = "offline" if self.enable else "online"
        left = size // mm.block_size
        for number in self.shell.track(sorted(mm.blocks, reverse=not self.enable)):
            block = mm.blocks[number]
            if left and block.state == wanted and not (self.enable and self._value(mm, number) is None):
                done = self._write(mm, number)
                left -= done
                if not done:
                    self._say(f"{_name(mm, number)} {self.word} failed")
        if not left:
            return None
        self._show()
        text = f"chmem: Could only {self.word} {human(size - left * mm.block_size)} of memory"
        if self.failed:
            first, error = self.failed[0]
            hint = f"{first}: {error.message}" + (f" ({error.hint})" if error.hint else "")
            raise KernelError(text, error.errno or "EINVAL", where=error.where, hint=hint) from error
        return CommandError(
            text, hint=f"no other block is {wanted}" + (f" and may be {self.zone}" if self.zone else "")
        )

    def range(self, mm: Mm, numbers: Sequence[int]) -> CommandError | None:
        """Enable or disable blocks one after another.  Raises the kernel's error; return one of ours."""
        mismatch = []
        for number in self.shell.track([number for number in numbers if number in mm.blocks]):
            block = mm.blocks[number]
            if block.state == ("online" if self.enable else "offline"):
                self._say(f"{_name(mm, number)} already {self.word}d")
            elif self.enable and self._value(mm, number) is None:
                mismatch.append(f"{_name(mm, number)} enable failed: Zone mismatch")
            else:
                self._write(mm, number)
        if not self.failed and not mismatch:
            return self._missing(mm, numbers)
        self._show()
        failed = [f"{name} {self.word} failed: {os.strerror(e.errno_number)}" for name, e in self.failed]
        texts = [f"chmem: {text}" for text in [*mismatch, *failed]]
        for text in texts[:-1]:
            self.shell.note(text)
        if not self.failed:
            return CommandError(texts[-1])
        error = self.failed[-1][1]
        raise KernelError(texts[-1], error.errno or "EINVAL", where=error.where, hint=error.message) from error

    def _missing(self, mm: Mm, numbers: Sequence[int]) -> CommandError | None:
        """Return the error for the blocks of a range that are not there; chmem tells it by its exit code alone."""
        from memshell.commands.hotplug import named_blocks

        missing = [number for number in numbers if number not in mm.blocks]
        if not missing:
            return None
        self._show()
        return CommandError(f"chmem: {named_blocks(missing)} {'is' if len(missing) == 1 else 'are'} not there")

    def _value(self, mm: Mm, number: int) -> str | None:
        """Return what is written to a block's state; None where the zone is not among its valid ones."""
        from memshell.drivers.base.memory.state import valid_zones

        zones = valid_zones(mm, number).split()
        if self.zone is None:
            return "online_movable" if "Movable" in zones else "online"
        if self.zone not in zones:
            return None
        return "online_movable" if self.zone == "Movable" else "online_kernel"

    def _write(self, mm: Mm, number: int) -> bool:
        from memshell.drivers.base.memory.state import state_store

        value = self._value(mm, number) if self.enable else "offline"
        assert value is not None
        try:
            state_store(mm, number, value)
        except KernelError as error:
            self.failed.append((_name(mm, number), error))
            return False
        self._say(f"{_name(mm, number)} {self.word}d")
        return True

    def _say(self, text: str) -> None:
        if self.verbose:
            self.lines.append(text)

    def _show(self) -> None:
        """Show what was done before the failure: the answer of a command that fails is its error."""
        if self.lines:
            self.shell.write("".join(line + "\n" for line in self.lines))


def _name(mm: Mm, number: int) -> str:
    size = mm.block_size
    return f"Memory Block {number} (0x{number * size:016x}-0x{(number + 1) * size - 1:016x})"
