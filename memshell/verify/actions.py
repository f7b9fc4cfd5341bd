"""A recorded action as the text that a user would type. Only the action is looked at, never what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from memshell.drivers.callers import callers
from memshell.drivers.nvdimm.namespace import REGION
from memshell.errors import UsageError
from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY, MHP_MERGE_RESOURCE
from memshell.mm.params import PARAMETERS
from memshell.mm.pfn import MiB, format_size
from memshell.mm.state import Mm, Resource

FLAGS = {MHP_MERGE_RESOURCE: "merge_resource", MHP_MEMMAP_ON_MEMORY: "memmap_on_memory"}
KINDS = {"online": "", "online_kernel": " kernel", "online_movable": " movable"}


class Typed(NamedTuple):
    """What is typed for one action, a command a line; *blocks*: the block whose state each line writes.

    *known* False: the action is none that the model plays. *probing*: a driver's probe goes on while the state is read.
    """

    lines: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    known: bool = True
    probing: bool = False


@dataclass(slots=True)
class Bench:
    """What the recorder works with: the hypervisor's devices, and what earlier steps showed of the kernel's drivers."""

    qemu_args: tuple[str, ...] = ()
    dimms: dict[str, tuple[int, int, str]] = field(default_factory=dict)  # name -> (start, size, via)
    driver: str = ""  # the name in iomem of a module's memory
    region: int | None = None  # where the virtio-mem device is, where the next DIMM would not go

    def saw(self, step: dict[str, Any]) -> None:
        """Take from a finished step what its kernel showed of the drivers: the next steps' are the same."""
        inserted = re.match(r"insmod (\w+)", step["action"])
        if inserted and not self.driver:
            self.driver = f"System RAM ({inserted[1]})"
        self.driver = driver_name(step) or self.driver


def driver_name(step: dict[str, Any]) -> str:
    """Return the name of a module's memory in the step's iomem; empty where there is none."""
    known = ("System RAM (kmem)", "System RAM (virtio_mem)")
    names = (name for *_, name in step.get("state", {}).get("iomem", ()) if name.startswith("System RAM ("))
    return next((name for name in names if name not in known), "")


def typed(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    """Return what is typed for the action *op*, in the recorder's words *what*, on the machine as it stands."""
    action = ACTIONS.get(op["op"])
    return action(bench, mm, op, what) if action else Typed(known=False)


def done(bench: Bench, op: dict[str, Any]) -> None:
    """Remember what an action that went well has plugged or unplugged."""
    if op["op"] == "eject":
        bench.dimms.pop(op["dimm"], None)


def size_text(size: int) -> str:
    """Return bytes as they are typed.

    >>> size_text(128 << 20), size_text(4096)
    ('128M', '4K')
    """
    return format_size(size)


def _nothing(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    """Nothing is done, or something that only shows in who has which pages."""
    del bench, mm, op, what
    return Typed()


def _look(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    """Look; but a driver that is loaded probes its device meanwhile."""
    del bench, op
    if "(device appears)" not in what:
        return Typed()
    return Typed(_raw(mm), probing=True)


def _states(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del bench, what
    value = str(op.get("value", op["op"]))
    return Typed(tuple(_write(mm, int(block), value) for block in op["blocks"]), tuple(op["blocks"]))


def _write(mm: Mm, block: int, value: str) -> str:
    if block in mm.blocks and value == "offline":
        return f"offline {block}"
    if block in mm.blocks and value in KINDS:
        return f"online {block}{KINDS[value]}"
    return f"write memory{block}/state {value}"


def _add(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del what
    start, size, via = op["start"], op["size"], op["via"]
    if start is None:
        return Typed()  # the hypervisor did not plug it: the kernel is not asked
    if "dimm" in op:
        bench.dimms[op["dimm"]] = (start, size, via)
    words = f"add {start:#x} {size_text(size)} node={op.get('node', 0)}"
    if via == "driver":  # the recorder's module calls add_memory() with flags of its own
        flags = ",".join(name for bit, name in FLAGS.items() if op.get("flags", 0) & bit)
        name = f' name="{bench.driver}"' if bench.driver else ""
        return Typed((f"{words} via=module" + (f" flags={flags}" if flags else "") + name,))
    return Typed((f"{words} via={via}",)) if via in callers(mm) else Typed(known=False)


def _eject(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del what
    if op["dimm"] not in bench.dimms:
        return Typed()  # it is not plugged any more: the kernel is not asked
    start, size, _ = bench.dimms[op["dimm"]]
    if op["via"] not in callers(mm):
        return Typed(known=False)
    device = mm.devices.get(start)
    whole = callers(mm)[op["via"]].whole and device is not None and device.caller == op["via"]
    return Typed((f"eject {start:#x}" if whole else f"eject {start:#x} {size_text(size)} via={op['via']}",))


def _remove(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del bench, mm, what
    return Typed((f"remove {op['start']:#x} {size_text(op['size'])} via=module",))


def _offline_and_remove(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del bench, mm, what
    return Typed((f"eject {op['start']:#x} {size_text(op['size'])} via=module",))


def _put_page(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del bench, mm, what
    return Typed((f"put {op['pfn']:#x} times={op['times']}",))


def _other(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    """A parameter that is written; anything else is the hypervisor's or the recorder's affair."""
    del bench, mm
    words = re.split(r"[\s=>/.]+", str(op.get("what", what)))
    name = next((word for word in words if word in PARAMETERS), None)
    if name is None:
        return Typed(known=False)
    values = [str(op["value"])] if "value" in op else words
    value = next((word for word in values if word != name and _can_be(name, word)), None)
    return Typed(known=False) if value is None else Typed((f"set {name}={value}",))


def _can_be(name: str, value: str) -> bool:
    try:
        PARAMETERS[name].read(value)
    except UsageError:
        return False
    return True


# --- virtio-mem ---


def _virtio_mem(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del what
    words = f"virtio-mem {size_text(op['size']) if op['size'] else '0'}"
    if mm.virtio_mem is not None:
        return Typed((words,))
    device = next((arg for arg in bench.qemu_args if arg.startswith("virtio-mem")), "")
    place = _option(device, "memaddr") or (None if bench.region is None else f"{bench.region:#x}")
    memdev = _option(device, "memdev")
    backend = next((arg for arg in bench.qemu_args if memdev and _option(arg, "id") == memdev), "")
    keys = {"at": place, "region": _option(backend, "size"), "block_size": _option(device, "block-size")}
    return Typed((" ".join([words, *(f"{key}={value}" for key, value in keys.items() if value)]),))


def _option(argument: str, name: str) -> str | None:
    """Return an option of a QEMU argument.

    >>> _option("memory-backend-ram,id=vm0,size=1024M", "size")
    '1024M'
    """
    found = re.search(rf"(?:^|,){name}=([^,]*)", argument)
    return found[1] if found else None


# --- persistent memory ---


def _region(mm: Mm) -> Resource | None:
    return next((r for r in mm.resources if r.name.startswith(REGION)), None)


def _probe(region: Resource, words: str) -> str:
    return f"probe {region.start:#x} {size_text(region.end + 1 - region.start)} {words}"


def _raw(mm: Mm) -> tuple[str, ...]:
    """Bind the raw namespace: nd_pmem maps the whole device, its memmap in memory."""
    region = _region(mm)
    return () if region is None or region.start in mm.pagemaps else (_probe(region, "mode=raw"),)


def _zone_device(bench: Bench, mm: Mm, op: dict[str, Any], what: str) -> Typed:
    del bench, what
    region, words = _region(mm), str(op["what"])
    if region is None:
        return Typed(known=False)
    unbind = f"probe {region.start:#x} --off"
    where = "map=dev" if "mode=pmem" in words else "map=mem"
    # The raw namespace was bound when the device appeared, which the recorder does without a step of its own.
    if words.startswith(("unbind raw namespace", "unbind namespace")):
        return Typed((*_raw(mm), unbind))
    if words.startswith("unbind pfn"):
        return Typed((unbind,))
    if words.startswith("pfn"):
        return Typed((_probe(region, f"mode=fsdax {where} align={size_text(2 * MiB)}"),))
    if words.startswith("devdax"):
        return Typed((*_raw(mm), unbind, _probe(region, f"mode=devdax {where} align={size_text(2 * MiB)}")))
    dax = next((r for r in mm.resources if r.name.startswith("dax")), None)
    if dax is None:
        return Typed(known=False)
    if words.startswith("unbind kmem"):
        return Typed((f"probe {dax.start:#x} --off",))
    if words.startswith("kmem bound"):  # memmap_on_memory is asked for first, where the kernel has that attribute
        return Typed((f"probe {dax.start:#x} {size_text(dax.end + 1 - dax.start)} mode=kmem map=dev",))
    return Typed(known=False)


ACTIONS: dict[str, Callable[[Bench, Mm, dict[str, Any], str], Typed]] = {
    "boot": _nothing,
    "look": _look,
    "zone_device": _zone_device,
    "virtio_mem_request": _virtio_mem,
    "use_memory": _nothing,
    "online": _states,
    "online_kernel": _states,
    "online_movable": _states,
    "offline": _states,
    "write_state": _states,
    "add": _add,
    "eject": _eject,
    "remove": _remove,
    "offline_and_remove": _offline_and_remove,
    "put_page": _put_page,
    "other": _other,
}
