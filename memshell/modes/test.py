"""``memshell test``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import UsageError
from memshell.modes import mode_parser
from memshell.paths import scenario_root
from memshell.scenario.reports import junit, ktap, plain_line, summary
from memshell.scenario.suite import Case, apply_edits, find_files, play_case, shared_plugins

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Play scenarios as tests; without a name, those that memshell brings."""
    parser = mode_parser("test", "play scenarios as tests, each on a machine of its own")
    parser.add_argument("files", nargs="*", metavar="FILE|DIR")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--ktap", action="store_true", help="print KTAP instead of lines for people")
    parser.add_argument("--update", action="store_true", help="rewrite the golden blocks that differ")
    parser.add_argument("--keep-going", action="store_true", default=args.keep_going)
    parser.add_argument("-k", dest="wanted", default="", metavar="NAME", help="only paths that contain NAME")
    parser.add_argument("-j", dest="jobs", type=int, default=1, metavar="N", help="play N files at a time")
    parser.add_argument(
        "--on", action="append", metavar="model|lab:IMAGE", help="where to play; more than once for both"
    )
    args = parser.parse_args(rest, namespace=args)
    if args.update and os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        raise UsageError("--update is refused under CI", hint="run it where the changes can be read")
    paths = find_files(args.files or [str(scenario_root())], args.wanted)
    cases = []
    for case in _play(paths, args):
        cases.append(case)
        if not args.ktap:
            sys.stdout.write(plain_line(case))
            sys.stdout.flush()
    if args.update:
        _update(cases)
    if args.junit:
        Path(args.junit).write_text(junit(cases), encoding="utf-8")
    sys.stdout.write(ktap(cases) if args.ktap else summary(cases))
    return 0 if all(case.ok for case in cases) else 1


def _play(paths: list[str], args: argparse.Namespace) -> Iterator[Case]:
    for engine in args.on or ["model"]:
        if engine == "model":
            yield from _play_on_model(paths, args)
        elif engine.startswith("lab:"):
            yield from _play_on_kernel(paths, engine.removeprefix("lab:"))
        else:
            raise UsageError(f"--on {engine}: there is no such engine", hint="model, or lab:IMAGE")


def _play_on_model(paths: list[str], args: argparse.Namespace) -> Iterator[Case]:
    play = partial(play_case, update=args.update, keep_going=args.keep_going)
    if args.jobs <= 1 or len(paths) == 1:
        yield from map(play, paths)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(args.jobs) as pool:
        yield from pool.map(play, paths)


def _play_on_kernel(paths: list[str], image: str) -> Iterator[Case]:
    """Play the files on a guest each, one after the other."""
    from memshell.lab.cases import play_lab_case
    from memshell.modes.lab import lab_of

    lab = lab_of(Path(image) if image else None)
    for path in paths:
        yield play_lab_case(path, lab, shared_plugins)
        lab.tell("")


def _update(cases: list[Case]) -> None:
    """Write the new golden blocks and show what changed."""
    from difflib import unified_diff

    edits: dict[str, dict[tuple[int, int], str]] = {}
    for case in cases:
        for path, found in case.edits.items():
            edits.setdefault(path, {}).update(found)
    for path, found in edits.items():
        before, after = apply_edits(path, found)
        lines = unified_diff(before.splitlines(True), after.splitlines(True), path, path)
        sys.stdout.writelines(lines)
