"""drivers/base/memory.c: the memory notifier chain."""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.state import Mm


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
    mm.arch.memory_notify(mm, action, start_pfn, nr_pages)
    if mm.memory_notifier is not None:
        mm.memory_notifier(mm, action, start_pfn, nr_pages)


def prepare_notify(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Tell MEM_PREPARE_ONLINE or MEM_FINISH_OFFLINE, in kernels that have them (v6.9)."""
    if mm.features.hotplug.prepare_online:
        mm.arch.memory_notify(mm, action, start_pfn, nr_pages)
        if mm.memory_notifier is not None:
            mm.memory_notifier(mm, action, start_pfn, nr_pages)
