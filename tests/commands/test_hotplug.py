"""add, online, offline, remove, eject: what they say, what they refuse, and what a failure leaves."""

import pytest

from memshell.mm.invariants import violations


def test_add_puts_a_dimm_where_qemu_does(prompt):
    """Recordings x86_64-k612-*-128M-*: the first DIMM of a 2G guest is at 4G; others fill the lowest gap."""
    prompt("add 1G; add 256M; add 128M; remove 40-41; add 128M")
    starts = [r.start for r in prompt.mm.resources if r.start >= 4 << 30 and r.name == "System RAM"]
    assert starts == [0x100000000, 0x140000000, 0x150000000]


def test_add_goes_behind_boot_memory_above_4g(prompt):
    prompt("use x86_64 ram=3200M; add 128M")
    assert max(prompt.mm.blocks) * prompt.mm.block_size == 0x180000000  # 4G + 1152M, aligned to 1G


@pytest.mark.parametrize(
    "command, errno",
    [
        ("add 100M", "EINVAL"),
        ("add 0x100001000 128M", "EINVAL"),
        ("add 0 128M", "EEXIST"),
        ("add 64T 128M", "E2BIG"),
        ("add 1G node=9", "EINVAL"),
        ("add 0x100001000 128M via=probe", "EINVAL"),
        ("probe 0 1G", "EBUSY"),
        ("probe 0x100000000 100M mode=kmem", "EINVAL"),
        ("probe 0x100000000 1G mode=kmem node=9", "EINVAL"),
        ("virtio-mem 1M", "EINVAL"),
        ("virtio-mem 5G", "EINVAL"),
        ("virtio-mem 1G at=0", "EBUSY"),
        ("probe 0x70000000 4G mode=devdax", "EBUSY"),
        ("probe 0x100000000 1G mode=fsdax map=dev align=1G", "ENXIO"),
        ("online memory0", "EINVAL"),
        ("offline memory0", "EINVAL"),
        ("remove memory3", "EBUSY"),
        ("remove 4G 64M", "EINVAL"),
    ],
)
def test_the_kernel_refuses_with_errno_function_and_state_as_it_was(prompt, command, errno):
    before = prompt.mm
    message = prompt.fails(command)
    assert f"({errno} from " in message
    assert ".c" in message.partition(" from ")[2]
    assert "\n" not in message
    changed = {change.path for change in prompt.machine.diff(0, 1)}
    assert changed <= {"counter.next_group", "memory.0.online_type"}  # the kernel keeps these
    assert len(prompt.mm.blocks) == len(before.blocks)


@pytest.mark.parametrize(
    "command, hint",
    [
        ("add 1G via=acpy", "did you mean acpi?"),
        ("add 1.5X", "write it as 128M, 1.5G"),
        ("add 0.3k", "no whole number of bytes"),
        ("add 100M via=probe", "multiples of 128M"),
        ("add", "usage: add [ADDR] SIZE"),
        ("online 99", "the nearest is memory15"),
        ("online all movabel", "did you mean movable?"),
        ("online all bar", "write memory47"),
        ("online 99-99999999999999999999", "the nearest is memory15"),
        ("online movable", "online all movable"),
        ("eject 3", "on no DIMM"),
        ("probe 0x100000000 1", "a page has 4096 bytes"),
        ("add ２G", "is not a size"),  # a digit of another alphabet
        ("fault MEM_GOING_ONLINE at=0", "a whole number from 1 on"),
        ("free 7", "there is no allocation '7'; nothing is allocated"),
    ],
)
def test_what_is_typed_wrong_is_told_with_the_way_out(prompt, command, hint):
    assert hint in prompt.fails(command)
    assert len(prompt.machine.steps) == 1


def test_the_classic_a_small_guest_cannot_pay_for_12g(prompt):
    """kata-containers issue 4847: 64 bytes for each of 3,145,728 pages are 192M."""
    message = prompt.fails("use x86_64 ram=256M; add 12G")
    assert message.startswith("the memmap of 12G needs 192M, ")
    assert "ENOMEM" in message
    assert "policy memmap_on_memory" in message
    assert violations(prompt.mm) == []
    prompt("undo; policy memmap_on_memory; add 12G; online all movable")
    assert prompt.mm.zones[0, 3].managed == (12 << 30 >> 12) - 96 * 512


def test_a_row_of_blocks_goes_on_after_a_failure_and_tells_the_first(prompt):
    prompt("add 512M; online 32-35; alloc 4M unmovable at=4224M")
    message = prompt.fails("offline 32-35")
    assert message.startswith("memory33: pfn ")
    assert "3 of 4 blocks are offline" in message
    assert [block.state for number, block in prompt.mm.blocks.items() if number >= 32] == [
        "offline", "online", "offline", "offline",
    ]  # fmt: skip


def test_blocks_that_are_there_already_are_left_alone(prompt):
    assert prompt("online all") == "nothing to do: these blocks are online already\n"
    prompt("add 256M; online 32")
    assert prompt("online 32-33 kernel") == "memory33 online in Normal: 128M\n"


def test_a_dimm_goes_whole_and_in_parts(prompt):
    prompt("add 512M; remove 33")
    assert [number for number in prompt.mm.blocks if number >= 32] == [32, 34, 35]
    prompt("remove 32,34".replace(",", " "))
    prompt("eject 35")
    assert max(prompt.mm.blocks) == 15
    assert not prompt.mm.groups
    assert violations(prompt.mm) == []


def test_a_rejected_eject_brings_blocks_back_in_another_zone(prompt):
    """Recordings x86_64-k6*-N-eject-online-movable: EBUSY, and blocks come back with the default type."""
    prompt("add 256M; online 32 kernel; online 33 movable; alloc 4M unmovable at=4G")
    assert "EBUSY" in prompt.fails("eject 32")
    assert {prompt.mm.blocks[n].state for n in (32, 33)} == {"online"}
    assert prompt.mm.blocks[33].zone.label == "Normal"


def test_thousands_of_blocks_are_told_in_a_line(prompt):
    prompt("use x86_64 ram=64G block=128M policy=memmap_on_memory")
    lines = prompt("add 64G; online all movable").splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100


def test_two_devices_do_not_share_memory(prompt):
    """Source: drivers/nvdimm/pmem.c:pmem_attach_disk, the driver claims the region before it maps it."""
    prompt("probe 0x100000000 1G")
    assert "(EBUSY from " in prompt.fails("probe 0x120000000 1G")
    assert "(EEXIST from " in prompt.fails("add 0x100000000 1G")


def test_virtio_mem_follows_its_requested_size(prompt):
    """Recording x86_64-k612-N-virtio-mem: a 4G region; what is plugged is online, the rest of a block is PageOffline."""
    prompt("use x86_64 ram=2G profile=v6.12 auto_online=online_movable")
    for size, blocks in (("256M", 2), ("260M", 3), ("1G", 8), ("512M", 4), ("64M", 1), ("0", 0)):
        assert f"plugged {size} of {size}" in prompt(f"virtio-mem {size}")
        assert sum(number >= 32 for number in prompt.mm.blocks) == blocks
        assert not list(violations(prompt.mm))


def test_a_second_request_cannot_move_the_device(prompt):
    prompt("set auto_online_blocks=online_movable; virtio-mem 256M region=8G")
    assert "only its size can change" in prompt.fails("virtio-mem 512M region=16G")
    assert "plugged 6G of 6G" in prompt("virtio-mem 6G")


def test_virtio_mem_in_use_stays_plugged(prompt):
    prompt("virtio-mem 1G; online all kernel; alloc 2G pinned")
    assert "(EBUSY from " in prompt.fails("virtio-mem 0")


def test_kmem_takes_whole_blocks_and_goes_only_when_they_are_offline(prompt):
    """Source: drivers/dax/kmem.c:dev_dax_kmem_probe, dev_dax_kmem_remove."""
    prompt("probe 0x100100000 1G mode=kmem; online 33-39 movable")
    assert sorted(number for number in prompt.mm.blocks if number >= 32) == list(range(33, 40))
    assert "(EBUSY from " in prompt.fails("probe 0x108000000 --off")
    prompt("undo; offline 33-39; probe 0x108000000 --off")
    assert not any(number >= 32 for number in prompt.mm.blocks)


def test_kmem_has_its_memmap_on_the_device_where_the_kernel_can(prompt):
    """The attribute memmap_on_memory came with v6.8; recordings x86_64-k612-Y-dax-kmem and x86_64-k61-Y-dax-kmem."""
    for profile, where in (("v6.12", "on the device"), ("v6.1", "in memory")):
        prompt(f"use x86_64 ram=2G profile={profile} policy=memmap_on_memory")
        assert f"memmap {where}" in prompt("probe 0x100000000 1G mode=kmem map=dev")
