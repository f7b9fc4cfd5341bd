"""Play a recorded action on the model; return what the kernel should have answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memshell.drivers.base.memory.state import state_store
from memshell.drivers.callers import Request, caller, callers
from memshell.drivers.virtio import virtio_mem
from memshell.errors import KernelCrash, KernelError
from memshell.machine import Machine
from memshell.mm.state import Mm
from memshell.verify import devices, series

VIRTIO_REGION = 4 << 30  # larger than any recorded request; the region's end decides nothing


@dataclass(slots=True)
class Answer:
    """What the model says to one action: errno numbers; *each* by block; *played* False where it has nothing to say."""

    errno: int = 0
    each: dict[int, int] = field(default_factory=dict)
    played: bool = True
    settled: bool = True  # False: what the action began may still go on while the state is read
    quiet: bool = True  # False: what an earlier step began may have ended in this one, so changes say nothing
    error: KernelError | None = None


@dataclass(slots=True)
class Replay:
    """A machine and what the recorder plugged into it."""

    machine: Machine
    dimms: dict[str, tuple[int, int, str]] = field(default_factory=dict)  # name -> (start, size, via)
    traced: bool = False  # record the call tree of every step, not only of those that have one to compare with
    probing: bool = False  # a driver was loaded; its device is being probed while the recorder looks

    def play(self, step: dict[str, Any]) -> Answer:
        """Play one step's action."""
        op = step["op"]
        player = PLAYERS.get(op["op"])
        return player(self, step, op) if player else Answer(played=False)

    def attempt(self, command: str, action: Callable[[Mm], object]) -> KernelError | None:
        """Run *action* in a transaction; return the kernel's error, if any."""
        if self.machine.mm.crashed:
            return None
        try:
            with self.machine.transaction(command) as mm:
                action(mm)
        except KernelError as error:
            return error
        except KernelCrash:
            return None  # the machine says so
        return None


def _answer(error: KernelError | None) -> Answer:
    return Answer(error.errno_number if error else 0, error=error)


def _states(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    value = op.get("value", op["op"])
    answer = Answer()
    for block in op["blocks"]:
        error = replay.attempt(step["action"], lambda mm, block=block: state_store(mm, block, value))  # type: ignore[misc]  # default argument
        answer.each[block] = error.errno_number if error else 0
        if error and not answer.errno:  # the step's own errno is that of the first write that failed
            answer.errno, answer.error = error.errno_number, error
    return answer


def _add(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    start, size, nid, via = op["start"], op["size"], op.get("node", 0), op["via"]
    if start is None:
        return Answer()  # the hypervisor did not plug it: the kernel is not asked
    if "dimm" in op:
        replay.dimms[op["dimm"]] = (start, size, via)
    mm, request = replay.machine.mm, Request(nid, start, size)
    if via == "driver":  # the recorder's module calls add_memory() with flags of its own
        via, request = "module", Request(nid, start, size, op.get("flags", 0), _driver_name(mm, step, start))
    if via not in callers(mm):
        return Answer(played=False)
    return _answer(replay.attempt(step["action"], lambda mm: caller(mm, via).adds(mm, request)))


def _driver_name(mm: Mm, step: dict[str, Any], start: int) -> str:
    """Return the resource name that the driver passed to add_memory_driver_managed(): an argument, read from /proc/iomem."""
    lines = step["state"].get("iomem", ())
    if not mm.features.mhp.driver_managed:
        return "System RAM"  # add_memory(): there was no other then
    return next(
        (name for _, first, last, name in lines if first <= start <= last and name.startswith("System RAM (")),
        "System RAM (driver)",
    )


def _eject(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    if op["dimm"] not in replay.dimms:
        return Answer()  # it is not plugged any more: the kernel is not asked
    start, size, _ = replay.dimms[op["dimm"]]
    known = callers(replay.machine.mm)
    if op["via"] not in known:
        return Answer(played=False)
    answer = _answer(replay.attempt(step["action"], lambda mm: known[op["via"]].ejects(mm, start, size)))
    if not answer.errno and not replay.machine.mm.crashed:
        del replay.dimms[op["dimm"]]
    return answer


def _remove(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    return _answer(replay.attempt(step["action"], lambda mm: caller(mm, "module").removes(mm, op["start"], op["size"])))


def _offline_and_remove(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    return _answer(replay.attempt(step["action"], lambda mm: caller(mm, "module").ejects(mm, op["start"], op["size"])))


def _zone_device(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    action = devices.action_of(replay, op["what"])
    return _answer(replay.attempt(step["action"], action)) if action else Answer(played=False)


def _virtio_mem(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    """Ask the device for another size; where its region is, is the hypervisor's choice and read from the recording."""

    def action(mm: Mm) -> None:
        if mm.virtio_mem is None:
            ranges = step.get("pfn_ranges") or [[run[0], run[0] + run[1]] for run in step["kpageflags_runs"][:1]]
            start = ranges[0][0] << mm.arch.page_shift
            virtio_mem.probe(mm, 0, start, max(op["size"], VIRTIO_REGION))
        virtio_mem.request(mm, op["size"])

    return _answer(replay.attempt(step["action"], action))


def _look(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    """Do nothing, but where a device appears let its driver probe it: the state settles by the end of the next step."""
    del op
    was_probing, replay.probing = replay.probing, "(device appears)" in step["action"]
    error = replay.attempt(step["action"], devices.probe_pending) if replay.probing else None
    return Answer(
        error.errno_number if error else 0,
        error=error,
        settled=not replay.probing,
        quiet=not (replay.probing or was_probing),
    )


def _nothing(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    del replay, step, op
    return Answer()


def _put_page(replay: Replay, step: dict[str, Any], op: dict[str, Any]) -> Answer:
    del step
    series.play_put(replay, op)
    return Answer()


PLAYERS: dict[str, Callable[[Replay, dict[str, Any], dict[str, Any]], Answer]] = {
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
}
