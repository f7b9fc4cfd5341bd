"""The commands that plug memory: ``add``, ``online``, ``offline``, ``remove``, ``eject``."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from memshell.commands.advice import first_that_works
from memshell.commands.failed import failed_blocks, held_blocks, out_of_memory
from memshell.errors import CommandError, KernelCrash, KernelError, OutOfMemory, UsageError, did_you_mean
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import (
    ADDING_NODE,
    ADDRESS,
    BLOCKS,
    OFFLINE_BLOCKS,
    ONLINE_BLOCKS,
    SIZE,
    TEXT,
    block_ids,
    choice,
    named,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.sorted_map import SortedMap
    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


def _callers(shell: Shell) -> Mapping[str, str]:
    """Return who can add memory: on any machine, or on the one that there is."""
    from memshell.drivers.callers import CORE

    arches = [shell.machine.mm.arch] if shell.machine else shell.plugins.arches().values()
    return {one.name: one.text for one in (*CORE, *(own for arch in arches for own in arch.callers))}


VIA = named("caller", _callers)
FLAGS = {"merge_resource": "MHP_MERGE_RESOURCE", "memmap_on_memory": "MHP_MEMMAP_ON_MEMORY"}


def _flags(word: str, _shell: Shell) -> int:
    from memshell.mm import memory_hotplug

    flags = 0
    for name in word.split(","):
        if name not in FLAGS:
            raise UsageError(f"{name!r} is no flag of add_memory()", hint=did_you_mean(name, FLAGS) or ", ".join(FLAGS))
        flags |= int(getattr(memory_hotplug, FLAGS[name]))
    return flags


FLAG_WORDS = ArgType("FLAGS", _flags, lambda _shell, _prefix: FLAGS.items())


def _text(mm: Mm, size: int) -> str:
    from memshell.mm.pfn import format_size

    return format_size(size << mm.arch.page_shift)


def id_runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return block ids as runs: (the first, how many)."""
    groups = groupby(enumerate(sorted(ids)), lambda pair: pair[1] - pair[0])
    found = [[number for _, number in group] for _, group in groups]
    return [(members[0], len(members)) for members in found]


def named_blocks(ids: Iterable[int]) -> str:
    """Return block ids as ``memory32-39, memory47``."""
    found = [f"memory{first}" + (f"-{first + count - 1}" if count > 1 else "") for first, count in id_runs(ids)]
    return ", ".join(found) if len(found) <= 4 else f"{', '.join(found[:3])} and {len(found) - 3} more runs"


def free_place(mm: Mm, size: int) -> int:
    """Return the address where QEMU would put a DIMM of *size* bytes: the lowest gap that fits.

    Device memory begins behind boot memory, at or above 4 GiB where the zones say that there is a hole
    below, aligned to 1 GiB; the DIMM is aligned to a memory block, since the kernel refuses others. Source:
    QEMU hw/i386/pc.c, hw/arm/virt.c, hw/mem/memory-device.c.
    """
    from memshell.mm.mmzone import ZoneType
    from memshell.mm.pfn import GiB, align_up

    floor = dict(mm.arch.zone_limits).get(ZoneType.DMA32, 0)
    if mm.arch.dimm_floor is not None:
        floor = mm.arch.dimm_floor >> mm.arch.page_shift
    place = align_up(max(floor, mm.boot_end) << mm.arch.page_shift, max(GiB, mm.block_size))
    taken = mm.resources.taken.copy()
    for _, start, length in mm.failed_dimms:  # they are plugged all the same
        taken.set(start, start + length, value=True)
    for start, end, _ in taken.items(place):
        if start >= place + size:
            break
        place = max(place, align_up(end, mm.block_size))
    return place


@command(
    "hotplug",
    arg("address", ADDRESS, "where; without it, the first place where QEMU would put a DIMM", nargs="?"),
    arg("size", SIZE, "how much"),
    arg("node=", ADDING_NODE, "the NUMA node", default=0),
    arg("via=", VIA, "who adds it: acpi on x86_64, a driver elsewhere, if nothing is said"),
    arg("flags=", FLAG_WORDS, "what via=module passes to add_memory(): merge_resource, memmap_on_memory", default=0),
    arg("name=", TEXT, "the resource's name in iomem, of via=module and via=driver", default=""),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at 0x100000000-0x13fffffff, node 0: memory32-39 offline
memmap from existing memory; free -16M (4096 pages)
> policy memmap_on_memory
policy memmap_on_memory
> add 0x180000000 256M
256M at 0x180000000-0x18fffffff, node 0: memory48-49 offline
memmap in the first 512 pages of each block; free -4K (1 page)
> online memory48-49 movable
memory48-49 online in Movable: 252M and 4M memmap
""",
)
def add(shell: Shell, args: Namespace) -> str:
    """Plug memory in; its blocks are offline until ``online``, unless auto_online_blocks says otherwise.

    ``via=acpi`` is a DIMM, ``via=driver`` a module that calls add_memory_driver_managed(): one static memory
    group, and the memmap on the memory itself is asked for where the policy allows it. So do ``via=dlpar``,
    which onlines each block before the next comes, and ``via=sclp``. ``via=probe`` does not ask, and
    ``via=module`` asks with ``flags=memmap_on_memory``. ``via=hv_balloon`` adds whole blocks of which only what was
    asked for comes online, ``via=xen`` whole sections: the rest is PageOffline and keeps its block online. The next
    request of Hyper-V goes on where this one ended.

    Errors: EINVAL for what is not whole blocks, EEXIST where something is already, E2BIG beyond what can be
    mapped, ENOMEM when the memmap cannot be had.
    """
    from memshell.drivers.callers import Request, caller

    with shell.change() as mm:
        one = caller(mm, args.via or mm.arch.hotplug_driver)
        start = args.address
        if not args.size:
            raise UsageError("add needs a size", hint="such as: add 1G")
        chooses = start is None and one.grow is not None
        if start is None and one.place is not None:
            start = one.place(mm)
        if start is None:
            start = 0 if chooses else free_place(mm, args.size)
        before, free = mm.blocks.copy(), sum(zone.free for zone in mm.zones.values())
        request = Request(args.node, start, args.size, args.flags, args.name)
        try:
            one.grows(mm, request) if chooses else one.adds(mm, request)
        except OutOfMemory as error:
            raise out_of_memory(error, shell.need_machine().mm, args.size, start) from error
        used = free - sum(zone.free for zone in mm.zones.values())
        new = _only_in(mm.blocks, before)
        text = _added(mm, None if chooses else start, args.size, new, used)
        return "\n".join([text, *_decided(mm, shell.need_machine().mm, new, args.size)])


def _decided(mm: Mm, before: Mm, new: list[int], size: int) -> Iterable[str]:
    """Return a line for each thing that the add decided and nobody asked for."""
    plain = len(mm.nodes) == 1 and len(new) * mm.block_size == size and mm.params.auto_online_blocks == "offline"
    if not new or (plain and all(event.kind != "MemmapFallback" for event in mm.events)):
        return ()
    from memshell.commands.decided import about_add

    return about_add(mm, before, new, size)


def _only_in(blocks: SortedMap[int, MemoryBlock], others: SortedMap[int, MemoryBlock]) -> list[int]:
    return [number for number in blocks.keys_of_unshared(others) if number not in others]


def _added(mm: Mm, start: int | None, size: int, new: list[int], used: int) -> str:
    from memshell.mm.pfn import format_size

    if start is None and len(id_runs(new)) == 1:
        start = new[0] * mm.block_size
    where = format_size(size)
    where += "" if start is None else f" at {start:#x}-{start + size - 1:#x}"
    if not new:
        return f"{where}: no memory block"
    kept = {mm.blocks[number].nr_vmemmap_pages for number in new}
    memmap = "from existing memory" if kept == {0} else f"in the first {max(kept)} pages of each block"
    marked = sum(event.data["nr"] for event in mm.events if event.kind == "VmemmapMarked")
    if marked:
        memmap = f"in the first {marked} pages of the range"
    return f"{where}, node {mm.blocks[new[0]].nid}: {named_states(mm, new)}\nmemmap {memmap}; {free_change(mm, -used)}"


def free_change(mm: Mm, pages: int) -> str:
    """Return how much more or less is free, as ``free -16M (4096 pages)``."""
    from memshell.mm.pfn import spoken_size

    size = spoken_size(pages << mm.arch.page_shift)
    return f"free {'+' * (pages >= 0)}{size}" + (f" ({abs(pages)} page{'s' * (abs(pages) > 1)})" if pages else "")


def named_states(mm: Mm, numbers: Iterable[int]) -> str:
    """Return block ids with their state, as ``memory32-39 online in Movable; memory40 offline``."""
    states = _by(numbers, lambda number: _state(mm, number))
    return "; ".join(f"{named_blocks(members)} {state}" for state, members in states.items())


def _state(mm: Mm, number: int) -> str:
    block = mm.blocks[number]
    return block.state if block.zone is None else f"online in {block.zone.label}"


def _by(numbers: Iterable[int], key: Callable[[int], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return groups


# --- online and offline ---

ONLINE_AS = {
    "movable": "online_movable",
    "kernel": "online_kernel",
    "online_movable": "online_movable",
    "online_kernel": "online_kernel",
}


NONE_SUCH = -1  # stands for a word such as offline where no block is so


def _block_or_kind(word: str, shell: Shell) -> list[int] | str:
    if word in ONLINE_AS:
        return ONLINE_AS[word]
    try:
        return block_ids([word], shell) or [NONE_SUCH]
    except UsageError as error:
        if close := did_you_mean(word, ONLINE_AS):
            raise UsageError(error.message, hint=close) from error
        raise


def _blocks_or_kinds(shell: Shell, prefix: str) -> Suggestions:
    yield from OFFLINE_BLOCKS.complete(shell, prefix)
    yield from (("movable", "to ZONE_MOVABLE"), ("kernel", "to a kernel zone"))


BLOCKS_OR_KIND = ArgType("BLOCKS", _block_or_kind, _blocks_or_kinds)


class Written(NamedTuple):
    """What became of a row of writes to memoryN/state."""

    done: list[int]
    failed: list[tuple[int, KernelError]]


def _write_states(mm: Mm, numbers: list[int], value: str, shell: Shell) -> Written:
    """Write *value* to each block's state in turn, as a loop over sysfs does, also after a failure."""
    from memshell.drivers.base.memory.rows import state_store_row

    done, failed = list[int](), []
    written = 0
    for at, number in enumerate(shell.track(numbers)):
        if at < written:
            continue
        try:
            written = at + state_store_row(mm, numbers, at, value)
        except KernelError as error:
            failed.append((number, error))
        else:
            done += numbers[at:written]
    return Written(done, failed)


def left_to_do(mm: Mm, numbers: list[int], state: str) -> list[int]:
    """Leave out blocks that are in *state* already; a single one stays, for the kernel's EINVAL."""
    if len(numbers) == 1:
        return numbers
    return [number for number in numbers if number not in mm.blocks or mm.blocks[number].state != state]


def _raise_first(shell: Shell, mm: Mm, written: Written, state: str) -> None:
    """Raise the error of the first block that failed, with how many did and, of several, a row for each."""
    if not written.failed:
        return
    for number, failed in written.failed:
        kind, said = (
            f"{state.capitalize()}Failed",
            failed.said if f"memory{number}" in failed.message else f"memory{number}: {failed.said}",
        )
        mm.event(kind, failed.where, said, block=number, errno=failed.errno, pfn=failed.pfn)
    number, error = written.failed[0]
    name, count = f"memory{number}", len(written.failed) + len(written.done)
    text = error.message if name in error.message else f"{name}: {error.message}"
    if count > 1:
        text += f"; {len(written.done)} of {count} blocks are {state}{_others(written)}"
    raised = KernelError(text, error.errno or "EINVAL", where=error.where, hint=error.hint, pfn=error.pfn)
    raised.blocks = tuple(number for number, _ in written.failed)
    if len(written.failed) > 1:
        raised.details = partial(failed_blocks, shell, mm, written.failed, state)
    raise raised from error


def _others(written: Written) -> str:
    if len(written.failed) < 2:
        return ""
    counts = Counter(error.errno for _, error in written.failed)
    kinds = ": " + ", ".join(f"{count} {name}" for name, count in counts.items()) if len(counts) > 1 else ""
    return f", {len(written.failed)} failed{kinds}"


@command(
    "hotplug",
    arg("blocks", BLOCKS_OR_KIND, "memory32, 32-39, 0x100000000-0x13fffffff, all, offline or last", nargs="+"),
    arg(
        "kind",
        choice("zone", {"kernel": "a kernel zone", "movable": "ZONE_MOVABLE"}),
        "which zone; the kernel chooses without it",
        nargs="?",
    ),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> online memory32 movable
memory32 online in Movable: 128M
> online all
memory33-39 online in Normal: 896M
""",
)
def online(shell: Shell, args: Namespace) -> str:
    """Online memory blocks: write online, online_kernel or online_movable to their state.

    Several blocks are written one after another; those that are online already are left alone, and one that
    fails does not keep the others from it. Without kernel or movable, the online_policy chooses the zone.
    """
    kinds = [word for word in args.blocks if isinstance(word, str)]
    if len(set(kinds)) > 1:
        raise UsageError("online: kernel or movable, not both")
    value, numbers = (kinds or ["online"])[0], [word for word in args.blocks if not isinstance(word, str)]
    if not numbers and kinds:
        raise UsageError("online: no block is named", hint=f"such as: online all {kinds[0].removeprefix('online_')}")
    numbers = [number for number in numbers if number != NONE_SUCH]
    with shell.change() as mm:
        wanted = left_to_do(mm, numbers, "online")
        written = _write_states(mm, wanted, value, shell)
        if not wanted:
            return "nothing to do: these blocks are online already" if numbers else "nothing to do: no block is offline"
        _raise_first(shell, mm, written, "online")
        there = [number for number in written.done if number in mm.blocks]
        lines = [_onlined(mm, members) for members in _by(there, lambda number: _state(mm, number)).values()]
        gone = sorted(set(written.done).difference(there))
        lines += [f"{named_blocks(gone)} came online, and its driver took it away again"] if gone else []
        return "\n".join([*lines, *(_zones_by(mm) if value == "online" else ())])


def _zones_by(mm: Mm) -> list[str]:
    if mm.params.online_policy == "contig-zones":
        return []
    from memshell.commands.decided import zones_by

    return [zones_by(mm)]


def _onlined(mm: Mm, members: list[int]) -> str:
    kept = sum(mm.blocks[number].nr_vmemmap_pages for number in members)
    held = _page_offline(mm, members)
    pages = len(members) * mm.block_pages - kept - held
    memmap = f" and {_text(mm, kept)} memmap" if kept else ""
    memmap += f", {_text(mm, held)} PageOffline" if held else ""
    return f"{named_blocks(members)} {_state(mm, members[0])}: {_text(mm, pages)}{memmap}"


def _page_offline(mm: Mm, members: list[int]) -> int:
    """Return how many pages of the blocks their driver keeps from the buddy."""
    from memshell.mm.page import Owner

    if mm.online_page_callback is None:
        return 0
    size, held = mm.block_pages, (Owner.OFFLINE, Owner.BALLOON)
    return sum(
        b - a
        for first, count in id_runs(members)
        for a, b, page in mm.pages.items(first * size, (first + count) * size)
        if page.owner in held
    )


@command(
    "hotplug",
    arg("blocks", ONLINE_BLOCKS, "memory32, 32-39, 0x100000000-0x13fffffff, all, online or last", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> online 32-39 movable
memory32-39 <...>
> offline 32-35
memory32-35 offline: 512M
""",
)
def offline(shell: Shell, args: Namespace) -> str:
    """Offline memory blocks: migrate what is movable away, and take the pages from the buddy.

    Several blocks are written one after another; those that are offline already are left alone, and one that
    fails does not keep the others from it. Errors: EBUSY for unmovable pages, EINTR where the kernel would
    retry until a signal (pinned pages, no room to migrate to), EINVAL for memory holes and blocks that span
    zones.
    """
    with shell.change() as mm:
        wanted = left_to_do(mm, args.blocks, "offline")
        written = _write_states(mm, wanted, "offline", shell)
        if not wanted:
            return "nothing to do: these blocks are offline already"
        _raise_first(shell, mm, written, "offline")
        return f"{named_blocks(written.done)} offline: {_text(mm, len(written.done) * mm.block_pages)}"


# --- remove ---


class Range(NamedTuple):
    """What one driver call takes away: bytes."""

    start: int
    size: int


def _by_device(mm: Mm, numbers: Iterable[int]) -> list[Range]:
    """Split blocks into what was plugged together, as far as it lies side by side."""
    from memshell.drivers.callers import device_at

    found = []
    devices = {number: device_at(mm, number * mm.block_size) for number in numbers}
    for _, run in groupby(enumerate(sorted(devices)), lambda pair: (pair[1] - pair[0], devices[pair[1]])):
        ids = [number for _, number in run]
        found.append(Range(ids[0] * mm.block_size, len(ids) * mm.block_size))
    return found


def _is_address(word: str) -> bool:
    return not word.isdecimal() and "-" not in word and not word.startswith("memory")


def exact_range(words: list[str], shell: Shell) -> Range | None:
    """Return ``ADDR SIZE`` as it stands; None where blocks are named. Raises `UsageError` for one that no address has."""
    if len(words) != 2 or not all(_is_address(word) for word in words):
        return None
    try:
        found = Range(ADDRESS.convert(words[0], shell), SIZE.convert(words[1], shell))
    except UsageError:
        return None
    bits = shell.need_machine().mm.arch.max_physmem_bits
    if found.start + found.size > 1 << bits:
        raise UsageError(
            f"{' '.join(words)} ends beyond what can be", hint=f"this machine has addresses of {bits} bits"
        )
    return found


@command(
    "hotplug",
    arg("blocks", ArgType("BLOCKS", TEXT.convert, OFFLINE_BLOCKS.complete), "blocks, or ADDR SIZE", nargs="+"),
    arg("via=", VIA, "who removes it, if not the one that added it"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> remove 0x100000000-0x13fffffff
removed 1G: memory32-39
""",
)
def remove(shell: Shell, args: Namespace) -> str:
    """Remove memory that is offline, as the one that added it does: a DIMM, LMBs, a driver's memory.

    What only goes as a whole, and in part shall go, is removed as a module would that calls remove_memory()
    (``via=module``). ``remove ADDR SIZE`` passes exactly this range on. EBUSY while a block of it is online
    (``eject`` offlines first), EINVAL for what is not whole blocks.
    """
    from memshell.drivers.callers import caller, remover

    with shell.change() as mm:
        before = mm.blocks.copy()
        exact = exact_range(args.blocks, shell)
        wanted = [exact] if exact else _by_device(mm, block_ids(args.blocks, shell))
        if not wanted:
            return "nothing to do: there is no such block"
        for start, size in wanted:
            one = caller(mm, args.via) if args.via else remover(mm, start, size)
            one.removes(mm, start, size)
        return _removed(mm, before)


def _removed(mm: Mm, before: SortedMap[int, MemoryBlock]) -> str:
    gone = _only_in(before, mm.blocks)
    if not gone:
        return "there was no memory block to remove"
    size, lost = mm.block_size, [event.data for event in mm.events if event.kind == "DirectMapLost"]
    left = [n for one in lost for n in range(one["start"] // size, one["end"] // size) if n in mm.blocks]
    also = f"; {named_blocks(left)} lost their direct map with it" if left else ""
    return f"removed {_text(mm, len(gone) * mm.block_pages)}: {named_blocks(gone)}{also}"


@command(
    "hotplug",
    arg("blocks", ArgType("BLOCKS", TEXT.convert, BLOCKS.complete), "any block of the DIMMs, or ADDR SIZE", nargs="+"),
    arg("via=", VIA, "who does it, if not the one that added the memory"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> online all movable
memory32-39 <...>
> eject memory32
removed 1G: memory32-39
""",
)
def eject(shell: Shell, args: Namespace) -> str:
    """Eject memory: offline the blocks that are online, then remove them.

    A DIMM goes as a whole, whichever block of it is named, or its first address. When a block cannot be
    offlined, the eject is rejected and the blocks that were offlined come back online, each in the zone that
    the kernel chooses then, which may be another one. Of other memory what is named goes. ``via=dlpar``
    takes LMBs away one after the other; when one cannot go, those before it are added and onlined again; ``eject 1G
    via=dlpar`` means as many as that, and the kernel chooses. ``eject ADDR SIZE`` passes exactly this range on.
    """
    from memshell.drivers.callers import caller

    with shell.change() as mm:
        before = mm.blocks.copy()
        size = _size_alone(args.blocks, shell) if args.via else None
        if size is not None and caller(mm, args.via).shrink is not None:
            caller(mm, args.via).shrinks(mm, size)
            return _removed(mm, before)
        exact = exact_range(args.blocks, shell)
        addresses = [exact.start] if exact else named_addresses(mm, args.blocks, shell)
        if not addresses:
            return "nothing to do: there is no such block"
        one = caller(mm, args.via or _ejector(mm, addresses[0]))
        for start, size in [exact] if exact else _ejected(shell, mm, addresses, whole=one.whole):
            with _blocks_told(shell, start, size):
                one.ejects(mm, start, size)
        return _removed(mm, before)


def _size_alone(words: list[str], shell: Shell) -> int | None:
    """Return the size of words that are nothing but one with a unit, such as 1G; None for blocks and addresses."""
    if len(words) != 1 or not re.fullmatch(r"\d+[kmgtKMGT]", words[0]):
        return None
    return int(SIZE.convert(words[0], shell))


@contextmanager
def _blocks_told(shell: Shell, start: int, size: int) -> Iterator[None]:
    """Give an error a row for each block of [start, +size) bytes that cannot go offline."""
    mm = shell.need_machine().mm  # as it was, and will be
    blocks = tuple(mm.blocks.between(start // mm.block_size, (start + size) // mm.block_size))
    try:
        yield
    except KernelCrash as crash:
        crash.blocks, crash.details = blocks, partial(held_blocks, shell, mm, blocks)
        raise
    except KernelError as error:
        name = "" if error.pfn is None else f"memory{error.pfn // mm.block_pages}: "
        told = KernelError(
            name + error.message, error.errno or "EBUSY", where=error.where, hint=error.hint, pfn=error.pfn
        )
        told.blocks, told.details = blocks, partial(held_blocks, shell, mm, blocks)
        raise told from error


def named_addresses(mm: Mm, words: list[str], shell: Shell) -> list[int]:
    """Return where the blocks that are named begin, and where a DIMM is plugged that has none."""
    from memshell.drivers.callers import device_at

    found: list[int] = []
    for word in words:
        address = ADDRESS.convert(word, shell) if word.startswith("0x") and _is_address(word) else None
        if address is not None and device_at(mm, address) is not None:
            found.append(address)
        else:
            found += [number * mm.block_size for number in block_ids([word], shell)]
    return found


def _ejector(mm: Mm, address: int) -> str:
    """Return who ejects what is at *address*: who plugged it, where that one ejects at all."""
    from memshell.drivers.callers import callers, device_at

    device = device_at(mm, address)
    return device.caller if device is not None and callers(mm)[device.caller].eject is not None else "acpi"


def _on_no_dimm(shell: Shell, number: int) -> CommandError:
    error = CommandError(f"memory{number} is on no DIMM")
    if not shell.tries:
        mm, ways = shell.need_machine().mm, ([f"offline {number}", f"remove {number}"], [f"remove {number}"])
        error.advise = lambda: first_that_works(shell, mm, ways)
    return error


def _ejected(shell: Shell, mm: Mm, addresses: list[int], *, whole: bool) -> list[Range]:
    """Return what goes with *addresses*: DIMMs as a *whole*, or runs of blocks. Raises `CommandError` for a block on no DIMM."""
    from memshell.drivers.callers import device_at

    if not whole:
        runs = id_runs(dict.fromkeys(address // mm.block_size for address in addresses))
        return [Range(first * mm.block_size, count * mm.block_size) for first, count in runs]
    found: dict[Range, None] = {}
    for address in addresses:
        device = device_at(mm, address)
        if device is None:
            raise _on_no_dimm(shell, address // mm.block_size)
        found[Range(device.start, device.size)] = None
    return list(found)
