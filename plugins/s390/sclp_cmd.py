"""drivers/s390/char/sclp_cmd.c (sclp_mem.c since v6.17): standby storage of s390.

Storage comes in increments. A standby increment is there but cannot be touched until it is assigned; the
memory block's memmap, when it lies in the block, is lost each time the storage is unassigned.
"""

from __future__ import annotations

from memshell import MHP_MEMMAP_ON_MEMORY, KernelError, Mm, add_memory, align_down, align_up, mirrors


def insert_increments(mm: Mm, start: int, end: int, *, standby: bool) -> None:
    """Say that [start, end) bytes are storage increments, assigned or standby."""
    mm.storage.set(start >> mm.arch.page_shift, end >> mm.arch.page_shift, "standby" if standby else "assigned")


@mirrors("drivers/s390/char/sclp_cmd.c:sclp_mem_change_state", "v6.12", "complete")
def sclp_mem_change_state(mm: Mm, start_pfn: int, nr_pages: int, *, online: bool) -> None:
    """Assign or unassign the increments of [start_pfn, +nr_pages).

    Raises EIO when the hypervisor refuses (fault sclp_assign).
    """
    if online and mm.fault("sclp_assign"):
        raise KernelError("assign storage failed", "EIO", where="drivers/s390/char/sclp_cmd.c:sclp_assign_storage")
    for start, end, _ in list(mm.storage.items(start_pfn, start_pfn + nr_pages)):
        mm.storage.set(start, end, "assigned" if online else "standby")


def contains_standby_increment(mm: Mm, start_pfn: int, nr_pages: int) -> bool:
    """Whether any increment of the range is standby."""
    return any(state == "standby" for _, _, state in mm.storage.items(start_pfn, start_pfn + nr_pages))


@mirrors("drivers/s390/char/sclp_cmd.c:sclp_mem_notifier", "v6.12", "complete")
def sclp_mem_notifier(mm: Mm, action: str, start_pfn: int, nr_pages: int) -> None:
    """Answer the memory notifier chain. Any refusal is EPERM there (NOTIFY_BAD).

    A block that holds standby storage must not go offline. Storage is assigned at MEM_PREPARE_ONLINE and
    unassigned at MEM_FINISH_OFFLINE since v6.9 (so the block's own memmap can be in it), at MEM_GOING_ONLINE
    and MEM_OFFLINE before.
    """
    if mm.features.s390.standby == "config":
        return  # storage is configured before it is added and deconfigured after; no notifier is left
    prepares = mm.features.hotplug.prepare_online
    online = "MEM_PREPARE_ONLINE" if prepares else "MEM_GOING_ONLINE"
    offline = ("MEM_FINISH_OFFLINE",) if prepares else ("MEM_CANCEL_ONLINE", "MEM_OFFLINE")
    if action == "MEM_GOING_OFFLINE" and contains_standby_increment(mm, start_pfn, nr_pages):
        raise KernelError(
            "the block contains standby storage", "EPERM", where="drivers/s390/char/sclp_cmd.c:sclp_mem_notifier"
        )
    if action in offline:
        sclp_mem_change_state(mm, start_pfn, nr_pages, online=False)
    elif action == online:
        try:
            sclp_mem_change_state(mm, start_pfn, nr_pages, online=True)
        except KernelError as error:
            raise KernelError(str(error), "EPERM", where="drivers/s390/char/sclp_cmd.c:sclp_mem_notifier") from error


@mirrors("drivers/s390/char/sclp_cmd.c:sclp_add_standby_memory", "v6.12", "complete")
def sclp_add_standby_memory(mm: Mm, *, edat1: bool) -> None:
    """Add each run of standby increments, cut to whole blocks, block by block; they stay offline.

    Since v6.9 the memmap may go on the memory, where the machine has 1M mappings. Not done where standby
    memory is configured by hand.
    """
    if mm.features.s390.standby == "config":
        return
    flags = MHP_MEMMAP_ON_MEMORY if edat1 and mm.features.memmap_on_memory.s390 else 0
    for first, last, state in list(mm.storage.items()):
        start = align_up(first << mm.arch.page_shift, mm.block_size)
        end = align_down(last << mm.arch.page_shift, mm.block_size)
        for base in range(start, end, mm.block_size) if state == "standby" else ():
            try:
                add_memory(mm, 0, base, mm.block_size, flags)
            except KernelError as error:
                mm.event(
                    "StandbyNotAdded",
                    "drivers/s390/char/sclp_cmd.c:add_memory_merged",
                    f"{base:#x}: {error}",
                    start=base,
                    errno=error.errno,
                )
