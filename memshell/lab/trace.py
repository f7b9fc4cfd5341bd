"""Call trees of the guest: a kprobe at the entry and the return of each modelled function, read through tracefs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from memshell.lab.guest import Guest
from memshell.verify.calls import modelled, probes

TRACING = "/sys/kernel/tracing"
LINE = re.compile(r"\s*.+?-(\d+)\s+\[\d+\](?:\s+\S+)?\s+([\d.]+): ([EX])_(\w+): \(.*?\)(?: r=(0x[0-9a-f]+|-?\d+))?")
MAX_ERRNO = 4095
# Called for each pageblock or each free block: no return probe, or a trace of 1G would take a minute to read.
FREQUENT = (
    "__free_pages_core",
    "generic_online_page",
    "set_migratetype_isolate",
    "unset_migratetype_isolate",
    "vmemmap_alloc_block",
    "vmemmap_alloc_block_buf",
    "vmemmap_set_pmd",
    "free_pagetable",
)
RETURNS = ("add_memory_resource", "__add_memory", "add_memory")  # whose return is that of an add
REFUSALS = ("offline_pages", "memory_subsys_offline", "try_remove_memory")  # whose errno is that of a refused eject


def probe_names() -> list[str]:
    """Return the functions that are probed: those that the model has, and that some kernel was seen to call."""
    seen = {name for names in probes().values() for name in names}
    return sorted(seen & modelled())


def install(guest: Guest, names: Iterable[str]) -> list[str]:
    """Put probes on *names* and return those that this kernel has, none where it has no kprobe events."""
    events = f"$R{TRACING}/kprobe_events"
    if guest.shell(f"[ -f {events} ]")[1]:
        return []
    words = " ".join(names)
    often = "|".join(FREQUENT)
    # A function that returns nothing has no $retval, and the kernel knows.
    result = f'case $f in {often}) ;; *) echo "r:lab/X_$f $f r=\\$retval" >> {events} || echo "r:lab/X_$f $f" >> {events};; esac'
    guest.shell(f'for f in {words}; do {{ echo "p:lab/E_$f $f" >> {events} && {result}; }} 2>/dev/null; done', 300)
    text, _ = guest.shell(f"texts {events}")
    found = set(re.findall(r"^p\d*:lab/E_(\w+) ", text, re.MULTILINE))
    guest.shell(f"echo noirq-info > $R{TRACING}/trace_options")
    guest.shell(f"echo 16384 > $R{TRACING}/buffer_size_kb; echo 1 > $R{TRACING}/events/lab/enable", 60)
    clear(guest)
    return sorted(found)


def clear(guest: Guest) -> None:
    """Forget what was traced."""
    guest.shell(f"echo > $R{TRACING}/trace")


def read(guest: Guest) -> list[list[Any]]:
    """Return the calls since the last `clear`: [depth, function, arguments, return, us]."""
    text, _ = guest.shell(f"texts $R{TRACING}/trace", 300)
    return calls_of(text)


def calls_of(text: str) -> list[list[Any]]:
    """Return the calls in the text of a trace, in order; a call that had not returned has None.  Arguments are not taken."""
    calls: list[list[Any]] = []
    stacks: dict[str, list[tuple[list[Any], float]]] = {}
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        task, stamp, kind, name, value = found.groups()
        stack = stacks.setdefault(task, [])
        if kind == "E":
            calls.append([len(stack), name, [], None, None])
            if name not in FREQUENT:
                stack.append((calls[-1], float(stamp)))
            continue
        at = next((i for i in range(len(stack) - 1, -1, -1) if stack[i][0][1] == name), None)
        if at is not None:
            call, started = stack[at]
            call[3:] = [returned(value), round((float(stamp) - started) * 1e6)]
            del stack[at:]
    return calls


def returned(value: str | None) -> int | None:
    """Return what a function returned; 32 bits that are an errno are read as one."""
    if value is None:
        return None
    number = int(value, 0)
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >= (1 << 32) - MAX_ERRNO else number


def answer(calls: list[list[Any]], names: tuple[str, ...], *, failed: bool = False) -> int | None:
    """Return what the first of *names* that was called returned, with *failed* the first errno among them."""
    found = [call[3] for name in names for call in calls if call[1] == name and call[3] is not None]
    return next((value for value in found if value < 0 or not failed), None)
