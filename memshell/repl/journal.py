"""The journal: every finished command is on disk before the next one is asked for.

One file per session, locked while the session lives.  A journal is a scenario: before each command stands a comment with
the number of steps that the machine had after it and the CRC of both, so that what is damaged is noticed.
``--resume`` plays it (`memshell.repl.resume`), so that a killed shell comes back.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from io import FileIO
    from pathlib import Path

KEPT = 10  # journals of sessions that have ended
LONGEST = 64 << 20  # bytes of a journal that is read
_MARK = re.compile(rb"^#(\d{1,9}) ([0-9a-f]{8})( file)?\n", re.MULTILINE)


class Entry(NamedTuple):
    """One command of a journal: the line it stands on, the steps after it where they are known, and whether it is whole."""

    line: int
    steps: int | None
    text: str
    whole: bool = True
    typed: bool = True  # and not asked for by a file

    def record(self) -> bytes:
        """Return what stands in the file."""
        data = self.text.encode(errors="surrogateescape")
        steps, who = b"%d" % (self.steps or 0), b"" if self.typed else b" file"
        return b"#%b %b%b\n%b\n" % (steps, _sum(steps + who, data), who, data)


def _sum(steps: bytes, text: bytes) -> bytes:
    return b"%08x" % crc32(steps + b" " + text)


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

    def add(self, text: str, steps: int = 0, *, typed: bool = True) -> None:
        """Write a finished command, after which the machine has *steps* steps, and wait until the disk has it."""
        self.extend([Entry(0, steps, text, typed=typed)])

    def extend(self, entries: Iterable[Entry]) -> None:
        """Write several finished commands and wait until the disk has them."""
        if self._file is None:
            return
        try:
            left = b"".join(entry.record() for entry in entries)
            while left:
                left = left[self._file.write(left) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """End the session; an empty journal is not worth keeping."""
        if self._file is not None:
            with suppress(OSError):
                empty = self._file.tell() == 0
                self._file.close()
                if empty:
                    self.path.unlink(missing_ok=True)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None
        self._warn(f"no journal from here on: {self.path}: {error.strerror}")


def new_journal(folder: Path, warn: Callable[[str], None]) -> Journal:
    """Start the journal of a new session, and forget the oldest ones."""
    place = folder / "journal"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in ended(place)[KEPT:]:
            if name_of(old) is None:
                old.unlink(missing_ok=True)
    except OSError as error:
        warn(f"cannot keep journals in {place}: {error.strerror}")
    return Journal(place / _name(), warn)


def begun_journal(place: Path, done: Iterable[Entry], warn: Callable[[str], None]) -> Journal:
    """Start a journal in the folder *place* that begins with *done*: all of it is on disk under its name, or none."""
    path = place / _name()
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.writelines(entry.record() for entry in done)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        warn(f"cannot write {path}: {error.strerror}")
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return Journal(path, warn)


def _name() -> str:
    return f"{time.time_ns()}-{os.getpid()}.mem"


def last_journal(folder: Path) -> Path | None:
    """Return the newest journal with a command in it whose session has ended, however it did; None when there is none."""
    return next((path for path in ended(folder / "journal") if path.stat().st_size), None)


def ended(place: Path) -> list[Path]:
    """Return the journals that nobody holds, the newest first."""
    return [path for path in sorted(place.glob("*.mem"), reverse=True) if not _is_held(path)]


def name_of(path: Path) -> str | None:
    """Return the name that the session of a journal was given, None where it has none or cannot be read."""
    try:
        lines = [entry.text for entry in read_journal(path) if entry.whole and entry.text.startswith("session ")]
    except OSError:
        return None
    return lines[-1].split()[1] if lines else None


def since_last_use(entries: list[Entry], is_setting: Callable[[str], bool]) -> list[Entry]:
    """Return what leads to the machine that the session ended with: what earlier machines did is left out.

    Settings stay, and everything does where branches keep several machines.
    """
    if any(entry.text.partition(" ")[0] in ("branch", "switch") for entry in entries):
        return entries
    uses = [at for at, entry in enumerate(entries) if entry.whole and entry.text.startswith("use ")]
    last = uses[-1] if uses else 0
    return [entry for at, entry in enumerate(entries) if at >= last or not entry.whole or is_setting(entry.text)]


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def read_journal(path: Path) -> list[Entry]:
    """Return the commands of a journal, the damaged ones too; a last one that the disk has only in part is none.

    Lines without a mark are commands of one line each: what was written by hand, or before there were marks.
    Raises OSError.
    """
    with path.open("rb") as file:
        data = file.read(LONGEST)
    found: list[Entry] = []
    marks = list(_MARK.finditer(data))
    found += _plain(data[: marks[0].start() if marks else len(data)], 1)
    ends = [mark.start() for mark in marks[1:]] + [len(data)]
    for mark, end in zip(marks, ends, strict=False):
        line = data.count(b"\n", 0, mark.end()) + 1
        body = data[mark.end() : end]
        whole = body.endswith(b"\n") and _sum(mark[1] + (mark[3] or b""), body[:-1]) == mark[2]
        if whole or end < len(data) or body.endswith(b"\n"):
            text = body.removesuffix(b"\n").decode(errors="replace")
            found.append(Entry(line, int(mark[1]), text, whole, typed=mark[3] is None))
    return found


def _plain(data: bytes, first: int) -> list[Entry]:
    lines = data.split(b"\n")[:-1]  # what follows the last newline is not finished
    return [
        Entry(number, None, line.decode(errors="replace"), b"\0" not in line, typed=False)
        for number, line in enumerate(lines, start=first)
        if line.strip()
    ]
