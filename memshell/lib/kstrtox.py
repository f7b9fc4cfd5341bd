"""lib/kstrtox.c: numbers and switches out of text."""

from __future__ import annotations

from memshell.errors import KernelError


def kstrtobool(word: str, where: str) -> bool:
    """Return the switch that *word* begins with: y, t, 1, on; n, f, 0, off. Raises EINVAL at *where* for anything else."""
    for value, beginnings in ((True, ("y", "t", "1", "on")), (False, ("n", "f", "0", "of"))):
        if word.lower().startswith(beginnings):
            return value
    raise KernelError(f"{word!r} is neither yes nor no", "EINVAL", where=where, hint="write 1 or 0")
