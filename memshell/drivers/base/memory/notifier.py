"""drivers/base/memory.c: the memory notifier chain."""

from __future__ import annotations

import errno

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.state import Mm

INJECTED = "memory-notifier-error-inject"
INJECTABLE = ("MEM_GOING_ONLINE", "MEM_GOING_OFFLINE")
MAX_ERRNO = 4095


@mirrors(
    "drivers/base/memory.c:memory_notify",
    "v6.12",
    "simplified",
    "the architecture's notifier, one driver's and injected faults answer",
)
def memory_notify(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Tell the notifiers *action* (MEM_GOING_ONLINE, ...); one of them may refuse with its errno."""
    if mm.fault(action):
        raise KernelError(f"a notifier refused {action}", "EPERM", where="drivers/base/memory.c:memory_notify")
    injected = injected_error(mm, action)
    if injected:
        name = errno.errorcode[-injected]
        raise KernelError(f"injected: a notifier refused {action}", name, where="lib/notifier-error-inject.c")
    mm.arch.memory_notify(mm, action, start_pfn, nr_pages)
    if mm.memory_notifier is not None:
        mm.memory_notifier(mm, action, start_pfn, nr_pages)


def prepare_notify(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Tell MEM_PREPARE_ONLINE or MEM_FINISH_OFFLINE, in kernels that have them (v6.9)."""
    if mm.features.hotplug.prepare_online:
        mm.arch.memory_notify(mm, action, start_pfn, nr_pages)
        if mm.memory_notifier is not None:
            mm.memory_notifier(mm, action, start_pfn, nr_pages)


def injected_error(mm: Mm, action: str) -> int:
    """Return the errno, 0 or negative, that the notifier error injection has for *action*."""
    found = mm.drvdata.get(INJECTED, ())
    assert isinstance(found, tuple)
    return int(dict(found).get(action, 0))


def injected_error_store(mm: Mm, action: str, value: str) -> None:
    """Set that errno, cut to what an errno can be. Source: lib/notifier-error-inject.c:debugfs_errno_set."""
    where = "lib/notifier-error-inject.c:debugfs_errno_set"
    try:
        number = max(-MAX_ERRNO, min(int(value, 0), 0))
    except ValueError as error:
        raise KernelError(f"{value!r} is no number", "EINVAL", where=where) from error
    if number and -number not in errno.errorcode:
        raise KernelError(f"{number} is no errno that has a name", "EINVAL", where=where)
    others = {one: injected_error(mm, one) for one in INJECTABLE if one != action}
    mm.drvdata[INJECTED] = tuple({**others, action: number}.items())
