"""The command that gives device memory struct pages: ``probe``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.registry import arg, command
from memshell.commands.types import ADDRESS, INT, SIZE, choice
from memshell.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.commands.shell import Shell
    from memshell.mm.state import Mm

MODE = choice(
    "mode",
    {
        "raw": "a raw namespace: all of it, its memmap in memory",
        "fsdax": "a pfn device for a filesystem",
        "devdax": "a DAX device, mapped in compound pages of its alignment",
    },
)
MAP = choice("map", {"mem": "the memmap is in existing memory", "dev": "the memmap is on the device itself"})
NAME = "Persistent Memory"


@command(
    "hotplug",
    arg("address", ADDRESS, "where it begins"),
    arg("size", SIZE, "how much; --off needs none", nargs="?"),
    arg("mode=", MODE, "what it is used as", default="raw"),
    arg("map=", MAP, "where the memmap of fsdax and devdax goes", default="mem"),
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
""",
)
def probe(shell: Shell, args: Namespace) -> str:
    """Bind a driver to persistent memory: it gets struct pages in ZONE_DEVICE, and no buddy ever has it.

    Errors: ENXIO where it meets System RAM or has no room for data, EINVAL for what is not whole
    subsections of 2 MiB, ENOMEM when the memmap cannot be had or another device is there.
    """
    from memshell.mm.page_alloc import nr_free_pages

    with shell.change() as mm:
        free = nr_free_pages(mm)
        text = _unbind(mm, args.address) if args.off else _bind(mm, args)
        return f"{text}; free {nr_free_pages(mm) - free:+} pages"


def _bind(mm: Mm, args: Namespace) -> str:
    from memshell.errors import KernelError
    from memshell.mm.pfn import format_size
    from memshell.mm.resource import drop_resource, request_region
    from memshell.mm.zone_device import memremap_pages, pfn_device, refuse_conflicts

    if not args.size:
        raise UsageError("probe needs a size", hint="such as: probe 0x100000000 1G mode=devdax")
    if args.size % mm.arch.page_size or args.address % mm.arch.page_size:
        raise UsageError("a device is whole pages", hint=f"a page has {mm.arch.page_size} bytes")
    if args.align % mm.arch.page_size or args.align & (args.align - 1) or not args.align:
        raise UsageError(f"align={args.align} cannot be", hint="a power of two of pages, such as 2M or 1G")
    shift = (args.align // mm.arch.page_size).bit_length() - 1 if args.mode == "devdax" else 0
    refuse_conflicts(mm, args.address, args.address + args.size)
    resource = request_region(mm, args.address, args.size, NAME)
    try:
        if args.mode == "raw" or args.map == "mem":
            memremap_pages(mm, args.node, args.address, args.size, vmemmap_shift=shift)
        else:
            pfn_device(mm, args.node, args.address, args.size, align=args.align, on_device=True)
    except KernelError:
        drop_resource(mm, resource)
        raise
    where = "in memory" if args.mode == "raw" or args.map == "mem" else "on the device"
    return f"{format_size(args.size)} of {args.mode} at {resource.start:#x}-{resource.end:#x}, memmap {where}"


def _unbind(mm: Mm, address: int) -> str:
    from memshell.mm.resource import drop_resource
    from memshell.mm.zone_device import memunmap_pages

    memunmap_pages(mm, address)
    resource = next(r for r in mm.resources if r.start == address and r.name == NAME)
    drop_resource(mm, resource)
    return f"unbound {resource.start:#x}-{resource.end:#x}"
