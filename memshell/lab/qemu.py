"""The machine from outside: QEMU with the hardware that a scenario asks for, and its monitor."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memshell.errors import CommandError
from memshell.lab.guest import Guest, GuestGone
from memshell.lab.hardware import Board, Hardware
from memshell.lab.image import Image, load_modules
from memshell.lab.initramfs import initramfs

if TYPE_CHECKING:
    from qemu.qmp.legacy import QEMUMonitorProtocol

BOOT_LIMIT = 300  # seconds; a kernel boots in 4 under TCG on a machine with nothing else to do
COMMAND_LIMIT = 60.0  # seconds that the monitor may take to answer
DRIVERS = ("virtio_pci", "virtio_mem")
SILENT = "nothing on its console"
OOPS = ("BUG:", "Oops", "kernel BUG", "Kernel panic", "general protection fault", "Unable to handle", "WARNING:")


class QemuFailed(CommandError):
    """QEMU did not start, or refused a command."""


@dataclass(slots=True)
class Qemu:
    """A running QEMU: `guest` obeys inside, `command` asks the monitor.  Leaving the context ends it, whatever happened."""

    image: Image
    hardware: Hardware
    board: Board
    folder: Path
    busybox: Path
    arguments: list[str] = field(default_factory=list)
    boot_seconds: float = 0.0
    accel: str = "tcg"
    _process: subprocess.Popen[bytes] | None = None
    _monitor: QEMUMonitorProtocol | None = None
    _guest: Guest | None = None

    @property
    def guest(self) -> Guest:
        """The shell inside."""
        assert self._guest is not None
        return self._guest

    def __enter__(self) -> Self:
        for accel in accelerators():
            self.accel = accel
            try:
                self._start()
            except QemuFailed:
                self.close()
                if accel == "tcg":
                    raise
                _FAILED.add(accel)
            except BaseException:
                self.close()
                raise
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        modules = load_modules(self.image.modules, DRIVERS if self.hardware.virtio_mem else ())
        archive = self.folder / "initrd"
        archive.write_bytes(initramfs(self.busybox.read_bytes(), self.board.tty, modules))
        self.arguments = self.board.arguments(self.hardware, self.image.kernel, archive, self.folder, self.accel)
        started = time.monotonic()
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own QEMU
                self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._guest = Guest(self._connect("agent"), self._check_alive)
        self._monitor = self._connect_monitor()
        self._guest.wait_ready(BOOT_LIMIT)
        self.boot_seconds = time.monotonic() - started

    def _connect(self, name: str) -> socket.socket:
        port = socket.socket(socket.AF_UNIX)
        for _ in range(500):
            try:
                port.connect(str(self.folder / name))
            except OSError:
                self._check_alive()
                time.sleep(0.02)
            else:
                return port
        raise QemuFailed("QEMU does not open its ports")

    def _connect_monitor(self) -> QEMUMonitorProtocol:
        from qemu.qmp import QMPError
        from qemu.qmp.legacy import QEMUMonitorProtocol

        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what goes wrong is told here
        port = self._connect("qmp")
        port.setblocking(False)  # the library's loop waits for it
        monitor = QEMUMonitorProtocol(port)
        monitor.settimeout(COMMAND_LIMIT)
        try:
            monitor.connect()
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            self._ended()
            raise QemuFailed(f"QEMU's monitor does not answer: {error}") from error
        return monitor

    def _ended(self) -> None:
        """Wait a moment for a QEMU that is about to end, and say how it did."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._check_alive()

    def _check_alive(self) -> None:
        """Raise `GuestGone` when QEMU ended: with the guest's last words, or QEMU's own."""
        if self._process is None or self._process.poll() is None:
            return
        said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace").strip()
        if said:
            raise QemuFailed(f"QEMU ended: {said.splitlines()[-1]}")
        raise GuestGone(f"the guest died: {last_words(self.console())}")

    def console(self) -> str:
        """Return what the kernel printed on its console."""
        try:
            return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def command(self, name: str, **arguments: Any) -> Any:
        """Return what a monitor command returns.  Raises `QemuFailed` with QEMU's own words."""
        from qemu.qmp import QMPError

        assert self._monitor is not None
        try:
            answer = self._monitor.cmd_raw(name, arguments or None)
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            self._ended()
            raise GuestGone(f"QEMU's monitor is gone: {error}") from error
        if "error" in answer:
            raise QemuFailed(str(answer["error"]["desc"]))
        return answer["return"]

    def events(self, until: Callable[[dict[str, Any]], bool], limit: float) -> list[dict[str, Any]]:
        """Return the events that come until one is the wanted one, for *limit* seconds at most."""
        from qemu.qmp import QMPError

        assert self._monitor is not None
        found: list[dict[str, Any]] = []
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._monitor.pull_event(min(left, 1))
            except TimeoutError:
                event = None
            except (QMPError, OSError, EOFError) as error:
                self._ended()
                raise GuestGone(f"QEMU's monitor is gone: {error}") from error
            self._check_alive()
            if event is not None:
                found.append(dict(event))
                if until(found[-1]):
                    break
        return found

    def forget_events(self) -> None:
        """Drop the events that came so far."""
        assert self._monitor is not None
        self._monitor.clear_events()

    def close(self) -> None:
        """End QEMU and wait for it."""
        if self._guest is not None:
            self._guest.port.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._monitor is not None:
            with suppress(Exception):  # its other end is dead
                self._monitor.close()
            self._monitor = None


def last_words(console: str) -> str:
    """Return the line of a kernel's console that says what it died of, else its last one."""
    lines = [line.partition("] ")[2] or line for line in console.splitlines() if line.strip()]
    bad = [line for line in lines if any(word in line for word in OOPS)]
    return (bad or lines[-1:] or [SILENT])[0].strip()


def find_program(names: Sequence[str]) -> Path | None:
    """Return the first program of *names* that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return Path(found) if found else None


_FAILED: set[str] = set()  # accelerators that did not work in this process


def accelerators() -> list[str]:
    """Return what may run a guest here, the fastest first."""
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK) and "kvm" not in _FAILED
    return ["kvm", "tcg"] if kvm else ["tcg"]
