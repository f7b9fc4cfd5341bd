"""The command ``help``."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from memshell.commands.topics import TOPICS, topic_text
from memshell.errors import UsageError, did_you_mean
from memshell.shell.dispatch import help_text
from memshell.shell.registry import FAMILIES, ArgType, arg, command
from memshell.shell.shell import SYNONYMS
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
    arg(
        "topic",
        TOPIC,
        "a command, a word of the language, a subject such as memmap, or a tool such as daxctl",
        nargs="*",
    ),
    needs_machine=False,
    examples="""
> help repeat
repeat N [as NAME] ... end

    play the steps N times; $NAME counts from 0
""",
)
def help_(shell: Shell, args: Namespace) -> str:
    """Show the commands, or what one does, with examples.

    ``CMD --help`` is the same as ``help CMD``, and so is ``? CMD``. There are pages about memmap, zones, blocks, altmap,
    policies, offline, sizes, review and ci, and about tools and drivers that people know, with what is typed here instead:
    daxctl, ndctl, util-linux, numactl, drmgr, virsh, qemu, hv_balloon, xen, sysfs, sysctl, crash, drgn.
    """
    room = min(shell.output.width or 100, 100)
    if not args.topic:
        return _overview(shell, room)
    word = SYNONYMS.get(args.topic[0], args.topic[0])  # help add 1G is help add
    if word in shell.player.directives:
        form, text = shell.player.directives[word]
        return "\n".join([form, "", *wrap(text, room, initial_indent="    ", subsequent_indent="    "), ""])
    if word in shell.settings.aliases:
        return f"{word} is an alias for: {shell.settings.aliases[word]}\n"
    known = topic_text(word, room)
    if known is not None and word not in shell.registry:
        return known
    try:
        text = help_text(shell.find_command(word), shell.output.width)
    except UsageError as error:
        hint = did_you_mean(word, [*(item.name for item in shell.registry), *shell.player.known_words])
        raise UsageError(f"there is no help on {word!r}", hint=hint or "help alone lists the commands") from error
    return text if known is None else f"{text}\nABOUT {word.upper()}\n{known}"


def _overview(shell: Shell, room: int) -> str:
    lines = []
    wide = max(len(item.name) for item in shell.registry)
    for family in (*FAMILIES, *sorted({item.family for item in shell.registry} - set(FAMILIES))):
        members = [item for item in shell.registry if item.family == family]
        if members:
            lines += [family, *(row for item in members for row in _row(item.name, item.summary, wide, room)), ""]
    language = [*shell.player.directives.values(), *LANGUAGE]
    lines += ["language", *(row for form, text in language for row in _row(form, text, 26, room)), ""]
    lines += wrap(
        "help COMMAND shows one with examples. help memmap, zones, blocks, altmap, policies, offline, sizes, review or ci "
        "is about that; help daxctl, numactl, virsh, sysfs and others say what stands for a tool here.",
        room,
    )
    return "\n".join(lines) + "\n"


def _row(name: str, text: str, wide: int, room: int) -> list[str]:
    """Return a name and its text in lines of at most *room* columns."""
    return wrap(f"    {name:<{wide}}  {text}", room, subsequent_indent=" " * (wide + 6), break_on_hyphens=False)


LANGUAGE = (
    ("CMD | SHELL COMMAND", "send the output to a shell command"),
    ("CMD > FILE, CMD >> FILE", "write the output to a file, or add it"),
    ("!SHELL COMMAND", "run a shell command"),
)
