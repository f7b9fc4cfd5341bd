"""``memshell capture``: write a machine file for ``use FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, MemshellError, printable
from memshell.modes import mode_parser
from memshell.modes.players import chosen_plugins

if TYPE_CHECKING:
    import argparse

    from memshell.plugins import Plugins


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Read a machine; the file goes to stdout or to -o, what could not be read to stderr."""
    from memshell.capture import capture as read_machine

    parser = mode_parser("capture", "read this machine, or a copied /proc and /sys tree, into a file for `use FILE`")
    help_text = "a folder with proc and sys, its archive, a sosreport, or what lsmem printed"
    parser.add_argument("--root", type=Path, metavar="DIR", help=help_text)
    parser.add_argument("--arch", metavar="NAME", help="the architecture, where the root does not say it")
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="write here instead of stdout")
    args = parser.parse_args(rest, namespace=args)
    plugins = chosen_plugins(args)
    machine = read_machine(plugins.arches().values(), args.root, args.arch)
    wrong = refusal(machine, plugins)
    for note in machine["notes"]:
        print(f"memshell: {printable(note)}", file=sys.stderr)
    text = as_text(machine)
    if wrong:
        print(f"memshell: `use` will refuse this file: {printable(wrong)}", file=sys.stderr)
    if args.out is None:
        sys.stdout.write(text)
        return 1 if wrong else 0
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {args.out}: {error.strerror or error}") from error
    print(printable(f"{args.out}: {summary(machine)}"))
    return 1 if wrong else 0


def refusal(machine: dict[str, Any], plugins: Plugins) -> str:
    """Return why `use` would not take the machine, with the kernel and the policy of its own; "" where it does.

    What it would take and cannot show goes into the machine's notes.
    """
    from memshell.capture import boot_file, policy_of, profile_of
    from memshell.capture.again import judge
    from memshell.capture.machine_file import machine_file_of

    try:
        file = machine_file_of(machine, "it")
        booted = boot_file(file, profile_of(file), {}, plugins.arches(), policy_of(file, plugins.policies()))
        machine["notes"] += [f"the model: {text}" for text in judge(booted.mm, file.state)]
    except MemshellError as error:
        return str(error).removeprefix("it: ")
    return ""


def as_text(machine: dict[str, Any]) -> str:
    """Return the file: a line for each key, of the state too, so that two files can be compared."""
    state = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in machine["state"].items())
    values = {key: json.dumps(value) for key, value in machine.items()} | {"state": f"{{\n{state}\n }}"}
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {value}" for key, value in values.items()) + "\n}\n"


def summary(machine: dict[str, Any]) -> str:
    """Return a line about a machine file."""
    from memshell.mm.pfn import format_size

    blocks = machine["state"]["memory_blocks"].values()
    online = sum(block["state"] != "offline" for block in blocks)
    size = format_size(machine["state"]["block_size_bytes"])
    kernel = machine["kernel"].removeprefix("Linux version ") or "kernel not known"
    return f"{machine['arch']}, {kernel}, {online} of {len(blocks)} blocks of {size} online"
