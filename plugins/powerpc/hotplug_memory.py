"""arch/powerpc/platforms/pseries/hotplug-memory.c: memory that the hypervisor hands over LMB by LMB.

Each LMB is added and onlined before the next, whatever memhp_default_state says: with its default "offline"
the driver onlines with "online". So the memmap of a later LMB can land in an earlier one, which then cannot
go again. By count the kernel chooses the LMBs, lowest first, and passes over those that fail; by index, or by index and
count, it is told which. Where not all that was asked for comes or goes, everything is taken back: EINVAL.
"""

from __future__ import annotations

from collections.abc import Callable

from memshell import (
    MHP_MEMMAP_ON_MEMORY,
    Caller,
    KernelError,
    Mm,
    Request,
    UsageError,
    add_memory,
    format_size,
    memory_subsys_offline,
    memory_subsys_online,
    mirrors,
    remove_memory_locked,
)

from .drmem import WHERE, Lmb, assigned_lmbs, free_lmbs, lmb_at, lmb_of_index


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_memory_add_by_ic", "v6.12", "complete")
def dlpar_memory_add_by_ic(mm: Mm, nid: int, start: int, size: int) -> None:
    """Add the LMBs of [start, start+size) bytes in order; those that are assigned are passed over.

    When one fails, the earlier ones are removed again. Raises EINVAL, also for a range that is not whole LMBs.
    """
    added: list[int] = []
    for base in _range(mm, start, size):
        if lmb_at(mm, base).assigned:
            continue
        try:
            dlpar_add_lmb(mm, nid, base)
        except KernelError as error:
            for earlier in added:
                _undo(mm, earlier, add=False, nid=nid)
            raise _failed("indexed-count-add failed, LMBs that were added are removed", mm, base, error) from error
        added.append(base)


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_memory_add_by_count", "v6.12", "complete")
def dlpar_memory_add_by_count(mm: Mm, nid: int, count: int) -> None:
    """Add *count* LMBs, the lowest that are free; one that fails is passed over. Raises EINVAL, with none added."""
    free = free_lmbs(mm, count)
    _enough(len(free), count)
    _by_count(
        mm, free, count, lambda base: dlpar_add_lmb(mm, nid, base), lambda base: _undo(mm, base, add=False, nid=nid)
    )


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_memory_remove_by_count", "v6.12", "complete")
def dlpar_memory_remove_by_count(mm: Mm, count: int) -> None:
    """Offline and remove *count* LMBs, the lowest that go; one that does not is passed over.

    Raises EINVAL where too few go: those that went are added and onlined again.
    """
    nodes = {number * mm.block_size: block.nid for number, block in mm.blocks.items()}
    lmbs = assigned_lmbs(mm)
    _enough(len(lmbs), count)
    _by_count(
        mm,
        lmbs,
        count,
        lambda base: dlpar_remove_lmb(mm, base),
        lambda base: _undo(mm, base, add=True, nid=nodes[base]),
    )


def _enough(available: int, wanted: int) -> None:
    if not wanted or available < wanted:
        raise KernelError(f"not enough LMBs available ({available} of {wanted})", "EINVAL", where=WHERE)


def _by_count(mm: Mm, lmbs: list[Lmb], count: int, do: Callable[[int], None], undo: Callable[[int], None]) -> None:
    done: list[int] = []
    last: KernelError | None = None
    for lmb in lmbs:
        if len(done) == count:
            break
        try:
            do(lmb.base)
        except KernelError as error:
            last = error
            mm.event("LmbPassedOver", WHERE, f"{lmb.drc_index:#x}: {error}", start=lmb.base, errno=error.errno)
        else:
            done.append(lmb.base)
    if last is not None and len(done) < count:
        for base in done:
            undo(base)
        text = f"{len(done)} of {count} LMBs, which are taken back; the last failed so: {last}"
        raise KernelError(text, "EINVAL", where=WHERE) from last


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_add_lmb", "v6.12", "complete")
def dlpar_add_lmb(mm: Mm, nid: int, base: int) -> None:
    """Add one LMB and online it. Since v6.6 the memmap may go on the memory itself (MHP_MEMMAP_ON_MEMORY)."""
    block_id = base // mm.block_size
    if lmb_at(mm, base).assigned:
        raise KernelError(f"LMB {base:#x} is assigned already", "EINVAL", where=f"{WHERE}:dlpar_add_lmb")
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
    """Offline and remove the LMBs of [start, start+size) bytes in order; those that are not assigned are passed over.

    When one fails, those that went are added and onlined again. Raises EINVAL, also where the hypervisor reserves one.
    """
    bases = _range(mm, start, size)
    for base in bases:
        if lmb_at(mm, base).reserved:
            raise KernelError(_reserved(mm, base), "EINVAL", where=f"{WHERE}:dlpar_memory_remove_by_ic")
    removed: list[tuple[int, int]] = []
    for base in bases:
        block = mm.blocks.get(base // mm.block_size)
        if block is None:
            continue
        try:
            dlpar_remove_lmb(mm, base)
        except KernelError as error:
            for earlier, nid in removed:
                _undo(mm, earlier, add=True, nid=nid)
            raise _failed("indexed-count-remove failed, LMBs that went are added again", mm, base, error) from error
        removed.append((base, block.nid))


@mirrors("arch/powerpc/platforms/pseries/hotplug-memory.c:dlpar_remove_lmb", "v6.12", "complete")
def dlpar_remove_lmb(mm: Mm, base: int) -> None:
    """Offline one LMB, if it is not, and remove it.

    Raises EINVAL where none is assigned or the hypervisor reserves it, else what offlining raises.
    """
    block = mm.blocks.get(base // mm.block_size)
    if block is None:
        raise KernelError(f"no LMB is assigned at {base:#x}", "EINVAL", where=f"{WHERE}:dlpar_remove_lmb")
    if lmb_at(mm, base).reserved:
        raise KernelError(_reserved(mm, base), "EINVAL", where=f"{WHERE}:lmb_is_removable")
    if block.state != "offline":
        memory_subsys_offline(mm, block.id)
    remove_memory_locked(mm, base, mm.block_size)


def by_index(mm: Mm, drc_index: int, *, add: bool, nid: int = 0) -> None:
    """dlpar_memory_add_by_index(), _remove_by_index(): one LMB. Raises EINVAL for an index that is none, else its own errno."""
    base = lmb_of_index(mm, drc_index).base
    if add:
        dlpar_add_lmb(mm, nid, base)
    else:
        dlpar_remove_lmb(mm, base)


def _reserved(mm: Mm, base: int) -> str:
    return f"memory{base // mm.block_size} is of boot, and QEMU reserves it (hypervisor=phyp takes it too)"


def _failed(what: str, mm: Mm, base: int, error: KernelError) -> KernelError:
    return KernelError(f"memory{base // mm.block_size}: {error}; {what}", "EINVAL", where=WHERE)


def _range(mm: Mm, start: int, size: int) -> range:
    if start % mm.block_size or not size or size % mm.block_size:
        raise KernelError(
            f"{start:#x}+{size:#x} is not whole LMBs",
            "EINVAL",
            where=f"{WHERE}:get_lmb_range",
            hint=f"LMBs are {mm.block_size:#x} bytes",
        )
    return range(start, start + size, mm.block_size)


def _undo(mm: Mm, base: int, *, add: bool, nid: int) -> None:
    """Take one LMB's step back; an error there is only printed."""
    try:
        if add:
            dlpar_add_lmb(mm, nid, base)
        else:
            dlpar_remove_lmb(mm, base)
    except KernelError as error:
        mm.event("RollbackFailed", WHERE, f"LMB {base:#x}: {error}", start=base, errno=error.errno)


def _count(mm: Mm, size: int) -> int:
    if not size or size % mm.block_size:
        lmb = format_size(mm.block_size)
        raise UsageError(f"{format_size(size)} is not whole LMBs", hint=f"an LMB has {lmb}; name multiples of it")
    return size // mm.block_size


def _grow(mm: Mm, request: Request) -> None:
    dlpar_memory_add_by_count(mm, request.nid, _count(mm, request.size))


DLPAR = Caller(
    "dlpar",
    "powerpc: LMBs from the hypervisor, each onlined at once",
    lambda mm, request: dlpar_memory_add_by_ic(mm, request.nid, request.start, request.size),
    eject=dlpar_memory_remove_by_ic,
    grow=_grow,
    shrink=lambda mm, size: dlpar_memory_remove_by_count(mm, _count(mm, size)),
)
