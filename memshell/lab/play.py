"""Play a plan on guests: what each action is on the wire, and what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memshell.errors import CommandError
from memshell.lab.guest import ERRNOS, GuestGone
from memshell.lab.hardware import board_of
from memshell.lab.image import Image
from memshell.lab.plan import MEMORY, Action, Boot, Check, Plan
from memshell.lab.qemu import Qemu, QemuFailed
from memshell.lab.record import Recorder, start_recording, why_gone
from memshell.mm.pfn import format_size

WRITE_LIMIT = 20  # seconds; then a signal ends a write
ADD_LIMIT, EJECT_LIMIT, REQUEST_LIMIT = 30.0, 30.0, 15.0
IN_PROGRESS = (0, 132)  # of _OST: done, and 0x84 not yet.  Source: ACPI 6.5, 6.3.5
TIMED_OUT = 110  # as recordings have it: we stopped waiting
USE_LIMIT = 120.0  # for a program to take memory: a gigabyte in half a minute
SETTLE = 0.2  # seconds for what the kernel does behind an answer

Tell = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """One step on the kernel: the recorded step of an action (None where it was not played), the verdict of a check."""

    step: Action | Check
    recorded: dict[str, Any] | None = None
    number: int = 0  # of the recorded step that a check looked at
    missing: str = ""  # what it is about is not there on the kernel's side


@dataclass(slots=True)
class Ran:
    """A boot that was played: its recording and the outcome of each step.  *died*: what the guest died of."""

    boot: Boot
    raw: dict[str, Any]
    seconds: float
    outcomes: list[Outcome] = field(default_factory=list)
    died: str = ""


@dataclass(slots=True)
class Lab:
    """Where guests are booted: the image, the busybox for them, the time limit of one boot, and who is told of progress."""

    image: Image
    busybox: Path
    limit: float = 600.0
    calls: bool = True  # probe the kernel's functions
    tell: Tell = lambda _text: None

    def run(self, plan: Plan) -> list[Ran]:
        """Boot and play each boot of *plan* that the kernel can play.  Raises CommandError where that is none."""
        boots, _ = plan.playable(self.image.arch)
        return [
            self.run_boot(boot, self._name(plan, at), f"{plan.name}, boot {at + 1} of {len(plan.boots)}")
            for at, boot in enumerate(plan.boots)
            if any(boot is one for one in boots)
        ]

    def _name(self, plan: Plan, at: int) -> str:
        stem = Path(plan.name).stem
        return f"lab-{stem}" if len(plan.boots) == 1 else f"lab-{stem}-{at + 1}"

    def run_boot(self, boot: Boot, name: str, about: str) -> Ran:
        """Boot a guest and play the steps; a guest that dies is an outcome."""
        hardware = _with_policy(boot)
        with TemporaryDirectory(prefix="memshell-lab-") as folder:
            qemu = Qemu(self.image, hardware, board_of(hardware.arch), Path(folder), self.busybox)
            self.tell(f"boots {self.image.kernel.name}")
            with qemu:
                self.tell(f"booted in {qemu.boot_seconds:.0f} s ({qemu.accel})")
                recorder = start_recording(qemu, name, about, boot.policy, calls=self.calls)
                _same_blocks(boot, recorder)
                ran = Ran(boot, recorder.raw, qemu.boot_seconds)
                Session(recorder, time.monotonic() + self.limit, self.tell).play(ran)
            return ran


def _same_blocks(boot: Boot, recorder: Recorder) -> None:
    size: int = recorder.state["block_size_bytes"]
    if size != boot.block_size:
        found, wanted = format_size(size), format_size(boot.block_size)
        raise CommandError(f"the kernel has blocks of {found}, the scenario of {wanted}", hint="it chooses them itself")


def _with_policy(boot: Boot) -> Any:
    from dataclasses import replace

    words = (*boot.hardware.words, f"memory_hotplug.memmap_on_memory={boot.policy}")
    return replace(boot.hardware, words=words)


@dataclass(slots=True)
class Session:
    """One guest, and what was plugged into it."""

    recorder: Recorder
    deadline: float
    tell: Tell
    plugged: set[str] = field(default_factory=set)

    @property
    def qemu(self) -> Qemu:
        """The machine."""
        return self.recorder.qemu

    def play(self, ran: Ran) -> None:
        """Play all steps of a boot, until the guest dies or the time is over."""
        for step in ran.boot.steps:
            outcome = Outcome(step, number=len(self.recorder.steps) - 1)
            ran.outcomes.append(outcome)
            if not isinstance(step, Action) or step.cannot or ran.died:
                continue
            if time.monotonic() > self.deadline:
                ran.died = "the time limit was reached"
                continue
            outcome.missing = self._missing(step)
            if outcome.missing:
                continue
            self.tell(step.text)
            try:
                PLAYERS[step.op["op"]](self, step)
            except GuestGone as error:
                ran.died = why_gone(self.qemu, error)
                self.recorder.died(step.text, _op(step), error)
            outcome.recorded = self.recorder.steps[-1]
            outcome.number = len(self.recorder.steps) - 1

    def _missing(self, action: Action) -> str:
        """Return what the action is about and this machine has not, because an earlier step ended otherwise; '' for nothing."""
        blocks = self.recorder.state["memory_blocks"]
        for number in action.op.get("blocks", ()):
            if str(number) not in blocks:
                return f"memory{number}"
        dimm = str(action.op.get("dimm"))
        return dimm if action.op["op"] == "eject" and dimm not in self.plugged else ""

    # --- actions ---

    def add(self, action: Action) -> None:
        """Plug a DIMM, and wait until the kernel has said what it did with it."""
        op, qemu = _op(action), self.qemu
        fixed = op.pop("fixed", False)
        name, planned = op["dimm"], op["start"]
        memory, node = f"m{name}", ({"node": op["node"]} if op["node"] or self._has_nodes() else {})
        place = {"addr": planned} if fixed else {}
        qemu.forget_events()
        qemu.command("object-add", **{"qom-type": "memory-backend-ram", "id": memory, "size": op["size"]})
        try:
            qemu.command("device_add", driver="pc-dimm", id=name, memdev=memory, **node, **place)
        except QemuFailed as error:
            qemu.command("object-del", id=memory)
            self.recorder.step(action.text, op | {"start": None}, -1, note=error.message)
            return
        start = next(d["data"]["addr"] for d in qemu.command("query-memory-devices") if d["data"].get("id") == name)
        self.plugged.add(name)
        note = {"note": f"QEMU put it at {start:#x}, the model at {planned:#x}"} if start != planned else {}
        op["start"] = start
        events = qemu.events(lambda event: _ost(event) is not None, ADD_LIMIT)
        status = next((ost for event in events if (ost := _ost(event)) is not None), None)
        pfn, pages = start // self.recorder.page_size, op["size"] // self.recorder.page_size
        self.recorder.track(pfn, pfn + pages)
        dimm = {"id": name, "gpa": start, "size": op["size"], "node": op["node"], "pfn": pfn, "pages": pages}
        time.sleep(SETTLE)
        errno = TIMED_OUT if status is None else 0 if status == 0 else -1
        step = self.recorder.step(
            action.text, op, errno, dimm=dimm, ost_status=[] if status is None else [status], **note
        )
        first = start // self.recorder.state["block_size_bytes"]
        if errno == 0 and step.get("kernel_ret") is None and str(first) not in self.recorder.state["memory_blocks"]:
            step |= {"errno": -1, "ok": False}  # ACPI does not report it, and no call was probed that does

    def _has_nodes(self) -> bool:
        return self.qemu.hardware.nodes > 1

    def probe(self, action: Action) -> None:
        """Write each block's address to the probe file."""
        op = _op(action)
        block, errno = self.recorder.state["block_size_bytes"], 0
        for start in range(op["start"], op["start"] + op["size"], block):
            errno = errno or self.qemu.guest.write(f"{MEMORY}/probe", f"{start:#x}", WRITE_LIMIT)
        size = self.recorder.page_size
        self.recorder.track(op["start"] // size, (op["start"] + op["size"]) // size)
        self.recorder.step(action.text, op, errno)

    def plug(self, action: Action) -> None:
        """Add memory in the way that the step says."""
        (self.probe if action.op["via"] == "probe" else self.add)(action)

    def states(self, action: Action) -> None:
        """Write the state of each block in turn."""
        op = _op(action)
        each = []
        for block in op["blocks"]:
            errno = self.qemu.guest.write(f"{MEMORY}/memory{block}/state", op["value"], WRITE_LIMIT)
            each.append({"block": block, "errno": errno})
        first = next((one["errno"] for one in each if one["errno"]), 0)
        more = {"each": each} if len(each) > 1 else {"block": op["blocks"][0]}
        self.recorder.step(action.text, op, first, **more)

    def eject(self, action: Action) -> None:
        """Ask for the DIMM back, and wait until it is gone or refused."""
        op, qemu = _op(action), self.qemu
        name = op["dimm"]
        qemu.forget_events()
        qemu.command("device_del", id=name)
        events = qemu.events(lambda event: _eject_outcome(event, name) is not None, EJECT_LIMIT)
        outcome = next((found for event in events if (found := _eject_outcome(event, name))), None)
        status = [ost for event in events if (ost := _ost(event)) is not None]
        if outcome == "deleted":
            qemu.command("object-del", id=f"m{name}")
            self.plugged.discard(name)
        time.sleep(SETTLE)
        if outcome is None:
            self.recorder.step(action.text, op, TIMED_OUT, ost_status=status)
        else:
            errno = 0 if outcome == "deleted" else -1
            self.recorder.step(action.text, op, errno, outcome=outcome, ost_status=status)

    def request(self, action: Action) -> None:
        """Ask the virtio-mem device for another size, and wait until it has it, or does not come nearer."""
        op, qemu = _op(action), self.qemu
        first, pages = (
            qemu.hardware.virtio_at // self.recorder.page_size,
            qemu.hardware.virtio_mem // self.recorder.page_size,
        )
        if (first, first + pages) not in self.recorder.ranges:
            self.recorder.ranges.insert(0, (first, first + pages))
        qemu.command("qom-set", path="/machine/peripheral/virtio", property="requested-size", value=op["size"])
        end = time.monotonic() + REQUEST_LIMIT
        while (plugged := self._plugged_size()) != op["size"] and time.monotonic() < end:
            time.sleep(SETTLE)
        time.sleep(2 * SETTLE)
        errno = 0 if plugged == op["size"] else -1
        self.recorder.step(action.text, op, errno, requested=op["size"], plugged=self._plugged_size())

    def _plugged_size(self) -> int:
        devices = self.qemu.command("query-memory-devices")
        return next(int(device["data"]["size"]) for device in devices if device["data"].get("id") == "virtio")

    def use(self, action: Action) -> None:
        """Fill a file of the guest's tmpfs, or empty it."""
        op = _op(action)
        text, status = self.qemu.guest.shell(f"take {op['tag']} {op['size'] >> 10}", USE_LIMIT)
        self.recorder.step(action.text, op, ERRNOS.get(text.strip().rpartition(": ")[2], -1) if status else 0)

    def write(self, action: Action) -> None:
        """Write a parameter."""
        op = _op(action)
        errno = self.qemu.guest.write(op["path"], op["value"], WRITE_LIMIT)
        self.recorder.step(f"{op['value']} > {op['path']}", op, errno)


def _op(action: Action) -> dict[str, Any]:
    return dict(action.op)


def _ost(event: Mapping[str, Any]) -> int | None:
    """Return the status of a final _OST, else None."""
    if event["event"] != "ACPI_DEVICE_OST":
        return None
    status = int(event["data"]["info"]["status"])
    return status if status != IN_PROGRESS[1] else None


def _eject_outcome(event: Mapping[str, Any], name: str) -> str | None:
    kind, data = event["event"], event.get("data", {})
    if kind == "DEVICE_DELETED" and data.get("device") == name:
        return "deleted"
    if kind in ("MEM_UNPLUG_ERROR", "DEVICE_UNPLUG_GUEST_ERROR"):
        return "rejected"
    return "rejected" if kind == "ACPI_DEVICE_OST" and data["info"]["status"] not in IN_PROGRESS else None


PLAYERS: Mapping[str, Callable[[Session, Action], None]] = {
    "add": Session.plug,
    "online": Session.states,
    "online_kernel": Session.states,
    "online_movable": Session.states,
    "offline": Session.states,
    "write_state": Session.states,
    "eject": Session.eject,
    "other": Session.write,
    "use_memory": Session.use,
    "virtio_mem_request": Session.request,
}
