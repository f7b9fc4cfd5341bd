"""drivers/s390/char/sclp_mem.c (v6.19): memory is configured and deconfigured by hand, in /sys/firmware/memory."""

from __future__ import annotations

from memshell import MHP_MEMMAP_ON_MEMORY, KernelError, Mm, add_memory, mirrors, remove_memory_locked
from memshell import mhp_supports_memmap_on_memory as supports

from .sclp_cmd import insert_increments, sclp_mem_change_state

WHERE = "drivers/s390/char/sclp_mem.c"
CHOSEN = "sclp_mem"  # Mm.drvdata: (block, memmap_on_memory) as it was written


def sclp_mems(mm: Mm) -> dict[int, tuple[bool, bool]] | None:
    """Return the blocks that /sys/firmware/memory lists: whether each is configured, and its memmap_on_memory.

    Memory of boot is configured, without; standby memory is not, and would have it where the kernel supports it. None in
    kernels that add standby memory at boot.
    """
    if mm.features.s390.standby != "config":
        return None
    early = {number for number, block in mm.blocks.items() if block.early}
    chosen = _chosen(mm)
    found = {number: (True, chosen.get(number, False)) for number in early}
    default: bool | None = None
    for start, end, _ in _runs(mm):
        for number in range(-(-start // mm.block_pages), end // mm.block_pages):
            if number not in early:
                default = _supported(mm) if default is None else default
                found[number] = (number in mm.blocks, chosen.get(number, default))
    return dict(sorted(found.items()))


def _chosen(mm: Mm) -> dict[int, bool]:
    written = mm.drvdata.get(CHOSEN, ())
    assert isinstance(written, tuple)
    return dict(written)


def _runs(mm: Mm) -> list[tuple[int, int, str]]:
    """Return the storage increments as runs of pages: assigned or standby, they lie side by side."""
    found: list[tuple[int, int, str]] = []
    for start, end, state in mm.storage.items():
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end, state)
        else:
            found.append((start, end, state))
    return found


def _supported(mm: Mm) -> bool:
    return bool(supports(mm, 0, mm.boot_end << mm.arch.page_shift, mm.block_size).reserve_pages)


def _entry(mm: Mm, block_id: int) -> tuple[bool, bool]:
    known = sclp_mems(mm)
    if known is None or block_id not in known:
        text = f"there is no /sys/firmware/memory/memory{block_id}"
        hint = (
            "it came with v6.19"
            if known is None
            else "use s390 ... standby=SIZE, or add via=sclp, brings standby memory"
        )
        raise KernelError(text, "ENOENT", where=WHERE, hint=hint)
    return known[block_id]


@mirrors("drivers/s390/char/sclp_mem.c:sclp_config_mem_store", "v7.2", "complete")
def sclp_config_mem_store(mm: Mm, block_id: int, *, config: bool) -> None:
    """Write to memoryN/config: configure a block's memory, or deconfigure it; the state that it has already is no error.

    Raises ENOENT where there is none, EBUSY while it is online, EIO when the hypervisor refuses, else what add_memory raises.
    """
    configured, memmap_on_memory = _entry(mm, block_id)
    start, first = block_id * mm.block_size, block_id * mm.block_pages
    if config == configured:
        return
    if config:
        sclp_mem_change_state(mm, first, mm.block_pages, online=True)
        try:
            add_memory(mm, 0, start, mm.block_size, MHP_MEMMAP_ON_MEMORY if memmap_on_memory else 0)
        except KernelError:
            sclp_mem_change_state(mm, first, mm.block_pages, online=False)
            raise
        return
    if mm.blocks[block_id].state != "offline":
        where = f"{WHERE}:sclp_config_mem_store"
        raise KernelError(f"memory{block_id} is online", "EBUSY", where=where, hint=f"offline {block_id}")
    insert_increments(mm, start, start + mm.block_size, standby=True)
    remove_memory_locked(mm, start, mm.block_size)


@mirrors("drivers/s390/char/sclp_mem.c:sclp_memmap_on_memory_store", "v7.2", "complete")
def sclp_memmap_on_memory_store(mm: Mm, block_id: int, *, value: bool) -> None:
    """Write to memoryN/memmap_on_memory: where the memmap goes once the block is configured.

    Raises ENOENT where there is none, EOPNOTSUPP where the kernel does not support it, EBUSY once the block is configured.
    """
    configured, _ = _entry(mm, block_id)
    where = f"{WHERE}:sclp_memmap_on_memory_store"
    if value and not _supported(mm):
        raise KernelError(
            "memmap_on_memory is not supported", "EOPNOTSUPP", where=where, hint="policy memmap_on_memory"
        )
    if configured:
        raise KernelError(f"memory{block_id} is configured", "EBUSY", where=where, hint=f"deconfigure {block_id}")
    mm.drvdata[CHOSEN] = tuple(sorted({**_chosen(mm), block_id: value}.items()))


def firmware_store(mm: Mm, block_id: int, name: str, value: bool) -> None:
    """Write *value* to /sys/firmware/memory/memoryN/NAME."""
    if name == "config":
        sclp_config_mem_store(mm, block_id, config=value)
    else:
        sclp_memmap_on_memory_store(mm, block_id, value=value)
