"""A guest that is being recorded: the state after each step, in the schema of recordings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from memshell.capture.formats import config
from memshell.capture.recording import SCHEMA
from memshell.errors import ImageError
from memshell.lab import trace
from memshell.lab.guest import GuestGone, NoAnswer
from memshell.lab.outside import CHUNK, MOST_PAGES, Outside, add_run
from memshell.lab.qemu import SILENT, Qemu, last_words
from memshell.lab.state import guest_state, online_ranges
from memshell.lab.struct_page import struct_page_of

SNAP_LIMIT = 120


@dataclass(slots=True)
class Recorder:
    """Makes the recording of a guest.  *ranges* are the pfns of what was plugged, read page by page from then on."""

    qemu: Qemu
    raw: dict[str, Any]
    page_size: int = 4096
    ranges: list[tuple[int, int]] = field(default_factory=list)
    outside: Outside | None = None
    traced: bool = False
    _lines: int = 0  # of the console that were read

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The recorded steps."""
        found: list[dict[str, Any]] = self.raw["steps"]
        return found

    @property
    def state(self) -> dict[str, Any]:
        """The last state that was read."""
        return next(step["state"] for step in reversed(self.steps) if "state" in step)

    def step(self, action: str, op: dict[str, Any], errno: int | None = None, **more: Any) -> dict[str, Any]:
        """Read the state and append a step.  A guest that is gone leaves a step without a state, and raises."""
        step: dict[str, Any] = {"n": len(self.steps), "action": action}
        if errno is not None:
            step |= {"errno": errno, "ok": errno == 0}
        step |= {"op": op, **more}
        self.steps.append(step)
        if self.traced:
            self._calls(step)
        text, _ = self.qemu.guest.shell("snap", SNAP_LIMIT)
        step["state"] = guest_state(text)
        self._counts(step)
        step |= self._pages(step["state"])
        step["dmesg"] = self.messages()
        if self.traced:
            trace.clear(self.qemu.guest)  # what reading the state called
        return step

    def _calls(self, step: dict[str, Any]) -> None:
        """Add what the step called, and what the kernel answered where the guest is not told."""
        step["calls"] = trace.read(self.qemu.guest)
        if step["op"]["op"] == "add" and step["op"]["via"] != "probe":
            step["kernel_ret"] = trace.answer(step["calls"], trace.RETURNS)
        elif step.get("outcome") == "rejected":
            step["kernel_ret"] = trace.answer(step["calls"], trace.REFUSALS, failed=True)

    def track(self, start: int, end: int) -> None:
        """Read the pfns [start, end) page by page from now on; with ranges that they meet they are one."""
        met = [one for one in self.ranges if one[0] < end and start < one[1]]
        low, high = min([start, *(a for a, _ in met)]), max([end, *(b for _, b in met)])
        self.ranges = [one for one in self.ranges if one not in met] + [(low, high)]

    def died(self, action: str, op: dict[str, Any], error: GuestGone) -> None:
        """Append the step that the guest did not survive, with its last words."""
        last = self.steps[-1] if self.steps and "state" not in self.steps[-1] else None
        step = last or {"n": len(self.steps), "action": action, "op": op}
        if last is None:
            self.steps.append(step)
        step["died"] = error.message
        step["dmesg"] = self.messages()

    def _counts(self, step: dict[str, Any]) -> None:
        zones = step["state"]["zones"]
        step["free_pages"] = sum(zone["free"] for zone in zones)
        step["pcp_pages"] = sum(zone["pcp_pages"] for zone in zones)
        before = next((one for one in reversed(self.steps[:-1]) if "state" in one), None)
        if before is None:
            return
        was, now = before["state"]["meminfo_kb"], step["state"]["meminfo_kb"]
        free = step["free_pages"] - before["free_pages"]
        step["delta"] = {
            "free_pages": free,
            "free_plus_pcp": free + step["pcp_pages"] - before["pcp_pages"],
            "meminfo_kb": {name: now[name] - was[name] for name in now if name in was and now[name] != was[name]},
        }

    def _pages(self, state: dict[str, Any]) -> dict[str, Any]:
        if not self.ranges:
            return {}
        if self.outside is not None:
            return self.outside.pages(self.ranges, online_ranges(state, self.page_size))
        runs: list[list[int]] = []
        for start, end in self.ranges:
            if end - start > MOST_PAGES or start % CHUNK or end % CHUNK:
                continue
            data = self.qemu.guest.packed(f"pages /proc/kpageflags {start // CHUNK} {(end - start) // CHUNK}")
            for at, flags in enumerate(memoryview(data).cast("Q").tolist(), start=start):
                add_run(runs, at, at + 1, flags)
        return {"kpageflags_runs": runs, "pfn_ranges": [list(one) for one in self.ranges]}

    def messages(self) -> list[str]:
        """Return what the kernel printed since it was asked last."""
        lines = self.qemu.console().splitlines()
        new, self._lines = lines[self._lines :], len(lines)
        return [re.sub(r"^(<\d+>)?\[ *\d+\.\d+\] ", "", line).strip() for line in new if line.strip()]


def start_recording(qemu: Qemu, name: str, about: str, mode: str, *, calls: bool) -> Recorder:
    """Return the recorder of a guest that has booted, with its first step."""
    version, _ = qemu.guest.shell("cat $R/proc/version")
    hidden = str(qemu.folder)
    raw = {
        "schema": SCHEMA,
        "name": name,
        "about": about,
        "arch": qemu.hardware.arch,
        "kernel": version.strip(),
        "config": config(qemu.image.config),
        "cmdline": qemu.board.cmdline(qemu.hardware),
        "qemu_args": [word.replace(hidden, "$RUN") for word in qemu.arguments],
        "accel": qemu.accel,
        "ram_bytes": qemu.hardware.ram,
        "mode": mode,
        "steps": [],
    }
    recorder = Recorder(qemu, raw)
    recorder.outside = _outside(qemu)
    raw["probes"] = trace.install(qemu.guest, trace.probe_names()) if calls else []
    recorder.messages()
    recorder.step("boot", {"op": "boot"})
    recorder.traced = bool(raw["probes"])
    return recorder


def _outside(qemu: Qemu) -> Outside | None:
    """Return the view from outside where there is a walker for the machine and the kernel tells its types."""
    if qemu.hardware.arch != "x86_64" or "la57=on" in qemu.hardware.cpu:
        return None
    try:
        layout = struct_page_of(qemu.image.kernel)
    except ImageError:
        return None
    return Outside(qemu, layout)


def why_gone(qemu: Qemu, error: GuestGone) -> str:
    """Return what the guest died of, in a line; of one that only does not answer, that."""
    if isinstance(error, NoAnswer):
        return error.message
    words = last_words(qemu.console())
    return error.message if words == SILENT else words
