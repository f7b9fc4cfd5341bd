"""`help daxctl` and its kin name commands that there are, with words that these take."""

import re

import pytest

from memshell import CommandError, KernelError, Machine, UsageError
from memshell.commands.topics import TOPICS

HERE = sorted({(word in ("drmgr", "dlpar", "lmb"), here) for word, topic in TOPICS.items() for _, here in topic.lines})


@pytest.mark.parametrize("lmbs, here", HERE)
def test_what_is_typed_here_is_understood(lmbs, here, tmp_path, monkeypatch):
    """An errno is an answer, and so is what this machine does not have; a usage error is neither."""
    monkeypatch.chdir(tmp_path)  # a scenario may be written
    machine = Machine.boot("powerpc" if lmbs else "x86_64", ram="2G")
    machine.run("add 0x100000000 4G")
    for statement in here.split("(")[0].split(";"):
        assert not misunderstood(machine, statement.strip())


def misunderstood(machine, statement):
    """Return the usage error that a command ends with, unless this machine has no such block."""
    try:
        machine.run(statement)
    except UsageError as error:
        return None if re.search("names no memory block|there is no block", str(error)) else str(error)
    except (KernelError, CommandError):
        return None


def test_a_misspelt_tool_is_corrected():
    machine = Machine.boot("x86_64")
    with pytest.raises(UsageError) as error:
        machine.run("help daxctrl")
    assert "daxctl" in str(error.value)
    assert "devices" in machine.run("help ndctl")


SUBJECTS = ("memmap", "zones", "blocks", "altmap", "policies", "offline", "sizes", "review", "ci")
TOOLS = (
    "daxctl",
    "ndctl",
    "chmem",
    "lsmem",
    "numactl",
    "drmgr",
    "virsh",
    "crash",
    "drgn",
    "/sys/devices/system/memory",
)


@pytest.mark.parametrize("word", [*SUBJECTS, *TOOLS, "help", "repeat", "add", "use", ""])
def test_help_fits_80_columns(prompt, word):
    prompt.player.shell.output.width = 80
    text = prompt(f"help {word}").partition("EXAMPLES")
    assert text[0]
    about = text[2].partition("ABOUT")[2]
    assert max(map(len, (text[0] + about).splitlines())) <= 80


@pytest.mark.parametrize("word", ["daxctl", "ndctl", "numactl", "drmgr", "virsh", "crash", "drgn"])
def test_a_tool_that_is_typed_points_to_its_page(prompt, word):
    assert f"help {word} shows what is typed here" in prompt.fails(f"{word} list")


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("quti", "quit"),
        ("exi", "exit"),
        ("prnt 3", "print"),
        ("daxtcl", "daxctl"),
        ("numactrl -H", "numactl"),
        ("lsmme", "lsmem"),
        ("expct 1 == 1", "expect"),
        ("help polices", "policies"),
        ("help offlin", "offline"),
    ],
)
def test_a_slip_is_corrected_whatever_kind_of_word_it_was(prompt, typed, meant):
    assert f"did you mean {meant}?" in prompt.fails(typed)
