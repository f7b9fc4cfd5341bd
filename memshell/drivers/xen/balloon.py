"""drivers/xen/balloon.c: a Xen guest grows by sections, whose pages the balloon keeps until the hypervisor fills them.

Onlining gives no page to the buddy: each goes into the balloon, PageOffline with a reference. Populating takes them out
again as far as the target says. A block with pages in the balloon cannot go offline.
"""

from __future__ import annotations

from memshell.errors import KernelError
from memshell.mm import mirrors
from memshell.mm.memory_hotplug import MHP_MERGE_RESOURCE
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.online import set_online_page_callback
from memshell.mm.page import Owner, Page
from memshell.mm.page_alloc.allocation import free_range
from memshell.mm.pfn import align_up, format_size
from memshell.mm.state import Mm, ZoneKey

DRVDATA = "xen_balloon"  # pages that the hypervisor lets the guest have beyond what it has


@mirrors(
    "drivers/xen/balloon.c:reserve_additional_memory",
    "v6.12",
    "simplified",
    "the place is given; the kernel takes the first unused range of iomem",
)
def reserve_additional_memory(mm: Mm, nid: int, start: int, size: int) -> None:
    """Raise the target by *size* bytes: whole sections are added at *start*, of which *size* will be populated.

    Raises what add_memory_resource() raises: EINVAL where a memory block is larger than a section.
    """
    set_online_page_callback(mm, xen_online_pages)  # what it returns is not looked at
    section = mm.arch.pages_per_section << mm.arch.page_shift
    whole = align_up(size, section)
    try:
        add_memory(mm, nid, start, whole, MHP_MERGE_RESOURCE)
    except KernelError as error:
        if whole % mm.block_size == 0 and start % mm.block_size == 0:
            raise
        block = format_size(mm.block_size)
        text = f"the balloon adds sections of {format_size(section)}, a memory block has {block}"
        raise KernelError(text, error.errno or "EINVAL", where=error.where, hint="whole blocks") from error
    credit = mm.drvdata.get(DRVDATA, 0)
    assert isinstance(credit, int)
    mm.drvdata[DRVDATA] = credit + (size >> mm.arch.page_shift)
    increase_reservation(mm)


def xen_online_pages(mm: Mm, start_pfn: int, end_pfn: int, key: ZoneKey) -> None:
    """xen_online_page() for every chunk: all pages go into the balloon, which then takes out what the target allows."""
    mm.pages.set(start_pfn, end_pfn, Page(Owner.BALLOON, *key))
    increase_reservation(mm)


@mirrors("drivers/xen/balloon.c:increase_reservation", "v6.12", "simplified", "the hypervisor never refuses")
def increase_reservation(mm: Mm) -> None:
    """Take pages out of the balloon, the lowest first, as far as the credit goes; they count as managed then."""
    credit = mm.drvdata.get(DRVDATA, 0)
    assert isinstance(credit, int)
    for start, end, page in list(mm.pages.items()):
        if page.owner is not Owner.BALLOON or not credit:
            continue
        stop, key = min(end, start + credit), (page.nid, page.zone)
        free_range(mm, start, stop)
        mm.change_zone(key, managed=mm.zones[key].managed + stop - start)
        credit -= stop - start
    mm.drvdata[DRVDATA] = credit
