"""Verify the recordings of the 2018 series (top key ``rfc``): marks, counts, frees, online chunks, struct pages, crashes.

Steps after a crash were seen from outside only. The action that the guest died in is missing from their list; where it
is known, the recording says it apart (`rfc.interrupted`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from memshell.experiment.trouble import Trouble, troubles
from memshell.mm.events import Event
from memshell.mm.page import KPF_BUDDY, KPF_LRU, KPF_MMAP, KPF_RESERVED, Owner
from memshell.mm.ranges import RangeMap
from memshell.mm.state import Mm
from memshell.series.struct_page import PG_LRU, PG_RESERVED, Content, any_of, kept, physical, runs
from memshell.verify.actions import size_text
from memshell.verify.quantity import Quantity, compare

if TYPE_CHECKING:
    from memshell.capture.recording import Recording
    from memshell.verify.replay import Replay


def interrupted(recording: Recording, step: dict[str, Any]) -> dict[str, Any] | None:
    """Return the action that the guest died or hung in, where this step is what was seen from outside afterwards."""
    last = step is recording.steps[-1]
    lost: dict[str, Any] | None = recording.raw["rfc"].get("interrupted") if last and "state" not in step else None
    return lost["op"] if lost else None


def play_lost(replay: Replay, n: int, op: dict[str, Any]) -> None:
    """Play the action that the guest died in; a process that touches memory among them."""
    if op["op"] == "use_memory":
        replay.say(n, f"touch {size_text(op['size'])}")
    else:
        replay.act(n, op, "the action that the guest died in")


def look(replay: Replay, n: int) -> None:
    """Play the reader of the state, which is a process too."""
    replay.say(n, "touch", "the state is read")


def with_answers(recording: Recording) -> Iterator[dict[str, Any]]:
    """Yield the steps, an add with what the log has of it, since the recorder of an ACPI plug does not see it.

    That is the errno of add_memory(), and the count of the first struct page before it was marked, where it held nothing else.
    """
    lines = recording.raw["rfc"].get("rfc_lines", ())
    answers = [-int(found) for found in _found(r"rfc: arch_add_memory \S+ = (-?\d+)", lines)]
    counts = _found(r"rfc: first struct page before mark: flags=0 mapping=0+ ref=(\d+)", lines)
    adds = sum(step["op"]["op"] == "add" for step in recording.steps)
    for step in recording.steps:
        if step["op"]["op"] == "add":
            errno = {"errno": answers.pop(0)} if len(answers) == adds else {}
            first = {"first_count": int(counts.pop(0))} if len(counts) == adds else {}
            adds -= 1
            step = {**step, **errno, **first}  # noqa: PLW2901 - the same step with what is known about it
        yield step


def _found(pattern: str, lines: Iterable[str]) -> list[str]:
    return [match[1] for match in (re.fullmatch(pattern, line) for line in lines) if match]


def set_first_count(replay: Replay, step: dict[str, Any]) -> None:
    """Set what the recorder had set for this add: rfc_ref0, which its kernel also takes while it runs, and then logs."""
    kind, _, number = replay.machine.mm.params.memmap_content.partition(":")
    count = step.get("first_count")
    if count is not None and kind in ("stale", "count") and count != int(number or "0", 0):
        replay.say(
            step["n"], f"set memmap_content=count:{count}", "the recorder's switch rfc_ref0, says the kernel's log"
        )


# --- quantities of a step ---


def kpageflags(mm: Mm, ranges: list[tuple[int, int]], absent: int) -> list[list[int]]:
    """Return what /proc/kpageflags shows of *ranges*: it reads struct pages, initialised or not."""
    shown: list[list[int]] = []
    free = shown_free(mm)

    def add(a: int, b: int, flags: int) -> None:
        if shown and shown[-1][0] + shown[-1][1] == a and shown[-1][2] == flags:
            shown[-1][1] += b - a
        else:
            shown.append([a, b - a, flags])

    for start, end in ranges:
        at = start
        for low, high, _ in mm.sections.items(start, end):
            if at < low:
                add(at, low, absent)
            for a, b, content in runs(mm, low, high):
                for c, d, is_free in _free_runs(free, a, b):
                    add(c, d, KPF_BUDDY if is_free else _kpf(content))
            at = high
        if at < end:
            add(at, end, absent)
    return shown


def hidden_runs(mm: Mm) -> RangeMap[bool]:
    """Return the pages of misaligned free blocks that is_free_buddy_page() misses: it rounds the pfn down to each order."""
    hidden: RangeMap[bool] = RangeMap()
    for area in mm.free.values():
        for start, end, order in area.runs():
            if start & ((1 << order) - 1):
                hidden.set(min(start + (start & -start), end), end, value=True)
    return hidden


def reveal(mm: Mm, shown: list[list[int]]) -> list[list[int]]:
    """Return recorded kpageflags with those pages as free as the model has them."""
    hidden = hidden_runs(mm)
    if not hidden:
        return shown
    revealed: list[list[int]] = []
    for pfn, count, flags in shown:
        parts = [(a, b, KPF_BUDDY) for a, b, _ in hidden.items(pfn, pfn + count)] if not flags else []
        parts += [(a, b, flags) for a, b in hidden.gaps(pfn, pfn + count)] if not flags else [(pfn, pfn + count, flags)]
        revealed += [[a, b - a, value] for a, b, value in sorted(parts)]
    return revealed


def images(mm: Mm) -> list[tuple[int, int, int]]:
    """Return (start_pfn, end_pfn, distance) of runs whose struct pages are mapped twice: for the pfns *distance* on as well."""
    base, size = mm.arch.vmemmap_base, mm.arch.struct_page_size
    seen: list[tuple[int, int, int]] = []  # physical start, end, virtual minus physical
    found = []
    for a, b, leaf in mm.leaves.items(base, base + (mm.max_pfn + 1) * size):
        if leaf.owner == "early":
            continue
        shift = leaf.shift << mm.arch.page_shift
        for c, d, other in seen:
            low, high = max(c, a + shift), min(d, b + shift)
            if low < high:
                first, last = (low + other - base) // size, (high + other - base) // size
                distance = (low - shift - base) // size - first
                found += [(first, last, distance), (first + distance, last + distance, -distance)]
        seen.append((a + shift, b + shift, -shift))
    return found


def with_images(mm: Mm, chunks: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Add the free blocks that are seen a second time, because their struct pages are mapped twice."""
    seen = [(pfn + distance, order) for a, b, distance in images(mm) for pfn, order in chunks if a <= pfn < b]
    return sorted({*chunks, *(chunk for chunk in seen if any(a <= chunk[0] < b for a, b in ranges))})


def shown_free(mm: Mm) -> RangeMap[bool]:
    """Return the pfns that /proc/kpageflags shows as free."""
    shown: RangeMap[bool] = RangeMap()
    hidden = hidden_runs(mm)
    for a, b, page in mm.pages.items():
        if page.owner is Owner.FREE:
            for c, d in hidden.gaps(a, b):
                shown.set(c, d, value=True)
    for a, b, distance in images(mm):
        for c, d, _ in list(shown.items(a, b)):
            shown.set(c + distance, d + distance, value=True)
    return shown


def _free_runs(free: RangeMap[bool], start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    at = start
    for a, b, _ in free.items(start, end):
        if at < a:
            yield at, a, False
        yield a, b, True
        at = b
    if at < end:
        yield at, end, False


def _kpf(content: Content | None) -> int:
    if content is None:
        return 0
    page = any_of(content)
    return (
        (KPF_RESERVED if page.flags & PG_RESERVED else 0)
        | (KPF_MMAP if page.mapcount >= 0 else 0)
        | (KPF_LRU if page.flags & PG_LRU else 0)
    )


def struct_pages(step: dict[str, Any], replay: Replay) -> Iterator[Quantity]:
    """Compare flags and refcount of the struct pages that were read from outside, and what cannot be read.

    Those of pages that a program uses, and those that a program has overwritten, are left out.
    """
    mm, plugged = replay.machine.mm, [(start, start + size) for start, size, _ in replay.bench.dimms.values()]
    for entry in step.get("struct_page", ()):
        if not isinstance(entry["runs"], list):
            continue  # too many to keep: only their number is recorded
        start, end = entry["range"]
        used = [
            (pfn, pfn + n)
            for pfn, n, flags, _, count in entry["runs"]
            if 0 < count < 1 << 31 and not flags & PG_RESERVED
        ]
        used += [
            (a, b)
            for a, b, page in mm.pages.items(start, end)
            if page.owner in (Owner.USER, Owner.KERNEL, Owner.SLAB, Owner.SLAB_PAGE, Owner.PAGETABLE)
        ]
        skip: RangeMap[bool] = RangeMap()
        for a, b in used + _overwritten(replay, start, end):
            skip.set(a, b, value=True)
        recorded = _joined((pfn, pfn + n, (flags, count)) for pfn, n, flags, _, count in entry["runs"])
        there = [(a, b, c if _readable(mm, a, plugged) else None) for a, b, c in runs(mm, start, end)]
        predicted = _joined(
            (a, b, (any_of(c).flags, any_of(c).refcount & 0xFFFFFFFF)) for a, b, c in there if c is not None
        )
        outside = [(a, b) for a, b, _ in skip.items()]
        yield compare(step, "rfc.struct_pages", _without(recorded, outside), _without(predicted, outside))
        gone: RangeMap[bool] = RangeMap()
        for a, b, c in there:
            if c is None:
                gone.set(a, b, value=True)
        yield compare(
            step, "rfc.unmapped", [list(run) for run in entry["unmapped"]], [[a, b - a] for a, b, _ in gone.items()]
        )


def _readable(mm: Mm, pfn: int, plugged: list[tuple[int, int]]) -> bool:
    """Whether the frame behind a struct page is there: a leaf can outlive the DIMM that it points to."""
    at = physical(mm, mm.arch.vmemmap_address(pfn))
    return at is not None and (not kept(mm, pfn) or _from_boot(mm, at) or any(a <= at < b for a, b in plugged))


def _from_boot(mm: Mm, physical_address: int) -> bool:
    page = mm.pages.get(physical_address >> mm.arch.page_shift)
    return page is not None and page.owner is Owner.MEMMAP


def _overwritten(replay: Replay, start: int, end: int) -> list[tuple[int, int]]:
    """Return the pfns whose struct pages lie in frames that a program has written to."""
    mm, found = replay.machine.mm, []
    shift = mm.arch.page_shift
    for event in _events(replay, "MemmapOverwritten"):
        frame = event.data["pfn"] << shift
        for a, b, leaf in mm.leaves.items(mm.arch.vmemmap_address(start), mm.arch.vmemmap_address(end)):
            low = max(a, frame - (leaf.shift << shift))
            high = min(b, low + mm.arch.page_size)
            if low < high:
                found.append(
                    (
                        (low - mm.arch.vmemmap_base) // mm.arch.struct_page_size,
                        (high - mm.arch.vmemmap_base) // mm.arch.struct_page_size,
                    )
                )
    return found


def _joined(items: Iterable[tuple[int, int, tuple[int, int]]]) -> list[list[Any]]:
    joined: list[list[Any]] = []
    for a, b, value in items:
        if joined and joined[-1][1] == a and joined[-1][2] == list(value):
            joined[-1][1] = b
        else:
            joined.append([a, b, list(value)])
    return joined


def _without(items: list[list[Any]], skip: list[tuple[int, int]]) -> list[list[Any]]:
    """Return the parts of *items* that are outside of the ranges *skip* (in order)."""
    left: list[list[Any]] = []
    for start, end, value in items:
        at = start
        for a, b in skip:
            if a < end and b > at:
                if at < a:
                    left.append([at, a, value])
                at = b
        if at < end:
            left.append([at, end, value])
    return left


# --- quantities of a recording ---


def _events(replay: Replay, kind: str) -> list[Event]:
    return [event for step in replay.machine.steps for event in step.events if event.kind == kind]


def _mark(event: Event) -> list[Any]:
    d = event.data
    if d["refcount"] is None:
        return [d["k"], d["pfn"], d["head"], None, None, d["nr"]]
    return [d["k"], d["pfn"], d["head"], d["refcount"], d["nr_sects"], d["nr"], d["free"]]


def _chunks(event: Event) -> list[int]:
    d = event.data
    orders = d["orders"]
    other = sum(n for order, n in orders.items() if order not in (9, 10))
    return [
        d["pfn"],
        d["nr"],
        orders.get(10, 0),
        orders.get(9, 0),
        other,
        d["misaligned"],
        d["first_misaligned"],
        d["overshoot"],
    ]


def recording_quantities(recording: Recording, replay: Replay) -> Iterator[Quantity]:
    """Yield what is compared over the whole recording."""
    rfc, step = recording.raw["rfc"], recording.steps[-1]
    tables: tuple[tuple[str, str, list[Any]], ...] = (
        ("rfc.marks", "marks", [_mark(e) for e in _events(replay, "VmemmapMarked")]),
        (
            "rfc.refcounts",
            "refcounts_at_removal",
            [[e.data[n] for n in ("head", "before", "after", "what")] for e in _events(replay, "HeadPut")],
        ),
        ("rfc.frees", "frees", [_free(e) for e in _events(replay, "VmemmapFreed")]),
        ("rfc.online", "online_pages_blocks", [_chunks(e) for e in _events(replay, "PagesOnlined")]),
        ("rfc.online_visits", "online_pages_range", _visits(_events(replay, "RangeOnlined"))),
    )
    for name, key, predicted in tables if rfc["build"] != "b0" else ():
        yield compare(step, name, rfc.get(key, []), predicted)
    recorded = rfc.get("count_bad_page_state", 0)
    bad = min(sum(e.data["pages"] for e in _events(replay, "BadPageState")), 60)  # it prints 60 a minute
    later = replay.machine.mm.crashed and recorded > bad  # what a kernel says after its first oops is not predicted
    yield compare(step, "rfc.bad_page_states", recorded, None if later else bad)
    yield compare(step, "crash", first_sign(rfc.get("oops")), predicted_sign(troubles(replay.machine.steps, SIGNS)))
    yield compare(
        step, "guest", "answers" if "state" in step else "dead", "dead" if replay.machine.mm.crashed else "answers"
    )


def _free(event: Event) -> list[Any]:
    d = event.data
    return [d["start"], d["end"], *(["direct"] if d["direct"] else [])]


def _visits(events: list[Event]) -> list[list[int]]:
    total, rows = 0, []
    for event in events:
        d = event.data
        total += d["visits"]
        rows.append([d["pfn"], d["onlined"], d["vmemmap"], d["visits"], total])
    return rows


SIGNS = ("Crash", "Warning", "BadPageState")


def first_sign(oops: dict[str, Any] | None) -> str:
    """Return the first complaint of a recorded kernel: "kind in function at address", or "none"."""
    if not oops:
        return "none"
    lines = [line for line in oops["lines"] if "cut here" not in line]
    head = lines[0].removeprefix("BUG: ")
    function = (oops.get("function") or "").partition("+")[0]
    bad = re.match(r"Bad page state .*pfn:([0-9a-f]+)", head)
    if bad:
        return f"Bad page state of pfn {int(bad.group(1), 16):#x}"
    kind = (
        "WARNING" if head.startswith("WARNING") else re.sub(r"( at [0-9a-f]+$|: 0000.*$|^invalid opcode.*)", "", head)
    )
    address = "" if oops.get("address") is None else f" at {int(oops['address'], 16):#x}"
    return f"{kind} in {function}{address}"


def predicted_sign(found: list[Trouble]) -> str:
    """Return the model's first complaint in the same words; what the kernel only hangs in prints nothing."""
    for trouble in found:
        if trouble.kind == "BadPageState":
            return f"Bad page state of pfn {trouble.address:#x}"
        if trouble.kind == "Warning":
            return f"WARNING in {trouble.function}"
        if trouble.kind in PRINTED or trouble.kind.startswith("kernel BUG"):
            return f"{trouble.kind} in {trouble.function}" + (
                "" if trouble.address is None else f" at {trouble.address:#x}"
            )
    return "none"


PRINTED = (
    "unable to handle kernel paging request",
    "unable to handle kernel NULL pointer dereference",
    "general protection fault",
)
