"""The machine as a tree of files: /sys and /proc, read by ``export sysroot`` and by a mount, written by ``write``.

One table: the path of a file, with the numbers of blocks, nodes and CPUs in braces, and what it shows and what a write to it
does. Sources: drivers/base/memory.c, drivers/base/node.c, fs/proc, Documentation/admin-guide/mm/memory-hotplug.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from memshell.drivers.base.memory import files as stores
from memshell.drivers.base.memory.notifier import INJECTABLE, injected_error, injected_error_store
from memshell.drivers.base.memory.state import online_store, state_store, valid_zones
from memshell.lib.kstrtox import kstrtobool
from memshell.mm.params import MEMMAP_ON_MEMORY, PARAMETERS
from memshell.views import dax as views_dax
from memshell.views import kernel, kpage, node, proc

if TYPE_CHECKING:
    from memshell.mm.state import Mm

MEMORY = "sys/devices/system/memory"
NODE = "sys/devices/system/node"
FIRMWARE = "sys/firmware/memory"  # s390 since v6.19
CPU = "sys/devices/system/cpu"
MODULE = "sys/module/memory_hotplug/parameters"
SCLP_MEM = "drivers/s390/char/sclp_mem.c"
INJECT = "sys/kernel/debug/notifier-error-inject/memory"
BLOCK = f"{MEMORY}/memory{{block}}"
ONE_NODE = f"{NODE}/node{{node}}"


class File(NamedTuple):
    """A file, or a link: its functions take the state, the numbers of its path in order, and what is written.

    *pages* is of a file with eight bytes a page frame: the entries of the pfns [start, end). *there*: where it is not
    everywhere.
    """

    show: Callable[..., str | bytes] | None = None
    store: Callable[..., None] | None = None
    pages: Callable[[Mm, int, int], bytes] | None = None
    link: Callable[..., str] | None = None
    there: Callable[..., bool] | None = None

    @property
    def mode(self) -> int:
        """The permissions, as ls shows them."""
        return (0o444 if self.show or self.pages else 0) | (0o200 if self.store else 0)


def _line(show: Callable[..., object]) -> File:
    return File(lambda mm, *numbers: f"{show(mm, *numbers)}\n")


def _parameters() -> Iterator[tuple[str, File]]:
    """Yield the parameters of the module memory_hotplug: memmap_on_memory can only be read."""
    yield (
        f"{MODULE}/{MEMMAP_ON_MEMORY}",
        _line(lambda mm: mm.policy.parameter)._replace(there=lambda mm: mm.features.memmap_on_memory.exists),
    )
    for name, one in PARAMETERS.items():
        if one.module:
            show = partial(_parameter, name)
            store = partial(lambda name, mm, value: stores.parameter_store(mm, name, value), name)
            yield f"{MODULE}/{name}", File(show, store, there=partial(_has, one.feature))


def _parameter(name: str, mm: Mm) -> str:
    return mm.params.text(name) + "\n"


def _has(feature: str, mm: Mm) -> bool:
    return not feature or bool(mm.features[feature])


def _injections() -> Iterator[tuple[str, File]]:
    for action in INJECTABLE:
        show = partial(lambda action, mm: f"{injected_error(mm, action)}\n", action)
        store = partial(lambda action, mm, value: injected_error_store(mm, action, value), action)
        yield f"{INJECT}/actions/{action}/error", File(show, store)


def _state(mm: Mm, block: int) -> str:
    return mm.blocks[block].state


def _firmware() -> Iterator[tuple[str, File]]:
    for at, name in enumerate(("config", "memmap_on_memory")):
        show = partial(lambda at, mm, block: int(_standby(mm)[block][at]), at)
        store = partial(
            lambda name, mm, block, value: mm.arch.firmware_store(mm, block, name, kstrtobool(value, SCLP_MEM)), name
        )
        yield f"{FIRMWARE}/memory{{standby}}/{name}", _line(show)._replace(store=store)


def _standby(mm: Mm) -> Mapping[int, tuple[bool, bool]]:
    return mm.arch.firmware_memory(mm) or {}


def _dax() -> Iterator[tuple[str, File]]:
    """Yield the files of dax devices: each is alone in a region of its own."""
    region, device = "sys/devices/platform/hmem.{dax}", "dax{dax}.0"
    for name in ("dev", "size", "resource", "align", "numa_node", "target_node", "modalias"):
        yield f"{region}/{device}/{name}", _line(partial(lambda name, mm, dax: views_dax.values(mm, dax)[name], name))
    for name in ("id", "size", "align", "available_size"):
        show = partial(lambda name, mm, dax: views_dax.region(mm, dax)[name], name)
        yield f"{region}/dax_region/{name}", _line(show)
    to_driver = File(
        link=lambda mm, dax: f"../../../../bus/dax/drivers/{views_dax.driver(mm, dax)}",
        there=lambda mm, dax: bool(views_dax.driver(mm, dax)),
    )
    yield f"{region}/{device}/driver", to_driver
    yield f"{region}/{device}/subsystem", File(link=lambda _mm, _dax: "../../../../bus/dax")
    yield (
        f"sys/bus/dax/devices/{device}",
        File(link=lambda _mm, dax: f"../../../devices/platform/hmem.{dax}/dax{dax}.0"),
    )
    # Where daxctl looks for the bus, by the number of a plain file: nobody in a namespace can make a device.
    yield "sys/dev/char/0:0/subsystem", File(link=lambda _mm: "../../../bus/dax")
    for driver in ("device_dax", "kmem"):
        yield f"sys/module/{driver}/initstate", _line(lambda _mm: "live")
        yield (
            f"sys/bus/dax/drivers/{driver}/module",
            File(link=partial(lambda driver, _mm: f"../../../../module/{driver}", driver)),
        )
        yield (
            f"sys/bus/dax/drivers/{driver}/{device}",
            File(
                link=lambda _mm, dax: f"../../../../devices/platform/hmem.{dax}/dax{dax}.0",
                there=partial(lambda driver, mm, dax: views_dax.driver(mm, dax) == driver, driver),
            ),
        )


FILES: dict[str, File] = {
    f"{MEMORY}/block_size_bytes": _line(lambda mm: f"{mm.block_size:x}"),
    f"{MEMORY}/auto_online_blocks": _line(lambda mm: mm.params.auto_online_blocks)._replace(
        store=stores.auto_online_blocks_store
    ),
    f"{MEMORY}/probe": File(store=stores.probe_text_store),
    f"{MEMORY}/soft_offline_page": File(store=stores.soft_offline_store),
    f"{BLOCK}/phys_index": _line(lambda _mm, block: f"{block:08x}"),
    f"{BLOCK}/state": _line(_state)._replace(store=state_store),
    f"{BLOCK}/online": _line(lambda mm, block: int(_state(mm, block) == "online"))._replace(store=online_store),
    f"{BLOCK}/phys_device": _line(lambda _mm, _block: 0),
    # Whether CONFIG_MEMORY_HOTREMOVE is set, since v5.8 (commit 53cdc1cb29e8).
    f"{BLOCK}/removable": _line(lambda _mm, _block: 1),
    f"{BLOCK}/valid_zones": _line(valid_zones),
    f"{BLOCK}/node{{node}}": File(
        link=lambda _mm, _block, nid: f"../../node/node{nid}", there=lambda mm, block, nid: mm.blocks[block].nid == nid
    ),
    **dict(_parameters()),
    **dict(_injections()),
    **dict(_dax()),
    **dict(_firmware()),
    f"{NODE}/online": _line(lambda mm: number_list(node.online(mm))),
    f"{NODE}/possible": _line(lambda mm: number_list(sorted({*mm.arch.possible_nodes, *node.online(mm)}))),
    f"{NODE}/has_cpu": _line(lambda mm: number_list(sorted(set(kernel.cpus(mm))))),
    f"{NODE}/has_memory": _line(lambda mm: number_list(node.with_memory(mm))),
    f"{NODE}/has_normal_memory": _line(lambda mm: number_list(node.with_normal_memory(mm))),
    f"{ONE_NODE}/memory{{block}}": File(
        link=lambda _mm, _nid, block: f"../../memory/memory{block}",
        there=lambda mm, nid, block: mm.blocks[block].nid == nid,
    ),
    f"{ONE_NODE}/cpu{{cpu}}": File(
        link=lambda _mm, _nid, cpu: f"../../cpu/cpu{cpu}", there=lambda mm, nid, cpu: kernel.cpus(mm)[cpu] == nid
    ),
    f"{ONE_NODE}/cpulist": _line(lambda mm, nid: number_list(node.cpus_of(mm, nid))),
    f"{ONE_NODE}/cpumap": _line(lambda mm, nid: f"{sum(1 << cpu for cpu in node.cpus_of(mm, nid)):08x}"),
    f"{ONE_NODE}/distance": _line(node.distance),
    f"{ONE_NODE}/meminfo": File(node.meminfo),
    f"{ONE_NODE}/numastat": File(node.numastat),
    f"{ONE_NODE}/vmstat": File(node.vmstat),
    f"{CPU}/online": _line(lambda mm: number_list(range(len(kernel.cpus(mm))))),
    f"{CPU}/possible": _line(lambda mm: number_list(range(len(kernel.cpus(mm))))),
    f"{CPU}/present": _line(lambda mm: number_list(range(len(kernel.cpus(mm))))),
    f"{CPU}/cpu{{cpu}}/node{{node}}": File(
        link=lambda _mm, _cpu, nid: f"../../node/node{nid}", there=lambda mm, cpu, nid: kernel.cpus(mm)[cpu] == nid
    ),
    "proc/meminfo": File(proc.whole_meminfo),
    "proc/zoneinfo": File(proc.zoneinfo),
    "proc/buddyinfo": File(proc.buddyinfo),
    "proc/pagetypeinfo": File(proc.pagetypeinfo),
    "proc/vmstat": File(proc.vmstat),
    "proc/iomem": File(proc.iomem),
    "proc/version": File(kernel.version),
    "proc/cmdline": File(kernel.cmdline),
    "proc/cpuinfo": File(kernel.cpuinfo),
    "proc/config.gz": File(kernel.config),
    "proc/kpageflags": File(pages=kpage.flags),
    "proc/kpagecount": File(pages=kpage.counts),
    "proc/kpagecgroup": File(pages=kpage.cgroups),
}
FOLDERS: dict[str, Callable[[Mm], bool]] = {FIRMWARE: lambda mm: mm.arch.firmware_memory(mm) is not None}
NUMBERS: dict[str, Callable[[Mm], Collection[int]]] = {
    "block": lambda mm: mm.blocks,
    "node": node.online,
    "cpu": lambda mm: range(len(kernel.cpus(mm))),
    "dax": views_dax.known,
    "standby": _standby,
}


def number_list(numbers: Sequence[int]) -> str:
    """Return numbers as the kernel writes a mask: 0-1,3."""
    parts: list[str] = []
    for at, number in enumerate(numbers):
        if at and numbers[at - 1] == number - 1:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{number}"
        else:
            parts.append(str(number))
    return ",".join(parts)


# --- the tree that the table makes ---


class Folder(dict[str, "Folder | File"]):
    """Names, with what is under them; ``memory{block}`` stands for all blocks. *there*: where it is not everywhere."""

    there: Callable[[Mm], bool] | None = None


class Place(NamedTuple):
    """What is at a path, and the numbers in the path, each with what it counts."""

    what: Folder | File
    numbers: tuple[tuple[str, int], ...]

    @property
    def given(self) -> tuple[int, ...]:
        """The numbers alone, each once, as the functions of a `File` take them."""
        return tuple(dict(self.numbers).values())


def _tree() -> Folder:
    root = Folder()
    for path, file in FILES.items():
        *folders, name = path.split("/")
        here = root
        for at, part in enumerate(folders):
            inner = here.setdefault(part, Folder())
            assert isinstance(inner, Folder)
            inner.there = FOLDERS.get("/".join(folders[: at + 1]))
            here = inner
        here[name] = file
    return root


ROOT = _tree()
NUMBERED = re.compile(r"(.*)\{(\w+)\}(.*)")


def find(mm: Mm | None, path: str) -> Place | None:
    """Return what is at *path*, which begins with sys or proc; None where nothing is. Without a machine there are folders."""
    found = declared(path)
    if found is None or (mm is None and (found.numbers or isinstance(found.what, File))):
        return None
    known = mm is None or all(number in NUMBERS[kind](mm) for kind, number in found.numbers)
    known = known and len(dict(found.numbers)) == len(set(found.numbers))  # hmem.0/dax1.0 is nothing
    return found if known and _is_there(mm, found) else None


def declared(path: str) -> Place | None:
    """Return what the table has at *path*, be it there on a machine or not."""
    found = Place(ROOT, ())
    for part in filter(None, path.split("/")):
        inner = _inside(found.what, part) if isinstance(found.what, Folder) else None
        if inner is None:
            return None
        found = Place(inner.what, (*found.numbers, *inner.numbers))
    return found


def _inside(folder: Folder, part: str) -> Place | None:
    if part in folder and "{" not in part:
        return Place(folder[part], ())
    match = re.fullmatch(r"(\D*)(0|[1-9]\d*)(\D.*)?", part, re.ASCII)
    if match is None:
        return None
    for kind in NUMBERS:
        name = f"{match[1]}{{{kind}}}{match[3] or ''}"
        if name in folder:
            return Place(folder[name], ((kind, int(match[2])),))
    return None


def _is_there(mm: Mm | None, place: Place) -> bool:
    if isinstance(place.what, Folder):
        return place.what.there is None or (mm is not None and place.what.there(mm))
    return mm is not None and (place.what.there is None or place.what.there(mm, *place.given))


def names(mm: Mm | None, place: Place) -> Iterator[tuple[str, Place]]:
    """Yield what is in a folder: the name, and what it is."""
    assert isinstance(place.what, Folder)
    for name, what in place.what.items():
        match = NUMBERED.fullmatch(name)
        if match is None:
            inner = [(name, Place(what, place.numbers))]
        else:
            kind, known = match[2], sorted(NUMBERS[match[2]](mm)) if mm is not None else []
            known = [number for number in known if dict(place.numbers).get(kind, number) == number]
            inner = [
                (f"{match[1]}{number}{match[3]}", Place(what, (*place.numbers, (kind, number)))) for number in known
            ]
        yield from ((one, found) for one, found in inner if _is_there(mm, found))


def content(mm: Mm, place: Place) -> bytes:
    """Return what a file shows that is shown as a whole."""
    assert isinstance(place.what, File)
    assert place.what.show is not None
    text = place.what.show(mm, *place.given)
    return text if isinstance(text, bytes) else text.encode()


def walk(mm: Mm, path: str = "", place: Place | None = None) -> Iterator[tuple[str, Place]]:
    """Yield (path, place) of every file and link."""
    for name, inner in names(mm, place or Place(ROOT, ())):
        if isinstance(inner.what, Folder):
            yield from walk(mm, f"{path}{name}/", inner)
        else:
            yield path + name, inner


def shown(mm: Mm) -> dict[str, Place]:
    """Return the files that are shown as a whole, by their paths."""
    return {path: place for path, place in walk(mm) if isinstance(place.what, File) and place.what.show is not None}


def files(mm: Mm) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of every file that is shown as a whole."""
    yield from ((path, content(mm, place)) for path, place in shown(mm).items())


def links(mm: Mm) -> Iterator[tuple[str, str]]:
    """Yield (path, target) of every symbolic link."""
    for path, place in walk(mm):
        if isinstance(place.what, File) and place.what.link is not None:
            yield path, place.what.link(mm, *place.given)
