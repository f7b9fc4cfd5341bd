"""Expressions: numbers with units, names of the state, comparisons that can say what they saw."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError, did_you_mean
from memshell.mm.pfn import DIGITS
from memshell.scenario.lalr import Node, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgtpe]?)(i?b)?", re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


LARGEST = 1 << 128


@dataclass(frozen=True, slots=True)
class Number:
    """A number; *unit* is the bytes of one of it (4096 for pages, 1024 for kB), 0 for a plain count."""

    number: int | float
    unit: int = 0

    def __post_init__(self) -> None:
        if not -LARGEST < self.number < LARGEST:
            raise UsageError("the number is too large", hint="numbers have 128 bits")

    @property
    def bytes(self) -> int | float:
        """The number in bytes, for a quantity of memory."""
        return self.number * self.unit

    def __str__(self) -> str:
        if not self.unit:
            return _plain(self.number)
        from memshell.mm.pfn import format_size

        size = self.bytes
        return format_size(int(size)) if size == int(size) else _plain(size)

    def explained(self) -> str:
        """Return the number as it is counted, and its size where that says more."""
        text = _plain(self.number)
        names = {4096: "pages", 65536: "pages", 16384: "pages", 1024: "kB"}
        return f"{self} ({text} {names[self.unit]})" if self.unit in names else str(self)

    def spoken(self) -> str:
        """Return the number as people say it: a size in a few digits, with what is counted where it is rounded."""
        from memshell.mm.pfn import spoken_size

        if not self.unit:
            return _plain(self.number)
        size = spoken_size(round(self.bytes))
        exact = f"{_plain(self.bytes)} bytes" if self.unit == 1 else self.explained().partition(" (")[2].rstrip(")")
        return size if size == str(self) and self.unit == 1 else f"{size} ({exact})"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def read_number(text: str) -> Number:
    """Return the quantity of ``17``, ``0x11``, ``1.5G`` or ``2304M``; with a suffix it is memory."""
    if len(text) > DIGITS:
        raise UsageError(f"a number of {len(text)} digits cannot be", hint=f"{DIGITS} at most")
    if text[:2].lower() == "0x":
        return Number(int(text, 16))
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a number")
    digits, suffix, byte = match.groups()
    number = (float(digits) if "." in digits else int(digits)) * (1 << _SHIFTS[suffix.lower()])
    return Number(number, 1 if suffix or byte else 0)


class Names:
    """What names and $variables mean while an expression is evaluated."""

    def __init__(self, look_up: Callable[[str], Any], variables: Mapping[str, Any]) -> None:
        self.look_up = look_up
        self.variables = variables

    def variable(self, name: str) -> Any:
        """Return the value of ``$name``.  Raises UsageError with the nearest one that is set."""
        bare = name.strip("${}")
        if bare not in self.variables:
            hint = did_you_mean(bare, self.variables) or f"set it with: let {bare} = ... (or run FILE -D {bare}=...)"
            raise UsageError(f"${bare} is not set", hint=hint)
        return self.variables[bare]

    def name(self, name: str) -> Any:
        """Return the value of a dotted name, with ``$variables`` in it replaced."""
        parts = [str(self.variable(part)) if part.startswith("$") else part for part in name.split(".")]
        return self.look_up(".".join(parts))


def evaluate(tree: Node | Token, names: Names) -> Any:
    """Return the value: a Number, a string, a bool or a tuple of these.  Raises UsageError."""
    if isinstance(tree, Token):
        return _atom(tree, names)
    values = operands(tree, names)
    operators = [child.text for child in tree.children if isinstance(child, Token) and child.kind in _OPERATORS]
    return _OPERATIONS[tree.name](values, operators)


def operands(tree: Node, names: Names) -> list[Any]:
    """Return the values of what an operation is about."""
    return [evaluate(child, names) for child in tree.children if not _is_operator(child)]


_OPERATORS = {"COMPARE", "PLUS_MINUS", "PLUS", "MINUS", "TIMES", "DIVIDE", "MODULO", "OR", "AND", "NOT", "IN"}


def _is_operator(child: Node | Token) -> bool:
    return isinstance(child, Token) and child.kind in _OPERATORS


def _atom(token: Token, names: Names) -> Any:
    if token.kind == "NUMBER":
        return read_number(token.text)
    if token.kind == "STRING":
        return token.text[1:-1]
    if token.kind == "VARIABLE":
        return names.variable(token.text)
    return names.name(token.text)


def _number(value: Any) -> Number:
    if isinstance(value, Number):
        return value
    raise UsageError(f"{show(value)} is not a number")


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise UsageError(f"{show(value)} is neither true nor false", hint="compare it with something")


def common(left: Number, right: Number) -> tuple[int | float, int | float, int]:
    """Return both numbers in one unit, and the unit: a bare number counts what the other counts."""
    if left.unit == right.unit or not right.unit:
        return left.number, right.number, left.unit
    if not left.unit:
        return left.number, right.number, right.unit
    return left.bytes, right.bytes, 1


def _arithmetic(values: list[Any], operators: list[str]) -> Number:
    left, right = _number(values[0]), _number(values[1])
    operator = operators[0]
    if operator in {"*", "/", "//", "%"}:
        return _scale(left, right, operator)
    a, b, unit = common(left, right)
    return Number(a + b if operator == "+" else a - b, unit)


def _scale(left: Number, right: Number, operator: str) -> Number:
    if operator == "*":
        if left.unit and right.unit:
            raise UsageError("memory times memory is no quantity of anything")
        return Number(left.number * right.number, left.unit or right.unit)
    a, b, unit = common(left, right) if right.unit else (left.number, right.number, left.unit)
    if not b:
        raise UsageError("division by zero")
    if operator == "%":
        return Number(a % b, unit)
    exact = a // b if operator == "//" or a % b == 0 else a / b
    return Number(exact, 0 if right.unit else unit)


def compare(left: Any, operator: str, right: Any) -> bool:
    """Return whether *left* *operator* *right* holds.  Raises UsageError when they are of different kinds."""
    if isinstance(left, Number) and isinstance(right, Number):
        left, right, _unit = common(left, right)
    elif operator not in {"==", "!="} or isinstance(left, Number) != isinstance(right, Number):
        raise UsageError(f"{show(left)} {operator} {show(right)} compares different things")
    return bool(_COMPARE[operator](left, right))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def difference(left: Any, right: Any) -> Number | None:
    """Return left - right for two numbers, else None."""
    if not isinstance(left, Number) or not isinstance(right, Number):
        return None
    a, b, unit = common(left, right)
    return Number(a - b, unit)


def _within(values: list[Any], operators: list[str]) -> bool:
    left, right, slack = (_number(value) for value in values)
    if operators[0] != "==":
        raise UsageError("+- goes with ==")
    a, b, unit = common(left, right)
    off, limit, _unit = common(Number(abs(a - b), unit), slack)
    return off <= limit


def _member(values: list[Any], operators: list[str]) -> bool:
    found = any(compare(values[0], "==", item) for item in values[1] if type(item) is type(values[0]))
    return found != ("not" in operators)


_OPERATIONS: dict[str, Callable[[list[Any], list[str]], Any]] = {
    "disjunction": lambda values, _o: _truth(values[0]) or _truth(values[1]),
    "conjunction": lambda values, _o: _truth(values[0]) and _truth(values[1]),
    "negation": lambda values, _o: not _truth(values[0]),
    "comparison": lambda values, operators: compare(values[0], operators[0], values[1]),
    "within": _within,
    "membership": _member,
    "list": lambda values, _o: tuple(values),
    "addition": _arithmetic,
    "product": _arithmetic,
    "minus": lambda values, _o: Number(-_number(values[0]).number, _number(values[0]).unit),
}


def show(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Number):
        return value.explained()
    if isinstance(value, tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return str(value)


def spoken(value: Any) -> str:
    """Return a value as `print` shows it: as people say it."""
    return value.spoken() if isinstance(value, Number) else show(value)


def plain_value(value: Any) -> Any:
    """Return a value for programs: memory in bytes, other numbers as they are, lists for lists."""
    if isinstance(value, Number):
        number = value.bytes if value.unit else value.number
        return int(number) if number == int(number) else number
    return [plain_value(item) for item in value] if isinstance(value, tuple) else value


def why_not(tree: Node | Token, names: Names) -> list[str]:
    """Return lines that say what was seen where the expression *tree* asked for something else."""
    if isinstance(tree, Token) or tree.name not in {"comparison", "within", "membership"}:
        parts = [] if isinstance(tree, Token) else [child for child in tree.children if isinstance(child, Node)]
        return [line for part in parts if _fails(part, names) for line in why_not(part, names)]
    values = operands(tree, names)
    if tree.name == "membership":
        return [f"    actual {show(values[0])}"]
    off = difference(values[0], values[1])
    suffix = f", off by {off}" if off is not None and off.number else ""
    if isinstance(tree.children[-1], Token) and tree.children[-1].kind in {"NUMBER", "STRING"}:
        return [f"    actual {show(values[0])}{suffix}"]
    return [f"    actual {show(values[0])}, against {show(values[1])}{suffix}"]


def _fails(tree: Node, names: Names) -> bool:
    return evaluate(tree, names) is False
