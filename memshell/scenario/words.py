"""From a word as it is typed to the word that is meant: quotes, backslashes and $variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memshell.scenario.expression import Names

_PART = re.compile(
    r"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\[\s\S])*)"|\\(?P<escaped>.)|(?P<variable>\$\w+|\$\{\w+\})"""
    r"""|(?P<plain>[^'"\\$]+|\$)"""
)
_VARIABLE = re.compile(r"\\(.)|(\$\w+|\$\{\w+\})", re.DOTALL)
_SAFE = re.compile(r"[\w@%+=:,./-]+")


def expand(word: str, names: Names) -> str:
    """Return *word* without its quotes and with its variables replaced, except in single quotes.

    Raises UsageError for a variable that is not set.
    """
    return "".join(_part(match, names) for match in _PART.finditer(word))


def _part(match: re.Match[str], names: Names) -> str:
    kind, text = match.lastgroup, match.group()
    if kind == "double":
        return _VARIABLE.sub(lambda found: _inside(found, names), match["double"])
    if kind == "variable":
        return str(names.variable(text))
    return str(match[kind or 0])


def _inside(found: re.Match[str], names: Names) -> str:
    escaped, variable = found.groups()
    if variable:
        return str(names.variable(variable))
    return escaped if escaped in '"\\$`' else "\\" + escaped


def literal(value: Any) -> str:
    """Return a value as an expression that gives it."""
    if isinstance(value, bool):
        return "0 == 0" if value else "0 == 1"
    if isinstance(value, str):
        return f"'{value}'" if "'" not in value else f'"{value}"'
    return str(value)


def quote(word: str) -> str:
    """Return a word that `expand` turns into *word*."""
    if _SAFE.fullmatch(word) and word != "--":  # which begins the tail of a command
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"
