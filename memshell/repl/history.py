"""The lines that were typed, for the arrow keys: in a file, as far as the disk takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.history import FileHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class History(FileHistory):
    """The history in a file, or in memory alone: where there is none, and from the first error of the disk on."""

    def __init__(self, path: Path | None, warn: Callable[[str], None]) -> None:
        super().__init__(str(path))
        self._kept, self._warn = path is not None, warn

    def load_history_strings(self) -> Iterable[str]:
        """Return the lines of earlier sessions, the newest first; none where they cannot be read."""
        if not self._kept:
            return []
        try:
            return list(super().load_history_strings())
        except OSError as error:
            self._give_up(error)
        return []

    def store_string(self, string: str) -> None:
        """Write a line; the first that cannot be written is the last that is tried."""
        if self._kept:
            try:
                super().store_string(string)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._kept = False
        self._warn(f"no history from here on: {self.filename!s}: {error.strerror}")
