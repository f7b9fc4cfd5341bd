"""The machine file: read it, judge its counts, and boot a machine from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.capture.collect import SCHEMA
from memshell.capture.reader import NODE_LIST, boot_state, read_json
from memshell.errors import CommandError, RecordingError, UsageError
from memshell.machine import Machine
from memshell.mm.kconfig import built, built_in, configured
from memshell.mm.mmzone import ZONE_BY_LABEL
from memshell.mm.params import MEMMAP_ON_MEMORY, MODULE, NEEDS, memmap_on_memory
from memshell.mm.profile import unknown
from memshell.profiles import DEFAULT_PROFILE, PROFILES, profile_of_release

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.mm.profile import Profile
    from memshell.policy import Policy

MEMORY_KEYS = ("ram", "block", "used", "nodes", "standby")  # keys of `use ARCH` that the file's state answers
MOST_NODES = 1024  # MAX_NUMNODES, at most
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
    return machine_file_of(read_json(path, "machine file"), path)


def machine_file_of(raw: Any, path: str | Path) -> MachineFile:
    """Return the machine that the file at *path* holds. Raises `RecordingError` for what is none."""
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
        wrong = next(problems(file_.state), None) or next(_fact_problems(file_), None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{path} lacks {error} or has another kind of value there; is it whole?") from error
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
    if not state["memory_blocks"]:
        yield "there are no memory blocks"
    for name in ("meminfo_kb", "vmstat"):
        if not all(map(_count, state.get(name, {}).values())):
            yield f"{name} is not all whole numbers from 0 on"
    seen = set()
    managed = {}
    for z in state.get("zones", ()):
        name = f"zone.{z['node']}.{z['zone']}"
        if z["zone"] not in ZONE_BY_LABEL:
            yield f"{name}: no such zone here; known: {', '.join(ZONE_BY_LABEL)}"
        numbers = [z["node"], z.get("start_pfn", 0), z.get("pcp_pages", 0)]
        numbers += [z[key] for key in ("spanned", "present", "managed", "free")]
        if not all(map(_count, numbers)):
            yield f"{name}: {numbers} are not all whole numbers from 0 on"
        elif z["zone"] != "Device" and not z["spanned"] >= z["present"] >= z["managed"] >= z["free"]:
            counts = ", ".join(f"{z[key]} {key}" for key in ("spanned", "present", "managed", "free"))
            yield f"{name}: {counts} cannot be"
        elif z["node"] > MOST_NODES or z.get("pcp_pages", 0) > z["managed"]:
            yield f"{name}: node {z['node']} and {z.get('pcp_pages', 0)} pages on per-cpu lists cannot be"
        if name in seen:
            yield f"{name} is there twice"
        seen.add(name)
        managed[name] = z["managed"]
    yield from _list_problems(state, managed)


def _fact_problems(file: MachineFile) -> Iterator[str]:
    if not all(map(_count, [*file.facts.values(), *file.state.get("meminfo_kb", {}).values()])):
        yield "facts and meminfo_kb are not all whole numbers from 0 on"
    if not all(map(_count, file.state.get("vmstat", {}).values())):
        yield "vmstat is not all whole numbers from 0 on"
    if not all(isinstance(text, str) for text in [*file.cpu.values(), *file.config.values()]):
        yield "cpu and config are not all text"
    present = sum(z["present"] for z in file.state.get("zones", ()))
    for name, pages in file.state.get("vmstat", {}).items():
        if present and name != "nr_memmap_pages" and pages > present:
            yield f"vmstat: {name} is {pages}, of {present} pages that are present"
    if not 1 <= file.facts.get("pageblock_order", 1) <= 20:
        yield f"facts: pageblock_order {file.facts['pageblock_order']} cannot be"
    for name in ("has_cpu", "possible"):
        text = file.state.get("nodes", {}).get(name, "")
        if text and not NODE_LIST.fullmatch(text):
            yield f"nodes: {name} {text!r} is no list of nodes"


def _list_problems(state: Mapping[str, Any], managed: Mapping[str, int]) -> Iterator[str]:
    lengths: set[int] = set()
    for b in state.get("buddyinfo", ()):
        name = f"zone.{b['node']}.{b['zone']}"
        lengths.add(len(b["orders"]))
        if not all(map(_count, b["orders"])) or sum(n << order for order, n in enumerate(b["orders"])) > managed.get(
            name, 0
        ):
            yield f"buddyinfo: {name} has more free pages than it manages ({managed.get(name, 0)})"
    if len(lengths - {0}) > 1:
        yield f"buddyinfo: zones have {' and '.join(map(str, sorted(lengths)))} orders"
    for depth, start, end, name in state.get("iomem", ()):
        if not (_count(depth) and _count(start) and _count(end) and start <= end and isinstance(name, str)):
            yield f"iomem: {[depth, start, end, name]} is no resource"
    for number, block in state["memory_blocks"].items():
        if not number.isdecimal() or block["state"] not in BLOCK_STATES:
            yield f"memory{number}: state {block['state']!r} cannot be"
        zones = block.get("valid_zones", "")
        if not isinstance(zones, str) or not {*zones.split()} <= {"none", *ZONE_BY_LABEL}:
            yield f"memory{number}: valid_zones {zones!r} cannot be"
        if not _count(block.get("node", 0)) or block.get("node", 0) > MOST_NODES:
            yield f"memory{number}: node {block['node']!r} cannot be"
    for name, value in {**state.get("params", {}), "auto_online_blocks": state.get("auto_online_blocks", "")}.items():
        if not isinstance(value, str):
            yield f"{name} is {value!r}, not text"


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


# --- boot ---


def profile_of(file: MachineFile) -> Profile:
    """Return the newest released profile that is not newer than the kernel, as it was built; the default without a kernel.

    Raises `RecordingError` for a kernel that is older than all of them.
    """
    if not file.kernel:
        return built(DEFAULT_PROFILE, file.config)
    name = profile_of_release(file.kernel.removeprefix("Linux version "))
    if name is None:
        raise RecordingError(f"{file.path}: no profile fits {file.kernel!r}", hint="choose one with profile=")
    return built(PROFILES[name], file.config)


def policy_of(file: MachineFile, policies: Mapping[str, Policy]) -> Policy:
    """Return the policy of memmap_on_memory; N where it is not known. Raises `RecordingError` for others."""
    value = file.state.get("params", {}).get(MEMMAP_ON_MEMORY) or memmap_on_memory(file.cmdline) or "N"
    if not built_in(file.config).get(NEEDS[MODULE + MEMMAP_ON_MEMORY], True):
        value = "N"
    for policy in policies.values():
        if policy.parameter == value:
            return policy
    raise RecordingError(f"{file.path}: no policy plugin for memmap_on_memory={value}", hint="choose one with policy=")


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
        hint = None if file.kernel else "the file does not say its kernel: choose it with profile="
        raise RecordingError(f"{file.path}: {wrong}", hint=hint)
    try:
        return Machine(boot_state(arch, profile, policy, file.state, file.cmdline, configured(file.config)), command)
    except RecordingError as error:
        raise RecordingError(f"{file.path}: {error.message}", hint=error.hint) from error


def machine_arch(file: MachineFile, base: Arch, profile: Profile, options: Mapping[str, str]) -> Arch:
    """Return the architecture as the file's machine has it, with *options* over what was read."""
    known = {option.name: option for option in base.options}
    for name, value in options.items():
        if name in MEMORY_KEYS:
            raise UsageError(f"{name}={value} cannot be given here", hint="the file says what memory there is")
        if name not in known:
            raise unknown("key", name, {key: None for key in known if key not in MEMORY_KEYS})
        if known[name].choices and value not in known[name].choices:
            choices = ", ".join(known[name].choices)
            raise UsageError(f"{name}={value} cannot be", hint=f"{name} is one of {choices}")
    values = {name: option.default for name, option in known.items()}
    read = base.read_options(file.cpu, file.state.get("meminfo_kb"), file.config, file.cmdline, profile)
    found = {**readings(file), **read}
    values |= {k: value for k, value in found.items() if k in known and value in (known[k].choices or (value,))}
    try:
        arch = base.configure(values, profile).with_constants(_constants(file))
    except CommandError as error:
        raise RecordingError(f"{file.path}: {error.message}") from error
    if options:
        arch = base.configure({**values, **options}, profile).with_constants(_constants(file))
    if arch.page_size != file.facts.get("page_size", arch.page_size):
        sizes = f"{file.facts['page_size'] >> 10}K, and {arch.name} would have {arch.page_size >> 10}K"
        raise RecordingError(f"{file.path}: its pages are of {sizes}")
    return arch


def readings(file: MachineFile) -> dict[str, str]:
    """Return the keys of ``use`` that the file's readings answer, whatever the architecture."""
    facts = file.facts
    ends = [(int(number) + 1) * file.state["block_size_bytes"] for number in file.state["memory_blocks"]]
    found = {"ram": str(max(ends, default=0))}
    if "struct_page" in facts:
        found["struct_page"] = str(facts["struct_page"])
    if "page_size" in facts:
        found["page"] = f"{facts['page_size'] >> 10}K"
    return found


def _constants(file: MachineFile) -> dict[str, int]:
    """Return the constants of the architecture that the machine showed."""
    orders = [len(line["orders"]) for line in file.state.get("buddyinfo", ()) if line["orders"]]
    found = {"max_order": orders[0] - 1} if orders else {}
    if file.config:
        found["mem_section_size"] = 32 if file.config.get("CONFIG_PAGE_EXTENSION") == "y" else 16
    if "pageblock_order" in file.facts:
        found["pageblock_order"] = file.facts["pageblock_order"]
    return found


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
