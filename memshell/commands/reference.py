"""The command reference, docs/commands.md, made from the declarations of the commands."""

from __future__ import annotations

import sys
from inspect import unwrap
from typing import TYPE_CHECKING

from memshell.shell.dispatch import argument_rows, synopsis
from memshell.shell.registry import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memshell.plugins import Plugins
    from memshell.shell.registry import Command

HEAD = """\
# Commands

Made from the declarations of the commands by `make docs`; `help COMMAND` shows the same at the prompt.

Every command also takes `-F table|json|csv|md` (the form of the result), `-o A,B` or `-o +C` (its columns),
`--vertical` (one line per column), `--explain` (the kernel's call chain with the arithmetic) and `--help`.
Its output goes to a shell command with `| CMD` and to a file with `> FILE` or `>> FILE`.
"""


def reference(commands: Iterable[Command]) -> str:
    """Return the reference page of *commands*, by family."""
    items = sorted(commands, key=lambda item: item.name)
    parts = [HEAD]
    for family in FAMILIES:
        members = [item for item in items if item.family == family]
        if members:
            parts.append(f"## {family.capitalize()}\n")
            parts += [_entry(item) for item in members]
    return "\n".join(parts)


def _entry(item: Command) -> str:
    lines = [f"### {item.name}", "", item.summary, "", "```text", synopsis(item), "```", ""]
    if item.text:
        lines += [item.text.replace("``", "`"), ""]
    rows = argument_rows(item)
    if rows:
        lines += [f"- `{left}`: {right}" for left, right in rows] + [""]
    if item.examples:
        lines += ["```memshell", item.examples, "```", ""]
    return "\n".join(lines)


def documented(plugins: Plugins) -> list[Command]:
    """Return memshell's own commands, with those of the architectures that come with it."""
    from memshell.commands.builtin import COMMANDS

    own = [item for item in plugins.commands() if unwrap(item.function).__module__.startswith("memshell_plugins.")]
    return [*COMMANDS, *own]


def main() -> None:
    """Print the page."""
    from memshell.plugins import load_plugins

    sys.stdout.write(reference(documented(load_plugins())))


if __name__ == "__main__":
    main()
