"""What names in an expression mean: ``zone.Movable.present``, ``block.47.state``, ``meminfo.MemTotal`` ..."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError, did_you_mean
from memshell.scenario.expression import Number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.mmzone import Zone
    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell

_TRUE = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_WORDS = {"online", "offline", "none", "DMA", "DMA32", "Normal", "Movable", "Device"}
_ZONE_FIELDS = ("start_pfn", "spanned", "present", "managed", "free")
_VIEWS = {"meminfo": 1024, "vmstat": 0}
_SUMS = ("present", "managed", "spanned", "free")
TOP = {
    "error": "errno of the last `!` command, or none",
    "step": "how many steps the machine has made",
    "crashed": "whether the modelled kernel has crashed",
    "crash": "crash.kind, crash.function, crash.address of what the kernel died of",
    "series": "series.head_count, .marked, .freed, .misaligned and so on: of a memmap in the added range",
    "added": "added.size, .usable, .memmap and .wasted of added memory; .largest free run, .gigantic 1G runs, .stuck memmap",
    "arch": "the architecture's name",
    "policy": "the memmap policy's name; policy.KEY: a parameter of it",
    "profile": "the kernel profile's name",
    "present": "pages present, all zones",
    "managed": "pages managed, all zones",
    "spanned": "pages spanned, all zones",
    "free": "pages free, all zones",
    "usable": "pages that the kernel and programs can have: managed, all zones",
    "wasted": "bytes that blocks set aside for their memmap and do not need",
    "lost": "bytes of kmem devices that are no whole memory block",
    "plugged": "bytes that virtio-mem has plugged",
    "data": "bytes that devices offer beside their memmap; data.0x100000000 of the one there",
    "block_size": "bytes of a memory block",
    "page_size": "bytes of a page",
    "blocks": "blocks.total, blocks.online, blocks.offline, blocks.leaked",
    "warnings": "kernel warnings of the last step",
    "races": "changes that the last step made without the lock that they need",
    "section_roots": "pages that hold the roots of the sections",
    "direct_map": "bytes that the kernel's direct map covers",
    "block": "block.47.state|zone|node|vmemmap_pages|altmap.alloc and so on",
    "memmap": "pages behind the struct pages; memmap.buddy, memmap.altmap, memmap.early: by where they are",
    "zone": "zone.Movable.present|managed|spanned|free|start_pfn; zone.1.Normal.present for node 1 alone",
    "huge": "huge.2M.total|free|surplus: pages of a pool of huge pages; huge.1.2M.total on node 1 alone",
    "meminfo": "meminfo.MemTotal and so on, in kB",
    "vmstat": "vmstat.nr_memmap_pages and so on",
    "param": "param.NAME: a parameter that set or use gave",
    "feature": "feature.NAME: a feature of the kernel profile",
}


def begins_expression(word: str) -> bool:
    """Whether a line that begins with *word*, which is no command, may be an expression: ``2G / 128M``, ``blocks.online``."""
    return word[0] in "0123456789$(-\"'" or word.partition(".")[0] in {*TOP, "not"}


def _plain(value: Any) -> Any:
    return Number(value) if isinstance(value, int) else value


class State:
    """Looks names up in a shell's machine."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    @property
    def mm(self) -> Mm:
        """The committed state."""
        return self.shell.need_machine().mm

    def look_up(self, name: str) -> Any:
        """Return the value of a dotted name, or of a word that stands for itself, such as ENOMEM.

        Raises UsageError with the nearest right name.
        """
        head, _dot, rest = name.partition(".")
        found: Callable[[str], Any] | None = getattr(self, "_" + head, None) if head in TOP else None
        if found is not None:
            return found(rest)
        if head in _SUMS and not rest:
            return self._sum(self.mm.zones.values(), head)
        if head in _VIEWS and rest:
            return self._view(head, rest)
        if name in self.shell.plugins.quantities():
            return self._quantity(name)
        if not rest:
            return self._word(name)
        raise _unknown(name, {**TOP, **dict.fromkeys(self.shell.plugins.quantities(), "")})

    def _quantity(self, name: str) -> Any:
        """Return the value of a plugin's quantity."""
        value = self.shell.plugins.quantity(name, self.mm)
        unit = self.shell.plugins.quantities()[name].unit
        return value if isinstance(value, (bool, str)) else Number(value, unit) if unit else Number(value)

    def _word(self, name: str) -> Any:
        if name in _TRUE:
            return _TRUE[name]
        if name in _WORDS or name in errno.errorcode.values():
            return name
        machine = self.shell.machine
        known = self.shell.known_words()
        if name in known or (machine is not None and name == machine.mm.arch.name):
            return name
        hint = did_you_mean(name, [*TOP, *_WORDS, *errno.errorcode.values(), *known])
        raise UsageError(
            f"unknown name {name!r}", hint=f"{hint} Text goes in quotes" if hint else "text goes in quotes"
        )

    def _error(self, _rest: str) -> str:
        error = self.shell.last_error
        return (error.errno or type(error).__name__) if error is not None else "none"

    def _step(self, _rest: str) -> Number:
        return Number(self.shell.need_machine().step.n)

    def _crashed(self, _rest: str) -> bool:
        return self.mm.crashed is not None

    def _crash(self, rest: str) -> Any:
        from memshell.experiment.series import crash

        return _plain(_pick(crash(self.shell.need_machine().steps), rest, f"crash.{rest}"))

    def _series(self, rest: str) -> Any:
        from memshell.experiment.series import numbers

        return _plain(_pick(numbers(self.shell.need_machine().steps), rest, f"series.{rest}"))

    def _added(self, rest: str) -> Number:
        from memshell.experiment.added import added
        from memshell.experiment.compare import free_runs, gigantic_runs
        from memshell.series.processes import lost_movable

        page, runs = self.mm.arch.page_size, free_runs(self.mm)
        values = {
            **{name: Number(size, 1) for name, size in added(self.mm)._asdict().items()},
            "largest": Number(max((end - start for start, end, _ in runs.items()), default=0), page),
            "gigantic": Number(gigantic_runs(self.mm, runs)),
            "stuck": Number(lost_movable(self.mm), page),
        }
        found: Number = _pick(values, rest, f"added.{rest}")
        return found

    def _arch(self, _rest: str) -> str:
        return self.mm.arch.name

    def _policy(self, rest: str) -> Any:
        from memshell.mm.pfn import memparse
        from memshell.policy import values_of

        if not rest:
            return self.mm.policy.name
        value = _pick(values_of(self.mm.policy), rest, f"policy.{rest}")
        return Number(memparse(value), 1) if re.fullmatch(r"\d+[KMGT]", value) else plain(value)

    def _profile(self, _rest: str) -> str:
        return self.mm.profile.name

    def _usable(self, _rest: str) -> Number:
        return self._sum(self.mm.zones.values(), "managed")

    def _wasted(self, _rest: str) -> Number:
        from memshell.experiment.compare import wasted_bytes

        return Number(wasted_bytes(self.mm), 1)

    def _lost(self, _rest: str) -> Number:
        from memshell.drivers.dax.bus import devices

        return Number(sum(one.size - one.data_size for one in devices(self.mm) if one.mode == "kmem"), 1)

    def _plugged(self, _rest: str) -> Number:
        from memshell.drivers.virtio.virtio_mem.device import plugged_pages

        pages = plugged_pages(self.mm) if self.mm.virtio_mem is not None else 0
        return Number(pages * self.mm.arch.page_size, 1)

    def _data(self, rest: str) -> Number:
        from memshell.drivers.dax.bus import devices

        offered = {f"{one.start:#x}": one.data_size for one in devices(self.mm) if one.driver}
        return Number(_pick(offered, rest, f"data.{rest}") if rest else sum(offered.values()), 1)

    def _block_size(self, _rest: str) -> Number:
        return Number(self.mm.block_size, 1)

    def _page_size(self, _rest: str) -> Number:
        return Number(self.mm.arch.page_size, 1)

    def _memmap(self, rest: str) -> Number:
        """Return the bytes of memmap that came from *rest*: every leaf of the vmemmap has its owner."""
        owned = {"buddy": 0, "altmap": 0, "early": 0}
        for start, end, leaf in self.mm.leaves.items():
            if leaf.owner in owned and start >= self.mm.arch.vmemmap_base:
                owned[leaf.owner] += end - start
        page = self.mm.arch.page_size
        found = _pick(owned, rest, f"memmap.{rest}") if rest else sum(owned.values())
        return Number(found // page, page)

    def _blocks(self, rest: str) -> Number:
        blocks = self.mm.blocks.values()
        counts = {"total": len(blocks)}
        counts["leaked"] = self.mm.counters.get("memory_blocks.leaked", 0)
        for state in ("online", "offline"):
            counts[state] = sum(str(block.state) == state for block in blocks)
        return Number(_pick(counts, rest, f"blocks.{rest}"))

    def _warnings(self, _rest: str) -> Number:
        return self._events("Warning")

    def _races(self, _rest: str) -> Number:
        return self._events("Race")

    def _events(self, kind: str) -> Number:
        return Number(sum(event.kind == kind for event in self.shell.need_machine().step.events))

    def _section_roots(self, _rest: str) -> Number:
        return Number(len(self.mm.section_roots), self.mm.arch.page_size)

    def _direct_map(self, _rest: str) -> Number:
        return Number(sum(end - start for start, end, leaf in self.mm.leaves.items() if leaf.owner == "ram"), 1)

    def _block(self, rest: str) -> Any:
        number, _dot, field = rest.partition(".")
        digits = number.removeprefix("memory")
        if not digits.isdecimal() or int(digits) not in self.mm.blocks:
            blocks = self.mm.blocks
            raise UsageError(f"there is no block {number}", hint=f"blocks go from {min(blocks)} to {max(blocks)}")
        return _pick(self._block_values(self.mm.blocks[int(digits)]), field, f"block.{rest}")

    def _block_values(self, block: MemoryBlock) -> dict[str, Any]:
        page = self.mm.arch.page_size
        values: dict[str, Any] = {"state": str(block.state), "node": Number(block.nid)}
        values["zone"] = block.zone.label if block.zone is not None else "none"
        values["vmemmap_pages"] = Number(block.nr_vmemmap_pages, page)
        for field in ("free", "reserve", "align", "alloc"):
            pages = 0 if block.altmap is None else getattr(block.altmap, field)
            values[f"altmap.{field}"] = Number(pages, page)
        return values

    def _zone(self, rest: str) -> Number:
        path, _dot, field = rest.rpartition(".")
        node, _dot, label = path.rpartition(".")
        zones = [zone for (nid, _type), zone in self.mm.zones.items() if not node or str(nid) == node]
        named = [zone for zone in zones if zone.type.label.lower() == label.lower()]
        if not named:
            raise _unknown(f"zone.{path}", {f"zone.{zone.type.label}": "" for zone in zones})
        if field not in _ZONE_FIELDS:
            raise _unknown(f"zone.{rest}", {f"zone.{path}.{known}": "" for known in _ZONE_FIELDS})
        if field == "start_pfn":
            return Number(min(zone.start_pfn for zone in named))
        return self._sum(named, field)

    def _huge(self, rest: str) -> Number:
        from memshell.mm.hugetlb.boot import checked_order
        from memshell.mm.hugetlb.pool import counts

        path, _dot, field = rest.rpartition(".")
        node, _dot, size = path.rpartition(".")
        order = checked_order(self.mm, size, "huge")
        pool = self.mm.hstates.get(order)
        found = [pages for nid, pages in counts(self.mm, order).items() if node in ("", str(nid))]
        surplus = [pages for nid, pages in (pool.surplus if pool else ()) if node in ("", str(nid))]
        values = {"total": sum(t for t, _ in found), "free": sum(f for _, f in found), "surplus": sum(surplus)}
        return Number(_pick(values, field, f"huge.{rest}"))

    def _sum(self, zones: Iterable[Zone], field: str) -> Number:
        return Number(sum(getattr(zone, field) for zone in zones), self.mm.arch.page_size)

    def _param(self, rest: str) -> Any:
        from memshell.mm.memory_hotplug.memmap_on_memory import get_memmap_mode

        params = {**self.mm.params.texts(), "memmap_on_memory": get_memmap_mode(self.mm)}
        return plain(_pick(params, rest, f"param.{rest}"))

    def _feature(self, rest: str) -> Any:
        from memshell.profiles import is_feature, unknown_feature

        kernel = self.mm.profile
        if rest not in kernel.features and is_feature(rest):
            raise unknown_feature(rest, kernel)
        return plain(_pick(kernel.features, rest, f"feature.{rest}"))

    def _view(self, head: str, rest: str) -> Number:
        """Return one number of a view such as meminfo, as its JSON has it."""
        from memshell.shell.dispatch import invoke

        result, _args = invoke(self.shell.registry.get(head), [], self.shell)
        return Number(_pick(result.data, rest, f"{head}.{rest}"), _VIEWS[head])


def plain(value: Any) -> Any:
    """Return a value of the model as expressions know it: on and off are truths, numbers are quantities."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return Number(value)
    text = str(value)
    if text.isdecimal():
        return Number(int(text))
    return _TRUE.get(text, text)


def _pick(values: Any, key: str, name: str) -> Any:
    if key not in values:
        head = name.rpartition(key)[0] if key else name + "."
        raise _unknown(name, {f"{head}{known}": "" for known in values})
    return values[key]


def _unknown(name: str, known: dict[str, str]) -> UsageError:
    return UsageError(f"unknown name {name!r}", hint=did_you_mean(name, known) or "known: " + ", ".join(known))
