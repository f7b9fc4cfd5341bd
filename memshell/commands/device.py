"""The commands of device memory: ``probe`` gives it struct pages, ``virtio-mem`` lets it grow and shrink."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from memshell.commands.failed import held_blocks, out_of_memory
from memshell.commands.hotplug import free_change, free_place, named_states
from memshell.errors import KernelError, OutOfMemory, UsageError
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import ADDING_NODE, ADDRESS, SIZE, choice, online_node

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from memshell.drivers.dax.bus import DevDax
    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

MODE = choice(
    "mode",
    {
        "raw": "a raw namespace: all of it, its memmap in memory",
        "fsdax": "a pfn device for a filesystem",
        "devdax": "a DAX device, mapped in compound pages of its alignment",
        "kmem": "RAM: the memory blocks inside it, given by the dax kmem driver, offline until `online`",
    },
)
MAP = choice("map", {"mem": "the memmap is in existing memory", "dev": "the memmap is on the device itself"})
REGION = 4 << 30  # bytes that a virtio-mem device may grow to, unless region= says


class Typed(int):
    """An address that was typed as one: 0x100000000."""


def _where(word: str, shell: Shell) -> int:
    value: int = ADDRESS.convert(word, shell)
    return Typed(value) if word.lower().startswith("0x") else value


@command(
    "hotplug",
    arg("address", ArgType("ADDR", _where), "where it begins; without it, the first place where it fits", nargs="?"),
    arg("size", SIZE, "how much; --off needs none, and with nothing at all the devices are listed", nargs="?"),
    arg("mode=", MODE, "what it is used as", default="raw"),
    arg("map=", MAP, "where the memmap of fsdax, devdax and kmem goes", default="mem"),
    arg("align=", SIZE, "alignment of the data; for devdax also the size of its pages", default=2 << 20),
    arg("node=", ADDING_NODE, "the NUMA node", default=0),
    arg("--off", None, "unbind the device at this address"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> probe 0x100000000 1G mode=devdax
1G of devdax at 0x100000000-0x13fffffff, memmap in memory; free -4128K (1032 pages)
> probe 0x100000000 --off
unbound 0x100000000-0x13fffffff; free +4128K (1032 pages)
> probe 0x100000000 1G mode=kmem
1G of kmem at 0x100000000-0x13fffffff, memmap in memory; free -16M (4096 pages)
> probe 0x100000000 --off
unbound 0x100000000-0x13fffffff; free +16M (4096 pages)
""",
)
def probe(shell: Shell, args: Namespace) -> str | Result:
    """Bind a driver to persistent or CXL memory: it gets struct pages, in ZONE_DEVICE or, with kmem, as RAM.

    A device of ZONE_DEVICE never comes to the buddy allocator.  kmem takes the whole memory blocks inside,
    and its memmap goes on them with map=dev where the kernel has the attribute (v6.8) and memmap_on_memory
    allows it; elsewhere it stays in memory, as in the kernel, and the answer says so.

    A driver claims the range first: EBUSY ("could not reserve region") over RAM or another driver's device.
    The device stays when its driver goes (``--off``), and can be bound again, to another driver too; ``devices``
    lists them. Unbinding kmem is done in one shot: while a block is online it fails with EBUSY, the device is
    unbound all the same, and its memory stays RAM until the next reboot. Offline the blocks before.

    Errors: EBUSY; ENXIO where no room for data is left; EINVAL for what is not whole subsections of 2 MiB or
    has no whole memory block (kmem); ENOMEM when the memmap cannot be had; ENODEV with ``--off`` where no driver is.
    """
    from memshell.mm.page_alloc.allocation import nr_free_pages

    if args.address is None and args.off:
        raise UsageError("probe --off needs the device's address", hint="devices lists them")
    if args.address is None:
        return _listed(shell.need_machine().mm)
    if args.size is None and not args.off and not isinstance(args.address, Typed):
        args.address, args.size = free_place(shell.need_machine().mm, args.address), args.address
    with shell.change() as mm:
        free = nr_free_pages(mm)
        try:
            text = _unbind(mm, args.address) if args.off else _bind(mm, args)
        except OutOfMemory as error:
            raise out_of_memory(error, shell.need_machine().mm, args.size, args.address) from error
        return f"{text}; {free_change(mm, nr_free_pages(mm) - free)}"


def _bind(mm: Mm, args: Namespace) -> str:
    from memshell.drivers.nvdimm.namespace import bind_namespace
    from memshell.mm.pfn import format_size
    from memshell.views.lsmem import human

    if not args.size:
        raise UsageError("probe needs a size", hint="such as: probe 1G mode=devdax, or probe 0x100000000 1G")
    if args.size % mm.arch.page_size or args.address % mm.arch.page_size:
        raise UsageError("a device is whole pages", hint=f"a page has {mm.arch.page_size} bytes")
    if args.align % mm.arch.page_size or args.align & (args.align - 1) or not args.align:
        raise UsageError(f"align={args.align} cannot be", hint="a power of two of pages, such as 2M or 1G")
    if args.mode == "kmem":
        return _bind_kmem(mm, args)
    online_node(mm, args.node)  # numa_map_to_online_node(): ZONE_DEVICE is never of another
    on_device = args.mode != "raw" and args.map == "dev"
    device = bind_namespace(mm, args.mode, args.node, args.address, args.size, align=args.align, on_device=on_device)
    where = "on the device" if on_device else "in memory"
    data = f", data {human(device.data_size)} at {device.data_start:#x}" if device.data_size != device.size else ""
    return f"{format_size(device.size)} of {args.mode}{_span(device.start, device.size)}, memmap {where}{data}"


def _span(start: int, size: int) -> str:
    return f" at {start:#x}-{start + size - 1:#x}"


def _bind_kmem(mm: Mm, args: Namespace) -> str:
    from memshell.drivers.callers import Request, caller
    from memshell.drivers.dax.bus import find_device
    from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
    from memshell.mm.pfn import format_size

    flags = MHP_MEMMAP_ON_MEMORY if args.map == "dev" else 0
    caller(mm, "kmem").adds(mm, Request(args.node, args.address, args.size, flags))
    device = find_device(mm, args.address)
    inside = mm.blocks[device.data_start // mm.block_size].altmap is not None
    where = "on the device" if inside else "in memory"
    where += f" ({_why_not(mm)})" if flags and not inside else ""
    lost = args.size - device.data_size
    cut = f"; truncated by {format_size(lost)} to whole blocks of {format_size(mm.block_size)}" if lost else ""
    ram = _span(device.data_start, device.data_size)
    return f"{format_size(device.data_size)} of kmem{ram}, memmap {where}{_usable(mm, device)}{cut}"


def _why_not(mm: Mm) -> str:
    """Return why a memmap that was wanted on the device is in memory."""
    from memshell.commands.decided import fallback

    if not mm.features.dax.memmap_on_memory:
        return f"a dax device of {mm.profile.name} cannot be told"
    return fallback(mm) or f"policy {mm.policy.name} allows no other"


def _usable(mm: Mm, device: DevDax) -> str:
    """Return how much the blocks of the device leave beside their own memmap, where they hold one."""
    from memshell.mm.pfn import format_size

    first, last = device.data_start // mm.block_size, (device.data_start + device.data_size) // mm.block_size
    kept = sum(mm.blocks[number].nr_vmemmap_pages for number in range(first, last))
    return f", {format_size(device.data_size - (kept << mm.arch.page_shift))} usable" if kept else ""


def _unbind(mm: Mm, address: int) -> str:
    from memshell.drivers.callers import caller
    from memshell.drivers.dax.bus import bound_driver, find_device
    from memshell.drivers.nvdimm.namespace import unbind_namespace

    device = find_device(mm, address)
    if bound_driver(device) == "kmem":
        caller(mm, "kmem").removes(mm, device.data_start, device.data_size)
        return f"unbound{_span(device.data_start, device.data_size).removeprefix(' at')}"
    unbind_namespace(mm, device)
    return f"unbound{_span(device.start, device.size).removeprefix(' at')}"


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> probe 0x100000000 1G mode=fsdax map=dev
1G of fsdax at 0x100000000-0x13fffffff, memmap on the device, data 1006M at 0x101200000; free +0
> probe 0x140000000 1100M mode=kmem
1G of kmem at 0x140000000-0x17fffffff, memmap in memory; truncated by 76M to whole blocks of 128M; free -16M (4096 pages)
> devices
NAME         MODE  DRIVER  NODE START       SIZE  DATA  STATE
namespace0.0 fsdax nd_pmem    0 0x100000000 1G    1006M
dax0.0       kmem  kmem       0 0x140000000 1100M 1G    memory40-47 offline
""",
)
def devices(shell: Shell, args: Namespace) -> Result:
    """List the devices of persistent and CXL memory, as ndctl and daxctl do: their drivers, and what is left for data.

    DATA is what the device offers: less than its size where an info block and the memmap lie on it, or where kmem
    cuts it to whole memory blocks. A device without a driver can be bound again with ``probe``.
    """
    del args
    return _listed(shell.need_machine().mm)


def _listed(mm: Mm) -> Result:
    from memshell.drivers.dax.bus import devices as known
    from memshell.mm.pfn import format_size
    from memshell.views.lsmem import human

    if not known(mm):
        return Result(text="there is no device; probe 1G mode=devdax brings one", data=[])
    rows = [
        {
            "name": one.name,
            "mode": one.mode,
            "driver": one.driver or "-",
            "node": one.nid,
            "start": one.start,
            "size": one.size,
            "data": one.data_size,
            "state": _device_state(mm, one),
        }
        for one in known(mm)
    ]
    shown = [
        {**row, "start": f"{one.start:#x}", "size": format_size(one.size), "data": human(one.data_size)}
        for row, one in zip(rows, known(mm), strict=True)
    ]
    return Result(rows=shown, columns=DEVICES, data=rows)


DEVICES = (
    Column("NAME"),
    Column("MODE"),
    Column("DRIVER"),
    Column("NODE", right=True),
    Column("START"),
    Column("SIZE"),
    Column("DATA"),
    Column("STATE"),
)


def _device_state(mm: Mm, device: DevDax) -> str:
    if device.mode != "kmem" or not (device.driver or device.stuck):
        return ""
    first, last = device.data_start // mm.block_size, (device.data_start + device.data_size) // mm.block_size
    blocks = named_states(mm, [number for number in range(first, last) if number in mm.blocks])
    return f"{blocks}; RAM until the next reboot" if device.stuck else blocks


@command(
    "hotplug",
    arg("size", SIZE, "its requested-size: what it shall have plugged, 0 for nothing"),
    arg("at=", ADDRESS, "where its region begins; without it where the next DIMM would go"),
    arg("region=", SIZE, "how large it can become, 4G unless said"),
    arg("block_size=", SIZE, "the device's own blocks: a power of two from 1M, 2M unless said"),
    arg("node=", ADDING_NODE, "the NUMA node, 0 unless said"),
    name="virtio-mem",
    examples="""
> use x86_64 ram=2G profile=v6.12 auto_online=online_movable
x86_64, <...>
> virtio-mem 256M
plugged 256M of 256M, region 0x100000000-0x1ffffffff: memory32-33 online in Movable; free +252.00M (64511 pages)
> virtio-mem 260M
plugged 260M of 260M, region 0x100000000-0x1ffffffff: memory32-34 online in Movable; free +2M (512 pages)
> virtio-mem 0
plugged 0 of 0, region 0x100000000-0x1ffffffff; free -254.00M (65023 pages)
""",
)
def virtio_mem(shell: Shell, args: Namespace) -> str:
    """Ask the virtio-mem device for another size: its driver plugs or unplugs towards it.

    The device comes with the first request, the only one that takes at=, region=, block_size= and node=.  Where a
    memory block holds several of its subblocks (a pageblock, or a larger device block) it grows and shrinks by them;
    else by big blocks of one or more memory blocks, which come and go as a whole (v5.11).

    What it cannot unplug stays; the same request again tries once more. Until it is online, the driver adds no more than
    1G (two blocks at least), and goes on when half of that is. ``reboot`` keeps the requested size, with all of it unplugged
    first.

    Errors: EINVAL for a size that is not whole device blocks or above the region, EBUSY where something is in the
    region, or when pages in use keep it from shrinking, ENOMEM when an add fails: what was added before stays.
    """
    from memshell.drivers.callers import Request, caller
    from memshell.drivers.virtio.virtio_mem.device import DEFAULT_BLOCK_SIZE
    from memshell.mm.page_alloc.allocation import nr_free_pages

    with shell.change() as mm, _told(shell, mm, args.size):
        free = nr_free_pages(mm)
        if mm.virtio_mem is None:
            region = REGION if args.region is None else args.region
            block_size = DEFAULT_BLOCK_SIZE if args.block_size is None else args.block_size
            place = free_place(mm, region) if args.at is None else args.at
            request = Request(args.node or 0, place, region, block_size=block_size)
            caller(mm, "virtio-mem").resizes(mm, request, args.size)
        elif (args.at, args.region, args.node, args.block_size) != (None,) * 4:
            raise UsageError("the virtio-mem device is there already", hint="only its size can change: virtio-mem SIZE")
        else:
            caller(mm, "virtio-mem").resizes(mm, None, args.size)
        text = f"{_plugged(mm)}; {free_change(mm, nr_free_pages(mm) - free)}"
        return "\n".join([text, *_virtio_decided(mm)])


def _virtio_decided(mm: Mm) -> list[str]:
    if mm.policy.parameter == "N":
        return []
    from memshell.commands.decided import fallback

    reason = fallback(mm)
    return [reason] if reason else []


@contextmanager
def _told(shell: Shell, mm: Mm, size: int) -> Iterator[None]:
    """Give an error how far the device came, and the blocks that stay."""
    from memshell.drivers.virtio.virtio_mem.device import own_blocks, plugged_pages

    try:
        yield
    except KernelError as error:
        if mm.virtio_mem is None:
            raise
        if isinstance(error, OutOfMemory):
            missing = size - (plugged_pages(shell.need_machine().mm) << mm.arch.page_shift)
            told: KernelError = out_of_memory(error, shell.need_machine().mm, missing, mm.virtio_mem.start)
        else:
            told = error
            told.blocks = tuple(own_blocks(mm))
            told.details = partial(held_blocks, shell, mm, told.blocks)
        told.facts = () if "plugged" in told.message else (_plugged(mm).partition("\n")[0],)
        raise told from error


def _plugged(mm: Mm) -> str:
    from memshell.drivers.virtio.virtio_mem.device import device_of, own_blocks, plugged_pages
    from memshell.drivers.virtio.virtio_mem.work import waits_for
    from memshell.mm.pfn import format_size

    device = device_of(mm)
    plugged = format_size(plugged_pages(mm) << mm.arch.page_shift)
    text = f"plugged {plugged} of {format_size(device.requested)}"
    text += f", region {device.start:#x}-{device.start + device.size - 1:#x}"
    blocks = named_states(mm, own_blocks(mm))
    text += f": {blocks}" if blocks else ""
    waits = waits_for(mm)
    return f"{text}\n{waits}" if waits else text
