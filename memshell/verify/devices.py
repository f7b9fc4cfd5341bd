"""Replay the recorded actions on device memory: persistent memory, dax, kmem."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memshell.drivers.dax.bus import dax_memmap_on_memory, find_device
from memshell.drivers.dax.kmem import dev_dax_kmem_probe, dev_dax_kmem_remove
from memshell.drivers.nvdimm.pfn_devs import pfn_device
from memshell.kernel.resource import drop_resource, request_region
from memshell.mm.memremap import memremap_pages, memunmap_pages
from memshell.mm.pfn import MiB
from memshell.mm.state import Mm, Resource

if TYPE_CHECKING:
    from memshell.verify.replay import Replay

ALIGN = 2 * MiB  # the recorder's namespaces have the kernel's default alignment


def device_range(mm: Mm) -> tuple[int, int] | None:
    """Return (start, size) of the machine's persistent memory, or None."""
    found = next((r for r in mm.resources if r.name.startswith("Persistent Memory")), None)
    return (found.start, found.end - found.start + 1) if found else None


def action_of(replay: Replay, what: str) -> Callable[[Mm], None] | None:
    """Return what the recorded words do to the model, or None for words that are not known."""
    for word, action in ACTIONS:
        if what.startswith(word):
            return lambda mm: action(replay, mm, what)
    return None


def _raw(mm: Mm) -> None:
    """Bind the raw namespace: nd_pmem maps the whole device, its memmap in memory."""
    start, size = device_range(mm) or (0, 0)
    if start not in mm.pagemaps:
        memremap_pages(mm, 0, start, size)


def _unbind_raw(replay: Replay, mm: Mm, what: str) -> None:
    """Take the raw namespace away; it was bound when the device appeared, which the recorder does without a step of its own."""
    del replay, what
    _raw(mm)
    memunmap_pages(mm, (device_range(mm) or (0, 0))[0])


def _unbind(replay: Replay, mm: Mm, what: str) -> None:
    del replay, what
    memunmap_pages(mm, (device_range(mm) or (0, 0))[0])


def _pfn(replay: Replay, mm: Mm, what: str) -> None:
    del replay
    start, size = device_range(mm) or (0, 0)
    pfn_device(mm, 0, start, size, align=ALIGN, on_device="mode=pmem" in what)


def _devdax(replay: Replay, mm: Mm, what: str) -> None:
    _unbind_raw(replay, mm, what)
    start, size = device_range(mm) or (0, 0)
    geometry = pfn_device(mm, 0, start, size, align=ALIGN, on_device="mode=pmem" in what)
    request_region(mm, start + geometry.dataoff, size - geometry.dataoff, "dax0.0")


def _dax_resource(mm: Mm) -> Resource:
    found = next((r for r in mm.resources if r.name == "dax0.0"), None)
    if found is None:
        raise LookupError("there is no dax0.0 to bind or unbind")
    return found


def _kmem(replay: Replay, mm: Mm, what: str) -> None:
    """Unbind device_dax and bind kmem; the recorder asks for memmap_on_memory first, where the kernel has that attribute."""
    del replay, what
    dax = _dax_resource(mm)
    size = dax.end - dax.start + 1
    on_memory = mm.features.dax.memmap_on_memory and dax_memmap_on_memory(mm, 0, dax.start, size)
    memunmap_pages(mm, (device_range(mm) or (0, 0))[0])
    drop_resource(mm, dax)
    dev_dax_kmem_probe(mm, 0, dax.start, size, memmap_on_memory=on_memory)


def _unbind_kmem(replay: Replay, mm: Mm, what: str) -> None:
    del replay, what
    dev_dax_kmem_remove(mm, find_device(mm, _dax_resource(mm).start))


ACTIONS: tuple[tuple[str, Callable[[Any, Mm, str], None]], ...] = (
    ("unbind raw namespace", _unbind_raw),
    ("unbind namespace", _unbind_raw),
    ("unbind pfn", _unbind),
    ("unbind kmem", _unbind_kmem),
    ("pfn", _pfn),
    ("devdax", _devdax),
    ("kmem bound", _kmem),
)


def probe_pending(mm: Mm) -> None:
    """Finish the probe of a device that appeared: the raw namespace is bound."""
    if device_range(mm):
        _raw(mm)
