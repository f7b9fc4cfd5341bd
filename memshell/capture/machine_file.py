"""The machine file: read it, judge its counts, and boot a machine from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.capture.collect import SCHEMA
from memshell.capture.reader import boot_state
from memshell.errors import CommandError, RecordingError, UsageError
from memshell.machine import Machine
from memshell.mm.mmzone import ZONE_BY_LABEL
from memshell.mm.profile import PROFILES, profile_of_release, unknown

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.mm.profile import Profile
    from memshell.policy import Policy

MAX_BYTES = 256 << 20
MEMORY_KEYS = ("ram", "block", "used", "nodes", "standby")  # keys of `use ARCH` that the file's state answers
DEFAULT_PROFILE = "v6.12"
BLOCK_STATES = ("online", "offline", "going-offline")


@dataclass(frozen=True)
class MachineFile:
    """A machine file as it was read; its state is judged."""

    path: str
    arch: str
    kernel: str
    config: dict[str, str]
    cmdline: str
    cpu: dict[str, str]
    facts: dict[str, int]
    state: dict[str, Any]


def load_machine_file(path: str | Path) -> MachineFile:
    """Read a machine file. Raises `RecordingError` with one line that says what is wrong with it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        raw = json.loads(data)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RecordingError(f"{path} is no machine file: {error}") from error
    found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
    if found != SCHEMA:
        raise RecordingError(
            f"{path} has schema {found!r}; `use` reads {SCHEMA!r}", hint="memshell capture -o FILE writes one"
        )
    try:
        file_ = MachineFile(
            str(path),
            str(raw["arch"]),
            str(raw.get("kernel", "")),
            dict(raw.get("config", {})),
            str(raw.get("cmdline", "")),
            dict(raw.get("cpu", {})),
            dict(raw.get("facts", {})),
            raw["state"],
        )
        wrong = next(problems(file_.state), None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(
            f"{path} lacks {error} or has another kind of value there; is it whole?"
        ) from error
    if wrong is not None:
        raise RecordingError(f"{path}: {wrong}")
    return file_


def problems(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield what cannot be in a state: counts that no kernel shows.

    Raises KeyError, TypeError and the like for what is no state at all.
    """
    size = state["block_size_bytes"]
    if not _count(size) or size < 1 << 20 or size & (size - 1):
        yield f"block_size_bytes {size!r} is no power of two from 1M on"
    seen = set()
    managed = {}
    for z in state.get("zones", ()):
        name = f"zone.{z['node']}.{z['zone']}"
        if z["zone"] not in ZONE_BY_LABEL:
            yield f"{name}: no such zone here; known: {', '.join(ZONE_BY_LABEL)}"
        numbers = [
            z.get(key, 0)
            for key in ("node", "start_pfn", "spanned", "present", "managed", "free", "pcp_pages")
        ]
        if not all(map(_count, numbers)):
            yield f"{name}: {numbers} are not all whole numbers from 0 on"
        elif z["zone"] != "Device" and not z["spanned"] >= z["present"] >= z["managed"] >= z["free"]:
            counts = ", ".join(f"{z[key]} {key}" for key in ("spanned", "present", "managed", "free"))
            yield f"{name}: {counts} cannot be"
        if name in seen:
            yield f"{name} is there twice"
        seen.add(name)
        managed[name] = z["managed"]
    yield from _list_problems(state, managed)


def _list_problems(state: Mapping[str, Any], managed: Mapping[str, int]) -> Iterator[str]:
    for b in state.get("buddyinfo", ()):
        name = f"zone.{b['node']}.{b['zone']}"
        if not all(map(_count, b["orders"])) or sum(
            n << order for order, n in enumerate(b["orders"])
        ) > managed.get(name, 0):
            yield f"buddyinfo: {name} has more free pages than it manages ({managed.get(name, 0)})"
    for depth, start, end, name in state.get("iomem", ()):
        if not (_count(depth) and _count(start) and _count(end) and start <= end and isinstance(name, str)):
            yield f"iomem: {[depth, start, end, name]} is no resource"
    for number, block in state["memory_blocks"].items():
        if not number.isdecimal() or block["state"] not in BLOCK_STATES:
            yield f"memory{number}: state {block['state']!r} cannot be"
    for name, value in {
        **state.get("params", {}),
        "auto_online_blocks": state.get("auto_online_blocks", ""),
    }.items():
        if not isinstance(value, str):
            yield f"{name} is {value!r}, not text"


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


# --- boot ---


def profile_of(file: MachineFile) -> Profile:
    """Return the newest released profile that is not newer than the kernel; the default without a kernel.

    Raises `RecordingError` for a kernel that is older than all of them.
    """
    if not file.kernel:
        return PROFILES[DEFAULT_PROFILE]
    name = profile_of_release(file.kernel.removeprefix("Linux version "))
    if name is None:
        raise RecordingError(f"{file.path}: no profile fits {file.kernel!r}", hint="choose one with profile=")
    return PROFILES[name]


def policy_of(file: MachineFile, policies: Mapping[str, Policy]) -> Policy:
    """Return the policy of memmap_on_memory; N where it is not known. Raises `RecordingError` for others."""
    value = file.state.get("params", {}).get("memmap_on_memory", "N")
    for policy in policies.values():
        if policy.parameter == value:
            return policy
    raise RecordingError(
        f"{file.path}: no policy plugin for memmap_on_memory={value}", hint="choose one with policy="
    )


def boot_file(
    file: MachineFile,
    profile: Profile,
    options: Mapping[str, str],
    arches: Mapping[str, Arch],
    policy: Policy,
    command: str = "use",
) -> Machine:
    """Return the machine of a file. *options* are keys of ``use ARCH``, which win over the file.

    Raises `RecordingError` for a file that cannot be, `UsageError` for an option that cannot.
    """
    base = arches.get(file.arch) or next((a for a in arches.values() if a.is_machine(file.arch)), None)
    if base is None:
        known = ", ".join(arches) or "none"
        raise RecordingError(f"{file.path}: no plugin for architecture {file.arch!r}", hint=f"known: {known}")
    arch = machine_arch(file, base, profile, options)
    wrong = next(misfits(file.state, arch), None)
    if wrong is not None:
        raise RecordingError(f"{file.path}: {wrong}")
    try:
        return Machine(boot_state(arch, profile, policy, file.state), command)
    except RecordingError as error:
        raise RecordingError(f"{file.path}: {error.message}", hint=error.hint) from error


def machine_arch(file: MachineFile, base: Arch, profile: Profile, options: Mapping[str, str]) -> Arch:
    """Return the architecture as the file's machine has it, with *options* over it."""
    config, facts = dict(file.config), file.facts
    if facts.get("page_size") == 65536:
        config["CONFIG_PPC_64K_PAGES"] = "y"
    arch = base.configure({option.name: option.default for option in base.options}, profile)
    if "meminfo_kb" in file.state:
        arch = base.from_recording(config, file.cmdline, _cpu_words(file), file.state, profile)
    try:
        arch = _sized(arch, file)
        if "struct_page" in facts and base.has_option("struct_page") and "struct_page" not in options:
            arch = override(arch, base, "struct_page", str(facts["struct_page"]), profile)
    except CommandError as error:
        raise RecordingError(f"{file.path}: {error.message}") from error
    for name, value in options.items():
        arch = override(arch, base, name, value, profile)
    if arch.page_size != facts.get("page_size", arch.page_size):
        sizes = f"{facts['page_size'] >> 10}K, and {arch.name} would have {arch.page_size >> 10}K"
        raise RecordingError(f"{file.path}: its pages are of {sizes}")
    return arch


def _sized(arch: Arch, file: MachineFile) -> Arch:
    """Give the architecture the orders that the machine showed."""
    orders = [len(line["orders"]) for line in file.state.get("buddyinfo", ()) if line["orders"]]
    read = {"max_order": orders[0] - 1} if orders else {}
    if "pageblock_order" in file.facts:
        read["pageblock_order"] = file.facts["pageblock_order"]
    return arch.with_constants(read)


def _cpu_words(file: MachineFile) -> tuple[str, ...]:
    """Return what the CPU lacks or has, in the words of a recording's CPU arguments."""
    words = [] if "DirectMap1G" in file.state["meminfo_kb"] else ["pdpe1gb=off"]
    return (*words, "la57=on" if "la57" in file.cpu.get("flags", "").split() else "la57=off")


def override(arch: Arch, base: Arch, name: str, value: str, profile: Profile) -> Arch:
    """Return *arch* with what ``name=value`` of ``use`` decides: the fields that change with the key."""
    options = {option.name: option for option in base.options if option.name not in MEMORY_KEYS}
    if name in MEMORY_KEYS:
        raise UsageError(f"{name}={value} cannot be given here", hint="the file says what memory there is")
    if name not in options:
        raise unknown("key", name, dict.fromkeys(options))
    if options[name].choices and value not in options[name].choices:
        raise UsageError(
            f"{name}={value} cannot be", hint=f"{name} is one of {', '.join(options[name].choices)}"
        )
    defaults = {option.name: option.default for option in base.options}
    chosen = base.configure({**defaults, name: value}, profile)
    others = [
        base.configure({**defaults, name: other}, profile)
        for other in options[name].choices or (options[name].default,)
    ]
    changes = {
        field.name: getattr(chosen, field.name)
        for field in fields(chosen)
        if any(getattr(chosen, field.name) != getattr(other, field.name) for other in others)
    }
    return replace(arch, **changes)


def misfits(state: Mapping[str, Any], arch: Arch) -> Iterator[str]:
    """Yield what cannot be on this architecture."""
    limit = 1 << arch.max_physmem_bits
    if state["block_size_bytes"] % (1 << arch.section_size_bits):
        size, section = state["block_size_bytes"] >> 20, 1 << arch.section_size_bits >> 20
        yield f"blocks of {size}M are not whole sections of {section}M"
    for z in state.get("zones", ()):
        if (z.get("start_pfn", 0) + z["spanned"]) * arch.page_size > limit:
            yield f"zone.{z['node']}.{z['zone']} ends above the {limit >> 40}T that {arch.name} can have"
    for number in state["memory_blocks"]:
        if (int(number) + 1) * state["block_size_bytes"] > limit:
            yield f"memory{number} lies above the {limit >> 40}T that {arch.name} can have"
