"""What a terminal shows around the commands: results, the pager, the toolbar, the progress line."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memshell.shell.shell import Shell


class Screen:
    """The terminal as the prompt uses it: results, with *pages* a pager where they are too tall, a progress line."""

    def __init__(self, *, pages: bool = True) -> None:
        self._pages = pages
        self._lock = threading.RLock()
        self._drawn = False  # the progress line is on the screen
        self._since = 0.0  # when the terminal was taken back

    def write(self, text: str, /) -> None:
        """Show a result."""
        with self._lock:
            self._wipe()
            rows = shutil.get_terminal_size().lines
            if not (self._pages and text.count("\n") >= rows and sys.stdout.isatty() and _page(text)):
                sys.stdout.write(text)

    def flush(self) -> None:
        """Bring everything to the terminal."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Show what is not a result."""
        with self._lock:
            self._wipe()
            sys.stderr.write(text)
            sys.stderr.flush()

    @contextmanager
    def hand_over(self) -> Iterator[None]:
        """Leave the terminal to another program: nothing is drawn meanwhile."""
        with self._lock:
            self._wipe()
            yield
            self._since = time.monotonic()

    @contextmanager
    def progress(self, shell: Shell) -> Iterator[None]:
        """Show how far the command inside has come, once it has taken a second."""
        if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(shell, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with self._lock:
                self._wipe()

    def _watch(self, shell: Shell, done: threading.Event) -> None:
        started = time.monotonic()
        if done.wait(1.0):
            return
        while not done.wait(0.1):
            line = progress_line(shell, time.monotonic() - started, shutil.get_terminal_size().columns)
            with self._lock:
                if time.monotonic() - self._since > 1.0:
                    sys.stderr.write(f"\r{line}\x1b[K")
                    sys.stderr.flush()
                    self._drawn = True

    def _wipe(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


class Notes:
    """The side of a screen that takes what is not a result."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str, /) -> None:
        """Show a note."""
        self._screen.note(text)

    def flush(self) -> None:
        """Have nothing to bring out."""


def _page(text: str) -> bool:
    """Show *text* through the user's pager; False when there is none."""
    import subprocess

    pager = os.environ.get("PAGER") or ("less" if shutil.which("less") else "")
    if not pager or pager == "cat" or os.environ.get("TERM", "dumb") == "dumb":
        return False
    environment = {"LESS": "-FRSX", **os.environ}
    command = ["/bin/sh", "-c", pager]
    subprocess.run(command, input=text, text=True, check=False, env=environment)  # noqa: S603 - the user's own
    return True


def toolbar(shell: Shell, width: int = 0) -> str:
    """Return the line under the prompt: what the machine is and how it fares, at most *width* characters.

    Where there is no room for all of it, what never changes goes first; the step and a crash stay longest.
    """
    if shell.machine is None:
        return " no machine yet: use x86_64 ram=2G"
    from memshell.mm.pfn import format_size

    mm = shell.machine.mm
    page = mm.arch.page_size
    free: dict[str, int] = {}
    for zone in mm.zones.values():
        free[zone.type.label] = free.get(zone.type.label, 0) + zone.free
    most = max(free, key=lambda label: free[label], default="")
    step = f"step {shell.machine.step.n}" + (f" of {shell.branch}" if shell.branches else "")
    if mm.crashed:
        step += f" · CRASHED: {mm.crashed}"
    parts = [
        f"{mm.arch.name} {format_size(page)}",
        f"block {format_size(mm.block_size)}",
        mm.profile.name,
        mm.policy.name,
        f"{most} {about(free.get(most, 0) * page)} free",
        step,
    ]
    for least in (parts[1], parts[0], parts[4], parts[2], parts[3]):
        if width and len(" · ".join(parts)) + 2 > width:
            parts.remove(least)
    text = " " + " · ".join(parts)
    return text[:width] if width else text


def about(size: int) -> str:
    """Return a size in three digits or so: 3.1G."""
    for suffix, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift:
            number = size / (1 << shift)
            return f"{number:.0f}{suffix}" if number >= 100 else f"{number:.3g}{suffix}"
    return str(size)


def progress_line(shell: Shell, seconds: float, width: int) -> str:
    """Return the progress line for a command that has run for *seconds*."""
    tail = f" {seconds:.0f} s, Ctrl-C stops it"
    name = shell.running.text[: max(width - len(tail) - 30, 8)]
    if shell.running.progress is None:
        return f"{name}:{tail}"[: width - 1]
    count, total = shell.running.progress
    room = 20
    filled = room * count // max(total, 1)
    return f"{name} [{'#' * filled}{'.' * (room - filled)}] {count}/{total}{tail}"[: width - 1]
