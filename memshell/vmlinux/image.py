"""A kernel image that is open: structs, enums, symbols and data, each read when it is first asked for."""

from __future__ import annotations

import contextlib
import lzma
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from memshell.errors import ImageError
from memshell.vmlinux.blob import open_file
from memshell.vmlinux.btf import Btf, RawBtf, parse_header
from memshell.vmlinux.defaults import DEFAULTS
from memshell.vmlinux.elf import ET_REL, Elf
from memshell.vmlinux.layout import Enum, Struct
from memshell.vmlinux.symbols import Symbol, SymbolTable
from memshell.vmlinux.unwrap import BANNER, unwrap

_MAX_RODATA = 128 << 20
_BUILD_SALT = 0x100
_CORRUPT = (
    KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError, OverflowError,
    NotImplementedError, MemoryError, RecursionError, EOFError, OSError, struct.error, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
"""What pyelftools was seen to raise on damaged files, besides errors of its own."""


class Types(Protocol):
    """A source of types: BTF or DWARF."""

    @property
    def kind(self) -> str:
        """``btf`` or ``dwarf``."""

    @property
    def bits(self) -> int:
        """Width of a pointer."""

    def struct(self, name: str, *, everywhere: bool = True) -> Struct | None:
        """The struct of that name."""

    def enum(self, name: str, *, everywhere: bool = True) -> Enum | None:
        """The enumeration of that name."""

    def struct_names(self) -> list[str]:
        """The names of all structs."""

    def enum_names(self) -> list[str]:
        """The names of all enumerations."""


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a reader raise into one ImageError that names the file."""
    try:
        yield
    except ImageError as error:
        if error.message.startswith(f"{path}: "):
            raise
        raise ImageError(f"{path}: {error.message}", hint=error.hint) from error.__cause__
    except Exception as error:
        if not isinstance(error, _CORRUPT) and not type(error).__module__.startswith("elftools."):
            raise
        raise ImageError(f"{path}: corrupt or of an unknown form ({type(error).__name__}: {error})") from error


class Image:
    """A kernel image, opened by ``Image(path)``; *base* is the vmlinux or BTF that a module's BTF continues.

    Every lookup is cached. ImageError when the file is no kernel, is damaged, or lacks what is asked for.
    """

    def __init__(self, path: str | os.PathLike[str], base: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path)
        self._base = base
        self._structs: dict[str, Struct | None] = {}
        self._enums: dict[str, Enum | None] = {}
        self._symbols: dict[str, Symbol | None] = {}
        self._absent: set[tuple[str, str, bool]] = set()
        with reading(self.path):
            self._kernel = unwrap(open_file(self.path))
            self.elf: Elf | None = self._kernel.elf
            self.types = self._open_types()
            if self.elf is None and self.types is None and self._kernel.raw is None:
                raise ImageError("no kernel in it")
            if self.elf is not None and self.types is None and not len(self.symbol_table):
                raise ImageError("no .BTF, no DWARF and no symbols in it", hint=self._where_types_are())

    def _open_types(self) -> Types | None:
        """BTF where there is some, for it holds all the types of its kernel; else DWARF."""
        raw, elf = self._kernel.btf, self.elf
        data = elf.data(".BTF") if elf else None
        if data is not None:
            raw = parse_header(data.read(0, data.size))
        has_dwarf = elf is not None and elf.section(".debug_info") is not None
        base = self._base_of(raw) if raw is not None and raw.split else None
        if raw is not None and (base is not None or not raw.split):
            return Btf(raw, base)
        if elf is not None and has_dwarf:
            from memshell.vmlinux.dwarf import Dwarf

            return Dwarf(elf)
        if raw is not None:
            hint = "put the kernel's BTF beside it under the name vmlinux"
            raise ImageError("a module's BTF, which continues that of its kernel", hint=hint)
        return None

    def _base_of(self, raw: RawBtf) -> RawBtf | None:
        """The BTF that a module's continues: what was given, its own .BTF.base, or ``vmlinux`` beside it."""
        own = self.elf.data(".BTF.base") if self.elf and self._base is None else None
        if own is not None:
            return parse_header(own.read(0, own.size))
        path = Path(self._base or Path(self.path).with_name("vmlinux"))
        if self._base is None and not path.is_file():
            return None
        kernel = unwrap(open_file(path))
        data = kernel.elf.data(".BTF") if kernel.elf else None
        base = kernel.btf if data is None else parse_header(data.read(0, data.size))
        if base is None or base.split or base.order != raw.order:
            raise ImageError(f"{path} holds no BTF that a module of this kind could continue")
        return base

    def _where_types_are(self) -> str:
        link = self.elf.data(".gnu_debuglink") if self.elf else None
        if link is None:
            return "give the vmlinux of the -dbg or -debuginfo package, or /sys/kernel/btf/vmlinux"
        name = link.read(0, min(link.size, 256)).split(b"\0")[0].decode("latin-1")
        return f"its debug information is in the file {name}"

    @property
    def layers(self) -> list[str]:
        """What the file is, from the outside in: ``["xz", "ELF"]``."""
        return self._kernel.layers

    @property
    def source(self) -> str:
        """Where structs come from: ``btf``, ``dwarf``, or ``symbols`` or ``none`` when there are none."""
        if self.types is not None:
            return self.types.kind
        return "symbols" if len(self.symbol_table) else "none"

    @cached_property
    def arch(self) -> tuple[str | None, str]:
        """The name that ``uname -m`` gives, and how it is known."""
        if self.elf is not None:
            return self.elf.arch, "the ELF header"
        if self._kernel.arch is not None:
            return self._kernel.arch
        regs = self.find_struct("pt_regs", everywhere=False)
        names = [
            name
            for name, known in DEFAULTS.items()
            if regs and known.pt_regs and all(member in regs.members for member in known.pt_regs)
        ]
        if not names:
            return None, "not in the file"
        little = [name for name in names if name.endswith("le") is (self.endian == "little")]  # of two byte orders
        return (little or names)[0], "the members of struct pt_regs"

    @property
    def endian(self) -> str | None:
        """``little`` or ``big``; None when the file does not tell."""
        if self.elf is not None:
            order = self.elf.order
        elif self._kernel.btf is not None:
            order = self._kernel.btf.order
        else:
            order = ">" if self.arch[0] == "s390x" else "<" if self.arch[0] else ""
        return {"<": "little", ">": "big"}.get(order)

    @property
    def bits(self) -> int:
        """Width of a pointer."""
        return self.types.bits if self.types else 64

    def find_struct(self, name: str, *, everywhere: bool = True) -> Struct | None:
        """The struct, union or typedef of one; None without it.

        Without *everywhere*, DWARF is looked through only where the types of memory hotplug are.
        """
        if self._structs.get(name) is None and ("struct", name, everywhere) not in self._absent:
            with reading(self.path):
                self._structs[name] = self.types.struct(name, everywhere=everywhere) if self.types else None
            if self._structs[name] is None:
                self._absent.add(("struct", name, everywhere))
        return self._structs[name]

    def find_enum(self, name: str, *, everywhere: bool = True) -> Enum | None:
        """The enumeration of that name; None without it. *everywhere* is as for ``find_struct``."""
        if self._enums.get(name) is None and ("enum", name, everywhere) not in self._absent:
            with reading(self.path):
                self._enums[name] = self.types.enum(name, everywhere=everywhere) if self.types else None
            if self._enums[name] is None:
                self._absent.add(("enum", name, everywhere))
        return self._enums[name]

    def struct(self, name: str) -> Struct:
        """The struct, union or typedef of one; ImageError with near names when there is none."""
        found = self.find_struct(name)
        if found is None:
            raise self._missing("struct", name, self.struct_names())
        return found

    def enum(self, name: str) -> Enum:
        """The enumeration of that name; ImageError with near names when there is none."""
        found = self.find_enum(name)
        if found is None:
            raise self._missing("enum", name, self.enum_names())
        return found

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name; ImageError when there is none, or when several differ."""
        if not len(self.symbol_table):
            hint = "the vmlinux of the -dbg package has symbols"
            raise ImageError(f"{self.path}: no symbol table in it", hint=hint)
        found = self.find_symbol(name)
        if found is None:
            raise self._missing("symbol", name, self.symbol_names())
        return found

    def find_symbol(self, name: str) -> Symbol | None:
        """The symbol of that name; None without it, and in a file that is not linked and so has no addresses.

        ImageError when several local symbols of that name differ.
        """
        if name not in self._symbols:
            with reading(self.path):
                table = self.symbol_table
                self._symbols[name] = table.get(name) if table.linked else None
        return self._symbols[name]

    def find_symbols(self, names: Iterable[str]) -> dict[str, Symbol | None]:
        """Several at once, in one pass: None for each that is missing or stands for different addresses."""
        wanted = list(names)
        missing = [name for name in wanted if name not in self._symbols]
        with reading(self.path):
            table = self.symbol_table
            found = table.get_many(missing) if missing and table.linked else dict.fromkeys(missing)
        self._symbols |= found
        return {name: self._symbols.get(name) for name in wanted}

    def _missing(self, kind: str, name: str, names: list[str]) -> ImageError:
        import difflib

        near = difflib.get_close_matches(name, [n for n in names if n[:1] == name[:1]], 3)
        hint = f"did you mean {', '.join(near)}?" if near else None
        return ImageError(f"{self.path}: no {kind} {name} in it", hint=hint)

    @cached_property
    def symbol_table(self) -> SymbolTable:
        """The whole table; empty when there is none."""
        return SymbolTable(self.elf)

    def struct_names(self) -> list[str]:
        """Every struct and union that can be named without reading the whole of DWARF, sorted."""
        return self._struct_names

    @cached_property
    def _struct_names(self) -> list[str]:
        with reading(self.path):
            return self.types.struct_names() if self.types else []

    def enum_names(self) -> list[str]:
        """Every enumeration that can be named without reading the whole of DWARF, sorted."""
        with reading(self.path):
            return self.types.enum_names() if self.types else []

    def symbol_names(self) -> list[str]:
        """Every symbol, sorted."""
        return self._symbol_names

    @cached_property
    def _symbol_names(self) -> list[str]:
        with reading(self.path):
            return self.symbol_table.all_names()

    def value_at(self, symbol: Symbol) -> int | None:
        """The initial value of a variable of up to 8 bytes; None when the file holds none (as for .bss)."""
        if self.elf is None or not 0 < symbol.size <= 8:
            return None
        with reading(self.path):
            data = self.elf.bytes_at(symbol.address, symbol.size)
        return None if data is None else int.from_bytes(data, "little" if self.elf.order == "<" else "big")

    @cached_property
    def constants(self) -> bytes:
        """The kernel's constant data: .rodata, or all of a raw image."""
        if self._kernel.raw is not None:
            return self._kernel.raw
        data = self.elf.data(".rodata") if self.elf else None
        return b"" if data is None else data.read(0, min(data.size, _MAX_RODATA))

    @cached_property
    def release(self) -> tuple[str | None, str]:
        """What ``uname -r`` gives, and how it is known."""
        if self._kernel.release is not None:
            return self._kernel.release
        with reading(self.path):
            return self._banner() or self._salt() or self._running() or (None, "not in the file")

    def _banner(self) -> tuple[str, str] | None:
        symbol = self.find_symbol("linux_banner")
        data = None
        if symbol is not None and self.elf is not None and symbol.size < 4096:
            data = self.elf.bytes_at(symbol.address, symbol.size)
        match = BANNER.match(data) if data else BANNER.search(self.constants)
        return (match[1].decode("latin-1"), "linux_banner") if match else None

    def _salt(self) -> tuple[str, str] | None:
        """The build salt, which is in .notes; distributions set it to the release."""
        notes = self.elf.data(".notes") if self.elf else None
        for name, kind, data in (
            _notes(notes.read(0, min(notes.size, 1 << 20)), self.elf.order) if notes and self.elf else ()
        ):
            if name == b"Linux\0" and kind == _BUILD_SALT and data.strip(b"\0"):
                return data.split(b"\0")[0].decode("latin-1"), "the build salt in .notes, which distributions set to it"
        return None

    def _running(self) -> tuple[str, str] | None:
        """The running kernel's release, when the file is that kernel's own BTF."""
        return (os.uname().release, "this machine runs it") if self.path == "/sys/kernel/btf/vmlinux" else None

    @property
    def is_object(self) -> bool:
        """Whether it is a module or another object that is not linked."""
        return self.elf is not None and self.elf.type == ET_REL


def _notes(data: bytes, order: str) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from(order + "III", data, at)
        start = at + 12
        content = start + (name_size + 3 & ~3)
        yield data[start : start + name_size], kind, data[content : content + size]
        at = content + (size + 3 & ~3)
