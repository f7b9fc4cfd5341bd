"""Mm: everything that the model knows about one machine, in maps of frozen records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.mm.events import Event, Trace
from memshell.mm.mmzone import MemoryGroup, MigrateType, Node, Zone, ZoneType
from memshell.mm.page import Page
from memshell.mm.params import Params
from memshell.mm.ranges import RangeMap
from memshell.mm.sorted_map import SortedMap
from memshell.mm.tables import PageTables

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.drivers.callers import Device
    from memshell.drivers.virtio.virtio_mem.device import VirtioMem
    from memshell.mm.features import Features
    from memshell.mm.hugetlb.folio import Hstate
    from memshell.mm.memremap import Pagemap
    from memshell.mm.page_alloc.free_area import FreeArea
    from memshell.mm.profile import Profile
    from memshell.mm.seam import Upstream
    from memshell.policy import Placement, Policy
    from memshell.series.struct_page import Content

ZoneKey = tuple[int, ZoneType]

# Section state, kept per subsection range: include/linux/mmzone.h SECTION_*
SECTION_PRESENT, SECTION_HAS_MEM_MAP, SECTION_ONLINE, SECTION_EARLY, SECTION_DEVICE = 1, 2, 4, 8, 16


class Resource(NamedTuple):
    """One line of /proc/iomem: *end* is inclusive, as there."""

    start: int
    end: int
    name: str
    depth: int = 0


class Resources:
    """/proc/iomem: the resources by their start, a parent before its children."""

    __slots__ = ("_by_place", "taken")

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._by_place: SortedMap[tuple[int, ...], Resource] = SortedMap()
        self.taken: RangeMap[bool] = RangeMap()  # the addresses of those that are in no other
        for resource in resources:
            self.add(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_place.values())

    def __len__(self) -> int:
        return len(self._by_place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and self._by_place == other._by_place

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def copy(self) -> Resources:
        """Return an independent copy."""
        new = Resources()
        new._by_place, new.taken = self._by_place.copy(), self.taken.copy()
        return new

    def add(self, resource: Resource) -> None:
        """Put a resource in its place among the others."""
        self._by_place[_place(resource)] = resource
        if not resource.depth:
            self.taken.set(resource.start, resource.end + 1, value=True)

    def remove(self, resource: Resource) -> None:
        """Take a resource out. Raises KeyError where it is not there."""
        del self._by_place[_place(resource)]
        if not resource.depth:
            self.taken.delete(resource.start, resource.end + 1)

    def from_address(self, address: int) -> Iterator[Resource]:
        """Yield the resources that begin at *address* or above it, the lowest first."""
        return (resource for _, resource in self._by_place.above((address,)))

    def down_from(self, address: int) -> Iterator[Resource]:
        """Yield the resources that begin at *address* or below it, the highest first, a child before its parent."""
        return (resource for _, resource in self._by_place.below((address + 1,)))

    def unshared(self, other: Resources) -> Iterator[Resource]:
        """Yield the resources that *other* may not have: those in chunks that the two do not share."""
        return (self._by_place[place] for place in self._by_place.keys_of_unshared(other._by_place))


def _place(resource: Resource) -> tuple[int, ...]:
    return resource.start, -resource.end, resource.depth


class Leaf(NamedTuple):
    """What maps a range of virtual addresses: leaves of *size* bytes; the page of address va is va/PAGE_SIZE + *shift*."""

    size: int
    shift: int
    owner: str  # "early", "buddy" or "altmap": where a vmemmap page came from; "ram" in the direct map


@dataclass(slots=True)
class Mm:
    """The working state of one machine.

    Values in the containers are frozen; the containers are changed in place by the model functions, on a copy that
    a `memshell.machine.Machine` made. A copy shares what neither side changes: its cost does not follow the memory.
    """

    arch: Arch
    profile: Profile
    policy: Policy
    block_size: int  # bytes
    max_pfn: int
    boot_end: int  # the first pfn behind the memory of boot
    params: Params = field(default_factory=Params)
    nodes: dict[int, Node] = field(default_factory=dict)
    zones: dict[ZoneKey, Zone] = field(default_factory=dict)
    free: dict[ZoneKey, FreeArea] = field(default_factory=dict)
    pages: RangeMap[Page] = field(default_factory=RangeMap)
    pageblocks: RangeMap[MigrateType] = field(default_factory=RangeMap)
    sections: RangeMap[int] = field(
        default_factory=RangeMap
    )  # pfn -> SECTION_* bits; valid pfns are those that are set
    section_roots: SortedMap[int, int | None] = field(default_factory=SortedMap)  # root -> its page; None: of boot
    blocks: SortedMap[int, MemoryBlock] = field(default_factory=SortedMap)
    groups: SortedMap[int, MemoryGroup] = field(default_factory=SortedMap)
    resources: Resources = field(default_factory=Resources)
    leaves: RangeMap[Leaf] = field(default_factory=RangeMap)  # virtual address -> leaf
    tables: PageTables = field(default_factory=PageTables)
    unmapped: RangeMap[str] = field(default_factory=RangeMap)  # bytes that lost their direct map -> the bug that did it
    storage: RangeMap[str] = field(
        default_factory=RangeMap
    )  # s390: pfn -> "assigned" or "standby", where increments are known
    counters: dict[str, int] = field(default_factory=dict)  # nr_memmap_pages, slab estimates, next ids
    hstates: dict[int, Hstate] = field(default_factory=dict)  # the pools of huge pages, by order
    hugetlb: RangeMap[int] = field(default_factory=RangeMap)  # pfn -> order of the huge page of a pool, free or in use
    drvdata: dict[str, object] = field(default_factory=dict)  # frozen records of drivers, by the driver's name
    cma: tuple[tuple[int, int], ...] = ()  # the pfn ranges of CMA areas
    virtio_mem: VirtioMem | None = None
    plugged: RangeMap[bool] = field(default_factory=RangeMap)  # pfns that the virtio-mem device has plugged
    online_page_callback: Callable[[Mm, int, int, ZoneKey], None] | None = None  # set_online_page_callback()
    memory_notifier: Callable[[Mm, str, int, int], None] | None = None  # a driver's register_memory_notifier()
    work: tuple[Callable[[Mm], None], ...] = ()  # what drivers have put off, see kernel/workqueue.py
    pagemaps: dict[int, Pagemap] = field(default_factory=dict)  # device memory with struct pages, by its start in bytes
    failed_dimms: tuple[
        tuple[int, int, int], ...
    ] = ()  # (nid, start, size) of DIMMs that are plugged and could not be added
    devices: RangeMap[Device] = field(default_factory=RangeMap)  # bytes -> what is plugged there, and by whom
    struct_pages: RangeMap[Content] = field(
        default_factory=RangeMap
    )  # physical address -> what the struct pages there hold
    vmemmap_head: int | None = (
        None  # current_vmemmap_page: virtual address of the head of the range that is being removed
    )
    faults: dict[str, int] = field(default_factory=dict)  # injected faults: name -> calls that still pass
    crashed: str | None = None
    restrictions: int | None = None  # mhp_restrictions.flags of the add that runs, in kernels that have them
    placement: Placement | None = None  # the policy's answer for the add that runs
    pgmap: Pagemap | None = None  # the device memory that is being mapped or unmapped
    booting: bool = False  # system_state is SYSTEM_BOOTING
    events: list[Event] = field(default_factory=list)  # of the command that runs
    trace: Trace | None = None

    def copy(self) -> Mm:
        """Return a copy whose containers are independent; the event list starts empty."""
        return replace(
            self,
            nodes=self.nodes.copy(),
            zones=self.zones.copy(),
            free={key: area.copy() for key, area in self.free.items()},
            pages=self.pages.copy(),
            pageblocks=self.pageblocks.copy(),
            sections=self.sections.copy(),
            section_roots=self.section_roots.copy(),
            blocks=self.blocks.copy(),
            groups=self.groups.copy(),
            resources=self.resources.copy(),
            devices=self.devices.copy(),
            leaves=self.leaves.copy(),
            tables=self.tables.copy(),
            unmapped=self.unmapped.copy(),
            storage=self.storage.copy(),
            counters=self.counters.copy(),
            struct_pages=self.struct_pages.copy(),
            hstates=self.hstates.copy(),
            hugetlb=self.hugetlb.copy(),
            plugged=self.plugged.copy(),
            drvdata=self.drvdata.copy(),
            pagemaps=self.pagemaps.copy(),
            faults=self.faults.copy(),
            events=[],
            trace=None,
        )

    def event(self, kind: str, function: str, text: str, **data: Any) -> None:
        """Append an event to the stream of the running command."""
        self.events.append(Event(kind, function, text, data))

    @property
    def features(self) -> Features:
        """How the kernel that is modelled behaves, one attribute for each behaviour (`memshell.mm.features`)."""
        return self.profile.features

    def feature(self, name: str) -> Any:
        """Return the value of the feature that a user calls *name*: the door for text, and for plugins."""
        return self.profile.features[name]

    def fault(self, name: str) -> bool:
        """Whether the injected fault *name* strikes at this call; it strikes once, after the calls that it lets pass."""
        left = self.faults.get(name)
        if left is None:
            return False
        if left > 1:
            self.faults[name] = left - 1
            return False
        del self.faults[name]
        return True

    def change_zone(self, key: ZoneKey, **changes: Any) -> Zone:
        """Replace fields of one zone; return the new record."""
        zone = self.zones[key] = self.zones[key]._replace(**changes)
        return zone

    def enter(self, name: str) -> None:
        """Name a kernel function that is entered here and changes nothing that is modelled."""
        if self.trace is not None:
            self.trace.leaf(name)

    @property
    def seam(self) -> Upstream:
        """What the kernel that is modelled does where the series of 2017 to 2019 differs from released ones."""
        return self.profile.seam

    @property
    def in_rows(self) -> bool:
        """Whether equal steps that lie side by side may be taken at once: nothing looks at one of them, or makes it fail."""
        return self.trace is None and not self.faults and self.seam.in_rows

    def note(self, text: str) -> None:
        """Leave a line of arithmetic for ``--explain``; costs nothing when nobody listens."""
        if self.trace is not None:
            self.trace.note(text)

    @property
    def block_pages(self) -> int:
        """Pages of one memory block."""
        return self.block_size >> self.arch.page_shift

    @property
    def totalram_pages(self) -> int:
        """_totalram_pages: the managed pages of all zones. MemTotal is this in kB."""
        return sum(zone.managed for zone in self.zones.values())
