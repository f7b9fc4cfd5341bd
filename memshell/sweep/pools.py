"""Where the cells of a sweep are played: here, in processes, on a dask cluster. Each gives rows as they come.

A pool loses no cell: when a process dies, those that it may have had are played again one by one, and the one that
kills its process alone is a row that says so.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    Play = Callable[["Task"], dict[str, Any]]

LARGEST = 25  # cells that one process takes at a time


class Task(NamedTuple):
    """One cell: its number in the grid, the values of its parameters, what is asked of it, how long it may take."""

    number: int
    values: dict[str, str]
    show: tuple[str, ...]
    seconds: float


class Played(NamedTuple):
    """A cell and its row."""

    number: int
    row: dict[str, Any]


Batch = tuple[Task, ...]


def play_batch(play: Play, batch: Batch) -> list[Played]:
    """Play cells, wherever this is."""
    return [Played(task.number, play(task)) for task in batch]


def batches(tasks: Sequence[Task], workers: int) -> list[Batch]:
    """Return the cells in portions: small ones where there are few, so that all have something to do."""
    size = max(min(LARGEST, len(tasks) // (4 * workers)), 1)
    return [tuple(tasks[at : at + size]) for at in range(0, len(tasks), size)]


def here(play: Play, tasks: Sequence[Task]) -> Iterator[Played]:
    """Play the cells one after the other."""
    for task in tasks:
        yield from play_batch(play, (task,))


# --- processes ---


def in_processes(play: Play, tasks: Sequence[Task], jobs: int) -> Iterator[Played]:
    """Play the cells in *jobs* processes."""
    waiting = deque(batches(tasks, jobs))
    while waiting:
        for batch in (yield from _until_one_dies(play, waiting, jobs)):
            yield from _one_by_one(play, batch)


def _one_by_one(play: Play, batch: Batch) -> Iterator[Played]:
    waiting = deque((task,) for task in batch)
    while waiting:
        for (task,) in (yield from _until_one_dies(play, waiting, 1, ahead=1)):
            yield died(task)


def _until_one_dies(play: Play, waiting: deque[Any], jobs: int, ahead: int = 0) -> Generator[Played, None, list[Batch]]:
    """Play from *waiting*; return the portions that were in the making when a process died, none at the end."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    running: dict[Future[list[Played]], Batch] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (ahead or 2 * jobs):
                running[pool.submit(play_batch, play, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                rows = future.result()
                del running[future]
                yield from rows
    except BrokenProcessPool:
        return list(running.values())
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return []


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def died(task: Task) -> Played:
    """Return the row of a cell that kills the process that plays it."""
    why = "the process that played it died"
    return Played(task.number, {**task.values, **dict.fromkeys(task.show), "outcome": "crashed", "why": why})


# --- a cluster ---


def on_dask(play: Play, tasks: Sequence[Task], where: str, jobs: int) -> Iterator[Played]:
    """Play the cells on the dask cluster at *where* (tcp://HOST:PORT), or on one of *jobs* processes here ("local").

    Raises `CommandError` where dask is not installed, and where no scheduler answers.
    """
    dask = _dask()
    local = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    cluster = dask.LocalCluster(n_workers=jobs, **local) if where == "local" else None
    try:
        client = dask.Client(cluster if cluster is not None else where, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise CommandError(f"no dask scheduler answers at {where}", hint="such as tcp://HOST:8786") from error
    try:
        workers = len(client.scheduler_info(n_workers=-1)["workers"]) or jobs
        yield from _gathered(client, play, batches(tasks, workers))
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _dask() -> Any:
    try:
        from dask import distributed
    except ImportError as error:
        hint = "pip install 'memshell-mm[dask]'"
        raise CommandError("on= needs dask, which is not installed", hint=hint) from error
    return distributed


def _gathered(client: Any, play: Play, portions: Sequence[Batch]) -> Iterator[Played]:
    """Submit portions and yield their rows; dask plays again what a worker that died had."""
    dask = _dask()
    futures = {client.submit(play_batch, play, batch, pure=False): batch for batch in portions}
    coming = dask.as_completed(futures)
    for future in coming:
        batch = futures.pop(future)
        try:
            yield from future.result()
        except dask.KilledWorker:  # several died of it
            if len(batch) == 1:
                yield died(batch[0])
                continue
            for task in batch:
                again = client.submit(play_batch, play, (task,), pure=False)
                futures[again] = (task,)
                coming.add(again)
        except ModuleNotFoundError as error:
            raise CommandError(f"the cluster's workers have no {error.name}", hint="install memshell there") from error
