"""The command ``write``: the files of /sys, as a script or a tool writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.hotplug import named_states
from memshell.errors import UsageError, did_you_mean
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import TEXT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

MEMORY, FIRMWARE = "/sys/devices/system/memory/", "/sys/firmware/memory/"


def short(path: str) -> str:
    """Return a path below / as the command takes it: what lies in the folder of the memory blocks without that folder."""
    return f"/{path}".removeprefix(MEMORY).removeprefix(FIRMWARE)


def _path(word: str, _shell: Shell) -> str:
    """Return the path of a file below /."""
    if word.startswith(("/", "sys/", "proc/")):
        return word.strip("/")
    folder = FIRMWARE if word.endswith(("/config", "/memmap_on_memory")) else MEMORY
    return f"{folder}{word}".strip("/")


def _writable(mm: Mm) -> Iterator[tuple[str, str]]:
    from memshell.views.sysroot import File, content, walk

    for path, place in walk(mm):
        if isinstance(place.what, File) and place.what.store is not None:
            yield short(path), content(mm, place).decode().strip() if place.what.show else ""


def _files(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is not None:
        yield from _writable(shell.machine.mm)


@command(
    "hotplug",
    arg(
        "file", ArgType("FILE", _path, _files), "memoryN/state and others below /sys/devices/system/memory; or /sys/..."
    ),
    arg("value", TEXT, "what is written; to state offline, online, online_kernel, online_movable"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> write auto_online_blocks online_movable
auto_online_blocks: online_movable
> write probe 0x100000000
written
> write memory32/online 0
memory32 offline
> write /sys/module/memory_hotplug/parameters/online_policy auto-movable
/sys/module/memory_hotplug/parameters/online_policy: auto-movable
> ! write memory32/state on
failed as it should: 'on' is no state (EINVAL <...>
""",
)
def write(shell: Shell, args: Namespace) -> str:
    """Write a word to a file of sysfs, right or wrong: ``online`` and ``offline`` write what the kernel understands.

    It is what a program does to the machine that ``memshell mount`` shows. Files that can be written: memoryN/state
    and memoryN/online, auto_online_blocks, probe, soft_offline_page (refused), the parameters of the module
    memory_hotplug, the error of notifier-error-inject in debugfs, and on s390 since v6.19 memoryN/config and
    memoryN/memmap_on_memory of /sys/firmware/memory, which ``configure`` and ``deconfigure`` write.

    Errors: EINVAL for a word that the file does not take, and in state for the state that the block is in already;
    ENOENT for a block that is not there.
    """
    from memshell.views.sysroot import File, content, declared

    place = declared(args.file)
    if place is None or not isinstance(place.what, File) or place.what.store is None:
        raise UsageError(f"{short(args.file)!r} is no file that can be written", hint=_near(shell, args.file))
    if place.what.there is not None and not place.what.there(shell.need_machine().mm):
        raise UsageError(f"the kernel {shell.need_machine().mm.profile.name} has no {short(args.file)}")
    with shell.change() as mm:
        place.what.store(mm, *place.given, args.value)
        if place.given:
            there = place.given[0] in mm.blocks
            return named_states(mm, place.given) if there else f"memory{place.given[0]} is deconfigured"
        return f"{short(args.file)}: {content(mm, place).decode().strip()}" if place.what.show else "written"


def _near(shell: Shell, path: str) -> str:
    known = [name for name, _ in _writable(shell.need_machine().mm)]
    return did_you_mean(short(path), known) or "such as: memory32/state"
