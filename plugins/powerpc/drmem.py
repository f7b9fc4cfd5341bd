"""arch/powerpc/mm/drmem.c: the LMBs of a partition, and who of them is assigned.

QEMU marks those of boot memory as reserved, so that the kernel never gives them back; PowerVM takes them too. An
LMB's DRC index is 0x80000000 and its number, on both (recorded for QEMU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from memshell import GiB, KernelError, Mm, align_up

if TYPE_CHECKING:
    from . import Powerpc

DRC_LMB = 0x80000000
WHERE = "arch/powerpc/platforms/pseries/hotplug-memory.c"


class Lmb(NamedTuple):
    """One logical memory block. *reserved*: the hypervisor never takes it."""

    base: int
    drc_index: int
    assigned: bool
    reserved: bool


def lmb_at(mm: Mm, base: int) -> Lmb:
    """Return the LMB at the address *base*."""
    number = base // mm.block_size
    block = mm.blocks.get(number)
    early = block is not None and block.early
    return Lmb(base, DRC_LMB | number, block is not None, early and not _arch(mm).phyp)


def _arch(mm: Mm) -> Powerpc:
    return cast("Powerpc", mm.arch)


def first_base(mm: Mm) -> int:
    """Return where the first LMB lies that can be added: QEMU begins at a whole GiB, PowerVM where boot memory ends."""
    end = mm.boot_end << mm.arch.page_shift
    return end if _arch(mm).phyp else align_up(end, max(GiB, mm.block_size))


def last_end(mm: Mm) -> int:
    """Return where the last LMB of the partition ends: its maximum, or what can be addressed."""
    room = _arch(mm).maximum - (mm.boot_end << mm.arch.page_shift)
    return first_base(mm) + room if _arch(mm).maximum else 1 << mm.arch.max_physmem_bits


def assigned_lmbs(mm: Mm) -> list[Lmb]:
    """Return the LMBs that can be taken, lowest first."""
    found = (lmb_at(mm, number * mm.block_size) for number in sorted(mm.blocks))
    return [lmb for lmb in found if not lmb.reserved]


def free_lmbs(mm: Mm, wanted: int) -> list[Lmb]:
    """Return the LMBs that can be added, lowest first; of a partition without a maximum no more than *wanted*."""
    found: list[Lmb] = []
    for base in range(first_base(mm), last_end(mm), mm.block_size):
        if not _arch(mm).maximum and len(found) == wanted:
            break
        lmb = lmb_at(mm, base)
        if not lmb.assigned:
            found.append(lmb)
    return found


def lmb_of_index(mm: Mm, drc_index: int) -> Lmb:
    """Return the LMB of a DRC index. Raises EINVAL where the partition has none such."""
    base = (drc_index & ~DRC_LMB) * mm.block_size
    known = base < mm.boot_end << mm.arch.page_shift or first_base(mm) <= base < last_end(mm)
    if not drc_index & DRC_LMB or drc_index >> 32 or not known:
        first = DRC_LMB | first_base(mm) // mm.block_size
        raise KernelError(
            f"no LMB has the DRC index {drc_index:#x}",
            "EINVAL",
            where=WHERE,
            hint=f"the first above boot memory is {first:#x}",
        )
    return lmb_at(mm, base)
