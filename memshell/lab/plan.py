"""What a real machine has to do for a scenario: the scenario played on the model, written down boot by boot.

The model says which blocks a word such as ``all`` means, where a DIMM goes, and with which errno each command ends.
What only the model can do is written down with the reason; what follows it is not judged on the kernel.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from typing import TYPE_CHECKING, Any

from memshell.commands.device import REGION
from memshell.commands.hotplug import exact_range, free_place, left_to_do, named_addresses
from memshell.drivers.virtio.virtio_mem.device import DEFAULT_BLOCK_SIZE
from memshell.errors import CommandError, KernelCrash, KernelError
from memshell.lab.hardware import MOST_SLOTS, Hardware
from memshell.mm.params import PARAMETERS, boot_words
from memshell.mm.pfn import format_size, memparse
from memshell.mm.profile import RELEASES
from memshell.scenario.expression import evaluate
from memshell.scenario.parameters import define
from memshell.scenario.player import Player, StepFailed
from memshell.scenario.syntax import Expect, Let, Run, Statement, Subtest, Where
from memshell.shell.dispatch import parse
from memshell.shell.shell import Output
from memshell.shell.types import block_ids

if TYPE_CHECKING:
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins
    from memshell.scenario.lalr import Node, Token

MEMORY = "/sys/devices/system/memory"
MODULE = "/sys/module/memory_hotplug/parameters"
RELEASED = ("N", "Y", "force")  # of memory_hotplug.memmap_on_memory
# Keys of ``use`` that say what a kernel is built like and takes: a real one does not ask.
KERNELS_OWN = ("preset", "reserved", "used", "struct_page")
# Commands that change the model's machine and have nothing to do with what a real one does.
SETTINGS = ("profile", "undo", "redo")


@dataclass(frozen=True, slots=True)
class Action:
    """One command: what it is to the recording (*op*), what the model answered, and why a real machine cannot, if so."""

    where: Where
    text: str
    op: Mapping[str, Any]
    errno: str | None = None
    cannot: str = ""
    must_fail: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """An expectation, or a value to remember (*name*); *held* is the model's verdict, *variables* what $NAMES meant."""

    where: Where
    text: str
    expression: Node | Token
    variables: Mapping[str, Any]
    held: bool | None = None
    name: str = ""


@dataclass(slots=True)
class Boot:
    """A machine that boots, and what happens on it."""

    hardware: Hardware
    policy: str
    profile: str
    block_size: int  # of the model: the kernel chooses its own
    steps: list[Action | Check] = field(default_factory=list)
    dimms: dict[str, tuple[int, int]] = field(default_factory=dict)  # what is plugged: id -> (start, size)
    said_of: str = ""  # the kernel that the scenario names: its expectations are of that one
    cannot: str = ""  # why no released kernel can boot so
    taken: set[int] = field(default_factory=set)  # the allocations of the guest's programs

    def actions(self) -> list[Action]:
        """Return the commands that a real machine can play."""
        return [step for step in self.steps if isinstance(step, Action) and not step.cannot]


@dataclass(slots=True)
class Plan:
    """The boots of a scenario; *failures* are errors of the scenario itself."""

    name: str
    boots: list[Boot] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def playable(self, arch: str) -> tuple[list[Boot], list[str]]:
        """Return the boots that a kernel of *arch* can play, and why it cannot play the others.

        Raises CommandError where it can play none.
        """
        found, passed = [], []
        for number, boot in enumerate(self.boots, start=1):
            why = boot.cannot or (f"it is for {boot.hardware.arch}" if boot.hardware.arch != arch else "")
            if why:
                passed.append(f"boot {number} is passed over: {why}")
            elif boot.steps:
                found.append(boot)
        if not found:
            why = passed[0].partition(": ")[2] if passed else "it does nothing"
            raise CommandError(f"{self.name} has nothing for a kernel of {arch}: {why}")
        return found, passed


def make_plan(name: str, text: str, loader: Callable[[], Plugins], values: Mapping[str, str] | None = None) -> Plan:
    """Play a scenario on the model and return what a real machine has to do.

    *values* are those of its parameters.  Raises CommandError where it has no machine.
    """
    planner = Planner(loader=loader, output=Output(StringIO(), StringIO()), keep_going=True, echo=False, capture=True)
    planner.plan = Plan(name)
    planner.shell.trusted = False
    define(planner, values or {})
    planner.subtest = lambda statement, _player: planner.play_apart(statement)
    planner.play_text(text, name)
    planner.plan.failures = [str(failure) for failure in planner.failures if not _is_answer(failure)]
    if not planner.plan.boots and planner.failures:
        raise planner.failures[0]
    if not planner.plan.boots:
        raise CommandError(f"{name} has no machine: nothing can boot", hint="it begins with: use x86_64 ram=2G")
    return planner.plan


def _is_answer(failure: StepFailed) -> bool:
    """Whether the failure is a kernel's answer: the other engine is asked for its own."""
    return isinstance(failure.cause, (KernelError, KernelCrash))


class Planner(Player):
    """A player that writes down what it plays."""

    plan: Plan

    @property
    def boot(self) -> Boot:
        """The boot that is being written."""
        if not self.plan.boots:
            raise CommandError("there is no machine yet", hint="a scenario for the lab begins with: use x86_64 ram=2G")
        return self.plan.boots[-1]

    def command(self, words: list[str], tail: str | None = None) -> str:
        """Run one command on the model, and write down what it is on a real machine."""
        shell = self.shell
        item = shell.find_command(words[0])
        args = parse(item, words[1:], shell, tail)
        text = " ".join(words)
        known = TRANSLATIONS.get(item.name)
        ops = known(self, args) if known is not None and shell.machine is not None else []
        before = self._position()
        failed: str | None = None
        try:
            return super().command(words, tail)
        except (KernelError, KernelCrash) as error:
            failed = error.errno or "crash"
            raise
        finally:
            if item.name == "use":
                self._boots(args)
            elif known is not None:
                self._note(ops, text, failed)
            elif self._position() != before and item.name not in SETTINGS:
                self._note([Cannot("a real machine has no such command")], text, failed)

    def _note(self, ops: Iterable[Mapping[str, Any] | Cannot], text: str, failed: str | None) -> None:
        assert self._current is not None
        statement = self._current.statement
        where, must_fail = statement.where, isinstance(statement, Run) and statement.must_fail
        for op in ops:
            if isinstance(op, Cannot):
                self.boot.steps.append(Action(where, text, {}, failed, op.why, must_fail))
            elif op["op"] == "reboot":
                self.plan.boots.append(replace(self.boot, policy=op["policy"], steps=[], dimms={}, taken=set()))
            else:
                self.boot.steps.append(Action(where, text, op, failed, must_fail=must_fail))
                self._keep_dimms(op)

    def _keep_dimms(self, op: Mapping[str, Any]) -> None:
        boot = self.boot
        if op["op"] == "add" and op["via"] == "acpi":
            boot.dimms[op["dimm"]] = (op["start"], op["size"])
            adds = sum(step.op["op"] == "add" for step in boot.actions())
            room = max(boot.hardware.room, op["start"] + op["size"] - boot.hardware.ram)
            slots = min(max(boot.hardware.slots, adds), MOST_SLOTS)
            boot.hardware = replace(boot.hardware, room=room, slots=slots)
        elif op["op"] == "eject":
            gone = self.boot.dimms[op["dimm"]]
            if self._model().blocks.get(gone[0] // self._model().block_size) is None:
                del self.boot.dimms[op["dimm"]]

    def _boots(self, args: Namespace) -> None:
        machine = self.shell.machine
        if machine is None or args.arch is None:
            return
        mm = machine.mm
        cannot = "" if mm.policy.parameter in RELEASED else f"policy {mm.policy.name} is of no released kernel"
        cannot = cannot if mm.profile.name in RELEASES else f"{mm.profile.name} is no released kernel"
        options = dict(word.split("=", 1) for word in args.options or ())
        usual = {option.name: option.default for option in mm.arch.options}
        others = ", ".join(
            f"{key}={options[key]}" for key in KERNELS_OWN if options.get(key, usual.get(key)) != usual.get(key)
        )
        cannot = cannot or (f"{others} is of another kernel" if others else "")
        hardware = hardware_of(mm, options)
        said_of = mm.profile.name if "profile" in options else ""
        self.plan.boots.append(
            Boot(hardware, mm.policy.parameter, mm.profile.name, mm.block_size, said_of=said_of, cannot=cannot)
        )

    def _model(self) -> Mm:
        return self.shell.need_machine().mm

    def _expect(self, statement: Expect) -> None:
        assert statement.expression is not None
        held = evaluate(statement.expression, self.names)
        self._check(statement, statement.expression, held=held if isinstance(held, bool) else None)

    def _let(self, statement: Let) -> None:
        assert statement.expression is not None
        if statement.default and statement.name in self.shell.settings.variables:
            return
        super()._let(statement)
        self._check(statement, statement.expression, name=statement.name)

    def _check(
        self, statement: Statement, expression: Node | Token, *, held: bool | None = None, name: str = ""
    ) -> None:
        if self.plan.boots:
            variables = dict(self.shell.settings.variables)
            self.boot.steps.append(Check(statement.where, statement.text, expression, variables, held, name))

    def play_apart(self, statement: Subtest) -> None:
        """Play a subtest on a boot of its own, which begins with what was done so far; what follows gets another."""
        machine = self.shell.machine
        steps = 0 if machine is None else len(machine.steps)
        before = self.plan.boots[-1:] and self._copy()
        if before:
            self.plan.boots.append(self._copy())
        try:
            self.play(statement.body)
        finally:
            self.shell.machine = machine
            if machine is not None and len(machine.steps) > steps:
                machine.undo(len(machine.steps) - steps)
            if before:
                self.plan.boots.append(before)

    def _copy(self) -> Boot:
        boot = self.boot
        done = [step for step in boot.steps if isinstance(step, Action) or step.name]
        return replace(boot, steps=done, dimms=dict(boot.dimms), taken=set(boot.taken))


@dataclass(frozen=True, slots=True)
class Cannot:
    """Why a real machine cannot do it."""

    why: str


Ops = list["Mapping[str, Any] | Cannot"]


def hardware_of(mm: Mm, options: Mapping[str, str]) -> Hardware:
    """Return the hardware that ``use`` describes."""
    known = {option.name: option.default for option in mm.arch.options} | dict(options)
    words = boot_words(mm.params)
    if known.get("gbpages") == "off":
        words.append("nogbpages")
    cpu = [f"la57={known['la57']}"] if "la57" in known else []
    cpu += ["hypervisor=off"] if known.get("hypervisor") == "off" else []
    return Hardware(
        mm.arch.name, memparse(known["ram"]), int(known.get("nodes", "1")), cpu=tuple(cpu), words=tuple(words)
    )


# --- what a command is on a real machine ---


def _add(planner: Planner, args: Namespace) -> Ops:
    mm = planner.shell.need_machine().mm
    via = args.via or mm.arch.hotplug_driver
    start = free_place(mm, args.size) if args.address is None else args.address
    if via == "acpi":
        dimm = f"d{sum(isinstance(step, Action) and step.op.get('op') == 'add' for step in planner.boot.steps)}"
        op = {"op": "add", "via": via, "dimm": dimm, "start": start, "size": args.size, "node": args.node}
        return [op | {"fixed": args.address is not None}]
    if via == "probe":
        return [{"op": "add", "via": via, "start": start, "size": args.size, "node": args.node}]
    return [Cannot(f"via={via} needs a driver of its own")]


def _online(planner: Planner, args: Namespace) -> Ops:
    kinds = [word for word in args.blocks if isinstance(word, str)]
    return _states(
        planner, [word for word in args.blocks if not isinstance(word, str)], (kinds or ["online"])[0], "online"
    )


def _offline(planner: Planner, args: Namespace) -> Ops:
    return _states(planner, args.blocks, "offline", "offline")


def _states(planner: Planner, numbers: list[int], value: str, state: str) -> Ops:
    blocks = left_to_do(planner.shell.need_machine().mm, numbers, state)
    return [{"op": value, "value": value, "blocks": blocks}] if blocks else []


def _plugged(planner: Planner, addresses: Iterable[int]) -> dict[str, list[int]]:
    """Return the DIMMs at *addresses*: id -> all blocks of it.  What lies on none is under ''."""
    size = planner.shell.need_machine().mm.block_size
    found: dict[str, list[int]] = {}
    for address in addresses:
        dimms = planner.boot.dimms.items()
        name = next((name for name, (start, length) in dimms if start <= address < start + length), "")
        start, length = planner.boot.dimms.get(name, (address, size))
        found[name] = list(range(start // size, (start + length) // size))
    return found


def _eject(planner: Planner, args: Namespace) -> Ops:
    if args.via not in (None, "acpi") or exact_range(args.blocks, planner.shell) is not None:
        return [Cannot("a range is taken away by a driver of its own")]
    addresses = named_addresses(planner.shell.need_machine().mm, args.blocks, planner.shell)
    return [
        {"op": "eject", "via": "acpi", "dimm": name} if name else Cannot("these blocks are on no DIMM")
        for name in _plugged(planner, addresses)
    ]


def _remove(planner: Planner, args: Namespace) -> Ops:
    if args.via not in (None, "acpi") or exact_range(args.blocks, planner.shell) is not None:
        return [Cannot("a range is removed by a module only")]
    mm = planner.shell.need_machine().mm
    numbers = block_ids(args.blocks, planner.shell)
    found: Ops = []
    for name, blocks in _plugged(planner, [number * mm.block_size for number in numbers]).items():
        if not name or not set(blocks) <= set(numbers):
            found.append(Cannot("a part of a DIMM is removed by a module only"))
        elif any(mm.blocks[number].state != "offline" for number in blocks if number in mm.blocks):
            found.append(Cannot("an eject offlines first: nothing removes memory that is online"))
        else:
            found.append({"op": "eject", "via": "acpi", "dimm": name})
    return found


def _write(planner: Planner, args: Namespace) -> Ops:
    del planner
    block = re.fullmatch(f"{MEMORY[1:]}/memory(\\d+)/(\\w+)", args.file)
    if block is None:
        return [_written(f"/{args.file}", args.value)]
    if block[2] != "state":
        return [Cannot(f"a real machine is asked by memory{block[1]}/state only")]
    return [{"op": "write_state", "value": args.value, "blocks": [int(block[1])]}]


def _set(planner: Planner, args: Namespace) -> Ops:
    if args.name is None:
        return []
    name, equals, value = args.name.partition("=")
    if args.value is None and not equals:
        return []  # it is shown
    name, value = name.removeprefix("memory_hotplug."), value if equals else args.value
    if name == "auto_online_blocks":
        return [_written(f"{MEMORY}/{name}", str(value))]
    if name in PARAMETERS and PARAMETERS[name].module:
        return [_written(f"{MODULE}/{name}", str(value))]
    if name == "memmap_on_memory":
        return _reboot(planner, str(value))
    return [Cannot(f"no kernel has a switch for {name} while it runs")]


def _virtio_mem(planner: Planner, args: Namespace) -> Ops:
    """The device is there from boot on, where the model puts it, with nothing plugged."""
    mm, boot = planner.shell.need_machine().mm, planner.boot
    if mm.virtio_mem is None:
        region = REGION if args.region is None else args.region
        at = free_place(mm, region) if args.at is None else args.at
        block = DEFAULT_BLOCK_SIZE if args.block_size is None else args.block_size
        boot.hardware = replace(
            boot.hardware, virtio_mem=region, virtio_at=at, virtio_node=args.node or 0, virtio_block=block
        )
    return [{"op": "virtio_mem_request", "size": args.size}]


def _alloc(planner: Planner, args: Namespace) -> Ops:
    """A file in the guest's tmpfs: movable pages, one by one, from wherever the kernel takes them."""
    if args.size is None:
        return []
    if (args.kind, args.order, args.node, args.at, args.huge) != ("movable", 0, 0, None, None):
        return [Cannot("a program of the guest takes movable pages, wherever the kernel has them")]
    tag = planner.shell.need_machine().mm.counters.get("allocations", 0) + 1
    planner.boot.taken.add(tag)
    return [{"op": "use_memory", "what": f"alloc {tag}", "tag": tag, "size": args.size}]


def _free(planner: Planner, args: Namespace) -> Ops:
    taken = planner.boot.taken
    return [
        {"op": "use_memory", "what": f"free {tag}", "tag": tag, "size": 0}
        if tag in taken
        else Cannot("no program of the guest has it")
        for tag in args.ids
    ]


def _written(path: str, value: str) -> Mapping[str, Any]:
    return {"op": "other", "what": f"{value} > {path}", "path": path, "value": value}


def _policy(planner: Planner, args: Namespace) -> Ops:
    if args.name is None:
        return []
    if args.parameters or "=" in args.name:
        return [Cannot("a released kernel's policy has no parameters")]
    return _reboot(planner, planner.shell.plugins.policies()[args.name].parameter)


def _reboot(planner: Planner, parameter: str) -> Ops:
    """The parameter is read at boot: a machine with nothing plugged starts again, another one cannot."""
    boot = planner.boot
    if parameter == boot.policy:
        return []
    if parameter not in RELEASED:
        return [Cannot(f"no released kernel knows memmap_on_memory={parameter}")]
    if boot.dimms:
        return [Cannot("memmap_on_memory is read at boot: nothing may be plugged when it changes")]
    if not boot.actions():
        planner.plan.boots.pop()
        planner.plan.boots.append(replace(boot, policy=parameter, dimms={}, taken=set()))
        return []
    return [{"op": "reboot", "policy": parameter}]


TRANSLATIONS: Mapping[str, Callable[[Planner, Namespace], Ops]] = {
    "alloc": _alloc,
    "free": _free,
    "add": _add,
    "online": _online,
    "offline": _offline,
    "eject": _eject,
    "remove": _remove,
    "set": _set,
    "virtio-mem": _virtio_mem,
    "write": _write,
    "policy": _policy,
}


def describe(hardware: Hardware) -> str:
    """Return a machine in a few words."""
    nodes = f", {hardware.nodes} nodes" if hardware.nodes > 1 else ""
    return f"{hardware.arch}, {format_size(hardware.ram)}{nodes}"
