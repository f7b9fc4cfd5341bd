"""arch/*/mm/fault.c: the crash of touching what is not mapped."""

from __future__ import annotations

from memshell.errors import KernelCrash


def page_fault(address: int, function: str, why: str = "") -> KernelCrash:
    """Return the crash of touching *address*, in the kernel's words."""
    kind = "NULL pointer dereference" if address < 4096 else "paging request"
    return KernelCrash(f"unable to handle kernel {kind}", function, address, why)
