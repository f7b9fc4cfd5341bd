"""A person at a terminal: memshell on a real pty, which answers the questions that a terminal answers."""

import os
import re
import sys
import time

import pexpect

PROMPT = "memshell>"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]|\x1b\][^\x07]*\x07")


class Terminal:
    def __init__(self, home, *args, rows=24, columns=80, **environment):
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", "HOME": str(home)}
        env |= {"PROMPT_TOOLKIT_NO_CPR": "1", "PAGER": "cat"} | environment
        self.process = pexpect.spawn(
            sys.executable, ["-m", "memshell", *args], env=env, dimensions=(rows, columns), encoding="utf-8", timeout=20
        )
        self.process.delaybeforesend = 0.02

    def ready(self):
        """Wait for the prompt and until the terminal is quiet; return what came before it."""
        self.process.expect_exact(PROMPT)
        text = self.process.before
        self._quiet()
        return plain(text)

    def _quiet(self):
        while True:
            try:
                self.process.read_nonblocking(4096, timeout=0.05)
            except pexpect.TIMEOUT:
                return

    def type(self, keys, pause=0.0):
        self.process.send(keys)
        time.sleep(pause)

    def run(self, line):
        """Type a line, press Enter and return what it shows."""
        self.type(line + "\r")
        return self.result()

    def result(self):
        """Return what a line that was entered shows, up to the next prompt."""
        self.process.expect(r"\x1b\[\?2004l")
        return self.ready()

    def screen(self, pause=0.5):
        """Return what the terminal shows from now on for a while."""
        time.sleep(pause)
        text = ""
        while True:
            try:
                text += self.process.read_nonblocking(65536, timeout=0.05)
            except (pexpect.TIMEOUT, pexpect.EOF):
                return text

    def leave(self):
        """Press Ctrl-D and return the exit code."""
        self.type("\x04")
        self.process.expect(pexpect.EOF)
        self.process.close()
        return self.process.exitstatus


def plain(text):
    return _ESCAPE.sub("", text).replace("\r", "")
