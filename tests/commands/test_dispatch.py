"""From words to a call: keys, options, types, help, and mistakes with the nearest right spelling."""

import pytest

from memshell.commands import BLOCKS, INT, SIZE, arg, block_ids, choice
from memshell.errors import PluginError, UsageError
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session
from memshell.shell.dispatch import help_text, invoke, parse, synopsis
from memshell.shell.registry import Registry, command

KIND = choice("kind", {"movable": "can move", "pinned": "cannot"})


@command(
    "memory",
    arg("size", SIZE, "how much"),
    arg(
        "kind",
        choice("kind", {"movable": "can move", "pinned": "cannot"}),
        "what may move",
        nargs="?",
        default="movable",
    ),
    arg("order=", INT, "order", default=0),
    arg("--force", None, "a switch"),
    needs_machine=False,
)
def grab(_shell, args):
    """Take memory.

    The text.
    """
    return f"{args.size} {args.kind} {args.order} {args.force}"


def shown(*words):
    return invoke(grab, list(words), Player().shell)[0].text


@pytest.mark.parametrize(
    "words, expected",
    [
        (["4k"], "4096 movable 0 False"),
        (["1M", "pinned", "order=3", "--force"], "1048576 pinned 3 True"),
        (["--order", "0x10", "1M"], "1048576 movable 16 False"),
        (["--order=2", "1M"], "1048576 movable 2 False"),
    ],
)
def test_words_become_values(words, expected):
    assert shown(*words) == expected


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "grab: the following arguments are required: size; usage: grab SIZE"),
        (["x"], "'x' is not a size"),
        (["1M", "movabel"], "'movabel' is no kind; did you mean movable?"),
        (["1M", "ordre=3"], "grab: unknown key 'ordre'; did you mean order=?"),
        (["1M", "--fore"], "unexpected '--fore'; did you mean --force?"),
        (["1M", "order=x"], "'x' is not a whole number"),
        (["1M", "movable", "what"], "unexpected 'what'; usage: grab SIZE [movable|pinned] [order=N] [--force]"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UsageError) as caught:
        shown(*words)
    assert message in str(caught.value)


def test_help_comes_from_the_declaration():
    assert synopsis(grab) == "grab SIZE [movable|pinned] [order=N] [--force]"
    text = help_text(grab)
    assert text.startswith("grab - Take memory.\n\n    grab SIZE")
    assert "The text." in text
    assert shown("--help") == text


def test_nobody_takes_a_name_that_is_taken():
    with pytest.raises(PluginError, match="command grab exists already, from memshell"):
        Registry([grab]).add(command("look", name="grab")(lambda _shell, _args: None))


@pytest.fixture(scope="module")
def shell():
    session = Session(shared_plugins)
    session.type("use x86_64 ram=2G")
    session.type("add 1G")
    return session.player.shell


@pytest.mark.parametrize(
    "words, expected",
    [
        (["memory3"], [3]),
        (["3", "5-6", "3"], [3, 5, 6]),
        (["memory32-memory34"], [32, 33, 34]),
        (["0x100000000-0x10fffffff"], [32, 33]),
        (["offline"], list(range(32, 40))),
        (["last"], [39]),
        (["all"], [*range(16), *range(32, 40)]),
    ],
)
def test_blocks_have_many_names(shell, words, expected):
    assert block_ids(words, shell) == expected


@pytest.mark.parametrize(
    "word, message",
    [
        ("memory41", "there is no block memory41; the nearest is memory39"),
        ("20-25", "there is no block memory20; the nearest is memory15"),
        ("0x100000001", "is not the start of a memory block; blocks are 0x8000000 bytes"),
        ("offlin", "'offlin' names no memory block; did you mean offline?"),
        ("-", "names no memory block"),
    ],
)
def test_blocks_that_do_not_exist(shell, word, message):
    with pytest.raises(UsageError) as caught:
        block_ids([word], shell)
    assert message in str(caught.value)


def test_completion_of_blocks_says_their_state(shell):
    offered = dict(BLOCKS.complete(shell, ""))
    assert offered["memory3"].startswith("online")
    assert offered["memory32"] == "offline"


def test_the_universal_options_are_everywhere(shell):
    args = parse(shell.registry.get("lsmem"), ["-F", "json", "--vertical"], shell)
    assert (args.form, args.vertical) == ("json", True)
