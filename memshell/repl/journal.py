"""The journal: every finished command is on disk before the next one is asked for.

One file per session, locked while the session lives.  A journal is a scenario; ``--resume`` plays it, so
that a killed shell comes back.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

KEPT = 10  # journals of sessions that have ended


class Journal:
    """The journal of one session.  A disk that cannot take it costs the journal and never the session."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._file: FileIO | None = None
        try:
            self._file = path.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._give_up(error)

    def add(self, text: str) -> None:
        """Write a finished command and wait until the disk has it."""
        if self._file is None:
            return
        try:
            left = text.encode() + b"\n"
            while left:
                left = left[self._file.write(left) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """End the session; an empty journal is not worth keeping."""
        if self._file is not None:
            empty = self._file.tell() == 0
            self._file.close()
            self._file = None
            if empty:
                self.path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        self._warn(f"no journal from here on: {self.path}: {error.strerror}")


def new_journal(folder: Path, warn: Callable[[str], None]) -> Journal:
    """Start the journal of a new session, and forget the oldest ones."""
    place = folder / "journal"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in _ended(place)[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        warn(f"cannot keep journals in {place}: {error.strerror}")
    return Journal(place / f"{time.time_ns()}-{os.getpid()}.mem", warn)


def last_journal(folder: Path) -> Path | None:
    """Return the newest journal whose session has ended, however it did; None when there is none."""
    return next(iter(_ended(folder / "journal")), None)


def _ended(place: Path) -> list[Path]:
    """Return the journals that nobody holds, the newest first."""
    return [path for path in sorted(place.glob("*.mem"), reverse=True) if not _is_held(path)]


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def finished_lines(path: Path) -> str:
    """Return the commands of a journal; a last line that the disk has only in part is none."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.decode(errors="replace")
