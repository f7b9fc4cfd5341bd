"""The files that examples in help texts and documents may name."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDING = "x86_64-k612-Y-128M-movable.json.xz"

sys.path.append(str(HERE / "vmlinux"))
import vmlinux_sample  # noqa: E402 - it lies beside the tests of images


def lay_out():
    """Put a kernel image and a recording into the working directory."""
    Path("vmlinux").write_bytes(vmlinux_sample.example())
    shutil.copy(HERE / "recordings" / RECORDING, RECORDING)
