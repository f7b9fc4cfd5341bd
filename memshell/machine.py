"""Machine: the one mutable object. It applies model functions in transactions and remembers every state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from memshell.errors import CommandError, KernelCrash, KernelError, MemshellError, PluginError, UsageError
from memshell.mm.events import Event, Trace
from memshell.mm.params import Params
from memshell.mm.sorted_map import SortedMap
from memshell.mm.state import Mm
from memshell.policy import titled

if TYPE_CHECKING:
    from memshell.arch import Arch, BootMemory
    from memshell.mm.profile import Profile
    from memshell.policy import Policy

T = TypeVar("T")
MOST_BLOCKS = 1 << 19  # 64T in blocks of 128M: beyond it a boot takes minutes


@dataclass(frozen=True, slots=True)
class Step:
    """One finished command: the state after it, its events, and the errno that the kernel returned, if any."""

    n: int
    command: str
    mm: Mm = field(repr=False)
    events: tuple[Event, ...] = ()
    error: KernelError | KernelCrash | None = None
    trace: Trace | None = None

    @property
    def crashed(self) -> str | None:
        """Why the machine is dead after this step; None while it lives."""
        return self.mm.crashed


class Change(NamedTuple):
    """One difference between two states."""

    path: str
    before: object
    after: object


class Machine:
    """A machine and its history.

    A command is a transaction: it works on a copy that is kept when it ends well. An errno of the kernel is an outcome,
    not a failure of the transaction: what the kernel's own unwinding left is kept, and the error is passed on. Any other
    exception, also Ctrl-C, leaves the machine as it was.
    """

    def __init__(self, mm: Mm, command: str = "boot") -> None:
        self.steps: list[Step] = [Step(0, command, mm)]
        self._undone: list[Step] = []
        self.known = 0  # of the steps, those that another machine took before this one branched off
        self.tracing = False  # record the call tree of each command
        self.trace_limit: int | None = None  # of each call tree; a command that makes more calls is dropped
        self.last_trace: Trace | None = None  # of the newest transaction, also of one that failed

    @property
    def mm(self) -> Mm:
        """The committed state. Do not change it."""
        return self.steps[-1].mm

    @property
    def step(self) -> Step:
        """The newest step."""
        return self.steps[-1]

    @contextmanager
    def transaction(self, command: str) -> Iterator[Mm]:
        """Yield a working copy; keep it on a normal exit, a `KernelError` and a `KernelCrash`, drop it on anything else."""
        if self.mm.crashed:
            raise CommandError(f"the machine is dead: {self.mm.crashed}", hint="undo brings it back to the step before")
        work = self.mm.copy()
        if self.tracing:
            work.trace = self.last_trace = Trace(self.trace_limit)
        error: KernelError | KernelCrash | None = None
        try:
            yield work
        except (KernelError, KernelCrash) as failed:
            error = failed
            if isinstance(failed, KernelCrash):
                work.crashed = failed.message
                work.event("Crash", failed.function, failed.message, crash=failed.kind, address=failed.address)
            elif not work.events:
                work.event("Failed", failed.where, failed.said, errno=failed.errno)
            self._commit(command, work, error)
            raise
        self._commit(command, work, None)

    def _commit(self, command: str, work: Mm, error: KernelError | KernelCrash | None) -> None:
        trace, work.trace = work.trace, None
        events, work.events = tuple(work.events), []
        self.steps.append(Step(len(self.steps), command, work, events, error, trace))
        if error is None:
            self._undone.clear()

    def join(self, first: int, command: str, error: KernelError | KernelCrash | None) -> None:
        """Make one step of those from step *first* on: a command that was made of commands."""
        done = self.steps[first:]
        if len(done) > 1:
            events = tuple(event for step in done for event in step.events)
            self.steps[first:] = [Step(first, command, done[-1].mm, events, error, done[-1].trace)]

    def undo(self, count: int = 1) -> Step:
        """Take *count* steps back; return the newest one that is undone. Raises `CommandError` at the first step."""
        if not 0 < count < len(self.steps):
            raise CommandError(
                "there is nothing to undo"
                if len(self.steps) == 1
                else f"only {len(self.steps) - 1} steps can be undone"
            )
        for _ in range(count):
            self._undone.append(self.steps.pop())
        return self._undone[-1]

    def mark(self) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """Return what `back_to` needs to come back here: the steps that were taken, and those that are undone."""
        return tuple(self.steps), tuple(self._undone)

    def back_to(self, mark: tuple[tuple[Step, ...], tuple[Step, ...]]) -> None:
        """Be as at *mark*, whatever was done or undone since."""
        self.steps[:], self._undone[:] = mark

    def redo(self, count: int = 1) -> Step:
        """Take *count* undone steps again; return the newest. Raises `CommandError` when there are none.

        What has failed since they were undone is taken back: the states are those that there were.
        """
        if not 0 < count <= len(self._undone):
            raise CommandError(
                "there is nothing to redo" if not self._undone else f"only {len(self._undone)} steps can be redone"
            )
        for _ in range(count):
            step = self._undone.pop()
            self.steps[step.n :] = [step]
        return self.step

    def branch(self) -> Machine:
        """Return a machine with the same history that goes its own way from here."""
        other = Machine(self.mm)
        other.back_to(self.mark())
        other.tracing, other.trace_limit = self.tracing, self.trace_limit
        other.known = len(self.steps)
        return other

    def diff(self, before: int, after: int) -> list[Change]:
        """Return what differs between the states after two steps. Raises `CommandError` for a step that is not there."""
        states = []
        for n in (before, after):
            if not 0 <= n < len(self.steps):
                raise CommandError(f"there is no step {n}", hint=f"steps are 0 to {len(self.steps) - 1}")
            states.append(self.steps[n].mm)
        return diff_states(*states)


def diff_states(a: Mm, b: Mm) -> list[Change]:
    """Return the differences of two states: zones, blocks, iomem, counters, sections, page tables."""
    changes = [
        *_diff_maps("params", a.params.texts(), b.params.texts()),
        *_diff_maps("zone", _named_zones(a), _named_zones(b)),
        *_diff_maps("node", a.nodes, b.nodes),
        *_diff_maps("memory", a.blocks, b.blocks),
        *_diff_maps("counter", a.counters, b.counters),
        *_diff_maps("feature", a.profile.features, b.profile.features),
        *_diff_maps("fault", a.faults, b.faults),
        *_diff_tables(a, b),
        *_diff_iomem(a, b),
    ]
    for name, before, after in (
        ("policy", titled(a.policy), titled(b.policy)),
        ("profile", a.profile.name, b.profile.name),
        ("crashed", a.crashed, b.crashed),
        ("current_vmemmap_page", a.vmemmap_head, b.vmemmap_head),
        ("MemTotal", _memtotal(a), _memtotal(b)),
    ):
        if before != after:
            changes.append(Change(name, before, after))
    return changes


def _memtotal(mm: Mm) -> str:
    return f"{mm.totalram_pages << mm.arch.page_shift >> 10} kB"


def _named_zones(mm: Mm) -> dict[str, object]:
    return {f"{nid}.{kind.label}": zone for (nid, kind), zone in mm.zones.items()}


def _diff_tables(a: Mm, b: Mm) -> Iterator[Change]:
    def named(mm: Mm, other: Mm) -> dict[str, object]:
        keys = mm.tables.keys_of_unshared(other.tables)
        return {f"{level} {address:#x}": mm.tables[level, address].owner for level, address in keys}

    return _diff_maps("page table", named(a, b), named(b, a))


def _diff_iomem(a: Mm, b: Mm) -> Iterator[Change]:
    def named(mm: Mm, other: Mm) -> dict[str, object]:
        return {f"{r.start:08x}-{r.end:08x}": r.name for r in mm.resources.unshared(other.resources)}

    return _diff_maps("iomem", named(a, b), named(b, a))


def _diff_maps(what: str, a: Mapping[Any, object], b: Mapping[Any, object]) -> Iterator[Change]:
    if isinstance(a, SortedMap) and isinstance(b, SortedMap):
        keys, others = a.keys_of_unshared(b), b.keys_of_unshared(a)
    else:
        keys, others = iter(a), iter(b)
    for key in [*keys, *(key for key in others if key not in a)]:
        before, after = a.get(key), b.get(key)
        if before is after or before == after:
            continue
        if hasattr(before, "_fields") and hasattr(after, "_fields"):
            for name in before._fields:
                old, new = getattr(before, name), getattr(after, name)
                if old != new:
                    yield Change(f"{what}.{key}.{name}", old, new)
        else:
            yield Change(f"{what}.{key}", before, after)


def boot(
    arch: Arch,
    options: Mapping[str, str],
    profile: Profile,
    policy: Policy,
    command: str = "boot",
    constants: Mapping[str, int] | None = None,
    params: Params | None = None,
) -> Machine:
    """Return a machine of *arch* that has just booted. *options* are the keys of ``use``; the rest are its defaults.

    *constants* of a real kernel replace the architecture's, see `Arch.with_constants`.

    Raises `UsageError` for a key or a value that cannot be.
    """
    from memshell.arch import Arch, BootMemory
    from memshell.mm.boot import boot as boot_mm
    from memshell.mm.profile import unknown

    profile.require(arch.since, f"memory hotplug on {arch.name}")
    known = {option.name: option for option in arch.options}
    values = {name: option.default for name, option in known.items()}
    for name, value in options.items():
        if name not in known:
            raise unknown("key", name, known)
        known[name].check(value)
        values[name] = value
    configured = _given(arch, "configure", arch.configure(values, profile), Arch)
    if "nodes" in options and known["nodes"].limits is not None:  # the firmware has told all that there can be
        configured = replace(configured, possible_nodes=tuple(range(int(options["nodes"]))))
    if constants:
        configured = configured.with_constants(constants)
    _given(arch, "mhp_range", configured.mhp_range(), tuple)
    memory = _given(arch, "boot_memory", configured.boot_memory(values, profile), BootMemory)
    _check_addresses(configured, memory)
    return Machine(boot_mm(configured, profile, policy, memory, params or Params()), command)


def _check_addresses(arch: Arch, memory: BootMemory) -> None:
    bits = arch.max_physmem_bits
    top = max([end << arch.page_shift for _, end, _ in memory.ram] + [end for _, end in memory.standby])
    if top > 1 << bits:
        raise UsageError(
            f"memory up to {top - 1:#x} cannot be", hint=f"this machine has addresses of {bits} bits; take less ram"
        )
    pages = sum(end - start for start, end, _ in memory.ram) + sum(b - a >> arch.page_shift for a, b in memory.standby)
    blocks = (pages << arch.page_shift) // memory.block_size
    if blocks > MOST_BLOCKS:
        raise UsageError(
            f"{blocks} memory blocks are too many", hint=f"{MOST_BLOCKS} at most: less ram, or a larger block"
        )


def _given(arch: Arch, method: str, value: T, kind: type) -> T:
    """Return what a method of an architecture gave. Raises `PluginError`, which names the plugin, for anything else."""
    if not isinstance(value, kind):
        who = f"plugin {type(arch).__module__}: arch {arch.name}"
        raise PluginError(f"{who}: {method} returned {type(value).__name__}, not a {kind.__name__}")
    return value


__all__ = ["Change", "Machine", "MemshellError", "Step", "boot", "diff_states"]
