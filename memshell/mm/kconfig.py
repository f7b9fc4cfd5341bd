"""What a kernel's configuration decides: features of its profile, and the parameters that nobody sets.

A configuration is read where there is one: in a kernel image or beside it, in a machine file, in a recording. Its
options are written as in ``.config``, with or without CONFIG_. Only one that is whole says what is *not* built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from memshell.mm.params import Params

if TYPE_CHECKING:
    from memshell.mm.profile import Profile

SWITCHES = {
    "MEMORY_HOTPLUG": "config.memory_hotplug",
    "MEMORY_HOTREMOVE": "config.memory_hotremove",
    "MHP_MEMMAP_ON_MEMORY": "config.mhp_memmap_on_memory",
    "ZONE_DEVICE": "config.zone_device",
    "HUGETLB_PAGE": "config.hugetlb_page",
    "TRANSPARENT_HUGEPAGE": "config.transparent_hugepage",
    "CMA": "config.cma",
}
CHOICES = {
    "auto_online_blocks": {
        "MHP_DEFAULT_ONLINE_TYPE_OFFLINE": "offline",
        "MHP_DEFAULT_ONLINE_TYPE_ONLINE_AUTO": "online",
        "MHP_DEFAULT_ONLINE_TYPE_ONLINE_KERNEL": "online_kernel",
        "MHP_DEFAULT_ONLINE_TYPE_ONLINE_MOVABLE": "online_movable",
        "MEMORY_HOTPLUG_DEFAULT_ONLINE": "online",  # until v6.13
    },
    "transparent_hugepage": {
        "TRANSPARENT_HUGEPAGE_ALWAYS": "always",
        "TRANSPARENT_HUGEPAGE_MADVISE": "madvise",
        "TRANSPARENT_HUGEPAGE_NEVER": "never",
    },
}
WHOLE = "SPARSEMEM"  # every kernel with memory blocks is built with it


def built_in(config: Mapping[str, str]) -> dict[str, bool]:
    """Return the features that *config* decides, by name; none for one that is not whole."""
    options = _bare(config)
    if options.get(WHOLE) != "y":
        return {}
    return {feature: options.get(option, "n") != "n" for option, feature in SWITCHES.items()}


def defaults(config: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return (option, value) of each parameter whose value at boot *config* chooses."""
    options = _bare(config)
    found: dict[str, tuple[str, str]] = {}
    for name, choices in CHOICES.items():
        for option, value in choices.items():
            if options.get(option) == "y":
                found.setdefault(name, (option, value))
    return found


def built(kernel: Profile, config: Mapping[str, str]) -> Profile:
    """Return *kernel* as *config* builds it."""
    for name, value in built_in(config).items():
        if kernel.features[name] is not value:
            kernel = kernel.with_feature(name, value)
    return kernel


def configured(config: Mapping[str, str]) -> Params:
    """Return the parameters of a kernel that was built with *config* and booted without any word."""
    params = Params()
    for name, (_, value) in defaults(config).items():
        params = params.with_text(name, value)
    return params


def _bare(config: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix("CONFIG_"): value for name, value in config.items()}
