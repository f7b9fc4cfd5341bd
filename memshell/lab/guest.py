"""The guest from inside: lines to its shell over a serial port, and what they print."""

from __future__ import annotations

import os
import re
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from memshell.errors import CommandError

READY = b"@READY\n"
ANSWER = re.compile(rb"(?:^|\n)@R (\d+)\r?\n")
PACKED = b"@Z\n"
INTERRUPT = b"\x03"  # the port makes a SIGINT of it
ERRNOS = {os.strerror(number): number for number in range(1, 134)}
EINTR = 4


class GuestGone(CommandError):
    """The guest died, hangs, or closed its port; *text* is what it printed last."""


class NoAnswer(GuestGone):
    """The guest lives, and does not answer in time."""


@dataclass(slots=True)
class Guest:
    """A line to the guest's shell.  *alive* raises `GuestGone` when the machine ended; it is asked while nothing comes."""

    port: socket.socket
    alive: Callable[[], None]
    pending: bytearray = field(default_factory=bytearray)

    def wait_ready(self, limit: float) -> None:
        """Wait until the shell listens."""
        self._until(lambda: READY in bytes(self.pending).replace(b"\r", b""), limit, "boot")
        self.pending.clear()

    def shell(self, line: str, limit: float = 60) -> tuple[str, int]:
        """Return what *line* prints, and its status."""
        self._send(line)
        return self._answer(limit, line)

    def packed(self, line: str, limit: float = 120) -> bytes:
        """Return the bytes that `pages` packed."""
        self._send(line)
        self._until(lambda: PACKED in self.pending, limit, line)
        del self.pending[: self.pending.index(PACKED) + len(PACKED)]
        unpack, data = zlib.decompressobj(31), bytearray()

        def feed() -> bool:
            data.extend(unpack.decompress(bytes(self.pending)))
            self.pending[:] = unpack.unused_data
            return unpack.eof

        try:
            self._until(feed, limit, line)
        except zlib.error as error:
            raise GuestGone(f"the guest's answer to {line!r} is damaged: {error}") from error
        self._answer(limit, line)
        return bytes(data)

    def write(self, path: str, value: str, limit: float) -> int:
        """Write *value* to a file; return the errno, 0 for none, EINTR where a signal after *limit* seconds ended it."""
        line = f"w '{path}' '{value}'"
        self._send(line)
        try:
            text, status = self._answer(limit, line)
        except NoAnswer:
            self.port.sendall(INTERRUPT)
            self.wait_ready(limit)
            return EINTR
        if status == 0:
            return 0
        said = text.strip().rpartition(": ")[2]
        if said not in ERRNOS:
            raise CommandError(f"the guest could not write {value!r} to {path}: {text.strip() or status}")
        return ERRNOS[said]

    def _send(self, line: str) -> None:
        try:
            self.port.sendall(line.encode() + b"\n")
        except OSError as error:
            self.alive()
            raise GuestGone(f"the guest's port is closed: {error.strerror}") from error

    def _answer(self, limit: float, line: str) -> tuple[str, int]:
        self._until(lambda: ANSWER.search(self.pending) is not None, limit, line)
        said = bytes(self.pending)
        found = ANSWER.search(said)
        assert found is not None
        self.pending[:] = said[found.end() :]
        return said[: found.start()].replace(b"\r", b"").decode("utf-8", "replace"), int(found[1])

    def _until(self, done: Callable[[], bool], limit: float, what: str) -> None:
        end = time.monotonic() + limit
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"no answer in {limit:.0f} s to {what!r}")
            self.port.settimeout(min(left, 1))
            try:
                data = self.port.recv(1 << 16)
            except TimeoutError:
                self.alive()
                continue
            except OSError as error:
                raise GuestGone(f"the guest's port broke: {error.strerror}") from error
            if not data:
                self.alive()
                raise GuestGone("the guest closed its port")
            self.pending += data
