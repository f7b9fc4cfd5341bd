"""What an architecture fixes or has by default, for facts that no image holds. Each with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchDefaults:
    """Numbers of one architecture as (value, source); sizes in bytes, the rest are orders or shifts."""

    page_size: tuple[int, str]
    page_size_is_fixed: bool
    section_size_bits: tuple[int, str]
    max_order: dict[int, int]  # by page size
    max_order_source: str
    huge_page_shift: tuple[int, str]
    block_size: str  # who chooses it


_X86 = ArchDefaults(
    page_size=(4096, "arch/x86/include/asm/page_types.h"),
    page_size_is_fixed=True,
    section_size_bits=(27, "arch/x86/include/asm/sparsemem.h"),
    max_order={4096: 10},
    max_order_source="include/linux/mmzone.h",
    huge_page_shift=(21, "HPAGE_SHIFT of arch/x86/include/asm/page_types.h"),
    block_size="128 MiB to 2 GiB, chosen at boot (arch/x86/mm/init_64.c)",
)
_S390 = ArchDefaults(
    page_size=(4096, "arch/s390/include/asm/page.h"),
    page_size_is_fixed=True,
    section_size_bits=(28, "arch/s390/include/asm/sparsemem.h"),
    max_order={4096: 10},
    max_order_source="arch/s390/Kconfig",
    huge_page_shift=(20, "HPAGE_SHIFT of arch/s390/include/asm/page.h"),
    block_size="a section or the storage increment, the larger, chosen at boot (arch/s390/mm/init.c)",
)
_PPC64 = ArchDefaults(
    page_size=(65536, "arch/powerpc/Kconfig: Book3S 64 has 64K by default, 4K is possible"),
    page_size_is_fixed=False,
    section_size_bits=(24, "arch/powerpc/include/asm/sparsemem.h"),
    max_order={65536: 8, 4096: 12},
    max_order_source="arch/powerpc/Kconfig",
    huge_page_shift=(21, "arch/powerpc/mm/book3s64/hugetlbpage.c: 2 MiB with radix; with hash it is 16 MiB"),
    block_size="the LMB size of the device tree, chosen at boot (arch/powerpc)",
)

DEFAULTS: dict[str, ArchDefaults] = {"x86_64": _X86, "s390x": _S390, "ppc64": _PPC64, "ppc64le": _PPC64}
"""By the name that ``uname -m`` gives; an architecture of a plugin is entered with `Arch.image_defaults`."""
