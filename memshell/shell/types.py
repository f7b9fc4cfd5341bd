"""The kinds of words that commands take, each with its reader and its completion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.mm.pfn import DIGITS
from memshell.shell.registry import ArgType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from memshell.machine import Machine
    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

_SIZES = (
    ("128M", "one memory block on x86_64"),
    ("256M", "the smallest block on powerpc radix"),
    ("1G", ""),
    ("4G", ""),
)


LARGEST = 1 << 64
MOST_TIMES = 10_000


def _size(word: str, _shell: Shell) -> int:
    from memshell.mm.pfn import memparse

    return memparse(word)


def _integer(word: str, _shell: Shell) -> int:
    try:
        number = int(word, 0) if len(word) <= DIGITS else LARGEST
    except ValueError as error:
        raise UsageError(f"{word!r} is not a whole number") from error
    if abs(number) >= LARGEST:
        raise UsageError(f"{word} cannot be", hint="a number of at most 64 bits")
    return number


def _count(word: str, shell: Shell) -> int:
    number = _integer(word, shell)
    if number < 1:
        raise UsageError(f"{word} cannot be", hint="a whole number from 1 on")
    return number


def _times(word: str, shell: Shell) -> int:
    number = _count(word, shell)
    if number > MOST_TIMES:
        raise UsageError(f"{number} times are too many", hint=f"{MOST_TIMES} at most")
    return number


def _pfn(word: str, shell: Shell) -> int:
    """Return a pfn, or that of an address with a suffix: 0x100000 and 4G are the same page on 4K pages."""
    arch = shell.need_machine().mm.arch
    if word[-1:].upper() in {"K", "M", "G", "T", "B"} and not word.lower().startswith("0x"):
        pfn = _size(word, shell) >> arch.page_shift
    else:
        pfn = _integer(word, shell)
    limit = 1 << (arch.max_physmem_bits - arch.page_shift)
    if not 0 <= pfn < limit:
        hint = f"{arch.name} has pfns below {limit:#x}; an address is written 4G"
        raise CommandError(f"pfn {pfn:#x} cannot be", hint=hint)
    return pfn


def _node(word: str, shell: Shell) -> int:
    return online_node(_machine(shell).mm, _integer(word, shell))


def online_node(mm: Mm, nid: int) -> int:
    """Return *nid* where that node is online. Raises `UsageError` elsewhere."""
    online = [number for number, node in sorted(mm.nodes.items()) if node.online]
    if nid not in online:
        raise UsageError(f"there is no node {nid}", hint=f"nodes: {', '.join(map(str, online))}")
    return nid


def _nodes(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is not None:
        mm = shell.machine.mm
        for nid in sorted({*mm.nodes, *mm.arch.possible_nodes}):
            yield str(nid), "" if nid in mm.nodes and mm.nodes[nid].online else "no memory and no CPU yet"


def _text(word: str, _shell: Shell) -> str:
    return word


def _files(_shell: Shell, prefix: str) -> Suggestions:
    from glob import escape, glob
    from pathlib import Path

    for name in sorted(glob(escape(prefix) + "*"))[:200]:  # noqa: PTH207 - a prefix, not a folder
        yield (name + "/", "folder") if Path(name).is_dir() else (name, "")


def _scenarios(shell: Shell, prefix: str) -> Suggestions:
    from memshell.paths import own_scenarios

    yield from _files(shell, prefix)
    yield from ((name, "memshell's own") for name in own_scenarios())
    yield from ((name, "a plugin's") for name in shell.plugins.scenarios())


SIZE = ArgType("SIZE", _size, lambda _shell, _prefix: _SIZES)
ADDRESS = ArgType("ADDR", _size)
PFN = ArgType("PFN", _pfn)
INT = ArgType("N", _integer)
COUNT = ArgType("N", _count)
TIMES = ArgType("N", _times)  # how often one command does a thing
NODE = ArgType("N", _node, _nodes)
ADDING_NODE = ArgType("N", _integer, _nodes)  # of memory to come: the kernel says whether there can be such a node
TEXT = ArgType("TEXT", _text)
FILE = ArgType("FILE", _text, _files)
KEPT_FILE = ArgType("FILE", _text, _files, names_files=True)  # of a command that the journal keeps
SCENARIO = ArgType("FILE", _text, _scenarios)


def choice(name: str, values: Mapping[str, str]) -> ArgType:
    """One of *values*, each with a description."""

    def convert(word: str, _shell: Shell) -> str:
        if word not in values:
            hint = did_you_mean(word, values) or "one of " + ", ".join(values)
            raise UsageError(f"{word!r} is no {name}", hint=hint)
        return word

    return ArgType("|".join(values) if len(values) <= 4 else name.upper(), convert, lambda _s, _p: values.items())


def named(name: str, values: Callable[[Shell], Mapping[str, str]]) -> ArgType:
    """A name out of a set that the shell knows at the time, such as the policies; the value is the name."""

    def convert(word: str, shell: Shell) -> str:
        known = values(shell)
        if word not in known:
            hint = did_you_mean(word, known) or "known: " + ", ".join(known)
            raise UsageError(f"unknown {name} {word!r}", hint=hint)
        return word

    return ArgType(name.upper(), convert, lambda shell, _prefix: values(shell).items())


def _key_value(word: str, _shell: Shell) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(f"{word!r} is not of the form key=value")
    return key, value


KEY_VALUE = ArgType("KEY=VALUE", _key_value)


# --- memory blocks ------------------------------------------------------------------------------


def _machine(shell: Shell) -> Machine:
    return shell.need_machine()


def _ids(word: str, shell: Shell) -> range:
    """Return the block ids that *word* names, whether they exist or not."""
    start, dash, end = word.partition("-")
    first = _endpoint(start, shell)
    if first is None:
        return range(0)
    last = _endpoint(end, shell, inclusive_end=True) if dash else first
    return range(0) if last is None else range(first, last + 1)


def _endpoint(word: str, shell: Shell, *, inclusive_end: bool = False) -> int | None:
    """Return the block id in ``47``, ``memory47`` or an address such as ``0x178000000``."""
    if word.startswith("memory"):
        word = word.removeprefix("memory")
    if word.isdecimal():
        return int(word) if len(word) <= DIGITS else _integer(word, shell)
    try:
        address = _size(word, shell)
    except UsageError:
        return None
    size = _machine(shell).mm.block_size
    if not inclusive_end and address % size:
        raise UsageError(f"{word} is not the start of a memory block", hint=f"blocks are 0x{size:x} bytes")
    return address // size


def block_ids(words: Iterable[str], shell: Shell) -> list[int]:
    """Return the ids for ``47``, ``memory47``, ``32-39``, ``0x100000000-0x13fffffff``, ``all``, ``last`` ...

    Raises UsageError for a word that names no block, with the nearest block that exists.
    """
    found: list[int] = []
    for word in words:
        found += _blocks(word, shell)
    return list(dict.fromkeys(found))


def _blocks(word: str, shell: Shell) -> list[int]:
    blocks = _machine(shell).mm.blocks
    if word == "all":
        return sorted(blocks)
    if word in {"online", "offline"}:
        return sorted(number for number, block in blocks.items() if str(block.state) == word)
    if word == "last":
        return [blocks.last()]
    ids = _ids(word, shell)
    if not ids:
        keywords = ["all", "online", "offline", "last"]
        close = did_you_mean(word, keywords)
        hint = close or "write memory47, 47, 32-39, an address range, all, online, offline or last"
        raise UsageError(f"{word!r} names no memory block", hint=hint)
    present = blocks.between(ids.start, ids.stop)
    if not present:
        near = min(blocks, key=lambda number: abs(number - ids[0]))
        raise UsageError(f"there is no block memory{ids[0]}", hint=f"the nearest is memory{near}")
    return present


def _complete_blocks(shell: Shell, prefix: str, first: str = "") -> Suggestions:
    """Suggest blocks, those whose state is *first* before the others; as numbers where one was begun."""
    yield from (("all", "every block"), ("online", "every online block"), ("offline", "every offline block"))
    yield ("last", "the block at the highest address")
    if shell.machine is not None:
        name = "" if prefix[:1].isdecimal() else "memory"
        blocks = shell.machine.mm.blocks.values()
        for block in sorted(blocks, key=lambda block: (block.state != first, block.id)):
            yield f"{name}{block.id}", f"{block.state} {block.zone.label if block.zone is not None else ''}".strip()


BLOCKS = ArgType("BLOCKS", _blocks, _complete_blocks)
ONLINE_BLOCKS = ArgType("BLOCKS", _blocks, partial(_complete_blocks, first="online"))
OFFLINE_BLOCKS = ArgType("BLOCKS", _blocks, partial(_complete_blocks, first="offline"))
