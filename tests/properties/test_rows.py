"""What is done to a row of equal blocks or sections at once is what one after the other does."""

import functools
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memshell_plugins.arm64 import Arm64
from memshell_plugins.memmap_policies import Buddy, MemmapOnMemory
from memshell_plugins.powerpc import Powerpc
from memshell_plugins.s390 import S390
from memshell_plugins.x86_64 import X86

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_add
from memshell.drivers.base.memory.rows import state_store_row
from memshell.drivers.base.memory.state import ONLINE_TYPES
from memshell.errors import KernelCrash, KernelError
from memshell.machine import boot
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.mm.memremap import memremap_pages, memunmap_pages
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk
from memshell.mm.params import Params
from memshell.mm.state import Mm
from memshell.profiles import PROFILES

RELEASES = [name for name in PROFILES if name.startswith("v")]
POLICIES = {"buddy": Buddy(), "memmap_on_memory": MemmapOnMemory()}
COUNT = 12
# Where sections need new roots and tables: at 32G the next root, at 64G the next table of the vmemmap.
PLACES = {"128M": (32, 250, 506), "512M": (8, 60, 124)}


@functools.cache
def booted(profile="v6.12", policy="buddy", block="128M", online_policy="contig-zones", movable_node=False):
    params = Params(online_policy=online_policy, movable_node=movable_node)
    options = {"ram": "1G", "nodes": "2", "block": block}
    return boot(X86(), options, PROFILES[profile], POLICIES[policy], params=params).mm


DEVICE = (1 << 40) - (6 << 27)  # a table of the vmemmap ends inside of what is mapped from here on
WHERE = st.one_of(st.just(0), st.integers(0, COUNT))
LENGTH = st.one_of(st.integers(1, COUNT), st.just(COUNT))
RUN = st.builds(lambda a, n: range(a, a + n), WHERE, LENGTH)
SCATTERED = st.lists(st.integers(0, COUNT), max_size=COUNT, unique=True)
WRITES = st.tuples(st.just("write"), st.one_of(RUN, RUN, SCATTERED), st.sampled_from((*ONLINE_TYPES, "offline")))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), WHERE, LENGTH),
        WRITES,
        WRITES,
        st.tuples(st.just("write boot"), st.integers(0, 5), LENGTH),
        st.tuples(st.just("alloc"), st.integers(1, 250000), st.sampled_from([Owner.USER, Owner.KERNEL])),
        st.tuples(st.just("remove"), WHERE, LENGTH),
        st.tuples(st.just("bind"), st.sampled_from([0, 2, 9, 18]), LENGTH),
        st.tuples(st.just("unbind"), st.none(), st.none()),
    ),
    min_size=2,
    max_size=12,
)


def write(mm, numbers, value):
    """Write to each block in turn, going on after an error; return the errors."""
    at, errors = 0, []
    while at < len(numbers):
        try:
            at += state_store_row(mm, numbers, at, value)
        except KernelError as error:
            errors.append((numbers[at], str(error)))
            at += 1
    return errors


def do(mm, step, base):
    """Take one step; return what was refused."""
    what, first, second = step
    if what == "write":
        return write(mm, [base + number for number in first], second)
    if what == "write boot":
        return write(mm, range(first, first + second), "offline")
    try:
        if what == "add":
            acpi_memory_device_add(mm, 0, (base + first) * mm.block_size, second * mm.block_size)
        elif what == "bind":
            memremap_pages(mm, 0, DEVICE, second * (64 << 20), vmemmap_shift=first)
        elif what == "unbind":
            memunmap_pages(mm, DEVICE)
        elif what == "remove":
            remove_memory(mm, (base + first) * mm.block_size, second * mm.block_size)
        else:
            alloc_bulk(mm, first, 0, second, movable=second is Owner.USER)
    except KernelError as error:
        return str(error)
    except KernelCrash as crash:
        mm.crashed = str(crash)
    return None


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    profile=st.sampled_from(RELEASES),
    policy=st.sampled_from(sorted(POLICIES)),
    place=st.sampled_from([(block, base) for block, bases in PLACES.items() for base in bases]),
    online_policy=st.sampled_from(["contig-zones", "contig-zones", "auto-movable"]),
    movable_node=st.booleans(),
)
@example([("remove", 0, 3)], "v6.18", "buddy", ("128M", 32), "contig-zones", False)  # of each leaf one page goes back
@example([("bind", 0, 1), ("unbind", None, None)], "v6.18", "buddy", ("128M", 32), "contig-zones", False)
@pytest.mark.slow
def test_a_row_at_once_is_one_after_the_other(steps, profile, policy, place, online_policy, movable_node):
    start = booted(profile, policy, place[0], online_policy, movable_node)
    rows, single = start.copy(), start.copy()
    for step in [("add", 0, COUNT), *steps]:
        if rows.crashed:
            break
        refused = do(rows, step, place[1])
        with mock.patch.object(Mm, "in_rows", False):
            assert do(single, step, place[1]) == refused
        assert rows == single  # every field, the events too


MACHINES = {
    "s390 in pages": (S390(), {"ram": "768M", "edat": "off"}),
    "s390 in segments": (S390(), {"ram": "768M", "edat": "1"}),
    "arm64 in pages": (Arm64(), {"ram": "512M"}),
    "arm64 in blocks": (Arm64(), {"ram": "512M", "direct_map": "blocks"}),
    "arm64 of 64K": (Arm64(), {"ram": "1G", "page": "64K"}),
    "powerpc radix": (Powerpc(), {"ram": "1G"}),
    "powerpc radix of 4K": (Powerpc(), {"ram": "1G", "page": "4K"}),
    "powerpc hash": (Powerpc(), {"ram": "1G", "mmu": "hash"}),
}
BORDER = 256 << 30  # of tables, inside of what is added


@functools.cache
def booted_machine(name, profile, policy):
    arch, options = MACHINES[name]
    return boot(arch, options, PROFILES[profile], POLICIES[policy]).mm


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    name=st.sampled_from(sorted(MACHINES)),
    profile=st.sampled_from(["v6.1", "v6.12", "v7.1"]),
    policy=st.sampled_from(sorted(POLICIES)),
)
@pytest.mark.slow
def test_a_row_on_another_architecture_is_one_after_the_other(steps, name, profile, policy):
    start = booted_machine(name, profile, policy)
    rows, single = start.copy(), start.copy()
    base = BORDER // start.block_size - 2
    for step in [("add", 0, COUNT), *steps]:
        if rows.crashed:
            break
        refused = do(rows, step, base)
        with mock.patch.object(Mm, "in_rows", False):
            assert do(single, step, base) == refused
        assert rows == single


@pytest.mark.slow
@pytest.mark.parametrize("edat", ["off", "1"])
@pytest.mark.parametrize("policy", POLICIES.values())
def test_a_boot_that_runs_out_of_memory_in_rows_is_one_page_after_the_other(edat, policy):
    options = {"ram": "512M", "standby": "24G", "edat": edat}
    mm = boot(S390(), options, PROFILES["v6.12"], policy).mm
    with mock.patch.object(Mm, "in_rows", False):
        assert mm == boot(S390(), options, PROFILES["v6.12"], policy).mm


def plugged(online_type):
    """A machine with a DIMM whose blocks are online, and their numbers."""
    mm, numbers = booted().copy(), list(range(32, 32 + COUNT))
    acpi_memory_device_add(mm, 0, 32 * mm.block_size, COUNT * mm.block_size)
    assert state_store_row(mm, numbers, 0, online_type) == COUNT
    return mm, numbers


@pytest.mark.parametrize("value", ONLINE_TYPES)
def test_a_row_is_one_write(value):
    mm, numbers = plugged(value)
    assert state_store_row(mm, numbers, 0, "offline") == COUNT


def test_a_page_in_use_makes_its_block_go_alone():
    mm, numbers = plugged("online_kernel")
    alloc_bulk(mm, 1, 0, Owner.KERNEL)
    with pytest.raises(KernelError, match="unmovable"):
        state_store_row(mm, numbers, 0, "offline")
    assert state_store_row(mm, numbers, 1, "offline") == COUNT - 1
