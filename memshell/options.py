"""An argument parser that raises a UsageError, in one line like every other error, instead of leaving."""

from __future__ import annotations

import argparse
from typing import NoReturn

from memshell.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse's parser for memshell's own options and those of its modes."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help shows how")
