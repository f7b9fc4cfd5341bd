"""``memshell lab doctor|run``: the same scenario on a real kernel in QEMU."""

from __future__ import annotations

import json
import lzma
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, UsageError, did_you_mean
from memshell.modes import mode_parser
from memshell.modes.players import add_definitions, chosen_plugins, definitions
from memshell.paths import find_scenario
from memshell.scenario.files import read_scenario
from memshell.scenario.parameters import check_given

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from memshell.lab.play import Lab

LIMIT = 600.0  # seconds


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Do what the word behind ``lab`` says."""
    if not rest or rest[0] in {"-h", "--help"}:
        lines = [f"memshell lab {word:<8} {text}" for word, (_, text) in WORDS.items()]
        print("\n".join([*lines, "memshell lab WORD --help says more"]))
        return 0
    if rest[0] not in WORDS:
        hint = did_you_mean(rest[0], WORDS) or "one of " + ", ".join(WORDS)
        raise UsageError(f"lab knows no {rest[0]!r}", hint=hint)
    return WORDS[rest[0]][0](args, rest[1:])


def _doctor(args: argparse.Namespace, rest: list[str]) -> int:
    from memshell.lab.doctor import findings, install_command
    from memshell.lab.hardware import BOARDS

    parser = mode_parser("lab doctor", "say what a lab needs here, and the command that installs what is missing")
    parser.add_argument("--arch", default="x86_64", choices=list(BOARDS))
    args = parser.parse_args(rest, namespace=args)
    found = findings(args.arch)
    width = max(len(one.what) for one in found)
    for one in found:
        print(f"{'-' if one.missing else '+'} {one.what:<{width}}  {one.found}")
    command = install_command(found)
    print(f"\ninstall what is missing:\n{command}" if command else "\nready: memshell lab run tutorial/first")
    return 1 if command else 0


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    from memshell.lab.plan import make_plan
    from memshell.lab.report import as_json, compare_runs, text_report

    parser = mode_parser("lab run", "play a scenario on the model and on a kernel, and compare")
    parser.add_argument("scenario", metavar="SCENARIO", help="a file, or one of memshell's own such as tutorial/first")
    add_kernel(parser)
    parser.add_argument("-o", dest="out", type=Path, metavar="REC", help="write a recording: NAME.json or NAME.json.xz")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    add_definitions(parser)
    args = parser.parse_args(rest, namespace=args)
    loader = partial(chosen_plugins, args)
    path, given = find_scenario(args.scenario), definitions(args)
    check_given(given, [path])
    plan = make_plan(path, read_scenario(path), loader, given)
    lab = make_lab(args)
    runs = lab.run(plan)
    lab.tell("")
    if args.out is not None:
        write_recordings(args.out, [ran.raw for ran in runs])
    compared = compare_runs(runs, loader())
    print(json.dumps(as_json(plan, compared)) if args.json else text_report(plan, compared), end="\n" * args.json)
    return 0 if not plan.failures and all(one.ok for one in compared) else 1


def _check(args: argparse.Namespace, rest: list[str]) -> int:
    from memshell.capture.recording import load_recording
    from memshell.lab.check import RULES, check_recording
    from memshell.lab.plan import make_plan

    parser = mode_parser("lab check", "the model's rules on a kernel's own state, after each step of a scenario")
    parser.add_argument("what", metavar="SCENARIO|RECORDING", help="a scenario to play on a kernel, or a recording")
    add_kernel(parser)
    args = parser.parse_args(rest, namespace=args)
    if ".json" in args.what:
        recordings = [load_recording(args.what).raw]
    else:
        path = find_scenario(args.what)
        lab = make_lab(args)
        recordings = [ran.raw for ran in lab.run(make_plan(path, read_scenario(path), partial(chosen_plugins, args)))]
        lab.tell("")
    found = [complaint for raw in recordings for complaint in check_recording(raw)]
    for one in found:
        print(f"step {one.step} ({one.action}) {one.rule}: {one.text}")
    steps = sum("state" in step for raw in recordings for step in raw["steps"])
    print(f"{len(RULES)} rules, {steps} states: " + (f"{len(found)} complaints" if found else "all hold"))
    return 1 if found else 0


def _fuzz(args: argparse.Namespace, rest: list[str]) -> int:
    from memshell.lab.fuzz import Fuzz, Generator, save
    from memshell.lab.report import difference_rows

    parser = mode_parser(
        "lab fuzz", "random sequences on the model and on a kernel; what differs is shortened and saved"
    )
    add_kernel(parser)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first sequence; the next has the next")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="commands of a sequence")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many sequences")
    parser.add_argument("-o", dest="out", type=Path, default=Path("fuzz"), metavar="DIR", help="where findings go")
    args = parser.parse_args(rest, namespace=args)
    loader = partial(chosen_plugins, args)
    plugins = loader()
    fuzz = Fuzz(make_lab(args), lambda: plugins)
    bad = 0
    for seed in range(args.seed, args.seed + args.count):
        found = fuzz.try_out(Generator(seed, lambda: plugins).scenario(args.steps))
        fuzz.lab.tell("")
        total = sum(len(one.quantities) for one in found.compared)
        if not found.where:
            print(f"seed {seed}: {total} quantities agree", flush=True)
            continue
        bad += 1
        found = fuzz.shrink(found)
        path = save(found, args.out, seed)
        print(f"seed {seed}: {path}", flush=True)
        for one in found.compared:
            for row in difference_rows(one):
                print(f"  {row['step']}: {row['quantity']}: model {row['model']}, kernel {row['kernel']}", flush=True)
            if one.ran.died:
                print(f"  the guest died: {one.ran.died}", flush=True)
    print(f"{args.count - bad} of {args.count} sequences agree")
    return 1 if bad else 0


def _initrd(args: argparse.Namespace, rest: list[str]) -> int:
    from memshell.lab.doctor import find_busybox
    from memshell.lab.hardware import BOARDS, board_of
    from memshell.lab.initramfs import initramfs

    parser = mode_parser("lab initrd", "write the guest's root, for the script of `export script`")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--arch", default="x86_64", choices=list(BOARDS))
    args = parser.parse_args(rest, namespace=args)
    data = initramfs(find_busybox().read_bytes(), board_of(args.arch).tty, {})
    try:
        args.out.write_bytes(data)
    except OSError as error:
        raise CommandError(f"cannot write {args.out}: {error.strerror}") from error
    print(f"{args.out}: {len(data)} bytes")
    return 0


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which kernel boots, and how long it may take."""
    parser.add_argument(
        "--kernel", type=Path, metavar="IMAGE", help="a vmlinuz, a Debian package or a built tree; without it /boot's"
    )
    parser.add_argument("--modules", type=Path, metavar="DIR", help="where its modules are, if not beside it")
    parser.add_argument("--no-calls", action="store_true", help="put no probe on the kernel's functions")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="S", help="seconds that a boot may take; 600")


def make_lab(args: argparse.Namespace) -> Lab:
    """Return the lab that the options of `add_kernel` describe."""
    return lab_of(args.kernel, args.modules, args.limit, calls=not args.no_calls)


def lab_of(kernel: Path | None, modules: Path | None = None, limit: float = LIMIT, *, calls: bool = True) -> Lab:
    """Return a lab for *kernel*, or for the one in /boot.  Raises CommandError where something is missing."""
    from importlib.util import find_spec

    from memshell.lab.doctor import default_kernel, find_busybox
    from memshell.lab.image import open_image
    from memshell.lab.play import Lab

    if find_spec("qemu") is None:
        raise CommandError(
            "the Python package qemu.qmp is not installed", hint="memshell lab doctor says what is missing"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no guest outlives us
    kernel = kernel or default_kernel()
    if kernel is None:
        raise CommandError("there is no kernel in /boot", hint="name one: --kernel IMAGE")
    return Lab(open_image(kernel, modules), find_busybox(), limit, calls, _progress())


def _progress() -> Callable[[str], None]:
    """Return what shows how far a run is: on a terminal only."""
    if not sys.stderr.isatty():
        return lambda _text: None

    def show(text: str) -> None:
        print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)

    return show


def write_recordings(out: Path, recordings: list[dict[str, Any]]) -> None:
    """Write recordings: the first as *out*, others with -2, -3 behind the name."""
    stem, dot, suffix = out.name.partition(".")
    for number, raw in enumerate(recordings, start=1):
        path = out if number == 1 else out.with_name(f"{stem}-{number}{dot}{suffix}")
        data = json.dumps(raw, separators=(",", ":")).encode()
        try:
            path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from error


WORDS: dict[str, tuple[Callable[[argparse.Namespace, list[str]], int], str]] = {
    "doctor": (_doctor, "say what is missing here, and how to install it"),
    "check": (_check, "the model's rules (sums, frames, mappings, free lists) on a kernel's own state"),
    "fuzz": (_fuzz, "random sequences on both; differences are shortened and saved"),
    "initrd": (_initrd, "write the guest's root, for `export script`"),
    "run": (_run, "play a scenario on the model and on a kernel, and compare"),
}
