"""The commands of device memory: ``probe`` gives it struct pages, ``virtio-mem`` lets it grow and shrink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.hotplug import free_place, named_states
from memshell.errors import UsageError
from memshell.shell.registry import arg, command
from memshell.shell.types import ADDRESS, INT, SIZE, choice

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.mm.state import Mm, Resource
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


@command(
    "hotplug",
    arg("address", ADDRESS, "where it begins"),
    arg("size", SIZE, "how much; --off needs none", nargs="?"),
    arg("mode=", MODE, "what it is used as", default="raw"),
    arg("map=", MAP, "where the memmap of fsdax, devdax and kmem goes", default="mem"),
    arg("align=", SIZE, "alignment of the data; for devdax also the size of its pages", default=2 << 20),
    arg("node=", INT, "the NUMA node", default=0),
    arg("--off", None, "unbind the device at this address"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> probe 0x100000000 1G mode=devdax
1G of devdax at 0x100000000-0x13fffffff, memmap in memory; free -1032 pages
> probe 0x100000000 --off
unbound 0x100000000-0x13fffffff; free +1032 pages
> probe 0x100000000 1G mode=kmem
1G of kmem at 0x100000000-0x13fffffff, memmap in memory; free -4096 pages
> probe 0x100000000 --off
unbound 0x100000000-0x13fffffff; free +4096 pages
""",
)
def probe(shell: Shell, args: Namespace) -> str:
    """Bind a driver to persistent or CXL memory: it gets struct pages, in ZONE_DEVICE or, with kmem, as RAM.

    A device of ZONE_DEVICE never comes to the buddy allocator.  kmem takes the whole memory blocks inside,
    and its memmap goes on them with map=dev where the kernel has the attribute (v6.8) and memmap_on_memory
    allows it; elsewhere it stays in memory, as in the kernel, and the answer says so.

    Errors: ENXIO where it meets System RAM or has no room for data, EINVAL for what is not whole
    subsections of 2 MiB, ENOMEM when the memmap cannot be had or another device is there.
    """
    from memshell.mm.page_alloc.allocation import nr_free_pages

    with shell.change() as mm:
        free = nr_free_pages(mm)
        text = _unbind(mm, args.address) if args.off else _bind(mm, args)
        return f"{text}; free {nr_free_pages(mm) - free:+} pages"


def _bind(mm: Mm, args: Namespace) -> str:
    from memshell.drivers.nvdimm.namespace import bind_namespace
    from memshell.mm.pfn import format_size

    if not args.size:
        raise UsageError("probe needs a size", hint="such as: probe 0x100000000 1G mode=devdax")
    if args.size % mm.arch.page_size or args.address % mm.arch.page_size:
        raise UsageError("a device is whole pages", hint=f"a page has {mm.arch.page_size} bytes")
    if args.align % mm.arch.page_size or args.align & (args.align - 1) or not args.align:
        raise UsageError(f"align={args.align} cannot be", hint="a power of two of pages, such as 2M or 1G")
    if args.mode == "kmem":
        return _bind_kmem(mm, args)
    on_device = args.mode != "raw" and args.map == "dev"
    bound = bind_namespace(mm, args.mode, args.node, args.address, args.size, align=args.align, on_device=on_device)
    where = "on the device" if on_device else "in memory"
    return f"{format_size(args.size)} of {args.mode} at {bound.start:#x}-{bound.end:#x}, memmap {where}"


def _bind_kmem(mm: Mm, args: Namespace) -> str:
    from memshell.drivers.callers import DAX, Request, caller
    from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY
    from memshell.mm.pfn import format_size

    flags = MHP_MEMMAP_ON_MEMORY if args.map == "dev" else 0
    caller(mm, "kmem").adds(mm, Request(args.node, args.address, args.size, flags))
    outer = next(r for r in mm.resources if r.name == DAX and r.end >= args.address)
    where = "on the device" if mm.blocks[outer.start // mm.block_size].altmap is not None else "in memory"
    return f"{format_size(outer.end + 1 - outer.start)} of kmem at {outer.start:#x}-{outer.end:#x}, memmap {where}"


def _unbind(mm: Mm, address: int) -> str:
    from memshell.drivers.callers import DAX, caller
    from memshell.drivers.nvdimm.namespace import unbind_namespace

    kmem = next((r for r in mm.resources if r.name == DAX and r.start <= address <= r.end), None)
    if kmem is None or address in mm.pagemaps:
        return _unbound(unbind_namespace(mm, address))
    caller(mm, "kmem").removes(mm, kmem.start, kmem.end + 1 - kmem.start)
    return _unbound(kmem)


def _unbound(resource: Resource) -> str:
    return f"unbound {resource.start:#x}-{resource.end:#x}"


@command(
    "hotplug",
    arg("size", SIZE, "its requested-size: what it shall have plugged, 0 for nothing"),
    arg("at=", ADDRESS, "where its region begins; without it where the next DIMM would go"),
    arg("region=", SIZE, "how large it can become, 4G unless said"),
    arg("node=", INT, "the NUMA node, 0 unless said"),
    name="virtio-mem",
    examples="""
> use x86_64 ram=2G profile=v6.12 auto_online=online_movable
x86_64, <...>
> virtio-mem 256M
plugged 256M of 256M, region 0x100000000-0x1ffffffff: memory32-33 online in Movable; free +64511 pages
> virtio-mem 260M
plugged 260M of 260M, region 0x100000000-0x1ffffffff: memory32-34 online in Movable; free +512 pages
> virtio-mem 0
plugged 0 of 0, region 0x100000000-0x1ffffffff; free -65023 pages
""",
)
def virtio_mem(shell: Shell, args: Namespace) -> str:
    """Ask the virtio-mem device for another size: it plugs or unplugs subblocks towards it.

    The device comes with the first request, the only one that takes at=, region= and node=.  What it cannot unplug stays.
    Modelled is the mode with memory blocks of several subblocks, which is the driver's choice where a
    block is larger than a subblock. It was recorded on x86_64 with v6.12; where a kernel has no such driver,
    as on powerpc, nothing refuses it here.

    Errors: EINVAL for a size that is not whole subblocks or above the region, ENOMEM when an add fails,
    EBUSY when pages in use keep it from shrinking.
    """
    from memshell.drivers.callers import Request, caller
    from memshell.drivers.virtio.virtio_mem import device_of, own_blocks, plugged_pages
    from memshell.mm.page_alloc.allocation import nr_free_pages
    from memshell.mm.pfn import format_size

    with shell.change() as mm:
        free = nr_free_pages(mm)
        if mm.virtio_mem is None:
            region = REGION if args.region is None else args.region
            place = free_place(mm, region) if args.at is None else args.at
            caller(mm, "virtio-mem").resizes(mm, Request(args.node or 0, place, region), args.size)
        elif (args.at, args.region, args.node) != (None, None, None):
            raise UsageError("the virtio-mem device is there already", hint="only its size can change: virtio-mem SIZE")
        else:
            caller(mm, "virtio-mem").resizes(mm, None, args.size)
        device = device_of(mm)
        plugged = format_size(plugged_pages(mm) << mm.arch.page_shift)
        text = f"plugged {plugged} of {format_size(args.size)}"
        text += f", region {device.start:#x}-{device.start + device.size - 1:#x}"
        blocks = named_states(mm, own_blocks(mm))
        text += f": {blocks}" if blocks else ""
        return f"{text}; free {nr_free_pages(mm) - free:+} pages"
