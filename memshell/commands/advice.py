"""What would help after a failure: said only where memshell has tried it on a branch of the state, and it worked."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from memshell.errors import UsageError
from memshell.views.obstacles import Held, held, orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from memshell.errors import KernelCrash, KernelError
    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

TRIED_BLOCKS = 20_000  # an add of more is not tried: that would take seconds


class Failure(NamedTuple):
    """A command that failed: its words, the error, the states before and after it."""

    words: list[str]
    error: KernelError | KernelCrash
    before: Mm
    after: Mm

    @property
    def text(self) -> str:
        """The command as it was typed."""
        return shlex.join(self.words)

    @property
    def keys(self) -> dict[str, str]:
        """Its key=value words."""
        return dict(word.partition("=")[::2] for word in self.words[1:] if "=" in word)

    @property
    def plain(self) -> list[str]:
        """Its other words, without switches."""
        return [word for word in self.words[1:] if "=" not in word and not word.startswith("-")]

    def with_key(self, key: str, value: str) -> str:
        """Return the command with another value of *key*."""
        others = [word for word in self.words if not word.startswith(f"{key}=")]
        return shlex.join([*others, f"{key}={value}"])


def works(shell: Shell, mm: Mm, lines: Iterable[str]) -> bool:
    """Whether the commands *lines*, typed on a machine in the state *mm*, all end well. Nothing of it stays."""
    from memshell.machine import Machine

    player = shell.player.fresh()
    player.shell.machine = Machine(mm)
    for line in lines:
        player.play_text(line, "advice")
        if player.failures:
            return False
    return True


def first_that_works(shell: Shell, mm: Mm, candidates: Iterable[list[str]]) -> str | None:
    """Return the first of *candidates* whose commands all end well in the state *mm*; None without."""
    return next((f"`{'; '.join(lines)}` works" for lines in candidates if works(shell, mm, lines)), None)


def advice(shell: Shell, failure: Failure, hint: str | None = None) -> str | None:
    """Return commands that do what was asked for, after ``undo`` where the failure left something; None without any.

    *hint* is a command that who raised the error thinks of.
    """
    before, after = failure.before, failure.after
    as_before = [(before, ["undo"])]
    if after.crashed or orphans(before, after) or "--off" in failure.words:
        states = as_before
    else:
        partly = any(number not in before.blocks for number in after.blocks.keys_of_unshared(before.blocks))
        states = [(after, []), *(as_before if partly else [])]
    for state, first in states:
        for lines in _candidates(shell, failure, hint):
            if works(shell, state, lines):
                return f"`{'; '.join([*first, *lines])}` works"
    return None


def _candidates(shell: Shell, failure: Failure, hint: str | None) -> Iterator[list[str]]:
    if hint is not None:
        yield [hint, failure.text]
    find = CANDIDATES.get(failure.words[0])
    if find is not None:
        yield from find(shell, failure)


def frees_block(shell: Shell, mm: Mm, block_id: int) -> str | None:
    """Return commands after which the block goes offline; None where none are known that work."""
    for lines in _offline_candidates(mm, block_id):
        if works(shell, mm, [*lines, f"offline {block_id}"]):
            return "; ".join(lines)
    return None


def _offline_candidates(mm: Mm, block_id: int) -> Iterator[list[str]]:
    pages = held(mm, block_id)
    stay = [one for one in pages if one.stays]
    lines = _freeing(stay)
    if lines:
        yield lines
    if any(one.kind.startswith("movable") for one in pages) and not stay:
        yield ["online offline kernel"]
        yield ["add 1G", "online offline kernel"]


def _freeing(stay: Iterable[Held]) -> list[str]:
    """Return the commands that free all pages that *stay*; none where one of them is nobody's to free."""
    named: dict[str, set[int]] = {}
    devices: dict[str, None] = {}
    for one in stay:
        described = one.whose.removeprefix("of memory")
        if one.tag:
            named.setdefault("unpin" if one.kind.startswith("pinned") else "free", set()).add(one.tag)
        elif one.kind == "memmap" and described[:1].isdecimal():
            devices[described] = None
        else:
            return []
    lines = [f"{name} {' '.join(map(str, sorted(tags)))}" for name, tags in sorted(named.items())]
    return lines + [f"eject {blocks}" for blocks in devices]


# --- what may help, by command ---


def _sized(failure: Failure) -> int:
    """Return how much a command with a size asked for, bytes; 0 where it has none."""
    from memshell.mm.pfn import memparse

    try:
        return memparse(failure.plain[-1]) if failure.plain else 0
    except UsageError:
        return 0


def _policies(shell: Shell, failure: Failure) -> Iterator[str]:
    """Yield the policies that put a memmap on the memory, the present one left out."""
    now = failure.before.policy
    for name, one in sorted(shell.plugins.policies().items(), key=lambda item: item[1].parameter != "Y"):
        if name != now.name and one.parameter != "N":
            yield name


def _for_add(shell: Shell, failure: Failure) -> Iterator[list[str]]:
    size = _sized(failure)
    if failure.error.errno != "ENOMEM" or not 0 < size <= TRIED_BLOCKS * failure.before.block_size:
        return
    if failure.keys.get("via") == "module":
        asked = failure.with_key("flags", "memmap_on_memory")
        yield [asked]
        yield from ([f"policy {name}", asked] for name in _policies(shell, failure))
    elif failure.keys.get("via") not in ("probe", "xen", "hv_balloon"):  # these never ask the policy
        yield from ([f"policy {name}", failure.text] for name in _policies(shell, failure))
    added = [number for number in failure.after.blocks if number not in failure.before.blocks]
    if added:
        yield _the_rest(failure, size, added)
        return
    yield from (_in_steps(failure, size, count) for count in (2, 4) if not size % (count * failure.before.block_size))


def _the_rest(failure: Failure, size: int, added: list[int]) -> list[str]:
    """Online what was added, and go on behind it."""
    from memshell.mm.pfn import format_size

    block = failure.after.block_size
    keys = [word for word in failure.words[1:] if word not in failure.plain]
    rest = [f"{(added[-1] + 1) * block:#x}", format_size(size - len(added) * block)]
    return ["online offline kernel", shlex.join(["add", *rest, *keys])]


def _in_steps(failure: Failure, size: int, count: int) -> list[str]:
    from memshell.mm.pfn import format_size, memparse

    part, plain = size // count, failure.plain
    start = memparse(plain[0]) if len(plain) > 1 else None
    keys = [word for word in failure.words[1:] if word not in plain]
    lines: list[str] = []
    for at in range(count):
        where = [] if start is None else [f"{start + at * part:#x}"]
        lines += [shlex.join(["add", *where, format_size(part), *keys]), "online offline kernel"]
    return lines[:-1]


def _for_probe(shell: Shell, failure: Failure) -> Iterator[list[str]]:
    keys = failure.keys
    if "--off" in failure.words:
        yield from _unbound(failure)
    elif failure.error.errno == "ENXIO":
        yield [failure.with_key("align", "2M")]
        yield [failure.with_key("map", "mem")]
    elif failure.error.errno == "ENOMEM" and _sized(failure) <= TRIED_BLOCKS * failure.before.block_size:
        asked = failure.with_key("map", "dev")
        if keys.get("map") != "dev" and keys.get("mode", "raw") != "raw":
            yield [asked]
        if keys.get("mode") == "kmem":
            yield from ([f"policy {name}", asked] for name in _policies(shell, failure))


def _unbound(failure: Failure) -> Iterator[list[str]]:
    """Offline the blocks before the driver goes: kmem has one shot."""
    from memshell.drivers.dax.bus import devices
    from memshell.mm.pfn import memparse

    mm, address = failure.before, memparse(failure.plain[0])
    for one in devices(mm):
        if one.start <= address < one.start + one.size:
            first, last = one.data_start // mm.block_size, (one.data_start + one.data_size) // mm.block_size - 1
            yield [f"offline {first}-{last}", failure.text]


def _for_virtio_mem(_shell: Shell, failure: Failure) -> Iterator[list[str]]:
    mm = failure.after
    if failure.error.errno == "EBUSY" and mm.virtio_mem is not None:
        yield [*_freeing_all(mm, failure.error.blocks), failure.text]
    elif failure.error.errno == "ENOMEM":
        for again in (shlex.join(["virtio-mem", *failure.plain]), failure.text):  # the device takes its keys once
            yield ["online offline kernel", again]
            yield ["set auto_online_blocks=online_kernel", again]


def _freeing_all(mm: Mm, blocks: Iterable[int]) -> list[str]:
    stay = [one for number in blocks if mm.blocks[number].state == "online" for one in held(mm, number) if one.stays]
    return _freeing(stay)


def _for_alloc(_shell: Shell, failure: Failure) -> Iterator[list[str]]:
    if failure.error.errno != "ENOMEM":
        return
    if "huge" in failure.keys:
        size = failure.keys["huge"]
        from memshell.mm.pfn import memparse

        yield [f"hugepages {size}={-(-_sized_first(failure) // max(memparse(size), 1))}", failure.text]
        return
    if failure.keys.get("order", "0") != "0":
        yield [failure.with_key("order", "0")]
    if any(block.state == "offline" for block in failure.after.blocks.values()):
        yield ["online offline", failure.text]
        yield ["online offline kernel", failure.text]


def _sized_first(failure: Failure) -> int:
    from memshell.mm.pfn import memparse

    return memparse(failure.plain[0])


def _for_remove(_shell: Shell, failure: Failure) -> Iterator[list[str]]:
    words = " ".join(failure.plain)
    if failure.error.errno == "EBUSY":
        yield [f"offline {words}", failure.text]
    elif failure.error.errno == "EINVAL" and "granularity" in failure.error.message:
        gone = sorted(failure.before.blocks)
        start, size = _exact(failure)
        ids = [number for number in gone if start <= number * failure.before.block_size < start + size]
        if len(ids) <= 64:
            yield [f"remove {number}" for number in ids]


def _exact(failure: Failure) -> tuple[int, int]:
    from memshell.mm.pfn import memparse

    try:
        start, size = map(memparse, failure.plain)
    except (UsageError, ValueError):
        return 0, 0
    return start, size


def _for_offline(_shell: Shell, failure: Failure) -> Iterator[list[str]]:
    if len(failure.error.blocks) == 1:
        yield from ([*lines, failure.text] for lines in _offline_candidates(failure.after, failure.error.blocks[0]))


def _for_eject(_shell: Shell, failure: Failure) -> Iterator[list[str]]:
    lines = _freeing_all(failure.before, failure.error.blocks)
    if lines:
        yield [*lines, failure.text]


CANDIDATES: dict[str, Callable[[Shell, Failure], Iterator[list[str]]]] = {
    "add": _for_add,
    "alloc": _for_alloc,
    "eject": _for_eject,
    "offline": _for_offline,
    "probe": _for_probe,
    "remove": _for_remove,
    "virtio-mem": _for_virtio_mem,
    "write": _for_offline,
}
