"""What a policy is told about the machine is true, and what it answers is done."""

from dataclasses import replace

import pytest
from memshell_plugins.x86_64 import X86

from memshell.drivers.acpi.acpi_memhotplug import acpi_memory_device_add
from memshell.machine import Machine, boot
from memshell.mm.memory_hotplug.memmap_on_memory import memmap_request
from memshell.mm.page import Owner
from memshell.mm.pfn import GiB
from memshell.policy import Placement
from memshell.profiles import PROFILES


class Asked:
    name, summary, parameter = "asked", "keeps what it was asked", "asked"

    def __init__(self, answer=None):
        self.answer = answer or Placement()
        self.requests = []

    def place_memmap(self, request):
        self.requests.append((request, request.memmap_on))
        return self.answer


def guest(policy, **options):
    return boot(X86(), {"ram": "4G", "nodes": "2", **options}, PROFILES["v6.12"], policy)


def add(machine: Machine, nid, start, size):
    with machine.transaction("add") as mm:
        acpi_memory_device_add(mm, nid, start, size)


def test_a_policy_is_told_who_has_what():
    policy = Asked()
    machine = guest(policy, nodes="3")
    add(machine, 1, 8 * GiB, GiB)
    add(machine, 2, 16 * GiB, 2 * GiB)
    (first, on_first), (second, on_second) = policy.requests
    assert (first.nid, first.start, first.size, first.offered) == (1, 8 * GiB, GiB, True)
    assert first.cpu_nodes == (0, 1, 2)
    assert dict(on_first) == {0: 0, 1: 0, 2: 0}
    assert dict(on_second) == {0: 4096, 1: 0, 2: 0}, "1G needs 16M, and only node 0 has memory online"
    zones = machine.mm.zones.values()
    assert sum(dict(second.free_pages).values()) > sum(zone.free for zone in zones), "asked before the pages went"


@pytest.mark.parametrize("nodes", [(0,), (1, 0), (1,)])
def test_the_memmap_comes_from_the_nodes_of_the_answer(nodes):
    policy = Asked(Placement(nodes=nodes))
    machine = guest(policy)
    with machine.transaction("fill node 1") as mm:
        mm.policy = Asked()
        mm.params = replace(mm.params, auto_online_blocks="online_kernel")
        acpi_memory_device_add(mm, 1, 8 * GiB, GiB)
        before = dict(memmap_request(mm, 0, 0, GiB, offered=True).memmap_on)
        mm.policy = policy
    add(machine, 0, 16 * GiB, 2 * GiB)
    after = dict(memmap_request(machine.mm, 0, 0, GiB, offered=True).memmap_on)
    assert {nid: after[nid] - before[nid] for nid in after if after[nid] != before[nid]} == {nodes[0]: 8192}
    assert all(page.owner is not Owner.MEMMAP for _, _, page in machine.mm.pages.items(16 << 18))
