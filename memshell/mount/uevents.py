"""uevents: what the kernel tells udev when a memory block comes, goes, or changes its state, as lines in a FIFO.

A line is ``ACTION@DEVPATH ACTION=... DEVPATH=... SUBSYSTEM=memory SEQNUM=...``. As with the kernel's, who does not listen
misses them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from memshell.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memshell.mm.state import Mm
    from memshell.shell.shell import Played

ACTIONS = {"BlockOnlined": "online", "BlockOfflined": "offline"}


class Uevents:
    """The FIFO, and the state that was told of last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        self._told: Mm | None = None
        try:
            if not path.exists():
                os.mkfifo(path)
            if not stat.S_ISFIFO(path.stat().st_mode):
                raise CommandError(f"{path} is there and no FIFO")
        except OSError as error:
            raise CommandError(f"cannot make the FIFO {path}: {error.strerror}") from error

    def start(self, mm: Mm | None) -> None:
        """Take *mm* as known."""
        self._told = mm

    def played(self, played: Played) -> None:
        """Tell of the steps that a command made; a fresh machine is taken as known."""
        for step in played.steps:
            if self._told is not None and step.n:
                self._send(changes(self._told, step.mm, [(event.kind, event.data) for event in step.events]))
            self._told = step.mm

    def _send(self, found: Iterator[tuple[str, str]]) -> None:
        lines = ""
        for action, path in found:
            self._number += 1
            lines += f"{action}@{path} ACTION={action} DEVPATH={path} SUBSYSTEM=memory SEQNUM={self._number}\n"
        try:
            to = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(to, lines.encode())
        except OSError:
            pass
        finally:
            os.close(to)


def changes(before: Mm, after: Mm, events: list[tuple[str, dict[str, object]]]) -> Iterator[tuple[str, str]]:
    """Yield (action, path of the device) for what a step did: new blocks, changes of state, blocks that went."""
    for number in sorted(set(after.blocks) - set(before.blocks)):
        yield "add", _device(number)
    for kind, data in events:
        if kind in ACTIONS:
            yield ACTIONS[kind], _device(data["block"])
    for number in sorted(set(before.blocks) - set(after.blocks)):
        yield "remove", _device(number)


def _device(number: object) -> str:
    return f"/devices/system/memory/memory{number}"
