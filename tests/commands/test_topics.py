"""`help daxctl` and its kin name commands that there are, with words that these take."""

from contextlib import suppress

import pytest

from memshell import CommandError, KernelError, Machine, UsageError
from memshell.commands.topics import TOPICS

HERE = sorted({(word in ("drmgr", "dlpar", "lmb"), here) for word, topic in TOPICS.items() for _, here in topic.lines})


@pytest.mark.parametrize("lmbs, here", HERE)
def test_what_is_typed_here_is_understood(lmbs, here):
    """An errno is an answer, and so is what this machine does not have; a usage error is neither."""
    machine = Machine.boot("powerpc" if lmbs else "x86_64", ram="2G")
    machine.run("add 0x100000000 4G")
    for statement in here.split("(")[0].split(";"):
        with suppress(KernelError, CommandError):
            machine.run(statement.strip())


def test_a_misspelt_tool_is_corrected():
    machine = Machine.boot("x86_64")
    with pytest.raises(UsageError) as error:
        machine.run("help daxctrl")
    assert "daxctl" in str(error.value)
    assert "devices" in machine.run("help ndctl")
