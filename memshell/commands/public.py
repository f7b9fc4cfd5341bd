"""What a plugin that brings commands or columns may use, under the names that `memshell` exports."""

from __future__ import annotations

from memshell.commands.registry import Arg, ArgType, Command, arg
from memshell.commands.registry import declare as command
from memshell.commands.shell import Shell
from memshell.commands.types import ADDRESS, BLOCKS, FILE, INT, PFN, SIZE, TEXT, choice
from memshell.report import Column, Result

__all__ = [
    "ADDRESS",
    "BLOCKS",
    "FILE",
    "INT",
    "PFN",
    "SIZE",
    "TEXT",
    "Arg",
    "ArgType",
    "Column",
    "Command",
    "Result",
    "Shell",
    "arg",
    "choice",
    "command",
]
