"""Whatever is done to a machine, in whatever order, and whatever fails: every invariant holds."""

import functools

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memshell_plugins.memmap_policies import Buddy, MemmapOnMemory, MemmapOnMemoryForce
from memshell_plugins.x86_64 import X86

from memshell.commands.experiment import FAULTS
from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_add
from memshell.drivers.acpi.scan import acpi_scan_hot_remove
from memshell.drivers.base.memory.probe import probe_store
from memshell.drivers.base.memory.state import ONLINE_TYPES, state_store
from memshell.errors import KernelCrash, KernelError
from memshell.machine import Machine, boot
from memshell.mm.invariants import violations
from memshell.mm.memory_hotplug.remove import offline_and_remove_memory, remove_memory
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk
from memshell.mm.params import Params
from memshell.mm.programs import allocations, free_bulk, set_pinned
from memshell.profiles import PROFILES

RELEASES = [name for name in PROFILES if name.startswith("v")]
POLICIES = {policy.name: policy for policy in (Buddy(), MemmapOnMemory(), MemmapOnMemoryForce())}
FIRST, COUNT = 32, 12  # the blocks behind 4 GiB that the machine plays with
BLOCK = 128 << 20
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)  # explaining costs minutes here
BLOCKS = st.integers(FIRST, FIRST + COUNT - 1)


@functools.cache
def booted(profile, ram):
    return boot(X86(), {"ram": ram, "nodes": "2"}, PROFILES[profile], POLICIES["buddy"]).mm


class Hotplug(RuleBasedStateMachine):
    """A random user. An errno is an outcome; anything else that is raised is a defect."""

    @initialize(
        profile=st.sampled_from(RELEASES),
        policy=st.sampled_from(sorted(POLICIES)),
        ram=st.sampled_from(["256M", "512M"]),
        auto=st.sampled_from(["offline", "offline", "online", "online_movable"]),
        online_policy=st.sampled_from(["contig-zones", "auto-movable"]),
    )
    def start(self, profile, policy, ram, auto, online_policy):
        mm = booted(profile, ram).copy()
        mm.policy = POLICIES[policy]
        mm.params = Params(auto_online_blocks=auto, online_policy=online_policy)
        self.machine = Machine(mm)

    def do(self, name, action):
        try:
            with self.machine.transaction(name) as mm:
                action(mm)
        except KernelError:
            pass
        except KernelCrash:
            self.machine.undo()  # the worker hangs for good: the user takes another way

    @rule(policy=st.sampled_from(sorted(POLICIES)))
    def policy(self, policy):
        self.do("policy", lambda mm: setattr(mm, "policy", POLICIES[policy]))

    @rule(block=BLOCKS, count=st.integers(1, 5), nid=st.integers(0, 1))
    def add_dimm(self, block, count, nid):
        self.do("add", lambda mm: acpi_memory_device_add(mm, nid, block * BLOCK, count * BLOCK))

    @rule(block=BLOCKS, nid=st.integers(0, 1))
    def probe(self, block, nid):
        self.do("probe", lambda mm: probe_store(mm, nid, block * BLOCK))

    @rule(block=BLOCKS, kind=st.sampled_from(ONLINE_TYPES), count=st.integers(1, 4))
    def online(self, block, kind, count):
        for number in range(block, block + count):
            self.do("online", lambda mm, number=number: state_store(mm, number, kind))

    @rule(block=st.one_of(BLOCKS, st.integers(0, 3)))
    def offline(self, block):
        self.do("offline", lambda mm: state_store(mm, block, "offline"))

    @rule(block=BLOCKS, count=st.integers(1, 5))
    def remove(self, block, count):
        self.do("remove", lambda mm: remove_memory(mm, block * BLOCK, count * BLOCK))

    @rule(block=BLOCKS, count=st.integers(1, 3))
    def offline_and_remove(self, block, count):
        self.do("offline_and_remove", lambda mm: offline_and_remove_memory(mm, block * BLOCK, count * BLOCK))

    @rule(data=st.data())
    def eject(self, data):
        groups = sorted(self.machine.mm.groups)
        if not groups:
            return
        group = data.draw(st.sampled_from(groups))
        members = [number for number, block in self.machine.mm.blocks.items() if block.group == group]
        if members:
            start, end = min(members) * BLOCK, (max(members) + 1) * BLOCK
            self.do("eject", lambda mm: acpi_scan_hot_remove(mm, start, end - start))

    @rule(
        pages=st.integers(1, 60000), order=st.integers(0, 10), nid=st.integers(0, 1),
        owner=st.sampled_from([Owner.USER, Owner.KERNEL, Owner.PINNED]),
    )  # fmt: skip
    def alloc(self, pages, order, nid, owner):
        tag = len(self.machine.steps)
        count = max(pages >> order, 1)
        movable = owner is not Owner.KERNEL
        self.do("alloc", lambda mm: alloc_bulk(mm, count, order, owner, nid=nid, movable=movable, tag=tag))

    @rule(data=st.data(), action=st.sampled_from(["free", "pin", "unpin"]))
    def change_allocation(self, data, action):
        known = list(allocations(self.machine.mm))
        if not known:
            return
        tag = data.draw(st.sampled_from(known))
        if action == "free":
            self.do("free", lambda mm: free_bulk(mm, tag))
        else:
            self.do(action, lambda mm: set_pinned(mm, tag, pinned=action == "pin"))

    @rule(
        name=st.sampled_from(sorted(FAULTS)),
        at=st.integers(1, 3),
    )  # fmt: skip
    def fault(self, name, at):
        self.do("fault", lambda mm: mm.faults.update({name: at}))

    @precondition(lambda self: len(self.machine.steps) > 1)
    @rule(data=st.data())
    def undo_and_redo(self, data):
        count = data.draw(st.integers(1, min(3, len(self.machine.steps) - 1)))
        after = self.machine.mm
        self.machine.undo(count)
        assert violations(self.machine.mm) == []
        if data.draw(st.booleans()):
            self.machine.redo(count)
            assert self.machine.mm is after

    @invariant()
    def holds_together(self):
        if hasattr(self, "machine"):
            mm = self.machine.mm
            assert violations(mm) == []
            tables = sum(table.owner == "buddy" for table in mm.tables.values())
            pages = sum(b - a for a, b, page in mm.pages.items() if page.owner is Owner.PAGETABLE)
            assert pages == tables, "a page-table page is lost"


Hotplug.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck)
)
TestHotplug = pytest.mark.slow(Hotplug.TestCase)
