"""``memshell test``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import CommandError, UsageError
from memshell.modes import mode_parser
from memshell.modes.players import add_allow_shell, add_definitions, definitions, kept_plugins
from memshell.paths import scenario_root
from memshell.scenario.parameters import check_given
from memshell.scenario.reports import junit, ktap, plain_line, summary
from memshell.scenario.suite import Case, Cell, apply_edits, find_files, find_tests, play_cell

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
    parser.add_argument("-k", dest="wanted", default="", metavar="NAME", help="only those whose name contains NAME")
    parser.add_argument("-j", dest="jobs", type=int, default=1, metavar="N", help="play N files at a time")
    parser.add_argument(
        "--on", action="append", metavar="model|lab:IMAGE", help="where to play; more than once for both"
    )
    add_allow_shell(parser)
    add_definitions(parser)
    args = parser.parse_args(rest, namespace=args)
    if args.update and os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        raise UsageError("--update is refused under CI", hint="run it where the changes can be read")
    paths = find_files(args.files or [str(scenario_root())])
    given = definitions(args)
    check_given(given, paths)
    cases = []
    for case in _play(find_tests(paths, given, args.wanted), args):
        cases.append(case)
        if not args.ktap:
            sys.stdout.write(plain_line(case))
            sys.stdout.flush()
    if args.update:
        _update(cases)
    if args.junit:
        _write_junit(Path(args.junit), cases)
    sys.stdout.write(ktap(cases) if args.ktap else summary(cases))
    return max(case.exit_code for case in cases)


def _write_junit(path: Path, cases: list[Case]) -> None:
    try:
        path.write_text(junit(cases), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def _play(cells: list[Cell], args: argparse.Namespace) -> Iterator[Case]:
    for engine in args.on or ["model"]:
        if engine == "model":
            yield from _play_on_model(cells, args)
        elif engine.startswith("lab:"):
            yield from _play_on_kernel(cells, engine.removeprefix("lab:"), args)
        else:
            raise UsageError(f"--on {engine}: there is no such engine", hint="model, or lab:IMAGE")


def _play_on_model(cells: list[Cell], args: argparse.Namespace) -> Iterator[Case]:
    play = partial(
        play_cell,
        update=args.update,
        keep_going=args.keep_going,
        allow_shell=args.allow_shell,
        loader=kept_plugins(args),
    )
    if args.jobs <= 1 or len(cells) == 1:
        yield from map(play, cells)
        return
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(args.jobs) as pool:
        yield from pool.map(play, cells)


def _play_on_kernel(cells: list[Cell], image: str, args: argparse.Namespace) -> Iterator[Case]:
    """Play the files on a guest each, one after the other."""
    from memshell.lab.cases import play_lab_case
    from memshell.modes.lab import lab_of

    lab = lab_of(Path(image) if image else None)
    for cell in cells:
        yield play_lab_case(cell, lab, kept_plugins(args))
        lab.tell("")


def _update(cases: list[Case]) -> None:
    """Write the new golden blocks and show what changed."""
    from difflib import unified_diff

    wanted: dict[str, dict[tuple[int, int], set[str]]] = {}
    for case in cases:
        for path, found in case.edits.items():
            for span, text in found.items():
                wanted.setdefault(path, {}).setdefault(span, set()).add(text)
    for path, spans in wanted.items():
        agreed = {span: next(iter(texts)) for span, texts in spans.items() if len(texts) == 1}
        if len(agreed) < len(spans):
            print(f"memshell: {path}: cells of its matrix differ in {len(spans) - len(agreed)} blocks", file=sys.stderr)
        before, after = apply_edits(path, agreed)
        lines = unified_diff(before.splitlines(True), after.splitlines(True), path, path)
        sys.stdout.writelines(lines)
