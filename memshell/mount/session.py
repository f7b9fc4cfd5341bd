"""One session for two: who types at the prompt, and who writes to the mounted files. They take turns, command by command."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

from memshell.commands.sysfs import short
from memshell.errors import MemshellError
from memshell.scenario.words import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from memshell.mm.state import Mm
    from memshell.scenario.player import Player


class Turns:
    """A lock that its owner may take again, and that is free while another program runs: that one may write too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0  # of the owner

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the machine alone."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextmanager
    def given_up(self, around: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Let others have the machine, and do what *around* does."""
        with self._lock:
            depth, self._depth = self._depth, 0
        for _ in range(depth):
            self._lock.release()
        try:
            with around():
                yield
        finally:
            for _ in range(depth):
                self._lock.acquire()
            with self._lock:
                self._depth = depth


class Session:
    """A player, and the writes that reach its machine beside it. *tell* shows what a write did."""

    def __init__(self, player: Player, tell: Callable[[str], None] | None = None) -> None:
        turns = Turns()
        hand_over = player.hand_over
        self.player = player
        self._told: SimpleQueue[str] = SimpleQueue()
        if tell is not None:
            threading.Thread(target=self._tell, args=(tell,), daemon=True).start()
        player.turn = turns.taken
        player.hand_over = lambda: turns.given_up(hand_over)
        self._turns = turns

    def _tell(self, tell: Callable[[str], None]) -> None:
        """Show what was written when the screen is free: who writes shall not wait for that."""
        while True:
            tell(self._told.get())

    @property
    def mm(self) -> Mm | None:
        """The state of the moment: nobody changes it, so that it needs no turn."""
        machine = self.player.shell.machine
        return None if machine is None else machine.mm

    def write(self, path: str, value: str) -> int:
        """Write to a file as the command ``write`` does; return the kernel's errno, 0 when it went well."""
        if "\n" in value:
            return errno.EINVAL  # no file takes more than a word
        command = f"write {short(path)} {quote(value)}"
        with self._turns.taken():
            try:
                said = self.player.play_beside(command, "mount")
            except MemshellError as error:
                cause = getattr(error, "cause", error)
                self._told.put(f"{command}: {cause}")
                return number_of(cause)
        self._told.put(f"{command}: {said.rstrip()}")
        return 0


def number_of(failure: BaseException) -> int:
    """Return the errno of a failed write: the kernel's; EIO where it died of it, or the machine is dead."""
    name = getattr(failure, "errno", None)
    return int(getattr(errno, name)) if name else errno.EIO
