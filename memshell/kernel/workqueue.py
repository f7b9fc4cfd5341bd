"""kernel/workqueue.c, as far as drivers put work off until the one who calls them is through."""

from __future__ import annotations

from collections.abc import Callable

from memshell.mm.state import Mm


def queue_work(mm: Mm, work: Callable[[Mm], None]) -> None:
    """Queue *work*, once."""
    if work not in mm.work:
        mm.work = (*mm.work, work)


def flush_work(mm: Mm) -> None:
    """Do what was queued."""
    while mm.work:
        work, *rest = mm.work
        mm.work = tuple(rest)
        work(mm)
