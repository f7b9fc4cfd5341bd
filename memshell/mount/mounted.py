"""Mount a session's files on a folder, and unmount them whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memshell.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.mount.session import Session

INSTEAD = "export sysroot DIR writes the files as they are now, without FUSE"
LIMIT = 10.0  # seconds that mounting may take
OPTIONS = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0, "direct_io": True, "max_idle_threads": 8}
# Waits for a word; when there is none memshell was killed.
WATCH = """read -r _ && exit; "$@" && echo "memshell: killed; $folder: unmounted lazily" >&2"""


@contextmanager
def mounted(session: Session, folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Have the files of *session* on *folder*. Raises `CommandError` where they cannot be; *tell* says what was odd."""
    fuse = _library()
    made = _prepare(folder, tell)
    server = _Server(session, folder, fuse)
    try:
        with _undisturbed():
            server.start()
        yield
    finally:
        with _undisturbed():
            server.stop(tell)
            if made:
                folder.rmdir()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals wait: half a mount would be left behind. Threads and programs that begin inside never see them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _library() -> type:
    """Return what serves FUSE. Raises `CommandError` with what is missing."""
    if not Path("/dev/fuse").exists():
        _cannot("this machine has no FUSE (/dev/fuse)")
    try:
        from mfusepy import FUSE
    except ImportError:
        _cannot("the Python package mfusepy is not installed: pip install 'memshell-mm[fuse]'")
    except OSError:
        _cannot("libfuse is not installed: apt-get install fuse3")
    if os.getuid() and shutil.which("fusermount3") is None:
        _cannot("fusermount3 is not installed: apt-get install fuse3")
    return FUSE  # type: ignore[no-any-return]  # shipped without types


def _cannot(why: str) -> NoReturn:
    raise CommandError(f"nothing can be mounted: {why}", hint=INSTEAD)


def _prepare(folder: Path, tell: Callable[[str], None]) -> bool:
    """Make sure of an empty folder; return whether it was made here. What a killed memshell left there is unmounted."""
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise CommandError(f"cannot make {folder}: {error.strerror}") from error
        return True
    except OSError as error:
        if folder.is_dir() or not _unmount(folder, lazy=True):
            raise CommandError(f"cannot mount on {folder}: {error.strerror}") from error
        tell(f"{folder}: unmounted what was left there")
        return False
    if entries:
        raise CommandError(f"{folder} is not empty", hint="mount on an empty folder, or name one that is not there yet")
    return False


class _Server:
    """The thread that answers FUSE."""

    def __init__(self, session: Session, folder: Path, fuse: type) -> None:
        from memshell.mount.filesystem import Filesystem

        self._files, self._folder, self._fuse = Filesystem(session), folder, fuse
        self._up = threading.Event()
        self._files.init = lambda _path: self._up.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._failed: Exception | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def _serve(self) -> None:
        try:
            self._fuse(self._files, str(self._folder), foreground=True, fsname="memshell", **OPTIONS)
        except Exception as error:  # noqa: BLE001 - told by who waits for the mount
            self._failed = error
        finally:
            self._up.set()

    def start(self) -> None:
        """Mount. Raises `CommandError` where that fails."""
        self._thread.start()
        if not self._up.wait(LIMIT) or self._failed is not None:
            _cannot(f"mounting on {self._folder} failed ({self._failed or 'no answer'})")
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", WATCH, "sh", *_unmounting(self._folder, lazy=True)],
            stdin=subprocess.PIPE,
            env={**os.environ, "folder": str(self._folder)},
            start_new_session=True,
        )

    def stop(self, tell: Callable[[str], None]) -> None:
        """Unmount; where somebody uses the mount, it goes when nobody does."""
        if self._thread.is_alive():
            if _unmount(self._folder):
                self._thread.join(LIMIT)
            elif _unmount(self._folder, lazy=True):
                tell(f"{self._folder} is in use: unmounted lazily, it is gone once nobody uses it")
        if self._watcher is not None:
            self._watcher.communicate(b"done\n")


def _unmount(folder: Path, *, lazy: bool = False) -> bool:
    """Unmount *folder*; return whether that worked."""
    return subprocess.run(_unmounting(folder, lazy=lazy), capture_output=True, check=False).returncode == 0  # noqa: S603


def _unmounting(folder: Path, *, lazy: bool) -> list[str]:
    tool = shutil.which("fusermount3")
    return [*([tool, "-u", *["-z"] * lazy] if tool else ["umount", *["-l"] * lazy]), str(folder)]
