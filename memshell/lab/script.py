"""A plan as a shell script: the QEMU line, the monitor's commands, and the writes in the guest, each with what the model says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memshell.lab.hardware import board_of
from memshell.lab.plan import MEMORY, Action, Boot, Plan, describe

HEAD = """\
#!/bin/sh
# {name}, as a real machine does it. Written by memshell.
#
# KERNEL is the kernel image, INITRD an initramfs whose shell listens on {tty}: `memshell lab initrd OUT` writes one.
# "$RUN" is a folder for sockets. `guest` hands a line to that shell, `qmp` a command to QEMU's monitor; both need socat.
set -eu
: "${{KERNEL:?the kernel image}}" "${{INITRD:?an initramfs with a shell on {tty}}}"
RUN=${{RUN:-$(mktemp -d)}}
qmp() {{ {{ echo '{{"execute": "qmp_capabilities"}}'; echo "$1"; sleep 1; }} | socat - "UNIX-CONNECT:$RUN/qmp"; }}
guest() {{ {{ echo "$1"; sleep 1; }} | socat - "UNIX-CONNECT:$RUN/agent"; }}
boot() {{ "$@" & QEMU=$!; trap 'kill $QEMU' EXIT; sleep "${{BOOT:-30}}"; }}
"""


def script(plan: Plan) -> str:
    """Return the script of a plan."""
    arch = next((boot.hardware.arch for boot in plan.boots if not boot.cannot), plan.boots[0].hardware.arch)
    boots, _ = plan.playable(arch)
    board = board_of(arch)
    parts = [HEAD.format(name=plan.name, tty=board.tty)]
    for number, boot in enumerate(boots, start=1):
        parts.append("\n".join(_boot(boot, number)))
    return "\n".join(parts) + "\n"


def _boot(boot: Boot, number: int) -> Iterator[str]:
    policy = f"memory_hotplug.memmap_on_memory={boot.policy}"
    hardware = replace(boot.hardware, words=(*boot.hardware.words, policy))
    board = board_of(hardware.arch)
    yield f"\n# --- boot {number}: {describe(hardware)}, memmap_on_memory={boot.policy} ---"
    if number > 1:
        yield "kill $QEMU; wait $QEMU || true"
    words = board.arguments(hardware, Path("$KERNEL"), Path("$INITRD"), Path("$RUN"), "tcg")
    yield "boot " + " ".join(_quoted(word) for word in words)
    for step in boot.steps:
        yield ""
        yield f"# {step.where.line}: {step.text}"
        if isinstance(step, Action):
            yield from _action(step, boot.block_size)


def _quoted(word: str) -> str:
    """Quote a word; the variables of the script in it stay variables."""
    return f'"{word}"' if "$" in word else shlex.quote(word)


def _action(step: Action, block_size: int) -> Iterator[str]:
    if step.cannot:
        yield f"#    not on a real machine: {step.cannot}"
        return
    yield f"#    the model: {step.errno or 'ok'}"
    if step.op.get("via") == "probe":
        first = step.op["start"]
        yield from (_guest(f"{MEMORY}/probe", f"{at:#x}") for at in range(first, first + step.op["size"], block_size))
    else:
        yield from LINES[step.op["op"]](step.op)


def _qmp(name: str, **arguments: Any) -> str:
    return f"qmp {shlex.quote(json.dumps({'execute': name, 'arguments': arguments}))}"


def _guest(path: str, value: str) -> str:
    return f"guest {shlex.quote(f'echo {value} > {path}')}"


def _add(op: Mapping[str, Any]) -> Iterator[str]:
    name = op["dimm"]
    yield _qmp("object-add", **{"qom-type": "memory-backend-ram", "id": f"m{name}", "size": op["size"]})
    place = {"addr": op["start"]} if op["fixed"] else {}
    yield _qmp("device_add", driver="pc-dimm", id=name, memdev=f"m{name}", node=op["node"], **place)


def _states(op: Mapping[str, Any]) -> Iterator[str]:
    for number in op["blocks"]:
        yield _guest(f"{MEMORY}/memory{number}/state", op["value"])


def _eject(op: Mapping[str, Any]) -> Iterator[str]:
    yield _qmp("device_del", id=op["dimm"])


def _write(op: Mapping[str, Any]) -> Iterator[str]:
    yield _guest(op["path"], op["value"])


def _use(op: Mapping[str, Any]) -> Iterator[str]:
    line = f"take {op['tag']} {op['size'] >> 10}"
    yield f"guest {shlex.quote(line)}"


def _request(op: Mapping[str, Any]) -> Iterator[str]:
    yield _qmp("qom-set", path="/machine/peripheral/virtio", property="requested-size", value=op["size"])


LINES = {
    "add": _add,
    "online": _states,
    "online_kernel": _states,
    "online_movable": _states,
    "offline": _states,
    "write_state": _states,
    "eject": _eject,
    "other": _write,
    "use_memory": _use,
    "virtio_mem_request": _request,
}
