"""The axes of a sweep: ``size=1G,4G,..,1T`` is 1G, 4G, 16G, 64G, 256G, 1T."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

from memshell.errors import UsageError
from memshell.mm.pfn import format_size, memparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST = 1_000_000  # cells


def read_axis(word: str) -> tuple[str, list[str]]:
    """Return NAME and the values of ``NAME=VALUE,VALUE,..``.  Raises `UsageError`."""
    name, _, values = word.partition("=")
    parts = values.split(",")
    if not name.isidentifier() or not all(parts):
        raise UsageError(f"{word!r} is no axis", hint="NAME=VALUE,VALUE as in size=1G,4G or size=1G,4G,..,1T")
    found: list[str] = []
    for at, part in enumerate(parts):
        found += _between(word, parts, at) if part == ".." else [part]
    return name, list(dict.fromkeys(found))


def _between(word: str, parts: Sequence[str], at: int) -> list[str]:
    """Return the values that the dots at *at* stand for: by the factor of the two before them, else by the step."""
    hint = "one or two sizes or numbers before the dots and one behind: 1G,..,1T or 1,2,..,9"
    try:
        before = [memparse(part) for part in parts[max(at - 2, 0) : at]]
        [end] = [memparse(part) for part in parts[at + 1 : at + 2]]
    except (UsageError, ValueError) as error:
        raise UsageError(f"{word}: what the dots stand for is not clear", hint=hint) from error
    last = before[-1] if before else 0
    factor = before[1] / before[0] if len(before) > 1 and before[0] else 2
    if last and factor > 1 and factor == int(factor) and end > last:
        steps = round(math.log(end / last, factor))
        if last * int(factor) ** steps == end:
            return [_text(parts, last * int(factor) ** n) for n in range(1, steps)]
    step = before[1] - before[0] if len(before) > 1 else 0
    if step > 0 and end > last and (end - last) % step == 0:
        return [_text(parts, value) for value in range(last + step, end, step)]
    raise UsageError(f"{word}: the dots do not lead to {parts[at + 1] if at + 1 < len(parts) else 'an end'}", hint=hint)


def _text(parts: Sequence[str], value: int) -> str:
    sizes = any(not part.isdecimal() for part in parts if part != "..")
    return format_size(value) if sizes else str(value)


def cells(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return each combination of the axes' values, the last axis first.  Raises `UsageError` for too many."""
    count = math.prod(map(len, axes.values()))
    if count > MOST:
        raise UsageError(f"{count} cells are too many", hint=f"{MOST} at most")
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def axes_of(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the axes of several words, in order.  Raises `UsageError` for one that is there twice."""
    found: dict[str, list[str]] = {}
    for name, values in map(read_axis, words):
        if name in found:
            raise UsageError(f"{name} is an axis twice")
        found[name] = values
    return found
