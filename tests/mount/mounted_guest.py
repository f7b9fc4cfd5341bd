"""A mounted machine of each architecture, and commands that run on it."""

import subprocess
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import pytest

from memshell.mount import namespace
from memshell.mount.mounted import mounted
from memshell.mount.session import Session
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.shell.shell import Output

NO_FUSE = pytest.mark.skipif(
    not Path("/dev/fuse").exists() or find_library("fuse3") is None,
    reason="/dev/fuse or its library is missing: nothing can be mounted",
)
MACHINES = {
    "x86_64": "use x86_64 ram=2G nodes=2; add 1G node=1; online 32-35 movable",
    "powerpc": "use powerpc ram=2G; add 1G; online 8-9 movable",
    "s390": "use s390 ram=2G standby=1G; online 8-9 movable",
}


class Guest:
    """A machine that is mounted on *folder*."""

    def __init__(self, session, folder):
        self.session, self.folder = session, folder

    def __call__(self, *command, ok=True):
        """Run *command* where /sys and /proc are the machine's; return its output."""
        done = self.done(*command)
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout

    def done(self, *command):
        """Run *command* there; return what became of it."""
        command = namespace.inside(self.folder, command)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def type(self, text):
        """Type *text* at the prompt beside it."""
        self.session.player.play_text(text, "-c")

    @property
    def mm(self):
        """The state of the moment."""
        return self.session.mm


@contextmanager
def guest_of(text, folder):
    player = Player(shared_plugins, Output(), echo=False)
    player.play_text(text, "-c")
    session = Session(player)
    notes = []
    with mounted(session, folder, notes.append):
        yield Guest(session, folder)
    assert notes == []
