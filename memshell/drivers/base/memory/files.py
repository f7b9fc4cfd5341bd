"""What a write to the files of /sys does, beside memoryN/state. Each takes the text that is written, without its newline."""

from __future__ import annotations

from memshell.drivers.base.memory.probe import probe_store
from memshell.errors import KernelError, UsageError
from memshell.mm.state import Mm


def auto_online_blocks_store(mm: Mm, value: str) -> None:
    """Write to auto_online_blocks. Source: drivers/base/memory.c:auto_online_blocks_store."""
    _set(mm, "auto_online_blocks", value, "drivers/base/memory.c:auto_online_blocks_store")


def parameter_store(mm: Mm, name: str, value: str) -> None:
    """Write to a parameter of the module memory_hotplug that can be changed. Source: kernel/params.c:param_attr_store."""
    _set(mm, name, value, "kernel/params.c:param_attr_store")


def _set(mm: Mm, name: str, value: str, where: str) -> None:
    try:
        mm.params = mm.params.with_text(name, value)
    except UsageError as error:
        raise KernelError(error.message, "EINVAL", where=where, hint=error.hint) from error


def probe_text_store(mm: Mm, value: str) -> None:
    """Write an address to probe, as C writes numbers; the block is node 0's, where nothing else says the node."""
    try:
        address = int(value, 16 if value.lower().startswith("0x") else 8 if value.startswith("0") else 10)
    except ValueError as error:
        where = "drivers/base/memory.c:probe_store"
        raise KernelError(f"{value!r} is no address", "EINVAL", where=where) from error
    probe_store(mm, 0, address)


def soft_offline_store(mm: Mm, value: str) -> None:
    """Refuse, as a kernel whose vm.enable_soft_offline is 0 (v6.11): bad pages are not modelled."""
    del mm
    where = "mm/memory-failure.c:soft_offline_page"
    raise KernelError(f"{value}: soft offlining is not modelled", "EOPNOTSUPP", where=where)
