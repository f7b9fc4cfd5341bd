"""Run a command where /sys and /proc are the machine's: in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

# /sys as a whole, of /proc the files that the machine has: programs need the rest of it. The user is root in there.
# Where the machine has dax devices, daxctl wants files of their names in /dev: it gets a /dev of its own.
SCRIPT = """
if [ -e "$1"/sys/bus/dax/devices/dax0.0 ]; then
  (cd /dev && mount -t tmpfs tmpfs /dev && for name in null zero full random urandom tty pts shm; do
    if [ -d "$name" ]; then mkdir "/dev/$name"; else : > "/dev/$name"; fi
    mount --no-canonicalize --rbind "$name" "/dev/$name" || exit 125
  done
  ln -s /proc/self/fd /dev/fd) || exit 125
  for device in "$1"/sys/bus/dax/devices/*; do : > "/dev/${device##*/}"; done
fi
for file in "$1"/proc/*; do
  [ ! -e "/proc/${file##*/}" ] || mount --bind "$file" "/proc/${file##*/}" || exit 125
done
mount --bind "$1/sys" /sys || exit 125
shift
exec "$@"
"""


@cache
def unshare() -> tuple[str, ...]:
    """Return the command that makes the namespace. Raises `CommandError` where nobody lets us."""
    if shutil.which("unshare") is None:
        raise CommandError("unshare is not installed", hint="apt-get install util-linux")
    ways: list[tuple[str, ...]] = [("unshare", "--user", "--map-root-user", "--mount")]
    if os.getuid() == 0:
        ways.append(("unshare", "--mount"))
    for way in ways:
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return way
    raise CommandError(
        "user namespaces are not allowed here, so no command can run on the mount",
        hint="mount DIR, and give tools its path: lsmem --sysroot DIR; or run memshell as root",
    )


def inside(folder: Path, command: Sequence[str]) -> list[str]:
    """Return the command that runs *command* on the machine that is mounted on *folder*. Raises `CommandError`."""
    if shutil.which(command[0]) is None:
        raise CommandError(f"{command[0]}: no such command")
    return [*unshare(), "/bin/sh", "-c", SCRIPT, "sh", str(folder), *command]


def run(folder: Path, command: Sequence[str]) -> int:
    """Run *command* on the machine that is mounted on *folder*; return its exit status, as a shell has it."""
    done = subprocess.Popen(inside(folder, command))  # noqa: S603
    while True:
        try:
            status = done.wait()
        except KeyboardInterrupt:  # the command has it too, and decides
            continue
        return status if status >= 0 else 128 - status
