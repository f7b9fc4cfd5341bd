"""Parameters of a scenario: ``let NAME ?= EXPR`` is a default, ``-D NAME=VALUE`` gives another, a matrix many.

Nothing else does: the environment is not read.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import MemshellError, UsageError, did_you_mean
from memshell.scenario.expression import read_number
from memshell.scenario.files import read_scenario
from memshell.scenario.syntax import Include, Let, Repeat, Statement, Subtest, parse_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from memshell.scenario.player import Player

Values = dict[str, str]  # NAME -> VALUE, as they are typed

_NAME = re.compile(r"[A-Za-z_]\w*")
_READ = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_MATRIX = "such as: # matrix: policy=buddy,memmap_on_memory size=1G,4G"
_HEAD = re.compile(r"#[ \t]*matrix:(.*)")


def definition(word: str) -> tuple[str, str]:
    """Return NAME and VALUE of ``NAME=VALUE``.  Raises UsageError."""
    name, equals, value = word.partition("=")
    if not equals or not _NAME.fullmatch(name) or not value:
        raise UsageError(f"{word!r} is not of the form NAME=VALUE", hint="such as size=4G")
    return name, value


def cell_name(cell: Mapping[str, str]) -> str:
    """Return a cell as it is shown: ``[policy=buddy,size=1G]``; nothing where there is no matrix."""
    return f"[{','.join(f'{name}={value}' for name, value in cell.items())}]" if cell else ""


def define(player: Player, values: Mapping[str, str]) -> None:
    """Set the parameters of what *player* will play: quantities are numbers, all else is text."""
    for name, value in values.items():
        player.shell.settings.variables[name] = read_value(value)


def read_value(text: str) -> Any:
    """Return ``4G`` as the quantity that it is, anything else as it stands."""
    try:
        return read_number(text)
    except (UsageError, ValueError):
        return text


def matrix(text: str, path: str, given: Mapping[str, str]) -> list[Values]:
    """Return the cells of the ``# matrix:`` in a scenario's head, one without names where there is none.

    What is *given* stands in the place of an axis.  Raises UsageError for a head that cannot be read.
    """
    axes: dict[str, list[str]] = {}
    for number, words in _heads(text):
        for word in words.split():
            try:
                name, values = definition(word)
            except UsageError as error:
                raise UsageError(f"{path}:{number}: matrix: {error.message}", hint=_MATRIX) from error
            axes[name] = list(dict.fromkeys(values.split(",")))
            if "" in axes[name] or word.endswith(","):
                raise UsageError(f"{path}:{number}: matrix: {word!r} has an empty value", hint=_MATRIX)
    free = {name: values for name, values in axes.items() if name not in given}
    return [dict(zip(free, cell, strict=True)) for cell in product(*free.values())]


def _heads(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and words of each ``# matrix:`` above the first step."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            return
        found = _HEAD.match(line.strip())
        if found:
            yield number, found[1]


def check_given(given: Iterable[str], paths: Iterable[str]) -> None:
    """Raise UsageError for a name that is a parameter of none of the files: it would be ignored in silence."""
    names, files = list(given), list(paths)
    if not names:
        return
    known = {name for path in files for name in parameters(path)}
    for name in names:
        if name not in known:
            where = files[0] if len(files) == 1 else f"any of {len(files)} files"
            listed = f"parameters: {', '.join(sorted(known))}" if known else "let NAME ?= VALUE makes one"
            raise UsageError(f"{name} is no parameter of {where}", hint=did_you_mean(name, known) or listed)


def parameters(path: str) -> set[str]:
    """Return the names that a scenario takes: those with a default, and those that it reads and never sets."""
    try:
        statements = list(_flat(parse_text(read_scenario(path), path), frozenset((path,))))
    except MemshellError:
        return set()  # the player tells what is wrong with it
    lets = [statement for statement in statements if isinstance(statement, Let)]
    counters = {statement.name for statement in statements if isinstance(statement, Repeat)}
    read = {name for statement in statements for pair in _READ.findall(statement.text) for name in pair if name}
    defaults = {statement.name for statement in lets if statement.default}
    return defaults | (read - {statement.name for statement in lets} - counters)


def _flat(statements: Iterable[Statement], seen: frozenset[str]) -> Iterator[Statement]:
    """Yield the statements, with those of blocks and of the files that they include."""
    for statement in statements:
        yield statement
        if isinstance(statement, (Repeat, Subtest)):
            yield from _flat(statement.body, seen)
        elif isinstance(statement, Include):
            path = str(Path(statement.where.file).parent / statement.path.strip("\"'"))
            if path not in seen and Path(path).is_file():
                yield from _flat(parse_text(read_scenario(path), path), seen | {path})
