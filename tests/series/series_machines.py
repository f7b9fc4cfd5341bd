"""Machines and steps for the tests of the series of 2017 to 2019."""

from dataclasses import replace

from memshell_plugins.memmap_from_range import MemmapFromRange
from memshell_plugins.memmap_policies import Buddy
from memshell_plugins.powerpc import Powerpc
from memshell_plugins.s390 import S390
from memshell_plugins.x86_64 import X86

from memshell.drivers.base.memory.state import state_store
from memshell.errors import KernelCrash, KernelError
from memshell.machine import boot
from memshell.mm.memory_hotplug.add import add_memory
from memshell.mm.memory_hotplug.remove import remove_memory
from memshell.profiles import find_profile

GIB = 1 << 30
MIB = 1 << 20

# arm64 with 4K pages as the series saw it: sections of 1 GiB, 2 MiB leaves, the altmap branch that it adds to
# vmemmap_populate().
ARM64 = replace(X86(), name="arm64", section_size_bits=30, vmemmap_base=0xFFFF7E0000000000)
ARCHES = {"x86_64": X86(), "powerpc": Powerpc(), "s390": S390(), "arm64": ARM64}


def machine(arch="x86_64", profile="rfc-2018", options=None, policy=None, content=None, **features):
    """Boot a machine; ``bug__stale_marks=False`` switches the feature ``bug.stale_marks``."""
    kernel = find_profile(profile)
    for name, value in features.items():
        kernel = kernel.with_feature(name.replace("__", ".", 1), value)
    booted = boot(ARCHES[arch], options or {}, kernel, policy or MemmapFromRange())
    if content is not None:
        booted.mm.params = booted.mm.params.with_text("memmap_content", content)
    return booted


def unpatched(**options):
    return machine(policy=Buddy(), **options)


def run(target, command, action):
    """Run one action as a step; return the error that the kernel gave, or None."""
    try:
        with target.transaction(command) as mm:
            action(mm)
    except (KernelError, KernelCrash) as error:
        return error
    return None


def add(target, size, start=4 * GIB):
    return run(target, "add", lambda mm: add_memory(mm, 0, start, size))


def remove(target, size, start=4 * GIB):
    return run(target, "remove", lambda mm: remove_memory(mm, start, size))


def states(target, value, blocks=None, *, size=None, start=4 * GIB):
    """Write *value* to the state of blocks, in order; return the first error."""
    block = target.mm.block_size
    if blocks is None:
        blocks = range(start // block, (start + size) // block)
    for number in blocks:
        error = run(target, f"{value} {number}", lambda mm, number=number: state_store(mm, number, value))
        if error:
            return error
    return None


def cycle(target, size, start=4 * GIB):
    """Add, online all blocks as movable, offline them from the top, remove; return the first error."""
    block = target.mm.block_size
    blocks = range(start // block, (start + size) // block)
    return (
        add(target, size, start)
        or states(target, "online_movable", blocks)
        or states(target, "offline", reversed(blocks))
        or remove(target, size, start)
    )


def events(target, kind):
    return [event for step in target.steps for event in step.events if event.kind == kind]


def data(target, kind, *names):
    return [tuple(event.data[name] for name in names) for event in events(target, kind)]


def histogram(target):
    """Pages onlined by order, over the whole history."""
    total = {}
    for event in events(target, "PagesOnlined"):
        for order, count in event.data["orders"].items():
            total[order] = total.get(order, 0) + count
    return total
