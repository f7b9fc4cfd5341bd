"""``memshell new-plugin KIND NAME [DIR]``: write a project that installs, and passes its own tests."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.modes import mode_parser
from memshell.modes.players import make_player

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping

KINDS = {
    "arch": "an architecture for `use`",
    "policy": "a policy: where the memmap of added memory goes",
    "commands": "a command of the shell",
    "checks": "rules of a site, for `check`",
    "columns": "a column of a view",
    "observers": "who hears what happens",
    "profile": "a vendor's kernel, with a feature of its own",
    "export": "a format for `export`",
}
TRIALS = {
    "arch": "use $name ram=2G; add 1G; online all movable; map",
    "policy": "use x86_64 ram=2G policy=$name; add 1G; add 8G; map",
    "commands": "use x86_64 ram=2G; $command size",
    "checks": "use x86_64 ram=2G; check",
    "columns": "use x86_64 ram=2G; lsmem -o +PAGES",
    "observers": "use x86_64 ram=2G; add 256M; online last",
    "profile": "use x86_64 profile=$command-6.12; set $name.early_online",
    "export": "use x86_64 ram=2G; export $command /dev/stdout --force",
}


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Write the project and say what comes next."""
    kinds = "; ".join(f"{kind}: {text}" for kind, text in KINDS.items())
    parser = mode_parser("new-plugin", f"write the project of a plugin. {kinds}")
    parser.add_argument("kind", metavar="|".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="its name, such as large-only")
    parser.add_argument("folder", metavar="DIR", nargs="?", help="where; memshell-NAME without it")
    args = parser.parse_args(rest, namespace=args)
    if args.kind not in KINDS:
        hint = did_you_mean(args.kind, KINDS) or "one of " + ", ".join(KINDS)
        raise UsageError(f"new-plugin cannot write {args.kind!r}", hint=hint)
    words = names_of(args.name, taken(args))
    folder = Path(args.folder or words["dist"])
    write(folder, args.kind, words)
    trial = Template(TRIALS[args.kind]).substitute(words)
    sys.stdout.write(
        f"{folder}: {words['module']}.py, its tests, pyproject.toml, README.md, LICENSE, CI\n"
        f"try it:      memshell --plugin {folder / words['module']}.py -c '{trial}'\n"
        f"install it:  pip install -e '{folder}[test]'\n"
        f"test it:     pytest {folder}\n"
    )
    return 0


def taken(args: argparse.Namespace) -> set[str]:
    """Return the names of architectures, policies and commands that there are."""
    shell = make_player(args).shell
    plugins = shell.plugins
    return {*plugins.arches(), *plugins.policies(), *plugins.names(), *(item.name for item in shell.registry)}


def names_of(name: str, known: Collection[str]) -> dict[str, str]:
    """Return the names that the templates use.  UsageError: *name* is no name, or there is one already."""
    short = name.removeprefix("memshell-").removeprefix("memshell_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", short):
        hint = "small letters and digits, with - or _ between words, such as large-only"
        raise UsageError(f"{name!r} cannot be the name of a plugin", hint=hint)
    function = short.replace("-", "_")
    if {function, function.replace("_", "-")} & {*known}:
        raise UsageError(f"{short} exists already", hint="memshell plugins lists who brings it")
    if keyword.iskeyword(function):
        raise UsageError(f"{short} is a word of Python's", hint="take another name")
    return {
        "name": function,
        "entry": function,
        "function": function,
        "command": function.replace("_", "-"),
        "module": f"memshell_{function}",
        "dist": f"memshell-{short.replace('_', '-')}",
        "class_name": "".join(part.capitalize() for part in function.split("_")),
    }


def write(folder: Path, kind: str, words: Mapping[str, str]) -> None:
    """Write the files of a project into *folder*, which must be empty or not there.  Raises CommandError."""
    templates = files("memshell") / "templates"
    words = {**words, "trial": Template(TRIALS[kind]).substitute(words)}
    targets = {
        "pyproject.toml.in": "pyproject.toml",
        "README.md.in": "README.md",
        "LICENSE.in": "LICENSE",
        "gitignore.in": ".gitignore",
        "workflow.yml.in": ".github/workflows/test.yml",
        f"{kind}.py.in": f"{words['module']}.py",
        f"{kind}_test.py.in": f"tests/test_{words['name']}.py",
    }
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} is there already", hint="name a folder that is not: new-plugin KIND NAME DIR")
        for source, target in targets.items():
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (templates / source).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}") from error
