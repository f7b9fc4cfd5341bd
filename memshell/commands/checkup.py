"""The command ``checkup``: what memshell runs on, and what is not in order."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from memshell.result import Column, Result
from memshell.shell.registry import command

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from memshell.shell.shell import Shell

LIBRARIES = ("prompt_toolkit", "pluggy", "pyelftools", "rich")


@command(
    "session",
    needs_machine=False,
    examples="""
> checkup
WHAT<...>VALUE<...>
<...>
python<...>
<...>
""",
)
def checkup(shell: Shell, _args: Namespace) -> Result:
    """Show versions, plugins and the terminal, and what is wrong with them."""
    rows = [{"what": what, "value": value, "problem": problem} for what, value, problem in _findings(shell)]
    return Result(rows=rows, columns=(Column("WHAT"), Column("VALUE"), Column("PROBLEM")))


def _findings(shell: Shell) -> Iterator[tuple[str, Any, str]]:
    from memshell import __version__

    yield "memshell", __version__, ""
    yield "python", sys.version.split()[0], ""
    yield from _libraries()
    for plugin in shell.plugins.found:
        yield f"plugin {plugin.name}", f"{plugin.version} {plugin.state}".strip(), plugin.error
    yield from _terminal()
    yield from _files()


def _libraries() -> Iterator[tuple[str, str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    for name in LIBRARIES:
        try:
            yield name, version(name), ""
        except PackageNotFoundError:
            yield name, "", "not installed: pip install memshell-mm"


def _terminal() -> Iterator[tuple[str, str, str]]:
    term = os.environ.get("TERM", "")
    yield "TERM", term, "no colour, no completion menu" if term in {"", "dumb"} else ""
    encoding = sys.stdout.encoding or ""
    yield "encoding", encoding, "" if encoding.lower().startswith("utf") else "set LANG to a UTF-8 locale"


def _files() -> Iterator[tuple[str, str, str]]:
    from memshell.paths import rc_path, state_path

    rc, state = rc_path(), state_path()
    yield "start-up file", str(rc), "" if rc.exists() else "none: it is not needed"
    writable = os.access(next(path for path in (state, *state.parents) if path.exists()), os.W_OK)
    yield "history and journal", str(state), "" if writable else "cannot be written"
