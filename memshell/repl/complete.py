"""Completion by context: what could stand at the cursor, each item with what it is."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion

from memshell.errors import MemshellError
from memshell.result import FORMATS
from memshell.scenario.lalr import Token, scan
from memshell.scenario.names import TOP
from memshell.scenario.player import CONDITIONS
from memshell.scenario.words import quote
from memshell.shell.dispatch import UNIVERSAL
from memshell.shell.types import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from memshell.shell.registry import Arg, Command
    from memshell.shell.shell import Shell

    Item = tuple[str, str]

MOST = 500  # items; nobody reads more, and a machine may have thousands of blocks


class ShellCompleter(Completer):
    """Completes commands, arguments, directives and names from the grammar and the declarations."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what fits at the cursor."""
        del complete_event
        before = document.text_before_cursor
        word = _last_word(before)
        try:
            items = list(islice(self.items(before[: len(before) - len(word)], word), MOST))
        except MemshellError:
            return
        for text, meta in items:
            shown = text if text.endswith("=") else quote(text)
            yield Completion(shown, start_position=-len(word), display=text, display_meta=meta)

    def items(self, before: str, word: str) -> Iterator[Item]:
        """Yield (text, description) for *word*, which follows *before*."""
        wanted = word.lower()
        seen = set()
        for text, meta in self._candidates(before, word):
            if text.lower().startswith(wanted) and text not in seen:
                seen.add(text)
                yield text, meta

    def _candidates(self, before: str, word: str) -> Iterable[Item]:
        tokens, accepts = scan(before)
        statement = _statement(tokens)
        kinds = [token.kind for token in statement]
        if not statement or kinds[-1] in {"MUST_FAIL", "COND"}:
            return self._statements(word)
        if kinds[-1] in {"TO", "APPEND", "INCLUDE"}:
            return FILE.complete(self.shell, word)
        words = [token.text for token in statement if token.kind == "WORD"]
        if words and "WORD" in accepts and kinds[0] != "SUBTEST":
            return self._arguments(words, word)
        if "NAME" in accepts:
            return self._names()
        return [("as", "name the counter")] if "AS" in accepts else []

    def _statements(self, word: str) -> Iterator[Item]:
        shell = self.shell
        if word.startswith("["):
            yield from self._conditions(word)
            return
        if word.startswith("$") or "." in word:
            yield from self._names()
            return
        yield from ((item.name, item.summary) for item in shell.registry)
        yield from ((name, f"alias for {text}") for name, text in shell.settings.aliases.items())
        yield from ((name, text) for name, (_form, text) in shell.player.directives.items() if name != "!")

    def _conditions(self, word: str) -> Iterator[Item]:
        bang = "!" if word.startswith("[!") else ""
        yield from ((f"[{bang}{key}:", "only where it holds") for key in CONDITIONS)
        plugins = self.shell.plugins
        values: dict[str, Iterable[str]] = {"arch": plugins.arches(), "policy": plugins.policies()}
        values |= {"plugin": plugins.names(), "page_size": ("4K", "16K", "64K")}
        values["command"] = [item.name for item in self.shell.registry]
        for key, names in values.items():
            yield from ((f"[{bang}{key}:{name}]", "only where it holds") for name in names)

    def _arguments(self, words: list[str], word: str) -> Iterable[Item]:
        name = words[0]
        if name in self.shell.settings.aliases:
            words = [*self.shell.settings.aliases[name].split(), *words[1:]]
        item = self.shell.find_command(words[0])
        if words[-1] == "-F":
            return FORMATS.items()
        if words[-1] == "-o":
            return [(f"+{column.name}", "a plugin's column") for column in self.shell.columns(item.name)]
        if word.startswith("-"):
            return self._options(item)
        option = next((a for a in item.arguments if a.is_option and words[-1] == a.flag and a.type), None)
        if option is not None and option.type is not None:
            return option.type.complete(self.shell, word)
        return [*self._positional(item, words[1:], word), *self._keys(item, word)]

    def _options(self, item: Command) -> Iterator[Item]:
        for argument in (*item.arguments, *UNIVERSAL):
            if argument.name.startswith("-"):
                yield argument.name, argument.help

    def _positional(self, item: Command, words: list[str], word: str) -> Iterable[Item]:
        places = [argument for argument in item.arguments if not argument.is_option]
        given = sum(not typed.startswith("-") and "=" not in typed for typed in words)
        fitting = _fitting(places, given)
        kinds = [argument.type for argument in fitting if argument.type]
        return [pair for kind in kinds for pair in kind.suggest(self.shell, word, words)]

    def _keys(self, item: Command, word: str) -> Iterator[Item]:
        for argument in item.arguments:
            if argument.is_key and argument.type is not None:
                yield argument.name, argument.help
                if word.startswith(argument.name):
                    values = argument.type.complete(self.shell, word.removeprefix(argument.name))
                    yield from ((argument.name + text, meta) for text, meta in values)

    def _names(self) -> Iterator[Item]:
        yield from TOP.items()
        yield from ((name, one.text) for name, one in self.shell.plugins.quantities().items())
        if self.shell.machine is not None:
            mm = self.shell.machine.mm
            for (_nid, kind), zone in mm.zones.items():
                if zone.present:
                    for field in ("present", "managed", "spanned", "free"):
                        yield f"zone.{kind.label}.{field}", "pages"
            yield from ((f"block.{number}.state", block.state) for number, block in sorted(mm.blocks.items()))
        yield from ((f"${name}", str(value)) for name, value in self.shell.settings.variables.items())


def _fitting(places: list[Arg], given: int) -> list[Arg]:
    """Return the positional arguments that the next word may belong to."""
    if given < len(places):
        first = places[given]
        # An argument that may be repeated or left out does not keep the ones behind it from coming.
        before = [places[given - 1]] if given and places[given - 1].nargs in {"+", "*"} else []
        behind = places[given + 1 : given + 2] if first.nargs == "?" else []
        return [*before, first, *behind]
    return places[-1:] if places and places[-1].nargs in {"+", "*"} else []


def _last_word(before: str) -> str:
    """Return what is typed of the word at the cursor."""
    at = len(before)
    while at and before[at - 1] not in " \t\n;|>(":
        at -= 1
    return before[at:]


def _statement(tokens: list[Token]) -> list[Token]:
    """Return the tokens of the statement that is being typed."""
    start = 0
    for at, token in enumerate(tokens):
        if token.kind in {"_END", "GOLDEN", "ESCAPE"}:
            start = at + 1
    return tokens[start:]
