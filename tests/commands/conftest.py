"""A prompt without a terminal: type, and get what it says."""

import json

import pytest

from memshell.errors import MemshellError
from memshell.scenario.player import Player
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Recorder
from memshell.shell.shell import Output


class Prompt:
    """A shell and what it says."""

    def __init__(self):
        self.out = Recorder()
        self.player = Player(shared_plugins, Output(self.out, self.out))

    def __call__(self, text):
        """Type *text*; return what comes out."""
        self.out.text = ""
        self.player.play_text(text, "-c")
        return self.out.text

    def fails(self, text):
        """Type *text*, which must fail; return the line that it fails with."""
        with pytest.raises(MemshellError) as caught:
            self(text)
        return str(caught.value).removeprefix("-c:1: ")

    def json(self, text):
        """Type *text* with -F json; return the data."""
        return json.loads(self(f"{text} -F json"))

    @property
    def machine(self):
        """The machine."""
        return self.player.shell.need_machine()

    @property
    def mm(self):
        """Its state."""
        return self.machine.mm


@pytest.fixture(scope="session")
def new_prompt():
    """Make a prompt without a machine."""
    return Prompt


@pytest.fixture
def prompt():
    """A prompt with a guest of 2G."""
    made = Prompt()
    made("use x86_64 ram=2G profile=v6.12")
    return made
