"""How a feature of a kernel is declared: type, text and value from which version on, in one line of a dataclass.

A group of features is a frozen dataclass, and so is the whole: the path of attributes is the name that a user types
(``features.bug.force_asks_arch`` is ``bug.force_asks_arch``). The modules that declare features evaluate their
annotations: the type of a field is the type of its feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast, get_args, get_origin, get_type_hints

from memshell.errors import UsageError

T = TypeVar("T")
N = TypeVar("N", bound="Named")
G = TypeVar("G")

KINDS: dict[type, str] = {bool: "on or off", int: "a whole number", str: "a word"}


class _Declared(NamedTuple):
    """What the metadata of a field hold: the arguments of `feature`."""

    text: str
    first: Any
    since: dict[str, Any]
    number: str
    name: str

    def value(self, reached: Callable[[str], bool]) -> Any:
        """Return the value of a kernel that has *reached* some versions: the last of them decides."""
        return next((value for name, value in reversed(self.since.items()) if reached(name)), self.first)


class Feature(NamedTuple):
    """One behaviour of a kernel: its name, what it is, and what it may be."""

    name: str
    path: tuple[str, ...]  # of attributes
    text: str
    number: str  # of a bug or a check site
    type: type
    choices: tuple[str, ...]  # what a word may be; empty: anything

    def accept(self, value: object) -> None:
        """Raise `UsageError` for a value that the feature cannot have."""
        if type(value) is not self.type:
            raise UsageError(f"{self.name} is {KINDS[self.type]}, not {value!r}")
        if self.choices and value not in self.choices:
            near = get_close_matches(str(value), self.choices, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "one of " + ", ".join(self.choices)
            raise UsageError(f"{self.name}={value} cannot be", hint=hint)


def feature(text: str, first: T, since: dict[str, T] | None = None, *, number: str = "", name: str = "") -> T:
    """Declare a feature: *first* is its value in the oldest kernel, *since* has the later ones by version, in order.

    A key is the first version with the value. Where a stable release has a fix that its successor lacks, the keys are
    the profiles. *name* is what a user types where Python would not take it for an attribute.
    """
    return cast("T", field(metadata={"feature": _Declared(text, first, since or {}, number, name)}))


@dataclass(frozen=True, slots=True)
class Named(Mapping[str, Any]):
    """Features that can be read by name too: the door for what users type, and for plugins."""

    def __getitem__(self, name: str) -> Any:
        return attrgetter(".".join(self.declared()[name].path))(self)

    def __iter__(self) -> Iterator[str]:
        return iter(self.declared())

    def __len__(self) -> int:
        return len(self.declared())

    @classmethod
    def declared(cls) -> Mapping[str, Feature]:
        """Return the declarations by name, in their order."""
        return _declared(cls)

    def changed(self, name: str, value: object) -> Self:
        """Return the features with one changed. Raises `KeyError` for its name, `UsageError` for its value."""
        known = self.declared()[name]
        known.accept(value)
        return cast("Self", _with(self, known.path, value))


def _with(group: Any, path: tuple[str, ...], value: object) -> Any:
    head, *rest = path
    return replace(group, **{head: _with(getattr(group, head), tuple(rest), value) if rest else value})


@cache
def _declared(kind: type[Any]) -> Mapping[str, Feature]:
    return {made.name: made for made in _walk(kind, (), "")}


def _walk(kind: type[Any], path: tuple[str, ...], prefix: str) -> Iterator[Feature]:
    for item in fields(kind):
        here: _Declared | None = item.metadata.get("feature")
        type_: Any = item.type
        if here is None:
            yield from _walk(type_, (*path, item.name), f"{prefix}{item.name}.")
            continue
        choices = get_args(type_) if get_origin(type_) is Literal else ()
        name = prefix + (here.name or item.name)
        yield Feature(name, (*path, item.name), here.text, here.number, type(here.first), choices)


def resolved(kind: type[G]) -> type[G]:
    """Return a group of features of a plugin, whose module need not evaluate its annotations."""
    hints = get_type_hints(kind)
    for item in fields(cast("Any", kind)):
        item.type = hints[item.name]
        if "feature" not in item.metadata:
            raise TypeError(f"{kind.__name__}.{item.name} is no feature: feature(text, value, ...)")
    return kind


def build(kind: type[G], reached: Callable[[str], bool]) -> G:
    """Return the features of *kind* as a kernel has them that has *reached* some versions."""
    values: dict[str, Any] = {}
    for item in fields(cast("Any", kind)):
        here: _Declared | None = item.metadata.get("feature")
        group = cast("type[Any]", item.type)
        values[item.name] = build(group, reached) if here is None else here.value(reached)
    return kind(**values)
