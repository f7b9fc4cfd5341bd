"""Run the table that lark compiled from grammar.lark: LALR(1), with a lexer that knows what may come."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

END_OF_TEXT = "$END"


class Token(NamedTuple):
    """A word of the text: *start* is its offset."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Node:
    """A rule of the grammar that was recognised, with its tokens and sub-rules."""

    name: str
    children: tuple[Node | Token, ...]


class Unexpected(Exception):
    """The text stops being of the language at *token*; *accepts* names what could stand there."""

    def __init__(self, token: Token, accepts: frozenset[str], opened: Token | None) -> None:
        super().__init__(token)
        self.token = token
        self.accepts = accepts
        self.opened = opened


@cache
def _table() -> dict[str, Any]:
    path = Path(__file__).with_name("table.json")
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


@cache
def _lexer(state: int) -> re.Pattern[str]:
    """Return the pattern of the terminals that *state* accepts, and of what is skipped."""
    table = _table()
    wanted = table["states"][state].keys() | set(table["ignore"])
    return re.compile("|".join(f"(?P<{name}>{text})" for name, text in table["terminals"] if name in wanted))


def _next_token(text: str, at: int, state: int) -> Token:
    """Return the token at offset *at*; of kind ``?`` when none of the accepted ones is there."""
    ignored = _table()["ignore"]
    while at < len(text):
        match = _lexer(state).match(text, at)
        if match is None or match.end() == at:
            return Token("?", text[at], at)
        kind = str(match.lastgroup)
        if kind not in ignored:
            return Token(kind, match.group(), at)
        at = match.end()
    return Token(END_OF_TEXT, "", len(text))


def scan(text: str) -> tuple[list[Token], frozenset[str]]:
    """Return the tokens of a text that is still being typed, and what may follow them."""
    tokens: list[Token] = []
    try:
        parse(text, seen=tokens)
    except Unexpected as error:
        return tokens, error.accepts
    return tokens, frozenset({"WORD"})


def parse(text: str, start: str = "program", seen: list[Token] | None = None) -> Node:
    """Return the tree of *text*; *seen* collects the tokens on the way.  Raises Unexpected."""
    table = _table()
    states = [int(table["start"][start])]
    values: list[list[Node | Token]] = []
    at = 0
    while True:
        token = _next_token(text, at, states[-1])
        while True:
            actions = table["states"][states[-1]]
            if token.kind == END_OF_TEXT and states[-1] == table["end"][start]:
                return _as_node(values[-1][0])
            action = actions.get(token.kind)
            if action is None:
                raise Unexpected(token, _acceptable(states), _open_block(values))
            if action >= 0:
                break
            _reduce(states, values, table["rules"][-1 - action], table)
        states.append(action)
        values.append([token])
        if seen is not None:
            seen.append(token)
        at = token.start + len(token.text)


def _as_node(value: Node | Token) -> Node:
    assert isinstance(value, Node)
    return value


def _reduce(states: list[int], values: list[list[Node | Token]], rule: list[Any], table: Any) -> None:
    name, length, keep, dissolves = rule
    taken = values[len(values) - length :]
    # A list that grows step by step is taken over, not copied: a long text costs what its length costs.
    children = taken[0] if dissolves and keep[:1] == [0] else []
    for at in keep[1:] if children else keep:
        children.extend(taken[at])
    if length:
        del states[-length:], values[-length:]
    states.append(table["states"][states[-1]][name])
    values.append(children if dissolves else [Node(name, tuple(children))])


def _acceptable(states: list[int]) -> frozenset[str]:
    """Return the terminals that could come now, once the reductions that they would cause are through."""
    table = _table()
    return frozenset(name for name, _text in table["terminals"] if _would_shift(states, name, table))


def _would_shift(states: list[int], name: str, table: dict[str, Any]) -> bool:
    stack = list(states)
    while True:
        action = table["states"][stack[-1]].get(name)
        if action is None or action >= 0:
            return action is not None
        origin, length, _keep, _dissolves = table["rules"][-1 - action]
        del stack[len(stack) - length :]
        stack.append(table["states"][stack[-1]][origin])


def _open_block(values: list[list[Node | Token]]) -> Token | None:
    """Return the ``repeat`` or ``subtest`` whose ``end`` has not come."""
    for value in reversed(values):
        if len(value) == 1 and isinstance(value[0], Token) and value[0].kind in {"REPEAT", "SUBTEST"}:
            return value[0]
    return None
