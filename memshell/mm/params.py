"""The parameters of a kernel: what each may be, where it is set, and what it is when nobody sets it.

`Params` holds the values of one machine, a field for each; a field's declaration says the rest. What a kernel reads
from its command line (Documentation/admin-guide/kernel-parameters.txt) is read here, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from memshell.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from memshell.mm.profile import Profile

ON, OFF = ("y", "yes", "on", "1", "true"), ("n", "no", "off", "0", "false")
NO_NUMBER = "stale, zero, poison, random:SEED, byte:N or count:N"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its values (none: a number), a text, and where the kernel has it."""

    name: str
    kind: type
    text: str
    values: tuple[str, ...] = ()
    module: bool = False  # memory_hotplug.NAME on the command line, and in /sys/module/memory_hotplug/parameters
    word: str = ""  # on the command line
    at_boot: bool = False  # what the kernel reads once, while it boots
    feature: str = ""  # there in kernels with that feature

    def read(self, given: str) -> Any:
        """Return the value that *given* is.  Raises UsageError for what it cannot be."""
        if self.kind is bool and given.lower() in (*ON, *OFF):
            return given.lower() in ON
        if self.kind is int and given.isdecimal():
            return int(given)
        if self.kind is str and (not self.values or given in self.values):
            return memmap_content(given) if self.name == "memmap_content" else given
        hint = "it is a whole number"
        if self.values:
            hint = did_you_mean(given, self.values) or "one of " + ", ".join(self.values)
        raise UsageError(f"{self.name}={given} cannot be", hint=hint)


def _declared(
    default: Any,
    text: str,
    *values: str,
    kind: type | None = None,
    module: bool = False,
    word: str = "",
    at_boot: bool = False,
    feature: str = "",
) -> Any:
    given = values or (("Y", "N") if isinstance(default, bool) else ())
    about = (kind or type(default), text, given, module, word, at_boot, feature)
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters that a machine's kernel runs with."""

    auto_online_blocks: str = _declared(
        "offline",
        "/sys/devices/system/memory/auto_online_blocks",
        "offline",
        "online",
        "online_kernel",
        "online_movable",
        word="memhp_default_state",
    )
    online_policy: str = _declared(
        "contig-zones",
        "memory_hotplug.online_policy",
        "contig-zones",
        "auto-movable",
        module=True,
        feature="mhp.memory_groups",
    )
    auto_movable_ratio: int = _declared(
        301, "memory_hotplug.auto_movable_ratio, in percent", module=True, feature="mhp.memory_groups"
    )
    auto_movable_numa_aware: bool = _declared(
        True, "memory_hotplug.auto_movable_numa_aware", module=True, feature="mhp.memory_groups"
    )
    movable_node: bool = _declared(False, "movable_node on the command line", word="movable_node")
    hugetlb_free_vmemmap: bool = _declared(
        False, "hugetlb_free_vmemmap on the command line", word="hugetlb_free_vmemmap"
    )
    kernelcore: str = _declared("", "how much of boot memory is not ZONE_MOVABLE: a size, or N%", at_boot=True)
    movablecore: str = _declared("", "how much of boot memory is ZONE_MOVABLE: a size, or N%", at_boot=True)
    cma: str = _declared("", "memory kept for DMA: SIZE, SIZE@START or SIZE@START-END", word="cma", at_boot=True)
    hugepages: str = _declared("", "huge pages that are allocated at boot: N, or NODE:N,NODE:N", at_boot=True)
    hugepagesz: str = _declared("", "the size of the pages of hugepages=", at_boot=True)
    default_hugepagesz: str = _declared(
        "", "the size of the default pool of huge pages", word="default_hugepagesz", at_boot=True
    )
    movable_gigantic_pages: bool = _declared(
        False,
        "vm.movable_gigantic_pages (v7.0): gigantic pages in ZONE_MOVABLE",
        feature="hugetlb.movable_gigantic_pages",
    )
    transparent_hugepage: str = _declared(
        "always",
        "/sys/kernel/mm/transparent_hugepage/enabled: unless never, khugepaged raises min_free_kbytes; below 512M never",
        "always",
        "madvise",
        "never",
        word="transparent_hugepage",
    )
    backed: int | None = _declared(
        None, "of each added range, the MiB that the hypervisor backs before it is onlined; empty: all", kind=int
    )
    memmap_content: str = _declared("stale", f"what new struct pages hold (profiles rfc-*, patch-*): {NO_NUMBER}")

    def with_text(self, name: str, given: str) -> Self:
        """Return the parameters with *name* set to *given*, as sysfs or the command line write it. Raises `UsageError`."""
        value: dict[str, Any] = {name: PARAMETERS[name].read(given)}
        return replace(self, **value)

    def text(self, name: str) -> str:
        """Return the value of *name* as sysfs shows it, empty where it has none."""
        value = getattr(self, name)
        return "" if value is None else ("N", "Y")[value] if isinstance(value, bool) else str(value)

    def texts(self) -> dict[str, str]:
        """Return the parameters that have a value, as sysfs shows them."""
        return {name: self.text(name) for name in PARAMETERS if self.text(name)}


PARAMETERS = {one.name: Parameter(one.name, *one.metadata["about"]) for one in fields(Params)}
MODULE = "memory_hotplug."
MEMMAP_ON_MEMORY = "memmap_on_memory"  # a parameter of the module, too: its value is the policy's

# Words that are read elsewhere, or whose effect a machine shows once it is up: in its zones, blocks, mappings.
SHOWN = frozenset(
    [
        "mem",
        "memmap",
        "movablecore",
        "kernelcore",
        "nogbpages",
        "gbpages",
        "no5lvl",
        "numa",
        "numa_balancing",
        "crashkernel",
        "hugepages",
        "hugepagesz",
        "disable_radix",
        "efi",
        "min_free_kbytes",
    ]
)


def memmap_content(value: str) -> str:
    """Check what new struct pages are to hold."""
    kind, colon, number = value.partition(":")
    with_number = kind in ("random", "byte", "count")
    if (not with_number and kind not in ("stale", "zero", "poison")) or with_number != bool(colon):
        raise UsageError(f"memmap_content={value} cannot be", hint=NO_NUMBER)
    try:
        int(number or "0", 0)
    except ValueError as error:
        raise UsageError(f"{number!r} is not a whole number") from error
    return value


def parameter_of_word(word: str) -> str | None:
    """Return the parameter that a word of the command line sets, by its name: movable_node, memory_hotplug.NAME."""
    if word.startswith(MODULE):
        name = word.removeprefix(MODULE).replace("-", "_")
        return name if name in PARAMETERS and PARAMETERS[name].module else None
    return next((one.name for one in PARAMETERS.values() if one.word and one.word == word), None)


# Words that a kernel reads only if it was built so.
NEEDS = {
    "memhp_default_state": "config.memory_hotplug",
    "movable_node": "config.memory_hotplug",
    MODULE + MEMMAP_ON_MEMORY: "config.mhp_memmap_on_memory",
    "hugepages": "config.hugetlb_page",
    "hugepagesz": "config.hugetlb_page",
    "default_hugepagesz": "config.hugetlb_page",
    "hugetlb_free_vmemmap": "config.hugetlb_page",
    "transparent_hugepage": "config.transparent_hugepage",
    "cma": "config.cma",
}


def boot_params(cmdline: str, kernel: Profile | None = None, params: Params | None = None) -> Params:
    """Return the parameters after boot with *cmdline*; the last of equal words counts, as in the kernel.

    *params* are those that the kernel was built with. A value that cannot be leaves what was, and the kernel goes on;
    so it does with a word that *kernel* does not know: `unread` names both.
    """
    params = params or Params()
    for _, key, value in _words(cmdline):
        name = parameter_of_word(key)
        if name is not None and _knows(kernel, key):
            try:
                params = params.with_text(name, value)
            except UsageError:
                continue
    return params


def boot_words(params: Params) -> list[str]:
    """Return the words that boot a kernel with *params*; memhp_default_state is among them: its default is configured."""
    words = []
    for name, parameter in PARAMETERS.items():
        value = getattr(params, name)
        if parameter.module and value != getattr(Params(), name):
            words.append(f"{MODULE}{name}={params.text(name)}")
        elif parameter.word and (value != getattr(Params(), name) or name == "auto_online_blocks"):
            words.append(f"{parameter.word}={'on' if value is True else params.text(name)}")
    return words


def unread(cmdline: str, kernel: Profile | None = None, others: Collection[str] = ()) -> list[str]:
    """Return the words of a command line that change nothing here: nobody reads them, or their value cannot be.

    With *kernel* those too that it does not know; *others* are words that the architecture reads.
    """
    return [
        word
        for word, key, value in _words(cmdline)
        if key not in others and not (_is_read(key, value) and _knows(kernel, key))
    ]


def _knows(kernel: Profile | None, key: str) -> bool:
    """Whether *kernel* reads a word: its version has it, and it was built with what the word is for."""
    if kernel is None:
        return True
    name = parameter_of_word(key)
    needs = [NEEDS.get(key, ""), PARAMETERS[name].feature if name is not None else ""]
    if key == MODULE + MEMMAP_ON_MEMORY:
        needs.append("memmap_on_memory.exists")
    return all(kernel.features[feature] for feature in needs if feature)


def _is_read(key: str, value: str) -> bool:
    name = parameter_of_word(key)
    return key in SHOWN or key == MODULE + MEMMAP_ON_MEMORY if name is None else _can_be(name, value)


def memmap_on_memory(cmdline: str) -> str | None:
    """Return what the command line says of memory_hotplug.memmap_on_memory; None: nothing."""
    given = {key: value for _, key, value in _words(cmdline)}
    return given.get(MODULE + MEMMAP_ON_MEMORY)


def _can_be(name: str, value: str) -> bool:
    try:
        PARAMETERS[name].read(value)
    except UsageError:
        return False
    return True


def _words(cmdline: str) -> list[tuple[str, str, str]]:
    """Return (word, key, value) for each word; one without a value says yes."""
    pairs = ((word, *word.partition("=")) for word in cmdline.split())
    return [(word, key, value if equals else "Y") for word, key, equals, value in pairs]


def read_sysfs(params: Params, given: Mapping[str, Any]) -> Params:
    """Return *params* with the values that sysfs shows: the module's, and auto_online_blocks."""
    for name, parameter in PARAMETERS.items():
        if name in given and (parameter.module or name == "auto_online_blocks"):
            params = params.with_text(name, str(given[name]))
    return params
