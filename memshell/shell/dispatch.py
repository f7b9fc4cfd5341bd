"""From words to a call: argparse for the structure, the argument types for the values."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from memshell.errors import KernelCrash, KernelError, UsageError, did_you_mean, printable
from memshell.result import FORMATS, Result, columns_of, render, rows_of
from memshell.shell.registry import Arg, Command

if TYPE_CHECKING:
    from memshell.shell.shell import Shell


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"usage: {usage_line(self)}")


def usage_line(parser: argparse.ArgumentParser) -> str:
    """Return the usage in one line, without argparse's prefix."""
    return " ".join(parser.format_usage().removeprefix("usage: ").split())


@cache
def parser_for(item: Command) -> argparse.ArgumentParser:
    """Return the argparse parser that a command's declaration makes."""
    parser = _Parser(prog=item.name, add_help=False, allow_abbrev=False, usage=synopsis(item))
    for argument in item.arguments:
        _add(parser, argument)
    own = {argument.name for argument in item.arguments}
    for argument in UNIVERSAL:
        if argument.name not in own:
            _add(parser, argument)
    return parser


_FORMAT = "draw the result as table, json, csv or md"
UNIVERSAL = (
    Arg("-F", None, _FORMAT, nargs="form"),
    Arg("-o", None, "columns to show: A,B or +C", nargs="columns"),
    Arg("--vertical", None, "one line per column"),
    Arg("--explain", None, "show the kernel's call chain and the arithmetic of each step"),
    Arg("--help", None, "show this help"),
)


def _add(parser: argparse.ArgumentParser, argument: Arg) -> None:
    if argument in UNIVERSAL:
        short = argument.nargs is not None
        words = {"dest": argument.nargs, "default": None} if short else {"action": "store_true"}
        names = ["-h", "--help"] if argument.name == "--help" else [argument.name]
        parser.add_argument(*names, help=argument.help, **words)
    elif argument.type is None:
        parser.add_argument(*argument.flags, dest=argument.dest, action="store_true", help=argument.help)
    elif argument.is_option:
        alone: dict[str, Any] = {} if argument.bare is None else {"nargs": "?", "const": argument.bare}
        alone |= {"action": "append"} if argument.is_repeated else {}
        parser.add_argument(*argument.flags, dest=argument.dest, default=None, help=argument.help, **alone)
    else:
        parser.add_argument(argument.dest, nargs=argument.nargs, default=None, help=argument.help)


def synopsis(item: Command) -> str:
    """Return the synopsis line of a command, in the words that a user types."""
    parts = [item.name]
    for argument in item.arguments:
        shown = argument.type.name if argument.type else ""
        if argument.is_key:
            parts.append(f"[{argument.name}{shown}]")
        elif argument.is_option:
            more = "..." if argument.is_repeated else ""
            parts.append((f"[{argument.name} {shown}]" if shown else f"[{argument.name}]") + more)
        else:
            parts.append(_positional(shown, argument.nargs))
    return " ".join([*parts, "-- COMMANDS"] if item.tail else parts)


def _positional(shown: str, nargs: str | None) -> str:
    return {"?": f"[{shown}]", "*": f"[{shown}...]", "+": f"{shown}..."}.get(nargs or "", shown)


def parse(item: Command, words: list[str], shell: Shell, tail: str | None = None) -> argparse.Namespace:
    """Return the arguments with their values.  Raises UsageError with the nearest right spelling."""
    if item.raw:
        return argparse.Namespace(words=words, help=words in (["--help"], ["-h"]), **_NOTHING)
    parser = parser_for(item)
    if "--help" in words or "-h" in words:
        return argparse.Namespace(help=True, **_NOTHING)
    args, left = parser.parse_known_args(_options(item, words))
    if left:
        raise UsageError(f"{item.name}: unexpected {left[0]!r}", hint=_hint(item, left[0], parser))
    for argument in item.arguments:
        if argument.type is not None:
            setattr(args, argument.dest, _value(argument, getattr(args, argument.dest), shell))
    if args.form is not None and args.form not in FORMATS:
        raise UsageError(f"unknown format {args.form!r}", hint="one of " + ", ".join(FORMATS))
    args.tail = tail
    return args


_NOTHING: dict[str, Any] = {"form": None, "columns": None, "vertical": False, "explain": False, "tail": None}


def _options(item: Command, words: list[str]) -> list[str]:
    """Return the words as argparse takes them; what follows an option that may be repeated is its own."""
    repeated = {argument.name for argument in item.arguments if argument.is_repeated}
    return [
        word if before in repeated else _option(item, word) for before, word in zip(["", *words], words, strict=False)
    ]


def _option(item: Command, word: str) -> str:
    """Return ``order=3`` as ``--order=3`` when the command declares the key ``order=``."""
    key, equals, _value = word.partition("=")
    keys = [argument.name for argument in item.arguments if argument.is_key]
    if not equals or not keys or not key.isidentifier():
        return word
    if f"{key}=" in keys:
        return f"--{word}"
    close = did_you_mean(f"{key}=", keys)
    if close is None:
        return word
    raise UsageError(f"{item.name}: unknown key {key!r}", hint=close)


def _value(argument: Arg, given: Any, shell: Shell) -> Any:
    assert argument.type is not None
    if given is None or given == []:
        return argument.default if argument.default is not None or given is None else given
    if not isinstance(given, list):
        return _read(argument, given, shell)
    values: list[Any] = []
    for word in given:
        value = _read(argument, word, shell)
        values += value if isinstance(value, list) else [value]
    return list(dict.fromkeys(values))


def _read(argument: Arg, word: str, shell: Shell) -> Any:
    """Return the value of a word; what is wrong with that of a key is told with the key."""
    assert argument.type is not None
    try:
        return argument.type.convert(word, shell)
    except UsageError as error:
        if argument.is_key and error.message.startswith((word, repr(word))):
            raise UsageError(argument.name + error.message, hint=error.hint) from error
        raise


def _hint(item: Command, word: str, parser: argparse.ArgumentParser) -> str:
    known = [argument.name for argument in item.arguments if argument.is_option]
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        known += action.option_strings
    close = did_you_mean(word.partition("=")[0] + ("=" if "=" in word else ""), known)
    return close or f"usage: {synopsis(item)}"


def help_text(item: Command, width: int = 0) -> str:
    """Return a command's help: synopsis, text, arguments and examples with their output.

    *width* is the terminal's, 0 where there is none; lines are no longer than 100 columns in any case.
    """
    room = min(width, 100) if width else 100
    lines = [
        *_wrapped(f"{item.name} - {item.summary}", room, "  "),
        "",
        *_wrapped(f"    {synopsis(item)}", room, " " * 8),
        "",
    ]
    for paragraph in item.text.split("\n\n") if item.text else ():
        lines += [*_wrapped(paragraph, room), ""]
    rows = argument_rows(item)
    rows += [("-F FORMAT", _FORMAT), ("-o COLS", "columns to show: A,B or +C")]
    rows += [("--explain", "show the kernel's call chain and the arithmetic of each step")]
    wide = max(len(left) for left, _ in rows)
    for left, right in rows:
        lines += _wrapped(f"    {left:<{wide}}  {right}", room, " " * (wide + 6))
    if item.examples:
        lines += ["", "EXAMPLES", *(f"    {line}".rstrip() for line in item.examples.splitlines())]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, room: int, indent: str = "") -> list[str]:
    """Return a paragraph in lines of at most *room* columns; one with a layout of its own stays as it is."""
    from textwrap import wrap

    if any(line.startswith(" ") for line in text.splitlines()[1:]):
        return text.splitlines()
    return wrap(text, room, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def argument_rows(item: Command) -> list[tuple[str, str]]:
    """Return (how it is typed, what it is) for each argument."""
    return [(_shown(argument), argument.help) for argument in item.arguments]


def _shown(argument: Arg) -> str:
    if argument.type is None or not argument.is_option:
        return (
            ", ".join(argument.flags) if argument.is_option else argument.type.name if argument.type else argument.name
        )
    if argument.is_key:
        return argument.name + argument.type.name
    if argument.bare is not None:
        return f"{', '.join(argument.flags)}[={argument.type.name}]"
    return f"{', '.join(argument.flags)} {argument.type.name}"


def located_words(item: Command, words: list[str], shell: Shell) -> list[str]:
    """Return *words* with the paths of files that are there made absolute: they mean the same from any folder."""
    if not any(argument.type is not None and argument.type.names_files for argument in item.arguments):
        return words
    return [_located(word, shell) for word in words]


def _located(word: str, shell: Shell) -> str:
    from pathlib import Path

    key, equals, value = word.rpartition("=")
    path = Path(value)
    try:
        there = not path.is_absolute() and path.is_file()
    except OSError:  # no name of a file can be as long
        there = False
    if not there or (not equals and value in shell.known_words()):
        return word
    return f"{key}{equals}{path.absolute()}"


def invoke(item: Command, words: list[str], shell: Shell, tail: str | None = None) -> tuple[Result, argparse.Namespace]:
    """Run a command and return what it found, with the arguments that say how to draw it."""
    args = parse(item, words, shell, tail)
    if args.help:
        return Result(text=help_text(item, shell.output.width)), args
    if item.needs_machine:
        shell.need_machine()
    if args.explain:
        from memshell.shell.explain import explained

        return explained(item, args, shell), args
    try:
        found = item.function(shell, args)
    except (KernelError, KernelCrash) as error:
        if error.details is not None and not shell.tries:
            error.shown = shown(error.details(), args, shell)
        raise
    result = found if isinstance(found, Result) else Result(text=found)
    if args.columns is not None and not result.extended:
        if result.rows is None and result.data is not None:
            result = replace(result, rows=rows_of(result))
        own = columns_of(result)
        result = replace(result, columns=(*own, *shell.columns(item.name, [column.name for column in own])))
    return result, args


def shown(result: Result, args: argparse.Namespace, shell: Shell) -> str:
    """Return what the user sees of *result*, in the form that the arguments or the options ask for.

    Where the whole session is to be json, csv or md, a mere message would spoil it: it goes to stderr.
    """
    options = shell.output
    form = args.form or options.form
    if args.form is None and form != "table" and result.rows is None and result.data is None:
        if result.text:
            shell.note(result.text.rstrip())
        return ""
    text = render(result, form, wish=args.columns, width=options.width, vertical=args.vertical)
    return text if result.painted else printable(text)
