"""Devices of memory and their drivers: claims, the one shot of kmem, what is left for data.

Sources: drivers/dax/kmem.c, device.c, bus.c, drivers/nvdimm/pmem.c, pfn_devs.c; ndctl 294 has the reports.
"""

import pytest

from memshell import KernelError, Machine

BIG = {"ram": "120G", "block": "2G", "profile": "v6.18"}


def fails(machine, command):
    with pytest.raises(KernelError) as refused:
        machine.run(command)
    return refused.value


@pytest.mark.parametrize("mode", ["raw", "fsdax", "devdax", "kmem"])
@pytest.mark.parametrize("first", ["raw", "fsdax", "devdax", "kmem"])
def test_a_driver_claims_its_region_before_anything_else(first, mode):
    machine = Machine.boot("x86_64", **BIG)
    machine.run(f"probe 0x2080000000 2G mode={first}")
    if (first, mode) == ("devdax", "kmem"):  # as daxctl reconfigure-device does: the other driver is unbound first
        machine.run(f"probe 0x2080000000 2G mode={mode}")
        return
    assert fails(machine, f"probe 0x2080000000 2G mode={mode}").errno == "EBUSY"


@pytest.mark.parametrize("mode", ["raw", "fsdax", "devdax", "kmem"])
def test_over_system_ram_it_is_ebusy_too(mode):
    machine = Machine.boot("x86_64", ram="8G")
    machine.run("add 0x400000000 1G")
    assert fails(machine, f"probe 0x400000000 1G mode={mode}").errno == "EBUSY"
    assert machine.check() == []


def test_kmem_has_one_shot_to_remove_its_memory():
    machine = Machine.boot("x86_64", **BIG)
    machine.run("probe 0x2074200000 0xfbe00000 mode=kmem; online last movable")
    error = fails(machine, "probe 0x2080000000 --off")
    assert error.errno == "EBUSY"
    assert "until the next reboot" in error.message
    machine.run("offline last")
    assert fails(machine, "probe 0x2080000000 --off").errno == "ENODEV"  # the device is unbound already
    assert fails(machine, "probe 0x2074200000 0xfbe00000 mode=kmem").errno == "EBUSY"
    assert fails(machine, "probe 0x2080000000 2G mode=devdax").errno == "EBUSY"
    (device,) = machine.data("devices")
    assert (device["driver"], device["data"]) == ("-", 2 << 30)
    assert "until the next reboot" in device["state"]


def test_a_device_answers_to_its_own_address_and_to_any_inside():
    machine = Machine.boot("x86_64", ram="8G")
    assert "truncated by 128M" in machine.run("probe 0x403000000 512M mode=kmem")
    machine.run("probe 0x403000000 --off; probe 0x403000000 512M mode=kmem; probe 0x408000000 --off")
    assert [block for block in machine.blocks.values() if not block.early] == []
    assert fails(machine, "probe 0x400000000 --off").errno == "ENODEV"


def test_a_device_goes_from_devdax_to_ram_and_back():
    machine = Machine.boot("x86_64", ram="8G")
    free = machine.mem_free
    machine.run("probe 0x400000000 1G mode=devdax; probe 0x400000000 --off; probe 0x400000000 1G mode=kmem")
    machine.run("online offline movable")
    assert [row["name"] for row in machine.data("devices")] == ["dax0.0"]
    machine.run("offline 128-135; probe 0x400000000 --off; probe 0x400000000 1G mode=devdax; probe 0x400000000 --off")
    assert abs(machine.mem_free - free) <= 3 * 4096  # a page of section roots, tables of the device's memmap
    assert machine.check() == []


def test_what_is_left_for_data_is_said():
    machine = Machine.boot("x86_64", ram="8G")
    assert "data 1006M" in machine.run("probe 0x400000000 1G mode=fsdax map=dev")
    machine.run("probe 0x440000000 1G mode=devdax map=dev")
    assert [row["data"] for row in machine.data("devices")] == [1006 << 20, 1006 << 20]


def test_too_small_for_a_block_is_einval_and_leaves_nothing():
    machine = Machine.boot("x86_64", ram="8G")
    assert fails(machine, "probe 0x404000000 128M mode=kmem").errno == "EINVAL"
    assert machine.data("devices") == []
    assert machine.check() == []


def test_v4_20_has_one_device_in_a_section():
    machine = Machine.boot("x86_64", ram="2G", profile="rfc-2018")
    machine.run("probe 0x100000000 128M")
    machine.run("probe 0x100000000 --off; probe 0x100000000 64M")
    assert fails(machine, "probe 0x104000000 64M").errno == "ENOMEM"
    newer = Machine.boot("x86_64", ram="2G", profile="v5.15")
    newer.run("probe 0x100000000 64M; probe 0x104000000 64M")
