"""drivers/s390/char/sclp_mem.c (v7.2): standby memory is configured and deconfigured by hand."""

from __future__ import annotations

from memshell import MHP_MEMMAP_ON_MEMORY, KernelError, Mm, add_memory, mirrors, remove_memory_locked

from .sclp_cmd import sclp_mem_change_state


@mirrors("drivers/s390/char/sclp_mem.c:sclp_config_mem_store", "v7.2", "complete")
def sclp_config_mem_store(mm: Mm, block_id: int, *, config: bool, memmap_on_memory: bool = False) -> None:
    """Configure or deconfigure the standby memory of one block.

    Raises EBUSY while it is online, else what add_memory raises.
    """
    start, where = block_id * mm.block_size, "drivers/s390/char/sclp_mem.c:sclp_config_mem_store"
    block = mm.blocks.get(block_id)
    if config == (block is not None):
        return
    if block is None:
        sclp_mem_change_state(mm, start >> mm.arch.page_shift, mm.block_pages, online=True)
        try:
            add_memory(mm, 0, start, mm.block_size, MHP_MEMMAP_ON_MEMORY if memmap_on_memory else 0)
        except KernelError:
            sclp_mem_change_state(mm, start >> mm.arch.page_shift, mm.block_pages, online=False)
            raise
        return
    if block.state != "offline":
        raise KernelError(f"memory{block_id} is online", "EBUSY", where=where, hint="offline it first")
    sclp_mem_change_state(mm, start >> mm.arch.page_shift, mm.block_pages, online=False)
    remove_memory_locked(mm, start, mm.block_size)
