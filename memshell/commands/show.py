"""The commands that look: the kernel's and util-linux's views, and ours of pages, mappings and the map."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import BLOCKS, INT, PFN, TEXT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


# --- /proc and /sys ---


def _paths(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is not None:
        from memshell.views.sysroot import shown

        yield from ((f"/{path}", "") for path in shown(shell.machine.mm))


@command(
    "look",
    arg("file", ArgType("FILE", TEXT.convert, _paths), "a file below /sys or /proc", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> cat /sys/devices/system/memory/block_size_bytes
8000000
> cat /sys/devices/system/memory/memory3/valid_zones
DMA32
""",
)
def cat(shell: Shell, args: Namespace) -> str:
    """Show files of /sys and /proc, as the modelled kernel has them; ``*`` stands for any name.

    A file is written as on a real machine: ``echo online_movable > /sys/devices/system/memory/memory32/state`` is
    understood, and the command that does it is shown.
    """
    from fnmatch import filter as matching

    from memshell.views.sysroot import content, shown

    mm = shell.need_machine().mm
    found = {f"/{path}": place for path, place in shown(mm).items()}
    wanted = [(name, matching(found, name)) for name in args.file]
    for name, paths in wanted:
        if not paths:
            hint = did_you_mean(name, found) or "those of /sys/devices/system/memory and /proc that are modelled"
            raise UsageError(f"there is no file {name}", hint=hint)
    return "".join(content(mm, found[path]).decode("utf-8", "replace") for _name, paths in wanted for path in paths)


def _view(shell: Shell, text: Callable[[Mm], str], data: Callable[[Mm], Any]) -> Result:
    mm = shell.need_machine().mm
    found = data(mm)
    flat = isinstance(found, list) and all(not isinstance(value, dict) for row in found for value in row.values())
    return Result(text=text(mm), data=found, rows=found if flat else None)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> zoneinfo
Node 0, zone      DMA
  pages free     <...>
        min      <...>
        low      <...>
        high     <...>
        spanned  4095
        present  3998
        managed  3840
        protection: (0, <...>)
  start_pfn:           1
<...>
""",
)
def zoneinfo(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/zoneinfo, as far as it is modelled: free pages count the per-cpu lists in."""
    from memshell.views import proc

    return _view(shell, proc.zoneinfo, proc.zoneinfo_data)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> buddyinfo
Node 0, zone      DMA <...>
Node 0, zone    DMA32 <...>
""",
)
def buddyinfo(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/buddyinfo: the free blocks of each order, from single pages up."""
    from memshell.views import proc

    return _view(shell, proc.buddyinfo, proc.buddyinfo_data)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> pagetypeinfo
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0 <...>
<...>
""",
)
def pagetypeinfo(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/pagetypeinfo: free blocks by migratetype, and how many pageblocks have each."""
    from memshell.views import proc

    return _view(shell, proc.pagetypeinfo, proc.pagetypeinfo_data)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> meminfo
MemTotal:        1951108 kB
MemFree:         1904156 kB
AnonPages:             0 kB
""",
)
def meminfo(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/meminfo, as far as it is modelled. MemTotal is the managed pages of all zones."""
    from memshell.views import proc

    return _view(shell, proc.meminfo, proc.meminfo_data)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> vmstat
nr_free_pages <...>
nr_memmap_pages 0
nr_memmap_boot_pages 8192
""",
)
def vmstat(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/vmstat, as far as it is modelled."""
    from memshell.views import proc

    return _view(shell, proc.vmstat, proc.vmstat_data)


@command(
    "look",
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> iomem
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
<...>
100000000-13fffffff : System RAM
""",
)
def iomem(shell: Shell, _args: Namespace) -> Result:
    """Show /proc/iomem as root sees it."""
    from memshell.views import proc

    return _view(shell, proc.iomem, proc.iomem_data)


# --- single things ---


@command(
    "look",
    arg("pfn", PFN, "a page frame number, or an address such as 4G"),
    examples="""
> use x86_64 ram=2G policy=memmap_on_memory
x86_64, <...>
> add 128M
128M at <...>
memmap <...>
> online memory32 movable
memory32 <...>
> page 0x100000
page:0x100000 at 0x100000000, section 32, memory32 (online)
memmap of its own memory block; the same: pfns 0x100000 to 0x1001ff (512 pages)
flags: 0x2000000000(owner_private)
node:0 zone:Movable migratetype:Unmovable
struct page at 0xffffea0004000000, in a 2M leaf on the memory itself (altmap) at pfn 0x100000
""",
)
def page(shell: Shell, args: Namespace) -> Result:
    """Show what a page is, and where its struct page is, as dump_page() and /proc/kpageflags do.

    The flags are those of /proc/kpageflags.  With a kernel image of this architecture (`vmlinux`), the
    flags of struct page are shown too, by that kernel's own bit numbers.
    """
    from memshell.views.pages import page_data, page_text

    mm = shell.need_machine().mm
    numbers = shell.image.page_flags(mm.arch) if shell.image else None
    kernel = shell.image.label if shell.image else ""
    return Result(text=page_text(mm, args.pfn, numbers, kernel), data=page_data(mm, args.pfn, numbers))


@command(
    "look",
    arg("number", INT, "a section number"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> section 32
section 32: 0x100000000-0x107ffffff, pfns 0x100000-0x107fff, root 0
flags: present has_mem_map; subsections: 64 of 64; block: memory32 (offline)
memmap: 0xffffea0004000000-0xffffea00041fffff (2M)
ADDRESS            LEAVES SIZE          PFN  FROM
0xffffea0004000000      1   2M <...>  buddy
""",
)
def section(shell: Shell, args: Namespace) -> Result:
    """Show a section of the sparse memory model: its flags, its subsections, where its memmap is."""
    from memshell.views.pages import section_data, section_text

    mm = shell.need_machine().mm
    number = _section(mm, args.number)
    return Result(text=section_text(mm, number), data=section_data(mm, number))


def _section(mm: Mm, number: int) -> int:
    """Return *number* if there can be such a section."""
    limit = 1 << (mm.arch.max_physmem_bits - mm.arch.section_size_bits)
    if not 0 <= number < limit:
        raise CommandError(f"there is no section {number}", hint=f"sections are 0 to {limit - 1}")
    return number


@command(
    "look",
    examples="""
> use x86_64 ram=2G policy=memmap_on_memory
x86_64, <...>
> add 256M
256M at <...>
memmap <...>
> altmap
      START BASE_PFN RESERVE FREE ALIGN ALLOC FIRST_PFN LAST_PFN
0x100000000 0x100000       0  512     0   512  0x100000 0x1001ff
0x108000000 0x108000       0  512     0   512  0x108000 0x1081ff
""",
)
def altmap(shell: Shell, _args: Namespace) -> Result:
    """Show struct vmem_altmap of blocks and devices that hold their own memmap: what it set aside, and gave."""
    from memshell.views.pages import altmaps

    found = altmaps(shell.need_machine().mm)
    shown = [
        {**row, **{name: hex(row[name]) for name in ("start", "base_pfn", "first_pfn", "last_pfn")}} for row in found
    ]
    columns = tuple(
        Column(name, right=True)
        for name in ("START", "BASE_PFN", "RESERVE", "FREE", "ALIGN", "ALLOC", "FIRST_PFN", "LAST_PFN")
    )
    if any(row["head"] is not None for row in found):
        shown = [{**row, "head": hex(row["head"])} for row in shown]
        columns += tuple(Column(name, right=True) for name in ("HEAD", "HEAD_REFCOUNT", "NR_SECTS"))
    text = None if found else "no block and no device has an altmap"
    return Result(text=text, rows=shown, columns=columns, data=found)


@command(
    "look",
    arg("blocks", BLOCKS, "only what maps these blocks", nargs="*"),
    arg("--direct", None, "the direct map instead"),
    examples="""
> use x86_64 ram=2G policy=memmap_on_memory
x86_64, <...>
> add 256M
256M at <...>
memmap <...>
> vmemmap 32-33
ADDRESS            LEAVES SIZE          PFN  FROM
0xffffea0004000000      1   2M     0x100000  altmap
0xffffea0004200000      1   2M     0x108000  altmap
tables: 1 p4d_pud, 1 pmd
> vmemmap 32 --direct
ADDRESS            LEAVES SIZE          PFN  FROM
0xffff888100000000     64   2M     0x100000  direct map
tables: 1 p4d_pud, 1 pmd
""",
)
def vmemmap(shell: Shell, args: Namespace) -> Result:
    """Show what maps the struct pages: the leaves, where the pages behind them are, and the page tables."""
    from memshell.views.pages import leaf_source, mapping_data, mapping_text

    mm = shell.need_machine().mm
    data = mapping_data(mm, args.blocks or None, direct=args.direct)
    rows = [dict(zip(("address", "leaves", "size", "pfn"), leaf, strict=True)) for leaf in data["leaves"]]
    for row in rows:
        row["from"] = leaf_source(mm.leaves.get(row["address"]))
    columns = (
        Column("ADDRESS", compute=partial(_hexadecimal, "address")),
        Column("LEAVES", right=True),
        Column("SIZE", right=True),
        Column("PFN", right=True, compute=partial(_hexadecimal, "pfn")),
        Column("FROM"),
    )
    return Result(text=mapping_text(mm, data), rows=rows, columns=columns, data=data)


def _hexadecimal(key: str, row: Mapping[str, Any]) -> str | None:
    """Return an address or a pfn of a row as it is written everywhere; None where it is not known."""
    return None if row[key] is None else f"{row[key]:#x}"


@command(
    "look",
    arg("block", BLOCKS, "a block to look into; the whole machine without it", nargs="?"),
    arg("section=", INT, "a section to look into"),
    examples="""
> use x86_64 ram=2G policy=memmap_on_memory
x86_64, <...>
> add 1G
1G at <...>
memmap <...>
> online 32-35 movable
memory32-35 <...>
> map
x86_64, blocks of 128M, kernel v6.12, policy memmap_on_memory
one character = 32M, | between blocks

           0x0 |RRRR|RKk.|....|....|....|....|....|....| DMA DMA32
    0x40000000 |....|....|....|....|....|....|....|...k| DMA32
                hole: 2G
   0x100000000 |m...|m...|m...|m...|----|----|----|----| Movable offline

M memmap   K kernel   R reserved   . free   - offline   small letter: a part of it

NODE ZONE      PRESENT   MEMMAP   KERNEL RESERVED     FREE
   0 DMA         15.6M              256K     632K    14.7M
   0 DMA32       2031M             45.6M   141.4M    1844M
   0 Movable      512M       8M                       504M
     offline: 512M in 4 blocks
""",
)
def map_(shell: Shell, args: Namespace) -> Result:
    """Draw memory: blocks, zones, memmap, free, in use, offline, holes; with a block, what is inside it."""
    from memshell.views.memory_map import block_map, overview, section_map

    mm = shell.need_machine().mm
    width, colour = shell.output.width or 80, shell.output.colour and args.form in {None, "table"}
    if args.section is not None:
        return Result(text=section_map(mm, _section(mm, args.section), width, colour=colour), painted=colour)
    if not args.block:
        return Result(text=overview(mm, width, colour=colour), painted=colour)
    if len(args.block) > 1:
        raise UsageError("map looks into one block", hint="map without a number draws them all")
    return Result(text=block_map(mm, mm.blocks[args.block[0]], width, colour=colour), painted=colour)
