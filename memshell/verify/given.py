"""What only a step's own output shows and yet decides it: it is given, and what holds only then is no prediction."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from memshell.mm.page import Owner
from memshell.mm.state import Mm
from memshell.verify.actions import driver_name
from memshell.verify.quantity import GOOD, Quantity


class Given(NamedTuple):
    """One fact out of the step's own output: a line to play first, or what an action is to say."""

    why: str
    line: str = ""
    driver: str = ""
    region: int | None = None


def given_by(step: dict[str, Any], mm: Mm) -> list[Given]:
    """Return what the step's own output gives away, for the machine *mm* as it stood before the step."""
    return [*_dumped(step, mm), *_named(step), *_placed(step, mm)]


def _dumped(step: dict[str, Any], mm: Mm) -> Iterator[Given]:
    """The pages that the kernel dumped as unmovable: they were there, whatever was seen before."""
    last: int | None = None
    found: set[int] = set()
    for line in step.get("dmesg", ()):
        pfn = re.search(r"pfn:0x([0-9a-f]+)", line)
        last = int(pfn[1], 16) if pfn else last
        if "page dumped because: unmovable page" in line and last is not None and last not in found:
            found.add(last)
            page = mm.pages.get(last)
            if page is not None and page.owner is Owner.FREE:
                yield Given(f"pfn {last:#x} is the kernel's, says its own dmesg", f"hold kernel={last:#x}")


def _named(step: dict[str, Any]) -> Iterator[Given]:
    """The name that a driver gave to its memory."""
    if step["op"]["op"] == "add" and step["op"]["via"] == "driver" and driver_name(step):
        yield Given(f"its memory is called {driver_name(step)!r}, says its own iomem", driver=driver_name(step))


def _placed(step: dict[str, Any], mm: Mm) -> Iterator[Given]:
    """The place of the virtio-mem region, which is the hypervisor's choice."""
    if step["op"]["op"] != "virtio_mem_request" or mm.virtio_mem is not None:
        return
    runs = step.get("pfn_ranges") or step.get("kpageflags_runs")
    if runs:
        start = runs[0][0] << mm.arch.page_shift
        yield Given(f"the device is at {start:#x}, say its own pages", region=start)


def with_given(first: list[Quantity], second: list[Quantity], given: list[Given]) -> list[Quantity]:
    """Return the quantities of a step that was played twice: what was right at first is predicted, the rest was given."""
    why = "; ".join(one.why for one in given)
    before = dict(_numbered(first))
    found = [before.pop(key) if _good(before.get(key)) else _as_given(q, why) for key, q in _numbered(second)]
    return [*found, *(quantity for quantity in before.values() if _good(quantity))]


def _numbered(quantities: list[Quantity]) -> Iterator[tuple[tuple[str, int], Quantity]]:
    """Yield each with its name and how many of that name came before: a name can stand for several ranges."""
    seen: Counter[str] = Counter()
    for quantity in quantities:
        yield (quantity.name, seen[quantity.name]), quantity
        seen[quantity.name] += 1


def _good(quantity: Quantity | None) -> bool:
    return quantity is not None and quantity.verdict in GOOD


def _as_given(quantity: Quantity, why: str) -> Quantity:
    return quantity._replace(verdict="given", given=why) if _good(quantity) else quantity
