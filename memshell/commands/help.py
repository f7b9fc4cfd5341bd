"""The command ``help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.commands.topics import TOPICS, topic_text
from memshell.errors import UsageError, did_you_mean
from memshell.shell.dispatch import help_text
from memshell.shell.registry import FAMILIES, ArgType, arg, command
from memshell.shell.types import TEXT

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


def _topics(shell: Shell, _prefix: str) -> Suggestions:
    yield from ((item.name, item.summary) for item in shell.registry)
    yield from ((word, text) for word, (_form, text) in shell.player.directives.items())
    yield from ((word, topic.text) for word, topic in TOPICS.items())


TOPIC = ArgType("COMMAND", TEXT.convert, _topics)


@command(
    "session",
    arg("topic", TOPIC, "a command, a word of the language, or a tool such as daxctl", nargs="?"),
    needs_machine=False,
    examples="""
> help repeat
repeat N [as NAME] ... end

    play the steps N times; $NAME counts from 0
""",
)
def help_(shell: Shell, args: Namespace) -> str:
    """Show the commands, or what one does, with examples.

    ``CMD --help`` is the same as ``help CMD``. Tools and drivers that people know have a page too, with what is
    typed here instead: chmem, daxctl, ndctl, drmgr, virsh, hv_balloon, xen, sysfs, crash.
    """
    if args.topic is None:
        return _overview(shell)
    if args.topic in shell.player.directives:
        form, text = shell.player.directives[args.topic]
        return f"{form}\n\n    {text}\n"
    if args.topic in shell.settings.aliases:
        return f"{args.topic} is an alias for: {shell.settings.aliases[args.topic]}\n"
    known = None if args.topic in shell.registry else topic_text(args.topic)
    if known is not None:
        return known
    try:
        return help_text(shell.find_command(args.topic), shell.output.width)
    except UsageError as error:
        hint = did_you_mean(args.topic, [*TOPICS, *shell.player.directives, *(item.name for item in shell.registry)])
        raise UsageError(error.message, hint=hint or error.hint) from error


def _overview(shell: Shell) -> str:
    lines = []
    wide = max(len(item.name) for item in shell.registry)
    for family in (*FAMILIES, *sorted({item.family for item in shell.registry} - set(FAMILIES))):
        members = [item for item in shell.registry if item.family == family]
        if members:
            lines += [family, *(f"    {item.name:<{wide}}  {item.summary}" for item in members), ""]
    lines += ["language", *(f"    {form:<28}  {text}" for form, text in shell.player.directives.values()), ""]
    lines += ["    CMD | SHELL COMMAND           send the output to a shell command"]
    lines += ["    CMD > FILE, CMD >> FILE       write the output to a file, or add it"]
    lines += ["    !SHELL COMMAND                run a shell command", "", "help COMMAND shows one with examples."]
    return "\n".join(lines) + "\n"
