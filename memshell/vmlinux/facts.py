"""Everything that an experiment needs to know about a kernel, from one image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from memshell.errors import ImageError
from memshell.vmlinux.derive import NEEDED, SYMBOLS, Deriver, Fact
from memshell.vmlinux.image import Image, reading
from memshell.vmlinux.kconfig import Config, beside, from_image, read_config
from memshell.vmlinux.layout import Enum, Struct

STRUCTS = (
    "page", "folio", "mem_section", "mem_section_usage", "vmem_altmap", "zone", "pglist_data", "memory_block",
    "free_area", "memory_group",
)  # fmt: skip
"""The structs of the memory model."""
ENUMS = ("pageflags", "migratetype", "zone_type")
"""The enumerations of the memory model."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one image says. None stands for a struct, enumeration or symbol that it does not hold."""

    file: str
    arch: str | None
    endian: str | None
    bits: int
    release: str | None
    source: str
    structs: dict[str, Struct | None]
    enums: dict[str, Enum | None]
    facts: dict[str, Fact]
    symbols: dict[str, int | None]

    def to_json(self) -> dict[str, Any]:
        """What ``memshell vmlinux --json`` prints; sizes and offsets in bytes, addresses as numbers."""
        return {
            "file": self.file,
            "arch": self.arch,
            "endian": self.endian,
            "bits": self.bits,
            "release": self.release,
            "source": self.source,
            "structs": {name: one.to_json() if one else None for name, one in self.structs.items()},
            "enums": {name: one.values if one else None for name, one in self.enums.items()},
            "facts": {name: {"value": fact.value, "how": fact.how} for name, fact in self.facts.items()},
            "symbols": self.symbols,
        }


def read_facts(
    path: str | os.PathLike[str],
    *,
    structs: Iterable[str] = (),
    symbols: Iterable[str] = (),
    config: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Facts:
    """Read the facts of the image at *path*, and more *structs* and *symbols* by name.

    *config* is a kernel configuration; without it, one in the image or beside it is used. *base* is the
    kernel of a module. ImageError when the file is no kernel image, is damaged, or is hostile.

    >>> read_facts("vmlinux").facts["page_size"]  ->  Fact(4096, "size of symbol empty_zero_page", True)
    """
    return facts_of(Image(path, base), structs=structs, symbols=symbols, config=config)


def facts_of(
    image: Image,
    *,
    structs: Iterable[str] = (),
    symbols: Iterable[str] = (),
    config: str | os.PathLike[str] | None = None,
) -> Facts:
    """The facts of an image that is open already."""
    image.find_symbols((*SYMBOLS, *NEEDED))  # in one pass; what follows finds them there
    found = {name: image.find_struct(name, everywhere=False) for name in STRUCTS}
    found |= {name: image.find_struct(name) for name in structs}
    wanted = list(dict.fromkeys(symbols))
    addresses = _asked_symbols(image, wanted) if wanted else _usual_symbols(image)
    _check_is_kernel(image, found)
    return Facts(
        file=image.path,
        arch=image.arch[0],
        endian=image.endian,
        bits=image.bits,
        release=image.release[0],
        source=image.source,
        structs=found,
        enums={name: image.find_enum(name, everywhere=False) for name in ENUMS},
        facts=Deriver(image, find_config(image, config)).all(),
        symbols=addresses,
    )


def find_config(image: Image, path: str | os.PathLike[str] | None = None) -> Config | None:
    """The configuration that is given, in the image, or beside it; None without any."""
    if path is not None:
        return read_config(path)
    with reading(image.path):
        return from_image(image.constants) or beside(image.path, image.release[0])


def _usual_symbols(image: Image) -> dict[str, int | None]:
    found = image.find_symbols(SYMBOLS)
    return {name: symbol.address for name, symbol in found.items() if symbol is not None}


def _asked_symbols(image: Image, names: list[str]) -> dict[str, int | None]:
    if image.is_object:
        raise ImageError(f"{image.path}: not linked, so its symbols have no addresses yet", hint="leave out --symbols")
    found = {name: image.find_symbol(name) for name in names}
    return {name: symbol.address if symbol else None for name, symbol in found.items()}


def _check_is_kernel(image: Image, structs: dict[str, Struct | None]) -> None:
    if any(structs.values()) or image.release[0] is not None or image.find_symbol("_stext") is not None:
        return
    raise ImageError(f"{image.path}: none of the kernel's types or symbols are in it", hint="is it a kernel image?")
