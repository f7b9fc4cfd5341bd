"""Every key of ``use``, on every architecture and kernel: another value is another machine, or it is refused."""

import pytest

from memshell.errors import UsageError
from memshell.machine import boot, diff_states
from memshell.profiles import PROFILES
from memshell.scenario.suite import shared_plugins

ARCHES = shared_plugins().arches()
BUDDY = shared_plugins().policies()["buddy"]
OTHER = {
    "ram": ["4G"],
    "block": ["512M", "256M"],
    "mem": ["1G"],
    "reserved": ["50M"],
    "used": ["20M"],
    "preset": ["kata", "firecracker", "cloud-hypervisor"],
    "la57": ["on"],
    "gbpages": ["off"],
    "hypervisor": ["off", "phyp"],
    "advice": ["256M"],
    "struct_page": ["80"],
    "nodes": ["2", "4"],
    "page": ["4K", "16K", "64K"],
    "direct_map": ["blocks"],
    "max": ["8G"],
    "mmu": ["hash"],
    "large_pages": ["off"],
    "vmemmap": ["64K"],
    "standby": ["1G"],
    "edat": ["1", "off"],
}
RELEASES = ("v5.10", "v6.1", "v6.12", "v7.3")


def machine(arch, profile, **options):
    return boot(ARCHES[arch], options, PROFILES[profile], BUDDY).mm


def is_another(one, other):
    """Whether two machines are not the same: in their memory, or in what adding and removing will find."""
    return repr(one.arch) != repr(other.arch) or any(diff_states(one, other)) or one.storage != other.storage


def test_every_key_is_tried():
    assert {option.name for arch in ARCHES.values() for option in arch.options} <= OTHER.keys()


@pytest.mark.slow
@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("arch", ["x86_64", "powerpc", "s390", "arm64"])
@pytest.mark.parametrize("ram", ["2G", "64G"])
def test_no_key_is_without_effect(arch, profile, ram):
    plain = machine(arch, profile, ram=ram)
    for option in ARCHES[arch].options:
        for value in OTHER[option.name]:
            if value == option.default or (option.name == "block" and int(value[:-1]) << 20 == plain.block_size):
                continue
            try:
                found = machine(arch, profile, **{"ram": ram, option.name: value})
            except UsageError:
                continue
            assert is_another(plain, found), f"{option.name}={value}"


@pytest.mark.parametrize(
    "arch, profile, options, why",
    [
        ("x86_64", "v6.12", {"ram": "64G", "advice": "256M"}, "since v6.17"),
        ("x86_64", "v7.3", {"advice": "256M"}, "from 64G of RAM on"),
        ("x86_64", "v7.3", {"ram": "64G", "advice": "256M", "block": "1G"}, "block=1G says the block size"),
        ("x86_64", "v6.12", {"hypervisor": "off"}, "from 64G of RAM on"),
        ("powerpc", "v6.12", {"large_pages": "off"}, "it is for mmu=hash"),
        ("powerpc", "v6.12", {"vmemmap": "64K"}, "since v6.6"),
    ],
)
def test_a_key_that_the_kernel_does_not_look_at_is_refused(arch, profile, options, why):
    with pytest.raises(UsageError, match="changes nothing") as refused:
        machine(arch, profile, **options)
    assert why in refused.value.hint


def test_it_counts_where_the_kernel_looks_at_it():
    assert machine("x86_64", "v7.3", ram="64G", advice="256M").block_size == 256 << 20
    assert machine("x86_64", "v6.12", ram="65G", hypervisor="off").block_size == 2 << 30
    assert machine("powerpc", "v6.1", vmemmap="64K").arch.unit == 64 << 10
