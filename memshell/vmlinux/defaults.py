"""What an architecture fixes or has by default, for facts that no image holds. Each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ArchDefaults:
    """Numbers of one architecture as (value, source); sizes in bytes, the rest are orders or shifts.

    Those of another page size than the default one are in *by_page_size*. *pt_regs*: members of struct pt_regs that this
    architecture alone has, by which BTF is told.
    """

    page_size: tuple[int, str]
    page_size_is_fixed: bool
    section_size_bits: tuple[int, str]
    max_order: dict[int, int]  # by page size
    max_order_source: str
    huge_page_shift: tuple[int, str]
    block_size: str  # who chooses it
    by_page_size: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # section_size_bits, huge_page_shift
    pt_regs: tuple[str, ...] = ()

    def section_bits(self, page_size: int | None) -> int:
        """Return SECTION_SIZE_BITS with pages of *page_size*; the default's where it is not known."""
        return self.by_page_size.get(page_size or 0, (self.section_size_bits[0], 0))[0]

    def huge_shift(self, page_size: int) -> int:
        """Return HPAGE_SHIFT with pages of *page_size*."""
        return self.by_page_size.get(page_size, (0, self.huge_page_shift[0]))[1]


_X86 = ArchDefaults(
    page_size=(4096, "arch/x86/include/asm/page_types.h"),
    page_size_is_fixed=True,
    section_size_bits=(27, "arch/x86/include/asm/sparsemem.h"),
    max_order={4096: 10},
    max_order_source="include/linux/mmzone.h",
    huge_page_shift=(21, "HPAGE_SHIFT of arch/x86/include/asm/page_types.h"),
    block_size="128 MiB to 2 GiB, chosen at boot (arch/x86/mm/init_64.c)",
    pt_regs=("orig_ax", "r15"),
)
_S390 = ArchDefaults(
    page_size=(4096, "arch/s390/include/asm/page.h"),
    page_size_is_fixed=True,
    section_size_bits=(28, "arch/s390/include/asm/sparsemem.h"),
    max_order={4096: 10},
    max_order_source="arch/s390/Kconfig",
    huge_page_shift=(20, "HPAGE_SHIFT of arch/s390/include/asm/page.h"),
    block_size="a section or the storage increment, the larger, chosen at boot (arch/s390/mm/init.c)",
    pt_regs=("psw", "gprs"),
)
_PPC64 = ArchDefaults(
    page_size=(65536, "arch/powerpc/Kconfig: Book3S 64 has 64K by default, 4K is possible"),
    page_size_is_fixed=False,
    section_size_bits=(24, "arch/powerpc/include/asm/sparsemem.h"),
    max_order={65536: 8, 4096: 12},
    max_order_source="arch/powerpc/Kconfig",
    huge_page_shift=(21, "arch/powerpc/mm/book3s64/hugetlbpage.c: 2 MiB with radix; with hash it is 16 MiB"),
    block_size="the LMB size of the device tree, chosen at boot (arch/powerpc)",
    pt_regs=("nip", "ccr"),
)

DEFAULTS: dict[str, ArchDefaults] = {"x86_64": _X86, "s390x": _S390, "ppc64": _PPC64, "ppc64le": _PPC64}
"""By the name that ``uname -m`` gives; an architecture of a plugin is entered with `Arch.image_defaults`."""
