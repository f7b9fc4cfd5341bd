"""What people reported, as they typed it: cases that belong to no one driver, each with the kernel's answer."""

import pytest

from memshell import KernelError, Machine
from memshell.errors import UsageError


@pytest.mark.parametrize(
    "profile, where",
    [
        ("v5.10", "mm/memory_hotplug.c:offline_pages"),
        ("v5.15", "mm/memory_hotplug.c:offline_pages"),
        ("v6.1", "drivers/base/memory.c:memory_block_offline"),
        ("v7.3", "drivers/base/memory.c:memory_block_offline"),
    ],
)
def test_a_block_of_two_zones_is_refused_where_the_kernel_looks(profile, where):
    machine = Machine.boot("x86_64", ram="4G", profile=profile)
    with pytest.raises(KernelError) as refused:
        machine.run("offline 0")
    assert (refused.value.errno, refused.value.where) == ("EINVAL", where)


@pytest.mark.parametrize("memory", ["5G", "5248M"])
def test_a_guest_of_256m_without_huge_pages_takes_five_gigabytes(memory):
    """Recorded on 7.3.4: below 512M no khugepaged raises the watermarks (mm/huge_memory.c:hugepage_init)."""
    machine = Machine.boot("x86_64", ram="256M", profile="v7.3")
    machine.run(f"add {memory}")
    with pytest.raises(KernelError, match="the memmap of 6G needs 96M"):
        Machine.boot("x86_64", ram="256M", profile="v7.3").run("add 6G")


def test_watermarks_below_512m_are_those_without_huge_pages():
    low = Machine.boot("x86_64", ram="512M", profile="v7.3").run("zoneinfo")
    assert "        min      24\n" in low
    high = Machine.boot("x86_64", ram="1G", profile="v7.3").run("zoneinfo")
    assert "        min      24\n" not in high


def test_slots_of_one_gigabyte_until_the_memmap_has_no_room():
    """neon, autoscaling 117: 1G at boot and slots of 1G, all online_movable: their memmap is of kernel zones."""
    machine = Machine.boot("x86_64", ram="1G", profile="v6.1", auto_online="online_movable")
    machine.run("repeat 39\n  add 1G\nend")
    with pytest.raises(KernelError) as refused:
        machine.run("repeat 20\n  add 1G\nend")
    assert refused.value.errno == "ENOMEM"
    assert machine.run("print zone.Movable.present").startswith("50G")
    assert machine.check() == []


@pytest.mark.parametrize(
    "arch, caller, there",
    [
        ("arm64", "hv_balloon", False),  # "Memory hot add disabled on ARM64"
        ("powerpc", "hv_balloon", False),
        ("s390", "xen", False),
        ("x86_64", "hv_balloon", True),
        ("arm64", "xen", True),
    ],
)
def test_a_balloon_adds_memory_where_its_hypervisor_does(arch, caller, there):
    machine = Machine.boot(arch, ram="2G")
    if there:
        assert "1G at" in machine.run(f"add 1G via={caller}")
    else:
        with pytest.raises(UsageError, match=f"via={caller} adds no memory on {arch}"):
            machine.run(f"add 1G via={caller}")


@pytest.mark.parametrize("typed, name", [("6.8", "v6.6"), ("6.12.107+deb13-amd64", "v6.12"), ("5.14", "v5.10")])
def test_a_version_is_played_by_the_newest_that_is_not_newer(typed, name):
    assert Machine.boot("x86_64", profile=typed).mm.profile.name == name
