"""Read a recording file."""

from __future__ import annotations

import json
import lzma
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memshell.errors import RecordingError
from memshell.mm.profile import PROFILES, Profile, profile_of_release

SCHEMA = "memshell-recording/1"
MAX_BYTES = 256 << 20  # no recording comes near; a larger one is not read into memory


@dataclass(frozen=True)
class Recording:
    """One experiment on one kernel."""

    name: str
    arch: str
    kernel: str
    config: dict[str, str]
    cmdline: str
    qemu_args: tuple[str, ...]
    steps: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    @property
    def release(self) -> str:
        """The kernel's release, as ``6.12.117``."""
        match = re.search(r"Linux version (\d+\.\d+(?:\.\d+)?)", self.kernel)
        return match.group(1) if match else ""

    @property
    def profile(self) -> Profile:
        """The newest released profile that is not newer than the kernel."""
        if "rfc" in self.raw:
            from memshell.verify.rfc import profile_of

            return profile_of(self)
        name = profile_of_release(self.release)
        if name is None:
            raise RecordingError(f"{self.name}: no profile fits kernel {self.release or self.kernel!r}")
        return PROFILES[name]


def load_recording(path: str | Path) -> Recording:
    """Read ``NAME.json`` or ``NAME.json.xz``. Raises `RecordingError` that says what is wrong with it."""
    path = Path(path)
    try:
        data = path.read_bytes() if path.suffix != ".xz" else _unpack(path)
        raw = json.loads(data)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except (lzma.LZMAError, zlib.error, EOFError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RecordingError(f"{path} is no recording: {error}") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise RecordingError(f"{path} has schema {found!r}; this memshell reads {SCHEMA!r}")
    try:
        recording = Recording(
            str(raw["name"]),
            str(raw["arch"]),
            str(raw["kernel"]),
            dict(raw.get("config", {})),
            str(raw.get("cmdline", "")),
            tuple(raw.get("qemu_args", ())),
            tuple(raw["steps"]),
            raw,
        )
        boot = recording.steps[0]
        if boot["op"]["op"] != "boot" or "zones" not in boot["state"]:
            raise RecordingError(f"{path} does not begin with a boot state")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordingError(f"{path} lacks {error}; is it whole?") from error
    return recording


def _unpack(path: Path) -> bytes:
    with lzma.open(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RecordingError(f"{path} unpacks to more than {MAX_BYTES >> 20} MiB")
    return data
