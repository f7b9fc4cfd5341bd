"""The policy seam: where the memmap (the struct page array) of hot-added memory comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from memshell.errors import PluginError, UsageError, did_you_mean
from memshell.mm.mmzone import ZoneType

if TYPE_CHECKING:
    from memshell.arch import Option
    from memshell.mm.profile import Profile

PerNode = tuple[tuple[int, int], ...]  # ((node, pages), ...)


@dataclass(frozen=True, slots=True)
class MemmapRequest:
    """What a policy is asked: a range that is about to be added, and the facts that decide. Sizes in bytes unless named pages."""

    nid: int
    start: int
    size: int
    block_size: int
    page_size: int
    pmd_size: int
    pageblock_nr_pages: int
    struct_page_size: int
    offered: bool  # the caller of add_memory() passed MHP_MEMMAP_ON_MEMORY
    hvo_enabled: bool
    config: bool  # CONFIG_MHP_MEMMAP_ON_MEMORY
    predicate: str  # the feature memmap_on_memory.predicate
    single_block: bool  # the add must be exactly one block
    needs_hvo_off: bool
    force_known: bool  # the kernel's parameter knows "force"
    arch_refusal: str | None  # what arch_supports_memmap_on_memory() says against it
    from_range: bool = (
        False  # the kernel can take the memmap of the whole add from its range (the series of 2017 to 2019)
    )
    free_pages: PerNode = ()  # of every node, ZONE_MOVABLE counted in
    free_by_zone: tuple[tuple[int, ZoneType, int], ...] = ()  # (node, zone, free pages) of every zone
    cpu_nodes: tuple[int, ...] = ()  # the nodes that have processors: memory of others is slower
    _memmap_on: Callable[[], PerNode] = field(default=tuple, repr=False, compare=False)

    @property
    def free_kernel_pages(self) -> PerNode:
        """The free pages of every node in which a memmap can lie: those of its kernel zones, without ZONE_MOVABLE."""
        pages = dict.fromkeys((nid for nid, _ in self.free_pages), 0)
        for nid, zone, free in self.free_by_zone:
            pages[nid] += free if zone < ZoneType.MOVABLE else 0
        return tuple(pages.items())

    @property
    def memmap_on(self) -> PerNode:
        """The pages of every node that hold memmap of added memory already: counted when it is asked for."""
        return self._memmap_on()

    @property
    def memmap_bytes(self) -> int:
        """memory_block_memmap_size(): bytes of struct pages of one block."""
        return self.block_size // self.page_size * self.struct_page_size

    @property
    def memmap_pages(self) -> int:
        """The pages that hold the struct pages of one block, the last one in part."""
        return -(-self.memmap_bytes // self.page_size)


@dataclass(frozen=True, slots=True)
class Placement:
    """A policy's answer.

    *reserve_pages* is 0 (memmap from existing memory) or the pages at the start of each memory block that its memmap
    takes, padding included. *nodes* orders the nodes that existing memory is taken from; empty: the kernel's own order.
    *from_range* asks for one altmap over the whole added range (needs a request with ``from_range``).
    *refusal* says why the range was not used although it was wanted.
    """

    reserve_pages: int = 0
    nodes: tuple[int, ...] = ()
    refusal: str = ""
    from_range: bool = False


class Policy(Protocol):
    """What a policy plugin offers: a name, and where the memmap of an add goes.

    It may have *since*, the first release that has it, such as "v6.6"; and *options*, a tuple of `Option`, with
    ``configure(options)``, which returns the policy with their values (texts, by name) applied.
    """

    @property
    def name(self) -> str:
        """What ``policy NAME`` takes."""
        ...

    @property
    def summary(self) -> str:
        """The line that ``policy`` shows beside the name."""
        ...

    @property
    def parameter(self) -> str:
        """What the memmap_on_memory module parameter reads under this policy: N, Y or force."""
        ...

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Decide where the memmap of *request* goes."""
        ...


def options_of(policy: Policy) -> tuple[Option, ...]:
    """Return the parameters of a policy."""
    options: tuple[Option, ...] = getattr(policy, "options", ())
    return options


def since_of(policy: Policy) -> str:
    """Return the first release that has a policy; "" where all have it."""
    return str(getattr(policy, "since", ""))


@dataclass(frozen=True, slots=True)
class Configured:
    """A policy with the values that were given to its parameters: *own* is as it configured itself."""

    own: Policy
    values: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The name of the policy."""
        return self.own.name

    @property
    def summary(self) -> str:
        """Its line in the list."""
        return self.own.summary

    @property
    def parameter(self) -> str:
        """What memmap_on_memory reads under it."""
        return self.own.parameter

    @property
    def options(self) -> tuple[Option, ...]:
        """Its parameters."""
        return options_of(self.own)

    @property
    def since(self) -> str:
        """The first release that has it."""
        return since_of(self.own)

    def configure(self, options: Mapping[str, str]) -> Policy:
        """Return it with other values: those that are not given are the defaults."""
        return configured(self.own, options)

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Ask the policy."""
        return self.own.place_memmap(request)


def values_of(policy: Policy) -> dict[str, str]:
    """Return the values of a policy's parameters, by name."""
    return dict(policy.values) if isinstance(policy, Configured) else {}


def titled(policy: Policy) -> str:
    """Return the name of a policy with the values of its parameters: ``quota quota=64M``."""
    return " ".join([policy.name, *(f"{key}={value}" for key, value in values_of(policy).items())])


def configured(policy: Policy, given: Mapping[str, str]) -> Policy:
    """Return *policy* with the values *given* to its parameters, and the defaults of the others.

    Raises `UsageError` for a parameter that it does not have, and a value that cannot be.
    """
    options = {option.name: option for option in options_of(policy)}
    for key, value in given.items():
        if key not in options:
            known = "its parameters: " + ", ".join(options) if options else "it takes none"
            raise UsageError(
                f"the policy {policy.name} has no parameter {key!r}", hint=did_you_mean(key, options) or known
            )
        options[key].check(value)
    if not options:
        return policy
    values = {name: given.get(name, option.default) for name, option in options.items()}
    inner: Any = policy.own if isinstance(policy, Configured) else policy
    own = inner.configure(values)
    if not callable(getattr(own, "place_memmap", None)) or own.name != policy.name:
        who = f"plugin {type(inner).__module__}: policy {policy.name}"
        raise PluginError(f"{who}: configure returned {own!r}, not the policy with its parameters")
    return Configured(own, tuple(values.items()))


def chosen(policy: Policy, given: Mapping[str, str], kernel: Profile) -> Policy:
    """Return *policy* as `configured` does. Raises `UsageError` where the kernel does not have it."""
    kernel.require(since_of(policy), f"the policy {policy.name}")
    return configured(policy, given)
