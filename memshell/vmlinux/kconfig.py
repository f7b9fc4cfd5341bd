"""The kernel's configuration: from the image (CONFIG_IKCONFIG) or from a config file beside it."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from memshell.errors import ImageError
from memshell.vmlinux.blob import MIB, open_file

_START, _END = b"IKCFG_ST", b"IKCFG_ED"
_MAX_CONFIG = 4 * MIB
_SET = re.compile(r"^CONFIG_(\w+)=(.*)$|^# CONFIG_(\w+) is not set$", re.MULTILINE)

_VERSIONED = re.compile(r"(?:vmlinux|vmlinuz|bzImage|zImage|image)-(.+?)(?:\.(?:xz|zst|gz|debug))?$")

SHOWN = (
    "MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "MEMORY_HOTPLUG_DEFAULT_ONLINE", "MHP_MEMMAP_ON_MEMORY",
    "SPARSEMEM_VMEMMAP", "SPARSEMEM_EXTREME", "ZONE_DEVICE", "MEMCG", "CMA", "HUGETLB_PAGE", "PAGE_EXTENSION",
    "NODES_SHIFT", "ARCH_FORCE_MAX_ORDER", "PPC_64K_PAGES", "PPC_4K_PAGES", "X86_5LEVEL",
)  # fmt: skip
"""The options that change what memory hotplug does or costs."""


@dataclass(frozen=True, slots=True)
class Config:
    """Options without their CONFIG_ prefix, as written; one that is named as not set is ``n``."""

    values: dict[str, str]
    how: str

    def get(self, name: str) -> str | None:
        """The value of an option; None when the configuration does not name it."""
        return self.values.get(name)


def parse(text: str, how: str) -> Config:
    """Read a .config; ImageError when there is no option in it."""
    values = {m[1] or m[3]: m[2].strip('"') if m[1] else "n" for m in _SET.finditer(text)}
    if not values:
        raise ImageError(f"{how}: no CONFIG_ line in it")
    return Config(values, how)


def from_image(data: bytes) -> Config | None:
    """The configuration that the image carries between its two marks; None without it."""
    start = data.find(_START)
    end = data.find(_END, start)
    if start < 0 or end < 0:
        return None
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = stream.decompress(data[start + len(_START) : end], _MAX_CONFIG)
    except zlib.error as error:
        raise ImageError(f"the configuration in it (IKCONFIG) is corrupt: {error}") from None
    return parse(text.decode("utf-8", "replace"), "IKCONFIG in the image")


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file, plain or gzip (/proc/config.gz); ImageError when it is none."""
    blob = open_file(path)
    data = blob.read(0, min(blob.size, _MAX_CONFIG))
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, _MAX_CONFIG)
        except zlib.error as error:
            raise ImageError(f"{os.fspath(path)}: corrupt gzip: {error}") from None
    return parse(data.decode("utf-8", "replace"), Path(path).name)


def beside(path: str, release: str | None) -> Config | None:
    """The ``config-VERSION`` or ``.config`` in the folder of the image; None without it."""
    image = Path(path)
    match = _VERSIONED.match(image.name)
    names = [f"config-{version}" for version in (match[1] if match else None, release) if version]
    names += [".config"] if image.name in {"vmlinux", "vmlinuz", "bzImage"} else []
    for name in names:
        candidate = image.with_name(name.replace("/", "_"))
        if candidate.is_file() and candidate.stat().st_size:
            return read_config(candidate)
    return None
