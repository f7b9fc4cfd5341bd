"""Who adds memory on s390: the hypervisor attaches standby storage, and its blocks are made."""

from __future__ import annotations

from memshell import MHP_MEMMAP_ON_MEMORY, Caller, KernelError, Mm, add_memory

from .sclp_cmd import insert_increments
from .sclp_mem import sclp_config_mem_store


def attach_standby(mm: Mm, start: int, size: int) -> None:
    """Let the hypervisor attach [start, +size) bytes of standby storage, and make offline blocks of it.

    Raises EINVAL for what is not whole blocks, else what add_memory raises.
    """
    if start % mm.block_size or not size or size % mm.block_size:
        raise KernelError(
            f"{start:#x}+{size:#x} is not whole blocks",
            "EINVAL",
            where="drivers/s390/char/sclp_cmd.c:add_memory_merged",
        )
    insert_increments(mm, start, start + size, standby=True)
    fits = mm.features.memmap_on_memory.s390
    for base in range(start, start + size, mm.block_size):
        if mm.features.s390.standby == "config":
            sclp_config_mem_store(mm, base // mm.block_size, config=True)
        else:
            add_memory(mm, 0, base, mm.block_size, MHP_MEMMAP_ON_MEMORY if fits else 0)


SCLP = Caller(
    "sclp",
    "s390: standby storage, configured block by block",
    lambda mm, request: attach_standby(mm, request.start, request.size),
)
