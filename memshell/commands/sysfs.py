"""sysfs, as it is: ``write`` puts a word into a file, right or wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from memshell.errors import UsageError
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import TEXT

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

FOLDERS = ("/sys/devices/system/memory/", "/sys/firmware/memory/")
FILES = re.compile(r"memory(\d+)/(state|online|config|memmap_on_memory)")


class File(NamedTuple):
    """memoryN/NAME: state and online are in /sys/devices/system/memory, the other two in /sys/firmware/memory."""

    block: int
    name: str


def _file(word: str, _shell: Shell) -> File:
    bare = next((word.removeprefix(folder) for folder in FOLDERS if word.startswith(folder)), word)
    found = FILES.fullmatch(bare)
    if found is None:
        raise UsageError(f"{word!r} is no file that can be written", hint="such as: memory32/state, memory32/online")
    return File(int(found[1]), found[2])


def _files(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is None:
        return
    mm = shell.machine.mm
    for block in mm.blocks.values():
        yield f"memory{block.id}/state", str(block.state)
        yield f"memory{block.id}/online", str(int(block.state == "online"))
    for number, (configured, _) in (mm.arch.firmware_memory(mm) or {}).items():
        yield f"memory{number}/config", str(int(configured))


@command(
    "hotplug",
    arg("file", ArgType("FILE", _file, _files), "memoryN/state, /online; on s390 memoryN/config, /memmap_on_memory"),
    arg("value", TEXT, "what is written: offline, online, online_kernel or online_movable; to the other files 0 or 1"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 128M
128M at <...>
memmap <...>
> write memory32/state online_movable
memory32 online in Movable
> ! write memory32/state on
failed as it should: 'on' is no state (EINVAL <...>
""",
)
def write(shell: Shell, args: Namespace) -> str:
    """Write a word to a file of sysfs, right or wrong: ``online`` and ``offline`` write what the kernel understands.

    memoryN/state and memoryN/online are below /sys/devices/system/memory, memoryN/config and memoryN/memmap_on_memory below
    /sys/firmware/memory (s390 since v6.19; ``configure`` and ``deconfigure`` write them).

    EINVAL for a word that is no state, and for the state that the block is in already; memoryN/online takes that.
    """
    from memshell.commands.hotplug import named_states
    from memshell.drivers.base.memory.state import online_store, state_store
    from memshell.lib.kstrtox import kstrtobool

    number, name = args.file
    with shell.change() as mm:
        if name == "state":
            state_store(mm, number, args.value)
        elif name == "online":
            online_store(mm, number, args.value)
        else:
            mm.arch.firmware_store(mm, number, name, kstrtobool(args.value, "drivers/s390/char/sclp_mem.c"))
        return named_states(mm, [number]) if number in mm.blocks else f"memory{number} is deconfigured"
