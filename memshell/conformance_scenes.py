"""Scenes that a machine is led through: memory in all places and sizes, removed in all orders, a machine that is short, faults.

They are played on a kernel without its known bugs, where what was added must go without a trace.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from memshell.conformance_reference import Footprint, footprint, remains
from memshell.conformance_trial import Broken, Trial, add, change, remove
from memshell.mm.memory_hotplug.memmap_on_memory import memmap_on_nodes
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk, alloc_some, nr_free_pages
from memshell.mm.pfn import GiB, align_down, align_up
from memshell.mm.programs import allocations
from memshell.mm.state import Mm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memshell.conformance_trial import Action

LARGEST_LEAF = 16 * GiB  # a larger one would need more memmap than a machine of 2G has
FAULTS = (
    "sparse_index_init",
    "section_usage",
    "memmap_page",
    "vmemmap_table",
    "direct_map_table",
    "add_memory_block",
    "device_register",
)
CALLS = 8  # of a fault point are tried
SPARE = (0, 1, 2, 4, 9, 40, 600)  # pages that are left when memory is short


class Place(NamedTuple):
    """A range that is added: its first block, how many, and the node."""

    number: int
    blocks: int
    nid: int


def places(trial: Trial) -> list[Place]:
    """Return ranges that meet all that the architecture has, far from each other and from boot memory.

    A block behind boot memory, one that is a leaf of the largest kind, one that begins and ends off such a leaf, one in
    the middle of what can be mapped, and the last block of all.
    """
    mm, block = trial.mm, trial.mm.block_size
    leaf = max([block, GiB, *(size for size in mm.arch.leaf_sizes() if size <= LARGEST_LEAF)])
    nodes = [nid for nid in mm.arch.possible_nodes if nid in mm.nodes] or [0]
    near = trial.first * block
    end = align_down(mm.arch.mhp_range()[1] + 1, block)
    off = align_up(near + block, leaf) + block
    far = align_down(end - 2 * leaf, leaf)
    found = [Place(near // block, 1, nodes[0])]
    for start, count in (
        (off, leaf // block + (1 if leaf > block else 0)),
        (align_down((near + end) // 2, leaf) + block, 1),
        (far, leaf // block),
        (end - block, 1),
    ):
        place = Place(start // block, count, nodes[len(found) % len(nodes)])
        if place.number >= found[-1].number + found[-1].blocks and start + count * block <= end:
            found.append(place)
    return found


def play_scenes(trial: Trial) -> Iterator[Broken]:
    """Play all scenes; yield what breaks."""
    for scene in (on_the_right_node, everywhere, short_of_memory, with_faults):
        try:
            scene(trial)
        except Broken as broken:
            yield broken


def run(trial: Trial, mm: Mm, actions: Iterable[Action], path: tuple[str, ...]) -> tuple[Mm, tuple[str, ...]]:
    """Do what must not fail; return the state and the path to it. Raises `Broken`."""
    for action in actions:
        before, (mm, done) = mm, trial.step(mm, action, path)
        path = (*path, action.text)
        if not done:
            trial.refuse(before, action, path)
    return mm, path


def everywhere(trial: Trial) -> None:
    """Add all places, online them, take all away in several orders: nothing may be left. Raises `Broken`."""
    ranges = places(trial)
    orders = (ranges, ranges[::-1], ranges[len(ranges) // 2 :] + ranges[: len(ranges) // 2])
    base: Footprint | None = None
    for order in orders:
        mm, path = run(trial, trial.mm, (add(trial.mm, *place) for place in ranges), ())
        numbers = [number for place in ranges for number in (place.number, place.number + place.blocks - 1)]
        numbers = sorted({*numbers})
        mm, path = run(trial, mm, (change(number, "online_movable") for number in numbers), path)
        mm, path = run(trial, mm, (change(number, "offline") for number in numbers), path)
        mm, path = run(trial, mm, (remove(mm, place.number, place.blocks) for place in removed_as(trial, order)), path)
        after = footprint(mm)
        base = base or footprint(trial.mm)
        _nothing_remains(trial, base, after, "after all that was added is removed", path)


def removed_as(trial: Trial, order: Iterable[Place]) -> Iterator[Place]:
    """Yield the removals of places: block by block where the kernel refuses more at once."""
    single = trial.mm.features.memmap_on_memory.single_block
    for number, count, nid in order:
        yield from (Place(number + at, 1, nid) for at in range(count)) if single else (Place(number, count, nid),)


def _nothing_remains(trial: Trial, before: Footprint, after: Footprint, when: str, path: tuple[str, ...]) -> None:
    for sentence in remains(before, after, when):
        raise Broken(sentence, "; ".join([trial.title, *path]))


def on_the_right_node(trial: Trial) -> None:
    """The memmap of memory that is added to a node with free memory comes from that node. Raises `Broken`."""
    others = [nid for nid in trial.mm.arch.possible_nodes if nid in trial.mm.nodes and nid]
    if not others or type(trial.mm.policy).__module__ != "memshell_plugins.memmap_policies":
        return  # a policy of somebody else may order the nodes as it likes
    nid, far = others[0], places(trial)[-1].number
    before, path = run(trial, trial.mm, (add(trial.mm, trial.first, 1, nid), change(trial.first, "online_kernel")), ())
    mm, path = run(trial, before, [add(before, far, 1, nid)], path)
    were = dict(memmap_on_nodes(before))
    for node, pages in memmap_on_nodes(mm):
        if node != nid and pages > were[node]:
            what = f"the memmap of memory on node {nid}, which has memory free, lies on node {node}: is nid handed on?"
            raise Broken(what, "; ".join([trial.title, *path]))


def short_of_memory(trial: Trial) -> None:
    """Add when all but a few pages are taken: either it works, or nothing is left of it. Raises `Broken`."""
    place = places(trial)[-1]
    start = _warm(trial, place)
    probe = start.copy()
    room = sum(end - first for first, end in alloc_some(probe, nr_free_pages(probe), 0, Owner.KERNEL))
    first = _taken(start, room - SPARE[-1])
    for spare in SPARE:
        mm = _taken(first.mm, SPARE[-1] - spare)
        _there_and_back(trial, mm.mm, place, tuple(text for text in (first.text, mm.text) if text))


class Taken(NamedTuple):
    """A machine with pages taken, and the command that takes them."""

    mm: Mm
    text: str


def _taken(mm: Mm, pages: int) -> Taken:
    work = mm.copy()
    if pages <= 0:
        return Taken(work, "")
    alloc_bulk(work, pages, 0, Owner.KERNEL, tag=max(allocations(work), default=0) + 1)
    work.events = []
    return Taken(work, f"alloc {pages * mm.arch.page_size >> 10}K unmovable order=0")


def _warm(trial: Trial, place: Place) -> Mm:
    """Return the machine after a first round, so that what stays for good is there."""
    mm, _ = run(trial, trial.mm, [add(trial.mm, *place)], ())
    mm, _ = run(trial, mm, (remove(mm, one.number, one.blocks) for one in removed_as(trial, [place])), ())
    return mm


def _there_and_back(trial: Trial, mm: Mm, place: Place, path: tuple[str, ...]) -> None:
    """Add, and remove what was added: the machine is as before, whether the add works or not. Raises `Broken`."""
    before = footprint(mm)
    action = add(mm, *place)
    work, done = trial.step(mm, action, path)
    path = (*path, action.text)
    if done:
        work, path = run(trial, work, (remove(mm, one.number, one.blocks) for one in removed_as(trial, [place])), path)
    what = "it is removed" if done else "the add failed"
    _nothing_remains(trial, before, footprint(work, idle=not done), f"after {what}", path)


def with_faults(trial: Trial) -> None:
    """Let each fault point strike at its first calls: an add that fails leaves nothing. Raises `Broken`."""
    place = Place(*places(trial)[-1])
    start = _warm(trial, place)
    for name in (*FAULTS, *dict(trial.mm.arch.faults)):
        for at in range(1, CALLS + 1):
            mm = start.copy()
            mm.faults[name] = at
            probe = mm.copy()
            action = add(mm, *place)
            with suppress(Exception):  # the step below tells what it was
                action.run(probe)
            if name in probe.faults:
                break  # there are fewer calls
            _there_and_back(trial, mm, place, (f"fault {name} at={at}",))
