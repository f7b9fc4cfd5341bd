"""Play one scenario many times, each time with other features of the kernel, on all cores."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from memshell.commands import load_builtin_commands
from memshell.commands.shell import Shell
from memshell.errors import KernelCrash, KernelError, UsageError
from memshell.experiment.mutate import Shown, Sites, Verdict, judge, mutants, numbers
from memshell.experiment.trouble import Trouble, troubles
from memshell.machine import Step
from memshell.plugins import Plugins
from memshell.scenario.player import Played, Player

Loader = Callable[[], Plugins]


@dataclass(slots=True)
class Watcher:
    """Sets the features of a scenario's machines, lets a process run after each step, keeps what it sees."""

    shell: Shell
    features: Mapping[str, Any]
    found: list[Trouble] = field(default_factory=list)
    numbers: list[tuple[int, str, dict[str, int]]] = field(default_factory=list)

    def __call__(self, played: Played) -> None:
        """Look at one finished step."""
        machine = self.shell.machine
        if machine is None:
            return
        steps = list(played.steps)
        if not machine.mm.crashed:
            mark = len(machine.steps)
            self._attend()
            steps += machine.steps[mark:]
        self.found += [trouble._replace(step=played.n, command=played.command) for trouble in troubles(steps)]
        if steps:
            self.numbers.append((played.n, played.command, numbers(machine.mm)))

    def _attend(self) -> None:
        from memshell.series.processes import process_runs

        machine = self.shell.need_machine()
        wanted = {
            name: value for name, value in self.features.items() if machine.mm.profile.features.get(name) != value
        }
        try:
            if wanted:
                with machine.transaction("set " + " ".join(wanted)) as mm:
                    for name, value in wanted.items():
                        mm.profile = mm.profile.with_feature(name, value)
            with machine.transaction("a process runs") as mm:
                process_runs(mm)
        except (KernelError, KernelCrash):
            pass  # the step says so


def show(path: str, features: Mapping[str, Any], loader: Loader | None = None) -> Shown:
    """Play the scenario at *path* with *features*, whatever fails in it, and return what it showed."""
    load_builtin_commands()
    shell = Shell(loader=loader, out=io.StringIO(), err=io.StringIO())
    watcher = Watcher(shell, features)
    player = Player(shell, keep_going=True, observe=watcher, echo=False, capture=True)
    shell.play_file = player.play_file
    player.play_file(path)
    return Shown(tuple(watcher.found), tuple(watcher.numbers))


def play_fresh(text: str, loader: Loader | None) -> list[Step]:
    """Play *text*, which starts a machine, on a fresh shell, whatever fails in it.

    Return the machine's steps.
    """
    load_builtin_commands()
    shell = Shell(loader=loader, out=io.StringIO(), err=io.StringIO())
    player = Player(shell, keep_going=True, echo=False, capture=True)
    shell.play_file = player.play_file
    player.play_text(text, "compare")
    for failure in player.failures:
        if isinstance(failure.cause, UsageError):
            raise failure
    if shell.machine is None:
        raise player.failures[0] if player.failures else UsageError("no machine was started")
    return shell.machine.steps


def _job(path: str, loader: Loader | None, sites: Sites) -> Shown:
    return show(path, dict.fromkeys(sites, False), loader)


def mutate(path: str, *, pairs: bool = False, jobs: int | None = None, loader: Loader | None = None) -> list[Verdict]:
    """Play *path* with all checks, then without each (or each two), and return what differed first."""
    plain = show(path, {}, loader)
    wanted = mutants(pairs)
    shown = in_parallel(partial(_job, path, loader), wanted, jobs or os.cpu_count() or 1)
    return [judge(sites, plain, mutant) for sites, mutant in zip(wanted, shown, strict=True)]


def in_parallel(job: Callable[[Sites], Shown], items: Sequence[Sites], jobs: int) -> list[Shown]:
    """Return [job(item) ...], on *jobs* processes where there are several and the system can fork."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [job(item) for item in items]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        return list(pool.map(job, items, chunksize=max(len(items) // (4 * jobs), 1)))
