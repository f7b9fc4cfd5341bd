"""Golden blocks: expected output, in which ``<...>`` stands for any run of characters in its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ANYTHING = "<...>"


def line_matches(pattern: str, line: str) -> bool:
    """Return whether *line* is what *pattern* says; blanks at the end do not count."""
    pattern, line = pattern.rstrip(), line.rstrip()
    if ANYTHING not in pattern:
        return pattern == line
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split(ANYTHING)), line) is not None


def mismatch(expected: Sequence[str], actual: Sequence[str]) -> str | None:
    """Return the first difference in at most five lines, or None when all lines match.

    A line that is nothing but ``<...>`` stands for any number of lines.
    """
    expected, actual = _trimmed(expected), _trimmed(actual)
    at = 0
    for at, pattern in enumerate(expected):
        if pattern.strip() == ANYTHING:
            return _after_gap(expected[at + 1 :], actual[at:])
        if at >= len(actual):
            return f"    line {at + 1} is missing\n    expected {pattern}"
        if not line_matches(pattern, actual[at]):
            return f"    line {at + 1}\n    expected {pattern.rstrip()}\n    actual   {actual[at].rstrip()}"
    if len(actual) > len(expected):
        return f"    line {len(expected) + 1} is too much\n    actual   {actual[len(expected)]}"
    return None


def _after_gap(expected: Sequence[str], actual: Sequence[str]) -> str | None:
    """Return None when *expected* fits the end of *actual*, wherever it begins."""
    if not expected:
        return None
    if any(mismatch(expected, actual[start:]) is None for start in range(len(actual))):
        return None
    return f"    nothing after {ANYTHING} fits\n    expected {expected[0].rstrip()}"


def renewed(expected: Sequence[str], actual: Sequence[str]) -> list[str]:
    """Return the lines of *actual*; a pattern that still fits its line stays, so that it is not lost."""
    kept = dict(enumerate(expected))
    return [kept[at] if at in kept and line_matches(kept[at], line) else line for at, line in enumerate(actual)]


def block(lines: Sequence[str]) -> str:
    """Return the text of a golden block for *lines*; doubled fences when a line is empty."""
    kept = _trimmed(lines)
    fence, end = ("----\n----\n", "----\n----\n") if any(not line.strip() for line in kept) else ("----\n", "")
    return fence + "".join(line.rstrip() + "\n" for line in kept) + end


def _trimmed(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines without empty ones at the end."""
    last = len(lines)
    while last and not lines[last - 1].strip():
        last -= 1
    return lines[:last]
