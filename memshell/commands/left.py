"""What a command that failed found, and what it leaves behind: facts that stand behind the error."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

from memshell.commands.advice import Failure, advice
from memshell.commands.failed import free_text
from memshell.errors import KernelCrash, KernelError, OutOfMemory
from memshell.views.obstacles import orphans

if TYPE_CHECKING:
    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell


def explained(shell: Shell, error: KernelError | KernelCrash, before: Mm) -> None:
    """Give *error* what was found and is left behind, and let it look for what helps when it is told."""
    after, words = shell.need_machine().mm, _as_asked(shlex.split(shell.running.text))
    if isinstance(error, KernelCrash):
        error.advise = partial(advice, shell, Failure(words, error, before, after))
        return
    if error.pfn is not None and not error.blocks and error.pfn // after.block_pages in after.blocks:
        error.blocks = (error.pfn // after.block_pages,)
    error.facts = (*error.facts, *facts(error, before, after))
    if not words or (error.hint is not None and error.hint.partition(" ")[0] not in shell.registry):
        return
    hint, error.hint = error.hint, None  # one that is a command is tried as all others are
    error.advise = partial(advice, shell, Failure(words, error, before, after), hint)


def _as_asked(words: list[str]) -> list[str]:
    """Return the words of a command without those that say how it is shown."""
    kept: list[str] = []
    for at, word in enumerate(words):
        if word not in ("--explain", "--vertical", "-F", "-o") and (not at or words[at - 1] not in ("-F", "-o")):
            kept.append(word)
    return kept


def facts(error: KernelError, before: Mm, after: Mm) -> list[str]:
    """Return what was free where memory ran out, and what differs after the failure: memory, sections, zones, a DIMM."""
    found = []
    if isinstance(error, OutOfMemory) and "was free" not in error.message:
        found.append(free_text(before))
    if not error.facts:
        found += _added(before, after)
    return [*found, *_removed(before, after), *_left(before, after), *_changed(before, after)]


def _added(before: Mm, after: Mm) -> list[str]:
    from memshell.commands.hotplug import named_blocks
    from memshell.views.lsmem import human

    new = [number for number in after.blocks.keys_of_unshared(before.blocks) if number not in before.blocks]
    return [f"{human(len(new) * after.block_size)} of it was added: {named_blocks(new)}"] if new else []


def _left(before: Mm, after: Mm) -> list[str]:
    from memshell.views.lsmem import human

    shift, found = after.arch.page_shift, list[str]()
    lost = orphans(before, after)
    if lost:
        size = human(sum(b - a for a, b in lost) << shift)
        taken = human(max(_free(before) - _free(after), 0) << shift)
        where = f"{lost[0][0] << shift:#x}-{(lost[-1][1] << shift) - 1:#x}"
        found.append(
            f"left until the next reboot: sections of {size} without memory blocks at {where}, and {taken} of memory for them"
        )
    if len(after.failed_dimms) > len(before.failed_dimms):
        found.append("the DIMM stays plugged")
    return found


def _removed(before: Mm, after: Mm) -> list[str]:
    from memshell.commands.hotplug import named_blocks
    from memshell.views.lsmem import human

    gone = [number for number in before.blocks.keys_of_unshared(after.blocks) if number not in after.blocks]
    return [f"{human(len(gone) * before.block_size)} of it was removed: {named_blocks(gone)}"] if gone else []


def _changed(before: Mm, after: Mm) -> list[str]:
    """Say which blocks went online or offline, or came back online in another zone than they were in."""
    from memshell.commands.hotplug import named_blocks

    done: dict[str, list[int]] = {}
    for number in after.blocks.keys_of_unshared(before.blocks):
        old, new = before.blocks.get(number), after.blocks[number]
        if old is not None and old.state != new.state:
            done.setdefault(f"went {new.state}", []).append(number)
        elif old is not None and new.zone is not None and old.zone not in (None, new.zone):
            done.setdefault(f"came back in {new.zone.label}", []).append(number)
    return [f"{named_blocks(numbers)} {what}" for what, numbers in done.items()]


def _free(mm: Mm) -> int:
    return sum(zone.free for zone in mm.zones.values())
