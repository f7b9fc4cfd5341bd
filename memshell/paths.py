"""Where memshell keeps its files: the XDG places."""

from __future__ import annotations

import os
from pathlib import Path


def _base(variable: str, fallback: str) -> Path:
    # The specification: a relative path in the variable is to be ignored.
    given = os.environ.get(variable, "")
    return Path(given) if given.startswith("/") else Path.home() / fallback


def state_path() -> Path:
    """Return the folder for history and journals, whether it exists or not."""
    return _base("XDG_STATE_HOME", ".local/state") / "memshell"


def rc_path() -> Path:
    """Return the path of the start-up scenario, whether it exists or not."""
    return _base("XDG_CONFIG_HOME", ".config") / "memshell" / "rc.mem"
