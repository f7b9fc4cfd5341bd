"""What kernel and processor the machine shows: /proc/version, cmdline, cpuinfo, config.gz."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from memshell.mm.params import MEMMAP_ON_MEMORY, MODULE, PARAMETERS, boot_words

if TYPE_CHECKING:
    from memshell.mm.state import Mm


def version(mm: Mm) -> str:
    """Return /proc/version: the profile's release, ``6.12.0``; a series has its name there."""
    release = mm.profile.name
    if release.startswith("v"):
        release = f"{release[1:]}.0"
    return f"Linux version {release} (memshell) #1 SMP\n"


def cmdline(mm: Mm) -> str:
    """Return /proc/cmdline: the words that boot a kernel with these parameters on this machine."""
    words = [*mm.arch.shown_words(mm.profile), *boot_words(mm.params)]
    words += [
        f"{name}={mm.params.text(name)}" for name, one in PARAMETERS.items() if one.at_boot and mm.params.text(name)
    ]
    if mm.features.memmap_on_memory.exists:
        words.append(f"{MODULE}{MEMMAP_ON_MEMORY}={mm.policy.parameter}")
    return " ".join(dict.fromkeys(words)) + "\n"


def cpus(mm: Mm) -> list[int]:
    """Return the node of each CPU: the machine has one on each node that has any."""
    return [nid for nid, node in sorted(mm.nodes.items()) if node.has_cpu] or [0]


def cpuinfo(mm: Mm) -> str:
    """Return /proc/cpuinfo: of each CPU the lines that tell the architecture and how it maps memory."""
    lines = mm.arch.shown_cpu().items()
    return "".join(
        "".join(f"{key}\t: {value}\n" for key, value in (("processor", str(number)), *lines)) + "\n"
        for number in range(len(cpus(mm)))
    )


def config(mm: Mm) -> bytes:
    """Return /proc/config.gz: the options of the configuration that the model rests on."""
    names = ["MEMORY_HOTPLUG", "MEMORY_HOTREMOVE", "SPARSEMEM_VMEMMAP"]
    names += ["MHP_MEMMAP_ON_MEMORY"] * mm.arch.has_memmap_on_memory(mm.profile)
    names += ["PAGE_EXTENSION"] * (mm.arch.mem_section_size == 32)
    return gzip.compress("".join(f"CONFIG_{name}=y\n" for name in names).encode(), mtime=0)
