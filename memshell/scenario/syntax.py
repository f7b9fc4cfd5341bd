"""From text to statements: what the prompt, -c, standard input and scenario files are made of."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memshell.errors import UsageError
from memshell.scenario.lalr import END_OF_TEXT, Node, Token, Unexpected, parse

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text, and the place that included it."""

    file: str
    line: int
    column: int = 1
    parent: Where | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def chain(self) -> Iterator[Where]:
        """Yield the including places, the nearest first."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent


@dataclass(frozen=True, slots=True)
class Condition:
    """``[key:value]`` or ``[!key:value]``."""

    key: str
    value: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """One step: where it stands and its text."""

    where: Where
    text: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Golden:
    """The expected output under ``----``; *span* is its place in the text."""

    lines: tuple[str, ...]
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Run(Statement):
    """A command: its words, still quoted, and where its output goes; or ``print`` with its *expression*."""

    words: tuple[str, ...] = ()
    tail: str | None = None
    pipe: str | None = None
    redirect: tuple[str, str] | None = None  # ">" or ">>", file
    must_fail: bool = False
    golden: Golden | None = None
    expression: Node | Token | None = None


@dataclass(frozen=True, slots=True)
class Escape(Statement):
    """``!CMD``: a command for the system's shell."""

    command: str = ""


@dataclass(frozen=True, slots=True)
class Expect(Statement):
    """``expect EXPR``."""

    expression: Node | Token | None = None


@dataclass(frozen=True, slots=True)
class Let(Statement):
    """``let NAME = EXPR``; with ``?=`` a *default*, which holds where nothing has set the name."""

    name: str = ""
    expression: Node | Token | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class Include(Statement):
    """``include FILE``."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class Repeat(Statement):
    """``repeat N [as NAME] ... end``."""

    count: Node | Token | None = None
    name: str | None = None
    body: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Subtest(Statement):
    """``subtest NAME ... end``: the state is restored after it."""

    name: str = ""
    body: tuple[Statement, ...] = ()


class SyntaxProblem(UsageError):
    """The text is not of the language; *incomplete* when more text could make it so."""

    def __init__(self, where: Where, message: str, *, hint: str | None = None, incomplete: bool = False) -> None:
        super().__init__(f"{where.file}:{where.line}:{where.column}: {message}", hint=hint)
        self.where = where
        self.incomplete = incomplete


DIRECTIVES = {
    "expect": ("expect EXPR", "fail unless the comparison holds: == != < <= > >= in, and A == B +- C"),
    "print": ("print EXPR", "show a value; an expression alone does the same: 2G / 128M, zone.Movable.free, $NAME"),
    "let": ("let NAME = EXPR", "remember a value for $NAME; with ?= where nothing has set it (run -D NAME=VALUE)"),
    "include": ("include FILE", "play another scenario here; the path is relative to this file"),
    "repeat": ("repeat N [as NAME] ... end", "play the steps N times; $NAME counts from 0"),
    "subtest": ("subtest NAME ... end", "a test in the test; the machine is as before after it"),
    "!": ("! CMD", "the command must fail; then expect error == EBUSY says with which errno"),
}

_EXPRESSION = {"LPAR", "MINUS", "NAME", "NUMBER", "STRING", "VARIABLE"}
_NAMES = {
    "COMPARE": "a comparison (== != < <= > >=)",
    "END": "end",
    "EQUAL": "=",
    "NAME": "a name",
    "RPAR": ")",
    "RSQB": "]",
    "LSQB": "a list such as [1, 2]",
    "WORD": "a word",
    "IN": "in",
}


class _Reader:
    """Turns the tree of one text into statements."""

    def __init__(self, text: str, file: str, first_line: int, parent: Where | None) -> None:
        self.text = text
        self.file = file
        self.first_line = first_line
        self.parent = parent
        self.starts = [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]

    def where(self, offset: int) -> Where:
        line = bisect_right(self.starts, offset)
        return Where(self.file, line + self.first_line - 1, offset - self.starts[line - 1] + 1, self.parent)

    def program(self, node: Node) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for child in node.children:
            assert isinstance(child, Node)
            if child.name == "golden":
                self.attach(found, _token(child.children[0]))
            else:
                found.append(self.statement(child))
        return tuple(found)

    def attach(self, found: list[Statement], token: Token) -> None:
        """Give a golden block to the command above it."""
        last = found[-1] if found else None
        place = self.where(token.start)
        if not isinstance(last, Run) or last.golden is not None or last.where.line >= place.line:
            raise SyntaxProblem(place, "a golden block belongs under a command")
        between = self.text[self.starts[last.where.line - self.first_line] : token.start]
        if "\n\n" in between:
            raise SyntaxProblem(place, "a golden block belongs right under its command")
        lines = token.text.splitlines()[1:]
        if lines and lines[0].strip() == "----":
            lines = lines[1:-2]
        span = (token.start, token.start + len(token.text))
        found[-1] = replace(last, golden=Golden(tuple(line.rstrip() for line in lines), span))

    def statement(self, node: Node) -> Statement:
        *conditions, action = node.children
        assert isinstance(action, Node)
        first = _tokens(action)[0]
        made: Statement = getattr(self, "_" + action.name)(action, self.where(first.start))
        return replace(made, conditions=tuple(_condition(_token(token)) for token in conditions))

    def span(self, node: Node) -> str:
        tokens = _tokens(node)
        return self.text[tokens[0].start : tokens[-1].start + len(tokens[-1].text)].strip()

    def _command(self, node: Node, where: Where) -> Run:
        words, tail, pipe, redirect = [], None, None, None
        for child in node.children:
            if isinstance(child, Node):
                operator, path = child.children
                redirect = (_token(operator).text, _token(path).text)
            elif child.kind == "WORD":
                words.append(child.text)
            elif child.kind == "TAIL":
                tail = child.text[2:].strip()
            else:
                pipe = child.text[1:].strip()
        if words[0] == "end":
            raise SyntaxProblem(where, "end without repeat or subtest")
        if pipe == "":
            raise SyntaxProblem(where, "nothing follows the |", hint="write a shell command after it")
        return Run(where, self.span(node), words=tuple(words), tail=tail, pipe=pipe, redirect=redirect)

    def _must_fail(self, node: Node, where: Where) -> Run:
        command = node.children[1]
        assert isinstance(command, Node)
        return replace(self._command(command, where), text=self.span(node), must_fail=True)

    def _escape(self, node: Node, where: Where) -> Escape:
        text = _token(node.children[0]).text
        return Escape(where, text, command=text[1:])

    def _expect(self, node: Node, where: Where) -> Expect:
        return Expect(where, self.span(node), expression=node.children[1])

    def _print(self, node: Node, where: Where) -> Run:
        word, expression, *pipe = node.children
        tail = _token(pipe[0]).text[1:].strip() if pipe else None
        if tail == "":
            raise SyntaxProblem(where, "nothing follows the |", hint="write a shell command after it")
        return Run(where, self.span(node), words=(_token(word).text,), pipe=tail, expression=expression)

    def _let(self, node: Node, where: Where) -> Let:
        name, *marks, expression = node.children[1:]
        return Let(where, self.span(node), name=_token(name).text, expression=expression, default=bool(marks))

    def _include(self, node: Node, where: Where) -> Include:
        return Include(where, self.span(node), path=_token(node.children[1]).text)

    def _repeat(self, node: Node, where: Where) -> Repeat:
        name = _token(node.children[3]).text if len(node.children) == 6 else None
        body = self.program(_node(node.children[-2]))
        return Repeat(where, self.head(where), count=node.children[1], name=name, body=body)

    def _subtest(self, node: Node, where: Where) -> Subtest:
        name = " ".join(_token(child).text for child in node.children[1:-2]).strip("\"'")
        return Subtest(where, self.head(where), name=name, body=self.program(_node(node.children[-2])))

    def head(self, where: Where) -> str:
        """Return the first line of a block."""
        start = self.starts[where.line - self.first_line] + where.column - 1
        return self.text[start:].split("\n", 1)[0].split(";", 1)[0].strip()


def _token(child: Node | Token) -> Token:
    assert isinstance(child, Token)
    return child


def _node(child: Node | Token) -> Node:
    assert isinstance(child, Node)
    return child


def _tokens(node: Node | Token) -> list[Token]:
    if isinstance(node, Token):
        return [node]
    return [token for child in node.children for token in _tokens(child)]


def _condition(token: Token) -> Condition:
    key, _colon, value = token.text[1:-1].partition(":")
    return Condition(key.lstrip("!"), value.strip(), key.startswith("!"))


def _problem(reader: _Reader, error: Unexpected) -> SyntaxProblem:
    token, accepts = error.token, error.accepts
    where = reader.where(token.start)
    if token.kind == END_OF_TEXT and error.opened is not None:
        opened = reader.where(error.opened.start)
        return SyntaxProblem(opened, f"{error.opened.text} without its end", hint="write end", incomplete=True)
    if token.text in {'"', "'"}:
        return SyntaxProblem(where, f"the quote {token.text} is never closed", incomplete=True)
    if token.kind == END_OF_TEXT and reader.text.endswith("\\\n"):
        return SyntaxProblem(where, "nothing follows the \\", incomplete=True)
    found = "the end of the line" if token.text in {"", "\n", "\r"} else repr(token.text)
    return SyntaxProblem(where, f"expected {_expected(accepts)}, found {found}")


def _expected(accepts: frozenset[str]) -> str:
    names = ["an expression"] if accepts >= _EXPRESSION else []
    rest = accepts - _EXPRESSION - {"NOT", "IN"} if names else accepts
    names += [_NAMES[kind] for kind in sorted(rest) if kind in _NAMES]
    return " or ".join(names) or "the end of the line"


DEEPEST = 150  # levels of the tree: some fifty blocks in each other, a hundred terms of one sum


def _shallow(tree: Node, reader: _Reader) -> Node:
    """Return *tree*. Raises SyntaxProblem where it is too deep to be walked."""
    level: list[Node] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in node.children if isinstance(child, Node)]
        if not level:
            return tree
    place = reader.where(_first(level[0]).start)
    raise SyntaxProblem(place, f"nested deeper than {DEEPEST} levels", hint="take blocks or brackets apart")


def _first(node: Node) -> Token:
    at: Node | Token = node
    while isinstance(at, Node):
        at = at.children[0]
    return at


def parse_text(text: str, file: str, *, first_line: int = 1, parent: Where | None = None) -> tuple[Statement, ...]:
    """Return the statements of *text*.  Raises SyntaxProblem with file:line:column and what was expected."""
    whole = text if text.endswith("\n") else text + "\n"
    reader = _Reader(whole, file, first_line, parent)
    try:
        return reader.program(_shallow(parse(whole), reader))
    except Unexpected as error:
        raise _problem(reader, error) from None


def parse_expression(text: str, file: str = "expression") -> Node | Token:
    """Return the tree of one expression.  Raises SyntaxProblem."""
    reader = _Reader(text, file, 1, None)
    try:
        return _shallow(parse(text, "expression"), reader).children[0]
    except Unexpected as error:
        raise _problem(reader, error) from None
