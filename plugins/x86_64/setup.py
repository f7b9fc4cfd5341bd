"""arch/x86/kernel/setup.c and e820.c: which memory a guest has, and what of it the kernel takes while it boots.

What a Debian cloud kernel takes was read from recordings of guests of 256M to 64G: 158 pages of the first MiB, a part
below 4G, the memmap, and 385 pages a GiB of RAM are never managed; 103 pages a GiB and a fixed number are in use when
the guest is idle, 32 to 1,024 of them in each zone below the highest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from memshell import BootZone, GiB, MiB, UsageError, ZoneType, format_size, memparse

LOWMEM, LOWMEM_IF_LARGE = 0xB0000000, 0x80000000  # QEMU q35: where RAM below 4G ends
PFN_4G = 1 << 20
SPARE = 3584  # below 256M nothing was measured: the kernel is taken to leave seven pageblocks of ZONE_DMA alone
FIRST_MIB = 158  # reserved pages below the first MiB


class Kernel(NamedTuple):
    """What one kernel takes, in pages: never managed (beside the memmap), of these below 4G, and in use."""

    reserved: int
    below_4g: int
    used: int


# Recordings of 2G and 4G guests; *used* is that of the ones without a tracer (x86_64-k61-N-untraced-1G and so on), on 6.18
# what a traced guest uses less the 4,390 pages that the tracer takes on 6.12.
KERNELS = {
    "v6.1": Kernel(26103, 24486, 13385),
    "v6.12": Kernel(27419, 25798, 11532),
    "v6.18": Kernel(27923, 26302, 12317),
    "v7.2": Kernel(28579, 26769, 12771),
}


class Preset(NamedTuple):
    """A small kernel: what of the RAM it does not manage, beside the memmap, and what is in use; in kB."""

    reserved: int
    used: int | None
    source: str


PRESETS = {
    "cloud-hypervisor": Preset(
        30284, 21900, "cloud-hypervisor issue 1593 (2020): 128M, MemTotal 98740, MemFree 76840 kB"
    ),
    "kata": Preset(18412, 32808, "kata-containers/runtime PR 329 (1.0.0): 2048M, MemTotal 2045972, MemFree 2013164 kB"),
    "firecracker": Preset(14336, None, "firecracker issue 769 (2018): free -m has 112 of 128M and 994 of 1024M"),
}


class Layout(NamedTuple):
    """The RAM that the kernel sees, as pfn ranges, and how much it is in bytes."""

    ranges: list[tuple[int, int, int]]
    ram: int
    low: int  # where RAM below 4G ends


def e820(options: Mapping[str, str]) -> Layout:
    """Return the memory map of a QEMU q35 guest, cut off where mem= says. Raises `UsageError`."""
    ram = memparse(options["ram"])
    if ram % MiB or ram < 128 * MiB:
        raise UsageError(f"ram={options['ram']} cannot be", hint="whole MiB, 128M or more")
    low = min(ram, LOWMEM if ram < LOWMEM else LOWMEM_IF_LARGE)
    top = (low >> 12) - 32
    ranges = [(1, 159, 0), (256, top, 0)] + ([(PFN_4G, PFN_4G + (ram - low >> 12), 0)] if ram > low else [])
    if not options["mem"]:
        return Layout(ranges, ram, low)
    limit = memparse(options["mem"])
    if limit % MiB or limit < 128 * MiB or limit >> 12 >= ranges[-1][1]:
        raise UsageError(f"mem={options['mem']} cannot be", hint="whole MiB, 128M or more, below the end of the RAM")
    cut = [(a, min(b, limit >> 12), nid) for a, b, nid in ranges if a < limit >> 12]
    return Layout(cut, sum(b - a for a, b, _ in cut) << 12, low)


def kernel_of(release: str) -> Kernel:
    """Return what the newest measured kernel takes that is not newer than *release*; the oldest for older ones."""
    version = _version(release)
    fitting = [kernel for name, kernel in KERNELS.items() if version and _version(name) <= version]
    return fitting[-1] if fitting else KERNELS["v6.1"]


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.removeprefix("v").split(".") if part.isdecimal())


def boot_counts(options: Mapping[str, str], layout: Layout, memmap: int, release: str) -> Kernel:
    """Return what boot takes, the memmap of *memmap* pages included.

    reserved= is RAM that MemTotal does not count, used= what of MemTotal is not free. Raises `UsageError` for what cannot be.
    """
    kernel = kernel_of(release)
    present = sum(b - a for a, b, _ in layout.ranges)
    holes = (layout.ram >> 12) - present
    reserved = memmap + kernel.reserved + 385 * layout.ram // GiB
    used = min(kernel.used + 103 * layout.ram // GiB, max(present - reserved - SPARE, 0))
    if options["preset"]:
        if options["preset"] not in PRESETS:
            raise UsageError(f"preset={options['preset']} cannot be", hint="one of " + ", ".join(PRESETS))
        preset = PRESETS[options["preset"]]
        reserved = (preset.reserved >> 2) + memmap - holes
        if preset.used is None and not options["used"]:
            hint = f"give used=SIZE too; source: {preset.source}"
            raise UsageError(f"preset={options['preset']} does not say what is in use", hint=hint)
        used = (preset.used or 0) >> 2
    if options["reserved"]:
        reserved = _pages(options, "reserved") - holes
        if reserved < memmap:
            least = format_size(memmap + holes << 12)
            raise UsageError(f"reserved={options['reserved']} cannot be", hint=f"memmap and holes alone take {least}")
    if options["used"]:
        used = _pages(options, "used")
    asked = any(options[key] for key in ("reserved", "used", "preset"))
    if asked and (reserved >= present or used > present - reserved):
        total = max(present - reserved, 0)
        text = f"{format_size(used << 12)} in use of a MemTotal of {format_size(total << 12)} cannot be"
        raise UsageError(text, hint="more ram=, or less reserved= and used=")
    own = options["reserved"] or options["preset"]  # a small kernel: all but the memmap lies below 4G
    below = max(reserved - memmap - FIRST_MIB, 0) if own else kernel.below_4g
    return Kernel(reserved, below, used)


def _pages(options: Mapping[str, str], key: str) -> int:
    size = memparse(options[key])
    if size % 4096:
        raise UsageError(f"{key}={options[key]} cannot be", hint="whole pages of 4K")
    return size >> 12


def boot_zones(layout: Layout, counts: Kernel, max_order: int) -> tuple[BootZone, ...]:
    """Spread reserved and used pages over the zones: what does not stay below is where the highest memory is."""
    ranges = layout.ranges
    limits = ((ZoneType.DMA, 1, 4096), (ZoneType.DMA32, 4096, PFN_4G), (ZoneType.NORMAL, PFN_4G, ranges[-1][1]))
    present = {kind: sum(max(min(b, high) - max(a, low), 0) for a, b, _ in ranges) for kind, low, high in limits}
    kinds = [kind for kind, _, _ in limits if present[kind]]
    kept = spread(counts.reserved, [FIRST_MIB, counts.below_4g][: len(kinds) - 1], [present[kind] for kind in kinds])
    managed = [present[kind] - pages for kind, pages in zip(kinds, kept, strict=True)]
    share = min(max(32 * layout.ram // GiB, 32), 1024)
    busy = spread(counts.used, [share] * (len(kinds) - 1), managed)
    zones = []
    for at, kind in enumerate(kinds):
        low, high = next((low, high) for other, low, high in limits if other is kind)
        end = min(high, ranges[-1][1]) if kind is kinds[-1] else high
        free = managed[at] - busy[at]
        orders = (*(free >> order & 1 for order in range(max_order)), free >> max_order)
        zones.append(BootZone(0, kind, low, end - low, present[kind], managed[at], orders))
    return tuple(zones)


def spread(pages: int, shares: list[int], rooms: list[int]) -> list[int]:
    """Spread *pages* over zones with *rooms*: a share for each but the last, the rest there, what has no room below again.

    >>> spread(100, [10, 20], [50, 50, 30])
    [20, 50, 30]
    """
    found: list[int] = []
    for share, room in zip(shares, rooms, strict=False):
        found.append(min(share, room, pages - sum(found)))
    found.append(min(pages - sum(found), rooms[-1]))
    for at in range(len(found) - 2, -1, -1):
        found[at] += min(pages - sum(found), rooms[at] - found[at])
    return found
