"""The instrumented kernel that the 2018 series was recorded on: what its builds and its command line mean."""

from __future__ import annotations

import re

from memshell.mm.profile import Profile
from memshell.mm.state import Mm
from memshell.series.features import CHECKS
from memshell.series.profiles import series_profile

ORDERS = {
    "1": ("bug.ascending_free", True),
    "2": ("vmemmap.free_order", "host0-last"),
    "3": ("vmemmap.free_order", "host1-host0-last"),
}


def switches(cmdline: str) -> dict[str, str]:
    """Return the command line's switches of the series.

    >>> switches("quiet rfc_skip=16 rfc_fill=-1")
    {'rfc_skip': '16', 'rfc_fill': '-1'}
    """
    return dict(re.findall(r"\b(rfc_\w+)=(-?\w+)", cmdline))


def switched_profile(cmdline: str, build: str) -> Profile:
    """Return rfc-2018 as the build and the switches have it."""
    given, profile = switches(cmdline), series_profile("rfc-2018")
    skipped = int(given.get("rfc_skip", "0"))
    numbers = {bit: "5b" if bit == 16 else "5a" if bit == 5 else str(bit) for bit in range(1, 17)}
    for name, check in CHECKS.items():
        if any(skipped >> bit & 1 and check.number == site for bit, site in numbers.items()):
            profile = profile.with_feature(name, value=False)
    if given.get("rfc_order", "0") in ORDERS:
        profile = profile.with_feature(*ORDERS[given["rfc_order"]])
    if int(given.get("rfc_reserve", "0")) > 0:
        profile = profile.with_feature("altmap.reserve", int(given["rfc_reserve"]))
    return profile.with_feature("config.debug_vm", build in ("b2", "b3")).with_feature(
        "config.debug_vm_pgflags", build == "b3"
    )


def switched_policy(cmdline: str, build: str) -> str:
    """Return the policy's name: the unpatched kernel, and one with the flag off, take existing memory."""
    off = build == "b0" or switches(cmdline).get("rfc_off") == "1"
    return "buddy" if off else "memmap_from_range"


def prepare(mm: Mm, cmdline: str) -> None:
    """Set what the switches say about the content of struct pages and about failures."""
    given = switches(cmdline)
    if int(given.get("rfc_fill", "-1")) >= 0:
        mm.params = mm.params.with_text("memmap_content", f"byte:{given['rfc_fill']}")
    if "rfc_ref0" in given:
        mm.params = mm.params.with_text("memmap_content", f"count:{given['rfc_ref0']}")
    if "rfc_fail_usemap" in given:
        mm.faults["section_usage"] = int(given["rfc_fail_usemap"]) + 1
