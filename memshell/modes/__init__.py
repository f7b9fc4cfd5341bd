"""The modes of the command line, a module each: ``memshell MODE`` is ``memshell.modes.MODE.run(args, rest)``.

*args* are the options that every mode has, *rest* the words behind the mode, which it parses itself; what it returns
is the exit code.  `commands` holds what has no word: ``-c`` and standard input.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from memshell.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Mode = Callable[[argparse.Namespace, list[str]], int]

# mode -> (what may follow it, what it does)
MODES = {
    "run": ("FILE... [-D NAME=VALUE]", "play scenarios (--json: an object for each step)"),
    "test": ("[FILE|DIR]...", "play scenarios as tests (-D NAME=VALUE --junit F --ktap --update -k NAME -j N)"),
    "sweep": ("FILE -D NAME=A,B ...", "play a scenario with each combination of values: a table, a row a cell"),
    "plan": ("[ARCH] ram=8G add=512G [--keep]", "ways to add memory, each played; the recommended one first"),
    "plot": ("TABLE [y=COLUMN] [out=FILE]", "a chart of what sweep wrote, in letters, as .png or as .svg"),
    "mutate": (
        "FILE [--pairs] [--json]",
        "play a scenario once for each check of the 2018 series, with that check off",
    ),
    "vmlinux": ("FILE [--json]", "facts from a kernel image (--symbols NAME,... --struct NAME,...)"),
    "capture": ("[--root DIR] [-o FILE]", "this machine, or a copied /proc and /sys -> a file for `use FILE`"),
    "mount": (
        "DIR [SCENARIO] | --exec CMD...",
        "the machine as a live /sys and /proc for real tools, beside the prompt",
    ),
    "lab": ("doctor|run|check|fuzz ...", "the same scenario on a real kernel in QEMU, compared with the model"),
    "verify": ("RECORDING... [--json]", "replay what a real kernel did and compare"),
    "fidelity": ("[NAME] [--files]", "the kernel functions that are modelled, how completely, and where"),
    "plugins": ("[--json] [--time]", "the plugins and how they fare"),
    "docs": ("[PAGE]", "a page of the documentation, such as plugins; without its name, the list"),
    "new-plugin": ("KIND NAME [DIR]", "write the project of a plugin: arch, policy, commands, profile, ..."),
    "export": (
        "KIND OUT [FILE...]",
        "play FILEs and write the machine as sysroot, svg, html or json, or a script for QEMU",
    ),
}


def usage() -> str:
    """Return the ways to call memshell, a line each."""
    lines = [
        ("memshell [OPTIONS]", "the prompt; a script on standard input when that is no terminal"),
        ("memshell -c 'CMD; CMD'", "run commands"),
        ("memshell FILE.mem", "play a scenario: the same as memshell run FILE.mem"),
        *((f"memshell {name} {words}", text) for name, (words, text) in MODES.items()),
    ]
    return "".join(f"{words:<39} {text}\n" for words, text in lines)


def is_scenario(word: str) -> bool:
    """Whether the first word is no mode but a scenario to run: ``memshell FILE.mem``."""
    from pathlib import Path

    return word not in MODES and (word.endswith(".mem") or Path(word).is_file())


def find_mode(name: str) -> Mode:
    """Return the function of a mode.  Raises UsageError with the nearest right word."""
    if name not in MODES:
        hint = did_you_mean(name, MODES) or "memshell --help lists the modes; memshell -c 'CMD' runs commands"
        raise UsageError(f"unknown mode {name!r}", hint=hint)
    found: Mode = import_module(f"memshell.modes.{name.replace('-', '_')}").run
    return found


def mode_parser(name: str, text: str) -> argparse.ArgumentParser:
    """Return a parser for the words behind a mode."""
    from memshell.options import Parser

    return Parser(prog=f"memshell {name}", description=text, allow_abbrev=False)
