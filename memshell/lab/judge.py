"""Expectations on the kernel: the names of an expression, looked up in a recorded state."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memshell.errors import MemshellError
from memshell.lab.plan import Action, Check
from memshell.lab.play import Outcome, Ran
from memshell.profiles import profile_of_release
from memshell.scenario.expression import Names, Number, difference, evaluate, operands, why_not
from memshell.scenario.lalr import Node
from memshell.scenario.names import TOP
from memshell.verify.report import FREE_TOLERANCE

PAGE = 4096
SUMS = ("present", "managed", "spanned", "free")
TRUTHS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


class NotSeen(MemshellError):
    """The kernel does not show what a name asks for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an expectation ended on the kernel: holds, within, fails, or not judged; *text* says why."""

    word: str
    text: str = ""


@dataclass(slots=True)
class Judge:
    """Judges the checks of the boots of one run.  *variables* are what ``let`` remembered of the kernel."""

    variables: dict[str, Any] = field(default_factory=dict)
    noisy: set[str] = field(default_factory=set)  # variables that free memory went into

    def boot(self, ran: Ran) -> list[Verdict]:
        """Return the verdict of each step that is a check, in order."""
        verdicts = []
        error, apart = "none", _of_another(ran)
        for outcome in ran.outcomes:
            step = outcome.step
            if isinstance(step, Action):
                if outcome.missing or (step.cannot and step.errno is None):
                    apart = apart or f"{step.text!r} was not played"
                if step.must_fail:
                    error = _errno_name(outcome)
                continue
            if ran.died and outcome.number == len(ran.raw["steps"]) - 1:
                apart = apart or "the guest is gone"
            verdicts.append(Verdict("not judged", apart) if apart else self._judge(step, outcome, ran, error))
        return verdicts

    def _judge(self, check: Check, outcome: Outcome, ran: Ran, error: str) -> Verdict:
        seen = KernelState(ran.raw, outcome.number, error)
        names = Names(seen.look_up, {**check.variables, **self.variables})
        try:
            value = evaluate(check.expression, names)
            noisy = seen.noisy or bool(self.noisy & _variables(check.expression))
            if check.name:
                self.variables[check.name] = value
                (self.noisy.add if noisy else self.noisy.discard)(check.name)
                return Verdict("holds")
            if value is True:
                return Verdict("holds")
            if noisy and self._is_noise(check, names, outcome.number, ran.raw["arch"]):
                return Verdict("within", "free memory moves by itself: 16 pages a step")
            return Verdict("fails", "; ".join(line.strip() for line in why_not(check.expression, names)))
        except NotSeen as missing:
            return Verdict("not judged", missing.message)

    def _is_noise(self, check: Check, names: Names, steps: int, arch: str) -> bool:
        """Whether a comparison misses by no more than the kernel's own work moves in so many steps."""
        tree = check.expression
        if not isinstance(tree, Node) or tree.name not in {"comparison", "within"}:
            return False
        left, right, *slack = operands(tree, names)
        off = difference(left, right)
        if off is None:
            return False
        allowed = FREE_TOLERANCE.get(arch, 32) * PAGE * steps + sum(one.bytes for one in slack)
        return bool(abs(off.bytes) <= allowed)


def _of_another(ran: Ran) -> str:
    """Return why the expectations are not this kernel's; '' where the scenario names none, or one that plays like it."""
    said_of, release = ran.boot.said_of, ran.raw["kernel"].removeprefix("Linux version ")
    return f"it is said of {said_of}" if said_of and profile_of_release(release) != said_of else ""


def _errno_name(outcome: Outcome) -> str:
    """Return the errno of a ``!`` command on the kernel; '' where it was not played or does not say."""
    recorded = outcome.recorded
    if recorded is None or recorded.get("errno") is None:
        return ""
    number = recorded.get("kernel_ret") or recorded["errno"]
    return "none" if number == 0 else errno.errorcode.get(abs(number), "") if number != -1 else ""


def _variables(tree: Any) -> set[str]:
    if isinstance(tree, Node):
        return {name for child in tree.children for name in _variables(child)}
    return {tree.text.strip("${}")} if tree.kind == "VARIABLE" else set()


class KernelState:
    """Looks names up in the state after a recorded step."""

    def __init__(self, raw: Mapping[str, Any], number: int, error: str) -> None:
        self.raw = raw
        self.step = next((s for s in reversed(raw["steps"][: number + 1]) if "state" in s), raw["steps"][0])
        self.state: Mapping[str, Any] = self.step["state"]
        self.error = error
        self.noisy = False

    def look_up(self, name: str) -> Any:
        """Return the value of a dotted name, or of a word that stands for itself.  Raises `NotSeen`."""
        head, _, rest = name.partition(".")
        found = getattr(self, f"_{head}", None) if head.isidentifier() else None
        if found is not None:
            return found(rest)
        if head in SUMS and not rest:
            return self._sum(self.state["zones"], head)
        if not rest and head not in TOP:
            return TRUTHS.get(name, name)
        raise NotSeen(f"a kernel does not show {name}")

    def _error(self, _rest: str) -> str:
        if not self.error:
            raise NotSeen("the kernel does not tell the errno of that command")
        return self.error

    def _arch(self, _rest: str) -> str:
        return str(self.raw["arch"])

    def _crashed(self, _rest: str) -> bool:
        return any("died" in step for step in self.raw["steps"])

    def _block_size(self, _rest: str) -> Number:
        return Number(self.state["block_size_bytes"], 1)

    def _page_size(self, _rest: str) -> Number:
        return Number(PAGE, 1)

    def _blocks(self, rest: str) -> Number:
        states = [shown["state"] for shown in self.state["memory_blocks"].values()]
        if rest not in ("total", "online", "offline"):
            raise NotSeen(f"a kernel does not show blocks.{rest}")
        return Number(len(states) if rest == "total" else states.count(rest))

    def _block(self, rest: str) -> Any:
        number, _, field_name = rest.partition(".")
        shown = self.state["memory_blocks"].get(number.removeprefix("memory"))
        if shown is None:
            raise NotSeen(f"there is no block {number}")
        if field_name == "state":
            return shown["state"]
        if field_name == "zone":
            return shown["valid_zones"] if shown["state"] == "online" else "none"
        if field_name == "node" and "node" in shown:
            return Number(shown["node"])
        if field_name == "vmemmap_pages":
            if shown["state"] != "online":
                raise NotSeen("a kernel shows only of an online block which of its pages are its memmap")
            return self._own_memmap(int(number.removeprefix("memory")))
        raise NotSeen(f"a kernel does not show block.{rest}")

    def _own_memmap(self, number: int) -> Number:
        """Return the pages of a block that are not managed because its memmap lies in them: those before its free ones."""
        pages = self.state["block_size_bytes"] // PAGE
        first = number * pages
        reserved = 0
        for pfn, count, flags in self._runs():
            a, b = max(pfn, first), min(pfn + count, first + pages)
            if a < b and flags & 1 << 37:  # KPF_OWNER_PRIVATE: PG_vmemmap_self_hosted has its bit
                reserved += b - a
        return Number(reserved, PAGE)

    def _runs(self) -> list[list[int]]:
        if "kpageflags_runs" not in self.step:
            raise NotSeen("the pages were not read")
        runs: list[list[int]] = self.step["kpageflags_runs"]
        return runs

    def _memmap(self, rest: str) -> Number:
        """Return the pages behind the struct pages of plugged memory: inside its own block, or elsewhere."""
        if "page_tables" not in self.step:
            if self.step["n"] == 0 and rest != "early":
                return Number(0, PAGE)
            raise NotSeen("the page tables were not read")
        if rest not in ("buddy", "altmap"):
            raise NotSeen(f"a kernel does not show memmap.{rest}")
        inside = self.step["vmemmap_pages_inside_ranges"]
        return Number(inside if rest == "altmap" else self.step["vmemmap_pages"] - inside, PAGE)

    def _zone(self, rest: str) -> Number:
        path, _, field_name = rest.rpartition(".")
        node, _, label = path.rpartition(".")
        zones = [z for z in self.state["zones"] if z["zone"].lower() == label.lower() and node in ("", str(z["node"]))]
        if not zones:
            raise NotSeen(f"there is no zone.{path}")
        if field_name == "start_pfn":
            return Number(min(z["start_pfn"] for z in zones if z["spanned"]))
        return self._sum(zones, field_name)

    def _sum(self, zones: list[Mapping[str, Any]], name: str) -> Number:
        """Return a sum over zones; free pages are those on all lists, and what slab took since boot."""
        if name not in SUMS:
            raise NotSeen(f"a kernel does not show {name} of a zone")
        total = sum(z[name] for z in zones)
        if name == "free":
            self.noisy = True
            total += sum(z["pcp_pages"] for z in zones)
            if len(zones) == len(self.state["zones"]):
                total += self._slab()
        return Number(total, PAGE)

    def _slab(self) -> int:
        boot: Mapping[str, int] = self.raw["steps"][0]["state"]["meminfo_kb"]
        now: Mapping[str, int] = self.state["meminfo_kb"]
        return (now.get("Slab", 0) - boot.get("Slab", 0)) // (PAGE >> 10)

    def _meminfo(self, rest: str) -> Number:
        return Number(_pick(self.state["meminfo_kb"], rest, "meminfo"), 1024)

    def _vmstat(self, rest: str) -> Number:
        return Number(_pick(self.state["vmstat"], rest, "vmstat"))

    def _param(self, rest: str) -> Any:
        values = {**self.state["params"], "auto_online_blocks": self.state.get("auto_online_blocks")}
        text = str(_pick(values, rest, "param"))
        return Number(int(text)) if text.isdecimal() else text

    def _policy(self, _rest: str) -> str:
        raise NotSeen("a kernel shows param.memmap_on_memory, no policy")


def _pick(values: Mapping[str, Any], key: str, head: str) -> Any:
    if key not in values:
        raise NotSeen(f"this kernel does not show {head}.{key}")
    return values[key]
