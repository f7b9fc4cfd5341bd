"""arch/powerpc/platforms/pseries/hotplug-memory.c: memory that the hypervisor hands over LMB by LMB.

Each LMB is added and onlined before the next, whatever memhp_default_state says: with its default "offline"
the driver onlines with "online". So the memmap of a later LMB can land in an earlier one, which then cannot
go again.
"""

from __future__ import annotations

from memshell import (
    MHP_MEMMAP_ON_MEMORY,
    Caller,
    KernelError,
    Mm,
    add_memory,
    memory_subsys_offline,
    memory_subsys_online,
    mirrors,
    remove_memory_locked,
)


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_memory_add_by_ic", "v6.12", "complete")
def dlpar_memory_add_by_ic(mm: Mm, nid: int, start: int, size: int) -> None:
    """Add the LMBs of [start, start+size) bytes in order; when one fails, the earlier ones are removed again.

    Raises EINVAL for a range that is not whole LMBs, else what failed.
    """
    _check_range(mm, start, size)
    added: list[int] = []
    try:
        for base in range(start, start + size, mm.block_size):
            dlpar_add_lmb(mm, nid, base)
            added.append(base)
    except KernelError:
        for base in added:
            _undo(mm, base, add=False, nid=nid)
        raise


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_add_lmb", "v6.12", "complete")
def dlpar_add_lmb(mm: Mm, nid: int, base: int) -> None:
    """Add one LMB and online it. Since v6.6 the memmap may go on the memory itself (MHP_MEMMAP_ON_MEMORY)."""
    block_id = base // mm.block_size
    if block_id in mm.blocks:
        raise KernelError(
            f"LMB {base:#x} is assigned already",
            "EINVAL",
            where="arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_add_lmb",
        )
    add_memory(mm, nid, base, mm.block_size, MHP_MEMMAP_ON_MEMORY if mm.features.memmap_on_memory.powerpc else 0)
    if mm.blocks[block_id].state != "offline":
        return  # the default online type has brought it online in add_memory()
    try:
        memory_subsys_online(mm, block_id)
    except KernelError:
        remove_memory_locked(mm, base, mm.block_size)
        raise


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_memory_remove_by_ic", "v6.12", "complete")
def dlpar_memory_remove_by_ic(mm: Mm, start: int, size: int) -> None:
    """Offline and remove the LMBs of [start, start+size) bytes in order.

    When one fails, those that went are added and onlined again.
    """
    _check_range(mm, start, size)
    removed: list[tuple[int, int]] = []
    try:
        for base in range(start, start + size, mm.block_size):
            block = mm.blocks.get(base // mm.block_size)
            dlpar_remove_lmb(mm, base)
            removed.append((base, block.nid if block else 0))
    except KernelError:
        for base, nid in removed:
            _undo(mm, base, add=True, nid=nid)
        raise


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_remove_lmb", "v6.12", "complete")
def dlpar_remove_lmb(mm: Mm, base: int) -> None:
    """Offline one LMB, if it is not, and remove it.

    Raises EINVAL where none is assigned, else what offlining raises.
    """
    block = mm.blocks.get(base // mm.block_size)
    if block is None:
        raise KernelError(
            f"no LMB is assigned at {base:#x}",
            "EINVAL",
            where="arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_remove_lmb",
        )
    if block.state != "offline":
        memory_subsys_offline(mm, block.id)
    remove_memory_locked(mm, base, mm.block_size)


def _check_range(mm: Mm, start: int, size: int) -> None:
    if start % mm.block_size or not size or size % mm.block_size:
        raise KernelError(
            f"{start:#x}+{size:#x} is not whole LMBs",
            "EINVAL",
            where="arch/powerpc/platforms/pseries/hotplug-memory.c:get_lmb_range",
            hint=f"LMBs are {mm.block_size:#x} bytes",
        )


def _undo(mm: Mm, base: int, *, add: bool, nid: int) -> None:
    """Take one LMB's step back; an error there is only printed."""
    try:
        if add:
            dlpar_add_lmb(mm, nid, base)
        else:
            dlpar_remove_lmb(mm, base)
    except KernelError as error:
        mm.event(
            "RollbackFailed",
            "arch/powerpc/platforms/pseries/hotplug-memory.c",
            f"LMB {base:#x}: {error}",
            start=base,
            errno=error.errno,
        )


DLPAR = Caller(
    "dlpar",
    "powerpc: LMBs from the hypervisor, each onlined at once",
    lambda mm, request: dlpar_memory_add_by_ic(mm, request.nid, request.start, request.size),
    eject=dlpar_memory_remove_by_ic,
)
