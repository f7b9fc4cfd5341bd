"""virtio-mem as a device: its blocks, its modes, what stays plugged, and what a reboot makes of it.

Sources: drivers/virtio/virtio_mem.c of v5.10, v5.15 and v6.19; neon uses device blocks of 8M, cloud-hypervisor 1593 reboots.
"""

import pytest

from memshell import KernelError, Machine, UsageError

MiB = 1 << 20


def plugged(machine):
    return sum(end - start for start, end, _ in machine.mm.plugged.items()) * machine.mm.arch.page_size // MiB


def own(machine, state=None):
    return [n for n, block in machine.blocks.items() if not block.early and state in (None, block.state)]


def refused(machine, command, errno):
    with pytest.raises(KernelError) as error:
        machine.run(command)
    assert error.value.errno == errno
    return error.value


@pytest.fixture
def guest():
    return Machine.boot("x86_64", ram="2G", auto_online="online_movable")


@pytest.mark.parametrize(
    ("profile", "block_size", "unit"),
    [
        ("v5.10", "2M", 4),  # the largest order, as blocks of MAX_ORDER - 1
        ("v5.15", "1M", 4),
        ("v6.1", "1M", 2),  # a pageblock
        ("v6.12", "2M", 2),
        ("v6.12", "8M", 8),
        ("v6.12", "64M", 64),
        ("v6.12", "128M", 128),  # big blocks from here on
        ("v6.12", "256M", 256),
    ],
)
def test_the_unit_follows_the_device_and_the_kernel(profile, block_size, unit):
    machine = Machine.boot("x86_64", ram="2G", profile=profile, auto_online="online_movable")
    machine.run(f"virtio-mem {3 * unit}M block_size={block_size}")
    assert machine.mm.virtio_mem.unit * 4096 == unit * MiB
    assert machine.mm.virtio_mem.big == (unit >= 128)
    assert plugged(machine) == 3 * unit
    machine.run(f"virtio-mem {unit}M")
    assert plugged(machine) == unit
    assert machine.check() == []


def test_before_v5_11_large_device_blocks_are_refused():
    machine = Machine.boot("x86_64", ram="2G", profile="v5.10")
    assert "larger than memory blocks" in refused(machine, "virtio-mem 256M block_size=256M", "EINVAL").message


def test_a_request_below_a_subblock_is_left_over():
    machine = Machine.boot("x86_64", ram="2G", profile="v5.15")
    assert "plugs whole 4M" in machine.run("virtio-mem 6M")
    assert plugged(machine) == 4


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("powerpc", {}),
        ("s390", {"profile": "v6.12"}),
        ("arm64", {"profile": "v5.15"}),
        ("x86_64", {"profile": "rfc-2018"}),
    ],
)
def test_a_kernel_without_the_driver_refuses(arch, options):
    with pytest.raises(UsageError, match="has no virtio-mem driver"):
        Machine.boot(arch, **options).run("virtio-mem 1G")


@pytest.mark.parametrize(
    ("arch", "options", "big"),
    [
        ("s390", {"profile": "v7.2"}, False),
        ("arm64", {"page": "4K"}, False),
        ("arm64", {"page": "64K"}, True),  # a pageblock is a memory block
        ("x86_64", {"block": "2G"}, False),
    ],
)
def test_where_there_is_one_it_works(arch, options, big):
    machine = Machine.boot(arch, auto_online="online_movable", **options)
    machine.run("virtio-mem 1G")
    assert (plugged(machine), machine.mm.virtio_mem.big) == (1024, big)
    machine.run("virtio-mem 0")
    assert (plugged(machine), own(machine)) == (0, [])
    assert machine.check() == []


def test_no_more_than_a_gigabyte_waits_to_be_onlined():
    machine = Machine.boot("x86_64", ram="2G")
    assert "no more than 1G that is not online" in machine.run("virtio-mem 3G")
    assert plugged(machine) == 1024
    machine.run("online 32-34 movable")
    assert plugged(machine) == 1024, "half of it must be online first"
    machine.run("online 35 movable")
    assert (plugged(machine), len(own(machine, "offline"))) == (1536, 8)
    machine.run("online offline movable; online offline movable; online offline movable")
    assert plugged(machine) == 3072


def test_an_add_that_fails_leaves_what_was_added_before():
    machine = Machine.boot("x86_64", ram="256M", auto_online="online_movable")
    refused(machine, "virtio-mem 20G region=32G", "ENOMEM")
    assert 0 < plugged(machine) == 128 * len(own(machine))
    assert machine.mm.virtio_mem.requested == 20 << 30
    assert machine.check() == []


def test_the_zone_says_what_goes_first():
    machine = Machine.boot("x86_64", ram="4G", profile="v6.12")
    machine.run("virtio-mem 512M; online 48-49 movable; online 50-51 kernel; virtio-mem 384M")
    assert own(machine) == [48, 50, 51], "the highest movable one went"
    machine.run("virtio-mem 126M")
    assert own(machine) == [50], "both movable ones went before a kernel zone's"
    machine.run("online offline; virtio-mem 128M")
    assert own(machine) == [50], "what was plugged in part is filled first"


def test_a_big_block_goes_as_a_whole_or_stays(guest):
    guest.run("virtio-mem 1G block_size=512M; alloc 2500M pinned")
    before = {n: block.zone for n, block in guest.blocks.items()}
    error = refused(guest, "virtio-mem 0", "EBUSY")
    assert plugged(guest) in (512, 1024)
    assert f"{plugged(guest)}M" in error.message or "1G" in error.message
    assert {n: block.zone for n, block in guest.blocks.items()} == {n: before[n] for n in guest.blocks}
    assert guest.check() == []


def test_a_block_whose_removal_failed_is_tried_again(guest):
    guest.run("virtio-mem 256M; fault MEM_GOING_OFFLINE; virtio-mem 128M")
    assert (plugged(guest), len(own(guest))) == (128, 2)
    guest.run("virtio-mem 128M")
    assert len(own(guest)) == 1
    old = Machine.boot("x86_64", ram="2G", profile="v6.1", auto_online="online_movable")
    old.run("virtio-mem 256M; fault MEM_GOING_OFFLINE; virtio-mem 128M; virtio-mem 128M")
    assert len(own(old)) == 2, "before v6.6 it waits for the next unplug request"
    old.run("virtio-mem 64M")
    assert len(own(old)) == 1


def test_a_reboot_unplugs_all_and_plugs_what_is_requested(guest):
    guest.run("virtio-mem 1G; virtio-mem 900M; add 256M; set auto_online_blocks=offline; reboot")
    assert plugged(guest) == 900
    assert guest.mm.params.auto_online_blocks == "online_movable"
    assert len(own(guest)) == 10
    assert guest.check() == []


def test_a_reboot_forgets_what_nobody_plugs_again(guest):
    guest.run("add 128M via=module; probe 0x200000000 1G mode=kmem")
    assert guest.run("reboot") == "rebooted: nothing is plugged\n"
    assert [(row["mode"], row["driver"]) for row in guest.data("devices")] == [("kmem", "-")]


@pytest.mark.parametrize("words", ["probe 0x200000000 1G mode=devdax", "add 1G via=hv_balloon"])
def test_a_reboot_that_is_not_modelled_is_refused(guest, words):
    guest.run(words)
    with pytest.raises(UsageError, match="not followed through a reboot"):
        guest.run("reboot")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("virtio-mem 1G block_size=3M", "block_size=3M cannot be; a power of two from 1M"),
        ("virtio-mem 1G at=0x100100000", "is not whole device blocks"),
        ("virtio-mem 1G region=0", "is not whole device blocks"),
        ("virtio-mem 2M; virtio-mem 4M block_size=4M", "only its size can change"),
    ],
)
def test_a_device_that_cannot_be_is_one_line(guest, words, text):
    with pytest.raises(UsageError, match=text):
        guest.run(words)


def test_a_part_of_a_block_that_goes_offline_comes_back_as_it_was():
    """Until v6.10 the notifier corrects managed, also when the offline is given up."""
    for profile in ("v6.1", "v6.12"):
        machine = Machine.boot("x86_64", ram="2G", profile=profile, auto_online="online_movable")
        machine.run("virtio-mem 200M; hold pinned=0x108000")
        managed = machine.zones[0, "Movable"].managed
        refused(machine, "offline 33", "EINTR")
        assert machine.zones[0, "Movable"].managed == managed
        assert machine.check() == []
