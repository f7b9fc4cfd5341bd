"""Page frame numbers, sections, memory blocks and sizes: the arithmetic everything else stands on."""

from __future__ import annotations

import re

from memshell.errors import UsageError

KiB, MiB, GiB, TiB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

DIGITS = 40  # characters of a number: no address has half of them
_SUFFIXES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SIZE = re.compile(r"(0x[0-9a-f]+?|\d+(?:\.\d+)?)\s*(?:([kmgtpe])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)


def memparse(text: str) -> int:
    """Read a size or address in bytes as the kernel does, and as people write it.

    Accepts decimal and ``0x`` numbers with a binary suffix: ``10G``, ``128MiB``, ``4k``, ``0x8000000``; and, beyond
    the kernel, a fraction that is whole bytes: ``1.5G``.  Raises `UsageError` for anything else, also for negative
    numbers.  Source: lib/cmdline.c:memparse.

    >>> memparse("128M"), memparse("0x8000000"), memparse("4k"), memparse("1.5k")
    (134217728, 134217728, 4096, 1536)
    """
    if len(text) > DIGITS:
        raise UsageError(f"a size of {len(text)} characters cannot be", hint=f"{DIGITS} at most, such as 0x100000000")
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="write it as 128M, 1.5G, 4096 or 0x8000000")
    digits, suffix = match.groups()
    shift = _SUFFIXES[(suffix or "").upper()]
    if "." in digits:
        whole, _, fraction = digits.partition(".")
        size, rest = divmod(int(whole + fraction) << shift, int("1" + "0" * len(fraction)))
        if rest:
            raise UsageError(f"{text!r} is not a size: no whole number of bytes", hint="write it as 1.5G or 1536M")
        return size
    return int(digits, 0 if digits.lower().startswith("0x") else 10) << shift


def format_size(size_bytes: int) -> str:
    """Return *size_bytes* with the largest suffix that loses nothing.

    >>> format_size(10 * GiB), format_size(129 * MiB), format_size(5)
    ('10G', '129M', '5')
    """
    sign, size = ("-", -size_bytes) if size_bytes < 0 else ("", size_bytes)
    for suffix, shift in (("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size and not size & ((1 << shift) - 1):
            return f"{sign}{size >> shift}{suffix}"
    return f"{sign}{size}"


def spoken_size(size_bytes: int) -> str:
    """Return *size_bytes* as people say it: exact where that takes four digits, else with two decimals.

    >>> spoken_size(129 * MiB), spoken_size(32 * GiB + 400 * KiB), spoken_size(-4128 * KiB)
    ('129M', '32.00G', '-4128K')
    """
    exact, size = format_size(size_bytes), abs(size_bytes)
    if len(exact.lstrip("-").rstrip("KMGTPE")) <= 4:
        return exact
    shift = (size.bit_length() - 1) // 10 * 10
    return f"{size_bytes / (1 << shift):.2f}{' KMGTPE'[shift // 10]}".replace(" ", "")


def align_up(value: int, alignment: int) -> int:
    """Return the smallest multiple of *alignment* that is not below *value*."""
    return -(-value // alignment) * alignment


def align_down(value: int, alignment: int) -> int:
    """Return the largest multiple of *alignment* that is not above *value*."""
    return value - value % alignment


def order_of(start_pfn: int, nr_pages: int, max_order: int) -> int:
    """Return the largest order that is aligned at *start_pfn*, fits in *nr_pages* and is at most *max_order*."""
    order = min(max_order, nr_pages.bit_length() - 1)
    if start_pfn:
        order = min(order, (start_pfn & -start_pfn).bit_length() - 1)
    return order
