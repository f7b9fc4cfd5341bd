"""Whatever is switched, in whatever order: the answer is an errno, a crash of the kernel, or nothing."""

import random

import pytest
from series_machines import MIB, Buddy, machine, run

from memshell.drivers.base.memory.state import valid_zones
from memshell.experiment.explore import broken, digest, first_address, operations
from memshell.mm.features import Features
from memshell.series.features import SeriesFeatures
from memshell.series.page_alloc import put_page
from memshell.series.processes import process_runs, use_memory
from memshell.views.pages import altmaps, page_text

OPTIONS = {
    "x86_64": ({}, {"block": "256M"}, {"struct_page": "56"}, {"struct_page": "80"}),
    "powerpc": ({"ram": "16G", "mmu": "hash"}, {"ram": "16G", "vmemmap": "64K"}, {"page": "4K", "ram": "4G"}),
    "s390": ({},),
    "arm64": ({"block": "1G"},),
}
SWITCHES = [
    name
    for name, known in SeriesFeatures.declared().items()
    if known.type is bool and name not in Features.declared() and name.startswith(("check.", "bug.", "config."))
]
CONTENT = (None, "zero", "poison", "random:3", "count:63", "byte:170")
PROFILES = ("rfc-2017", "rfc-2018", "rfc-2018", "rfc-v2-2019", "patch-v1-2019")


def random_machine(dice):
    switched = {name.replace(".", "__", 1): dice.random() < 0.5 for name in SWITCHES if dice.random() < 0.15}
    arch = dice.choice(sorted(OPTIONS))
    policy = dice.choice([None, None, Buddy()])
    return machine(arch, dice.choice(PROFILES), dice.choice(OPTIONS[arch]), policy, dice.choice(CONTENT), **switched)


def random_action(dice, target, base):
    mm = target.mm
    tried = list(operations(mm, base, 4))
    pick = dice.random()
    if pick < 0.7 and tried:
        return dice.choice(tried).act
    if pick < 0.8:
        return process_runs
    if pick < 0.9:
        size = dice.choice([4, 64, 400]) * MIB
        return lambda work: use_memory(work, size)
    pfn = base // mm.arch.page_size + dice.randrange(2000)
    return lambda work: put_page(work, pfn)


@pytest.mark.parametrize("seed", range(60))
def test_random_sequences(seed):
    dice = random.Random(seed)
    target = random_machine(dice)
    base = first_address(target.mm)
    for _ in range(12):
        if target.mm.crashed:
            break
        run(target, "random", random_action(dice, target, base))
        mm = target.mm
        assert digest(mm) == digest(mm.copy())
        if not mm.crashed:
            broken(mm)
        altmaps(mm)
        page_text(mm, base // mm.arch.page_size)
        assert all(valid_zones(mm, number) for number in mm.blocks)
