"""The sessions that have ended: their names, what they were about, and their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from memshell.errors import UsageError, did_you_mean
from memshell.repl.journal import ended, name_of, read_journal

if TYPE_CHECKING:
    from pathlib import Path


class Ended(NamedTuple):
    """A session that has ended: its name, its journal, when it began (seconds), its commands, the line of its machine."""

    name: str
    path: Path
    began: float
    commands: int
    machine: str


class Sessions:
    """The sessions of a user, in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ended(self) -> list[Ended]:
        """Return the sessions that have ended and left something, the newest first."""
        return [one for path in ended(self.folder / "journal") if (one := _read(path)) is not None]

    def find(self, name: str) -> Ended:
        """Return the session of that name, or the only one whose name begins so. Raises `UsageError` without one."""
        known = self.ended()
        exact = [one for one in known if one.name == name]
        found = exact or [one for one in known if one.name.startswith(name)]
        if len(found) != 1 and not exact:
            names = [one.name for one in known]
            listed = f"there are {', '.join(names)}" if names else "no session has ended"
            raise UsageError(f"there is no session {name!r} that has ended", hint=did_you_mean(name, names) or listed)
        return found[0]

    def rows(self) -> list[dict[str, object]]:
        """Return the sessions as rows: name, age in words, commands, machine."""
        now = time.time()
        return [
            {"name": one.name, "age": age(now - one.began), "commands": one.commands, "machine": one.machine}
            for one in self.ended()
        ]

    def forget(self, name: str) -> str:
        """Delete the journal of a session that has ended; return its name. Raises `UsageError` without one."""
        one = self.find(name)
        one.path.unlink(missing_ok=True)
        return one.name

    def prune(self) -> int:
        """Delete the journals of the sessions that have ended and were not given a name; return how many."""
        gone = [one for one in self.ended() if name_of(one.path) is None]
        for one in gone:
            one.path.unlink(missing_ok=True)
        return len(gone)


def _read(path: Path) -> Ended | None:
    try:
        entries = read_journal(path)
    except OSError:
        return None
    if not entries:
        return None
    began = int(path.stem.partition("-")[0]) / 1e9 if path.stem.partition("-")[0].isdecimal() else path.stat().st_mtime
    machine = next((entry.text for entry in reversed(entries) if entry.text.startswith("use ")), "")
    name = name_of(path) or time.strftime("%m%d-%H%M%S", time.localtime(began))
    return Ended(name, path, began, len(entries), machine.removeprefix("use "))


def age(seconds: float) -> str:
    """Return a time that has passed as people say it: ``5 min``, ``3 h``, ``2 days``.

    >>> age(30), age(300), age(86400 * 2)
    ('0 min', '5 min', '2 days')
    """
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
