"""The hooks of plugin API 2: what a plugin may implement, each with the version that added it.

A plugin is a module with ``memshell_api = 2`` and functions marked ``@hookimpl``, named in the entry-point
group ``memshell`` of its distribution, or given with ``--plugin FILE``.  Every hook takes one frozen
`Context`, because a new field of it breaks nobody, and at most one value more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pluggy

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.drivers.callers import Caller
    from memshell.mm.events import Event
    from memshell.mm.profile import Profile
    from memshell.mm.state import Mm
    from memshell.policy import Policy
    from memshell.result import Column
    from memshell.shell.registry import Command

API = 2
READS = (1, 2)  # plugins of version 1 are loaded, too: what they can no longer import is in `GONE`
GONE = frozenset(
    [
        "PowerMmu",
        "crst_tables",
        "fill_partly_removed_leaf",
        "free_pagetable",
        "insert_increments",
        "map_range",
        "marks_memmap",
        "radix_tables",
        "sclp_add_standby_memory",
        "sclp_mem_notifier",
        "veto_from_range",
        "vmem_add_mapping",
        "vmem_map_init",
        "vmem_remove_mapping",
        "vmem_vmemmap_free",
        "vmem_vmemmap_populate",
        "x86_arch_add_memory",
        "x86_arch_remove_memory",
        "x86_vmemmap_free",
        "x86_vmemmap_populate",
    ]
)

hookspec = pluggy.HookspecMarker("memshell")
hookimpl = pluggy.HookimplMarker("memshell")


@dataclass(frozen=True, slots=True)
class Context:
    """What every hook gets: *mm* is a copy of the committed state, None where no machine is meant."""

    api: int
    version: str
    mm: Mm | None = None
    view: str = ""


class FeatureGroup(NamedTuple):
    """Features of a plugin: *kind* is a frozen dataclass of `feature` fields; users type ``name.field``."""

    name: str
    kind: type


class FaultPoint(NamedTuple):
    """A place where `Mm.fault` is asked whether a fault strikes, and what happens then."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """What an expression calls *name*: ``expect``, ``watch`` and ``compare -o +NAME`` take it.

    *value* gets a copy of the state. *unit* is how many bytes one of a number is; 0: it is a plain number.
    """

    name: str
    text: str
    value: Callable[[Mm], int | str | bool]
    unit: int = 0


@dataclass(frozen=True, slots=True)
class Format:
    """What ``export NAME OUT`` writes: *write* gets a copy of the state and returns the text of the file."""

    name: str
    text: str
    write: Callable[[Mm], str]


@hookspec
def memshell_arches(ctx: Context) -> Iterable[Arch]:  # type: ignore[empty-body]  # a specification
    """Return the architectures that ``use`` knows.  Since 0.1."""


@hookspec
def memshell_policies(ctx: Context) -> Iterable[Policy]:  # type: ignore[empty-body]  # a specification
    """Return policies: where the memmap of added memory goes.  Since 0.1."""


@hookspec
def memshell_commands(ctx: Context) -> Iterable[Command]:  # type: ignore[empty-body]  # a specification
    """Return commands made with ``make_command``; a name that exists already is refused.  Since 0.1."""


@hookspec
def memshell_columns(ctx: Context) -> Iterable[Column]:  # type: ignore[empty-body]  # a specification
    """Return columns with ``compute`` for the view ``ctx.view``, such as lsmem.  Since 0.1."""


@hookspec
def memshell_event(ctx: Context, event: Event) -> None:
    """Observe one event of a step that was committed.  Since 0.1."""


@hookspec
def memshell_check(ctx: Context) -> Iterable[str]:  # type: ignore[empty-body]  # a specification
    """Return sentences about what is wrong with the state ``ctx.mm``, for ``check``.  Since 0.1."""


@hookspec
def memshell_startup(ctx: Context) -> None:
    """Run once, after all plugins are loaded.  Since 0.1."""


@hookspec
def memshell_profiles(ctx: Context) -> Iterable[Profile]:  # type: ignore[empty-body]  # a specification
    """Return kernels of a vendor: ``released("v6.12").called("acme-6.12")`` with features changed.  Since 0.1."""


@hookspec
def memshell_features(ctx: Context) -> Iterable[FeatureGroup]:  # type: ignore[empty-body]  # a specification
    """Return features that every kernel has, with their values by release or profile.  Since 0.1."""


@hookspec
def memshell_faults(ctx: Context) -> Iterable[FaultPoint]:  # type: ignore[empty-body]  # a specification
    """Return fault points, for ``fault NAME``.  Since 0.1."""


@hookspec
def memshell_callers(ctx: Context) -> Iterable[Caller]:  # type: ignore[empty-body]  # a specification
    """Return who adds memory on every architecture, for ``via=``.  Since 0.1."""


@hookspec
def memshell_quantities(ctx: Context) -> Iterable[Quantity]:  # type: ignore[empty-body]  # a specification
    """Return quantities, for expressions and ``compare``.  Since 0.1."""


@hookspec
def memshell_formats(ctx: Context) -> Iterable[Format]:  # type: ignore[empty-body]  # a specification
    """Return what ``export`` can write besides.  Since 0.1."""


@hookspec
def memshell_scenarios(ctx: Context) -> Iterable[Path]:  # type: ignore[empty-body]  # a specification
    """Return folders of scenarios that come with the plugin, for ``run NAME`` and ``source NAME``.  Since 0.1."""
