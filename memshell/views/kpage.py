"""/proc/kpageflags, kpagecount and kpagecgroup: eight bytes for each page frame, as fs/proc/page.c writes them."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

from memshell.mm.page import Owner
from memshell.views.pages import kpageflags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memshell.mm.page import Page
    from memshell.mm.state import Mm

WORD = 8  # bytes of an entry
CGROUP_ROOT = 1  # the inode of the root of cgroup v2, in which programs run. Source: mm/memcontrol.c:page_cgroup_ino
PROGRAMS = (Owner.USER, Owner.PINNED)


def flags(mm: Mm, start: int, end: int) -> bytes:
    """Return what kpageflags has for the pfns [start, end)."""
    return _words(mm, start, end, mm.features.kpageflags.absent, lambda pfn, _page: kpageflags(mm, pfn))


def counts(mm: Mm, start: int, end: int) -> bytes:
    """Return how often each of the pfns [start, end) is mapped: a program maps each page of its memory once."""
    return _words(mm, start, end, 0, lambda _pfn, page: int(page.owner in PROGRAMS))


def cgroups(mm: Mm, start: int, end: int) -> bytes:
    """Return the inode of the cgroup that each of the pfns [start, end) is charged to; 0 for nobody's."""
    return _words(mm, start, end, 0, lambda _pfn, page: CGROUP_ROOT if page.owner in PROGRAMS else 0)


def _words(mm: Mm, start: int, end: int, absent: int, value: Callable[[int, Page], int]) -> bytes:
    """Return the entries of [start, end), up to the end of memory; *absent* where no page is online."""
    found = array("Q")
    for first, last, page in _runs(mm, start, min(end, mm.max_pfn)):
        if page is None:
            found.extend([absent] * (last - first))
        elif mm.hugetlb.get(first) is not None:  # head and tails differ
            found.extend(value(pfn, page) for pfn in range(first, last))
        else:
            found.extend([value(first, page)] * (last - first))
    return found.tobytes()


def _runs(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int, Page | None]]:
    """Yield the runs of equal pages in [start, end), cut where huge pages begin and end; None where no page is."""
    found = (*mm.pages.items(start, end), *mm.hugetlb.items(start, end))
    cuts = {start, end, *(a for a, _, _ in found), *(b for _, b, _ in found)}
    for a, b in pairwise(sorted(cuts)):
        yield a, b, mm.pages.get(a)
