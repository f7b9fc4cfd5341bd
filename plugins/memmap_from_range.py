"""The memmap of a whole add at the start of the added range: what the series of 2017 to 2019 proposed.

Source: "[RFC PATCH 0/4] mm, memory_hotplug: allocate memmap from hotadded memory", O. Salvador, 2018-11-16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memshell import MemmapRequest, Placement, Policy, hookimpl

memshell_api = 2


@dataclass(frozen=True)
class MemmapFromRange:
    """MHP_MEMMAP_FROM_RANGE: one altmap for all that one add_memory() adds."""

    name: str = "memmap_from_range"
    summary: str = "memmap of the whole add at the start of the range (the series of 2017 to 2019)"
    parameter: str = "range"

    def place_memmap(self, request: MemmapRequest) -> Placement:
        """Ask for the range wherever the kernel can: add_memory_resource() of the series sets the flag without asking anybody."""
        if not request.from_range:
            return Placement(
                refusal="this kernel has no MHP_MEMMAP_FROM_RANGE: the profiles rfc-* and patch-v1-2019 do"
            )
        return Placement(from_range=request.offered)


@hookimpl
def memshell_policies(ctx: object) -> Iterable[Policy]:
    """Offer the policy ``memmap_from_range``."""
    del ctx
    return [MemmapFromRange()]
