"""The commands around a kernel image: ``vmlinux``, ``struct``, ``sizeof``, ``enum``, ``sym``."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import islice, takewhile
from threading import RLock
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, ImageError, UsageError, did_you_mean
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import KEPT_FILE, TEXT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

    from memshell.arch import Arch
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell
    from memshell.vmlinux import Facts, Image, Member, Struct

KEYWORDS = frozenset({"struct", "union", "enum"})  # before a name, as in C: they change nothing
MOST_NAMES = 500  # that completion takes from a table of 200,000


@dataclass(frozen=True, slots=True)
class Loaded:
    """The kernel image of a session. *lock*: completion reads names in a thread of its own."""

    image: Image
    facts: Facts
    lock: RLock = field(default_factory=RLock)

    @property
    def label(self) -> str:
        """The kernel in a word: its release, or the file where that is not known."""
        return self.facts.release or self.facts.file

    def page_flags(self, arch: Arch) -> Mapping[str, int] | None:
        """``enum pageflags``, when the image holds it and is of *arch*; else None."""
        found = self.facts.enums["pageflags"]
        if found is None or not arch.is_machine(self.facts.arch):
            return None
        return {name: bit for name, bit in found.values.items() if 0 <= bit < 64}


def load(path: str) -> Loaded:
    """Read the image at *path*. Raises ImageError."""
    from memshell.vmlinux import Image, facts_of

    image = Image(path)
    return Loaded(image, facts_of(image))


def need_image(shell: Shell) -> Loaded:
    """Return the session's image, or raise CommandError that says how to get one."""
    if shell.image is None:
        raise CommandError("no kernel image is loaded", hint="read one with: vmlinux FILE")
    return shell.image


# --- names ---


def _named(names: Callable[[Image], list[str]], what: str) -> Callable[[Shell, str], Suggestions]:
    """Complete a name out of a sorted list that the image has; it is read when it is first asked for."""

    def complete(shell: Shell, prefix: str) -> Suggestions:
        loaded = shell.image
        if loaded is None:
            return []
        with loaded.lock:
            known = names(loaded.image)
        start = bisect_left(known, prefix)
        fitting = takewhile(lambda name: name.startswith(prefix), islice(known, start, start + MOST_NAMES))
        return [(name, what) for name in fitting]

    return complete


_complete_struct = _named(lambda image: image.struct_names(), "struct")


def _complete_member(shell: Shell, prefix: str) -> Suggestions:
    """Complete a struct, and behind a dot its members."""
    name, dot, _member = prefix.partition(".")
    if not dot or shell.image is None:
        return _complete_struct(shell, prefix)
    with shell.image.lock:
        found = shell.image.image.find_struct(name)
    members = found.members.values() if found else ()
    return [(f"{name}.{one.name}", f"offset {one.offset}, {one.size} bytes") for one in members]


STRUCT = ArgType("NAME[.MEMBER]", TEXT.convert, _complete_member)
ENUM = ArgType("NAME", TEXT.convert, _named(lambda image: image.enum_names(), "enum"))
SYMBOL = ArgType("SYMBOL", TEXT.convert, _named(lambda image: image.symbol_names(), "symbol"))


def _wanted(words: list[str]) -> list[str]:
    """Return the names among *words*, without the keyword that C has before them."""
    names = [word for word in words if word not in KEYWORDS]
    if not names:
        raise UsageError(f"{words[0]} of which name?")
    return names


def _one(words: list[str]) -> str:
    names = _wanted(words)
    if len(names) > 1:
        raise UsageError(f"one name at a time, and {names[1]!r} is another")
    return names[0]


def _lookup(loaded: Loaded, word: str) -> tuple[Struct, list[Member]]:
    """Return the struct in ``NAME`` or ``NAME.MEMBER``, and the member that is named with those inside it."""
    name, dot, wanted = word.partition(".")
    with loaded.lock:
        found = loaded.image.struct(name)
    members = [one for one in found.members.values() if f"{one.name}.".startswith(f"{wanted}.")]
    if dot and not members:
        raise ImageError(
            f"{loaded.image.path}: no member {wanted} in {found.kind} {name}",
            hint=did_you_mean(wanted, found.members) or f"struct {name} lists them",
        )
    return found, members if dot else []


# --- commands ---


@command(
    "machine",
    arg("file", KEPT_FILE, "a vmlinux, bzImage, module or BTF; the one that is loaded if left out", nargs="?"),
    needs_machine=False,
    settings=True,
    examples="""
> vmlinux vmlinux
vmlinux
  x86_64, 64-bit, little endian, 6.12.0-example, types from BTF

  release            6.12.0-example  linux_banner
  sizeof_struct_page         64  BTF
  page_size                4096  size of symbol empty_zero_page
? section_size_bits          27  not in the file; 27 for this architecture<...>
<...>
  max_order                  10  zone.free_area has 11 entries, BTF
<...>
> use x86_64 ram=2G vmlinux=vmlinux
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
from vmlinux (6.12.0-example): <...>
""",
)
def vmlinux(shell: Shell, args: Namespace) -> Result:
    """Read a kernel image into the session, and show what it says about memory hotplug.

    A line that starts with ``?`` was not read from the file: it is the architecture's default, or nothing.
    From then on `struct`, `sizeof`, `enum` and `sym` look into the image, and `page` shows flags by its
    numbers.  ``use ARCH vmlinux=FILE`` boots a machine that is sized by it.  The image may be of any
    architecture.
    """
    from memshell.vmlinux.render import render

    if args.file is not None:
        shell.image = load(args.file)
    facts = need_image(shell).facts
    return Result(text=render(facts, columns=shell.output.width), data=facts.to_json())


@command(
    "look",
    arg("names", STRUCT, "a struct, union or typedef of one; behind a dot a member", nargs="+"),
    needs_machine=False,
    examples="""
> struct page
no kernel image is loaded; read one with: vmlinux FILE
> vmlinux vmlinux | head -1
vmlinux
> struct mem_section
struct mem_section (16 bytes, BTF)
  offset   size
       0      8  section_mem_map
       8      8  usage
> struct page.lru
struct page (64 bytes, BTF)
  offset   size
       8     16  lru
> struct pgae
vmlinux: no struct pgae in it; did you mean page?
""",
)
def struct(shell: Shell, args: Namespace) -> Result:
    """Show the layout of a struct of the loaded kernel: offset, size and name of each member.

    A bit field has ``:width`` behind its name, an array ``[bound]``.  The members of a member without a type
    name of its own follow it.
    """
    from dataclasses import replace

    from memshell.vmlinux import struct_lines

    found, members = _lookup(need_image(shell), _one(args.names))
    shown = replace(found, members={one.name: one for one in members}) if members else found
    rows = [{"offset": one.offset, "size": one.size, "name": one.name} for one in shown.members.values()]
    data = {"name": found.name, "kind": found.kind, "how": found.how, **shown.to_json()}
    columns = (Column("OFFSET", right=True), Column("SIZE", right=True), Column("NAME"))
    return Result(text="\n".join(struct_lines(shown)), rows=rows, columns=columns, data=data)


@command(
    "look",
    arg("names", STRUCT, "structs; behind a dot a member", nargs="+"),
    needs_machine=False,
    examples="""
> vmlinux vmlinux | head -1
vmlinux
> sizeof page mem_section page.lru
NAME        SIZE
page          64
mem_section   16
page.lru      16
""",
)
def sizeof(shell: Shell, args: Namespace) -> Result:
    """Show the size in bytes of structs of the loaded kernel, or of members of them."""
    loaded = need_image(shell)
    rows = []
    for name in _wanted(args.names):
        found, members = _lookup(loaded, name)
        rows.append({"name": name, "size": members[0].size if members else found.size, "how": found.how})
    columns = (Column("NAME"), Column("SIZE", right=True), Column("HOW", default=False))
    return Result(rows=rows, columns=columns)


@command(
    "look",
    arg("names", ENUM, "an enumeration", nargs="+"),
    needs_machine=False,
    examples="""
> vmlinux vmlinux | head -1
vmlinux
> enum migratetype
enum migratetype (BTF)
     0  MIGRATE_UNMOVABLE
     1  MIGRATE_MOVABLE
     2  MIGRATE_RECLAIMABLE
     3  MIGRATE_PCPTYPES, MIGRATE_HIGHATOMIC
     4  MIGRATE_ISOLATE
     5  MIGRATE_TYPES
""",
)
def enum(shell: Shell, args: Namespace) -> Result:
    """Show an enumeration of the loaded kernel, such as pageflags, migratetype or zone_type."""
    from memshell.vmlinux import enum_lines

    loaded = need_image(shell)
    with loaded.lock:
        found = loaded.image.enum(_one(args.names))
    rows = [{"value": value, "name": name} for name, value in found.values.items()]
    data = {"name": found.name, "how": found.how, "values": found.values}
    columns = (Column("VALUE", right=True), Column("NAME"))
    return Result(text="\n".join(enum_lines(found)), rows=rows, columns=columns, data=data)


def _address(row: Mapping[str, Any]) -> str:
    return f"{row['address']:#018x}"


@command(
    "look",
    arg("names", SYMBOL, "functions and variables", nargs="+"),
    needs_machine=False,
    examples="""
> vmlinux vmlinux | head -1
vmlinux
> sym online_pages
ADDRESS            SIZE NAME
0x0000000081002000   64 online_pages
> sym online_page
vmlinux: no symbol online_page in it; did you mean online_pages?
""",
)
def sym(shell: Shell, args: Namespace) -> Result:
    """Show the address and the size of symbols of the loaded kernel, as it was linked (without KASLR)."""
    loaded = need_image(shell)
    with loaded.lock:
        found = [loaded.image.symbol(name) for name in args.names]
    rows = [{"name": one.name, "address": one.address, "size": one.size} for one in found]
    columns = (Column("ADDRESS", compute=_address), Column("SIZE", right=True), Column("NAME"))
    return Result(rows=rows, columns=columns)
