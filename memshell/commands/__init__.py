"""The commands, one module per family, and what a new one needs.

A command is a function under a declaration.  The declaration serves parsing, ``--help``, completion,
did-you-mean and the reference page; the docstring is the help text; the examples are run by the tests::

    from memshell.commands import SIZE, Result, arg, choice, command

    @command(
        "memory",                                            # the family, see registry.FAMILIES
        arg("size", SIZE, "how much"),                       # positional: args.size is an int, in bytes
        arg("kind", choice("kind", {"movable": "...", "unmovable": "..."}), "what may move", nargs="?"),
        arg("order=", INT, "order of each allocation", default=0),     # typed as order=3 or --order=3
        arg("--force", None, "a switch"),
        examples='''
    > use x86_64 ram=2G
    > alloc 80M unmovable
    80M unmovable from node 0 Normal
    ''',
    )
    def alloc(shell: Shell, args: Namespace) -> Result | str | None:
        \"\"\"Take memory, as a driver or a process would.

        The text of ``help alloc``.
        \"\"\"
        from memshell.mm import page_alloc                   # what is heavy is imported here

        with shell.change() as mm:                           # a copy, kept when the block ends well
            page_alloc.alloc_pages(mm, ...)
        return "..."

Return a string (shown as it is), ``Result(rows=[...], columns=(Column("RANGE", right=True), ...))`` for a
table that can also be json, csv and md, ``Result(text=..., data=...)`` for a view with a layout of its own,
or None.  Commands never print.  A view that changes nothing reads ``shell.need_machine().mm``.  The name is
the function's (``set_`` where Python's word is taken).  ``BLOCKS`` reads ``47 memory47 32-39
0x100000000-0x13fffffff all online offline last`` into a list of ids.  A new module is
named in `memshell.commands.builtin`; a plugin returns its commands from the hook ``memshell_commands``.
"""

from __future__ import annotations

from memshell.result import Column, Result
from memshell.shell.registry import Arg, ArgType, Command, Registry, arg, command
from memshell.shell.shell import Shell
from memshell.shell.types import (
    ADDRESS,
    BLOCKS,
    COUNT,
    FILE,
    INT,
    KEY_VALUE,
    NODE,
    PFN,
    SIZE,
    TEXT,
    block_ids,
    choice,
    named,
)

__all__ = [
    "ADDRESS",
    "BLOCKS",
    "COUNT",
    "FILE",
    "INT",
    "KEY_VALUE",
    "NODE",
    "PFN",
    "SIZE",
    "TEXT",
    "Arg",
    "ArgType",
    "Column",
    "Command",
    "Registry",
    "Result",
    "Shell",
    "arg",
    "block_ids",
    "choice",
    "command",
    "named",
]
