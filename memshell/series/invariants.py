"""What must hold in kernels of the series, beside the rules for every kernel."""

from __future__ import annotations

from collections.abc import Iterator

from memshell.mm.invariants import vmemmap_leaves
from memshell.mm.pgtable import leaf_pfn
from memshell.mm.state import Mm


def removal_is_over(mm: Mm) -> Iterator[str]:
    """No removal is half done: current_vmemmap_page is NULL between two operations."""
    if mm.vmemmap_head is not None:
        yield f"current_vmemmap_page is {mm.vmemmap_head:#x} though no removal goes on"


def memmap_frames(mm: Mm) -> Iterator[str]:
    """The frames of a memmap are memory that is there."""
    for a, b, leaf in vmemmap_leaves(mm):
        for start, end in mm.sections.gaps(leaf_pfn(mm, a, leaf), leaf_pfn(mm, b, leaf)):
            yield f"the memmap at {a:#x} lies in pages {start:#x}-{end:#x}, which are gone"
