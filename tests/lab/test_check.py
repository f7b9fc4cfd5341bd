"""The rules on recorded states: they hold on what kernels did, and each finds its own fault."""

import json
import lzma
from pathlib import Path

import pytest

from memshell.lab.check import RULES, check_recording

RECORDINGS = Path(__file__).parents[1] / "recordings"


def load(name):
    return json.loads(lzma.open(RECORDINGS / f"{name}.json.xz").read())


NAMES = ("x86_64-k612-Y-1G-movable", "x86_64-k61-N-numa", "x86_64-k612-Y-dax-kmem", "ppc64le-p612-64k-radix-N")


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_hold_on_real_kernels(name):
    assert check_recording(load(name)) == []


def zone(raw, label):
    return next(z for z in raw["steps"][-1]["state"]["zones"] if z["zone"] == label)


def spoil_present(raw):
    zone(raw, "Movable")["managed"] = zone(raw, "Movable")["present"] = 5
    zone(raw, "Movable")["free"] = 9


def spoil_free(raw):
    raw["steps"][-1]["buddy"][0]["chunks"] = [[(1 << 20) + 1, 3, 1]]
    raw["steps"][-1]["kpageflags_runs"] = [[1 << 20, 8, 1 << 10]]


def spoil_mapping(raw):
    leaf = [0xFFFF888000000000 + (9 << 40), 1, 2 << 20, 9 << 28]
    raw["steps"][-1]["page_tables"] = [
        {"range": [0, 1], "direct_map": {"leaves": [leaf]}, "vmemmap": {"leaves": [leaf]}}
    ]


def spoil_iomem(raw):
    raw["steps"][-1]["state"]["memory_blocks"]["4000"] = {
        "state": "offline",
        "valid_zones": "Normal",
        "phys_index": 4000,
    }


@pytest.mark.parametrize(
    "spoil, rules",
    [
        (spoil_present, {"zone_sums", "memtotal"}),
        (spoil_free, {"free_lists"}),
        (spoil_mapping, {"mappings"}),
        (spoil_iomem, {"blocks_in_ram"}),
        (lambda raw: raw["steps"][-1]["state"]["vmstat"].update(nr_memmap_pages=7), {"nr_memmap_pages"}),
    ],
)
def test_a_rule_finds_its_fault(spoil, rules):
    raw = load("x86_64-k612-Y-1G-movable")
    spoil(raw)
    found = {complaint.rule for complaint in check_recording(raw)}
    assert rules <= found <= set(RULES)
