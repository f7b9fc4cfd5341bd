"""Colours while typing, from the tokens of the one grammar."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from memshell.scenario.lalr import Token, scan
from memshell.scenario.names import begins_expression
from memshell.scenario.pasted import BEFORE, SHELLS, WRITERS
from memshell.shell.shell import SYNONYMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import StyleAndTextTuples

    from memshell.shell.shell import Shell

_NUMBER = re.compile(r"(0x[0-9a-f]+|\d+[kmgtpe]?(i?b)?)(-(0x)?[0-9a-f]+)?", re.IGNORECASE)

# Only the sixteen colours that a terminal's own theme defines, so that light and dark both stay readable.
THEMES = {
    "dark": {
        "command": "ansibrightgreen bold",
        "unknown": "ansibrightred",
        "directive": "ansibrightmagenta bold",
        "number": "ansibrightcyan",
        "string": "ansibrightyellow",
        "option": "ansibrightblue",
        "comment": "ansibrightblack italic",
        "bottom-toolbar": "noreverse bg:ansibrightblack ansiwhite",
    },
    "light": {
        "command": "ansigreen bold",
        "unknown": "ansired",
        "directive": "ansimagenta bold",
        "number": "ansiblue",
        "string": "ansiyellow",
        "option": "ansicyan",
        "comment": "ansibrightblack italic",
        "bottom-toolbar": "noreverse bg:ansiwhite ansiblack",
    },
}


def coloured() -> bool:
    """Return whether output may have colours: a terminal that can, and nobody who asked for none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def theme() -> Style:
    """Return the style for the terminal's background: ``MEMSHELL_THEME``, else what ``COLORFGBG`` says."""
    name = os.environ.get("MEMSHELL_THEME", "")
    if name not in THEMES:
        background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
        name = "light" if background in {"7", "15"} else "dark"
    return Style.from_dict(THEMES[name])


ELSEWHERE = {*SYNONYMS, *BEFORE, *SHELLS, *WRITERS}  # words that are understood and are no commands


class ShellLexer(Lexer):
    """Gives every token of the input its class."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return the styled text of each line."""
        lines = self._styled(document.text)

        def line(number: int) -> StyleAndTextTuples:
            return lines[number] if number < len(lines) else []

        return line

    def _styled(self, text: str) -> list[StyleAndTextTuples]:
        lines: list[StyleAndTextTuples] = [[]]
        at = 0
        for start, end, style in self._spans(text):
            for piece, kind in ((text[at:start], _between(text[at:start])), (text[start:end], style)):
                _append(lines, piece, kind)
            at = end
        _append(lines, text[at:], _between(text[at:]))
        return lines

    def _spans(self, text: str) -> list[tuple[int, int, str]]:
        spans = []
        first = True
        for token in scan(text)[0]:
            spans.append((token.start, token.start + len(token.text), self._class(token, first=first)))
            first = token.kind in {"_END", "MUST_FAIL", "COND", "GOLDEN"}
        return spans

    def _class(self, token: Token, *, first: bool) -> str:
        if token.kind == "WORD":
            return self._word(token.text, first=first)
        if token.kind == "NUMBER":
            return "class:number"
        if token.kind == "STRING":
            return "class:string"
        if token.kind in {"EXPECT", "PRINT", "LET", "INCLUDE", "REPEAT", "SUBTEST", "END", "AS", "COND", "MUST_FAIL"}:
            return "class:directive"
        return "class:option" if token.kind in {"ESCAPE", "PIPE", "TO", "APPEND", "TAIL"} else ""

    def _word(self, word: str, *, first: bool) -> str:
        if first:
            if word in self.shell.registry or word in self.shell.settings.aliases or word in ELSEWHERE:
                return "class:command"
            return "" if begins_expression(word) else "class:unknown"
        if word[0] in "\"'":
            return "class:string"
        if word.startswith("-"):
            return "class:option"
        return "class:number" if _NUMBER.fullmatch(word.rpartition("=")[2]) else ""


def _between(text: str) -> str:
    return "class:comment" if text.lstrip().startswith("#") else ""


def _append(lines: list[StyleAndTextTuples], text: str, style: str) -> None:
    for number, piece in enumerate(text.split("\n")):
        if number:
            lines.append([])
        if piece:
            lines[-1].append((style, piece))
