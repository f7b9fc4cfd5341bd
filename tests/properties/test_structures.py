"""RangeMap and the free lists against models so simple that they cannot be wrong."""

import functools
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memshell_plugins.memmap_policies import Buddy
from memshell_plugins.x86_64 import X86

from memshell.errors import KernelError
from memshell.kernel.resource import overlaps
from memshell.machine import boot
from memshell.mm import ranges, sorted_map
from memshell.mm.invariants import violations
from memshell.mm.mmzone import MigrateType
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk, alloc_pages, free_range
from memshell.mm.page_alloc.free_area import FreeArea
from memshell.mm.pfn import order_of
from memshell.mm.programs import free_bulk
from memshell.mm.ranges import RangeMap
from memshell.mm.sorted_map import SortedMap
from memshell.mm.state import Resource, Resources
from memshell.mm.tables import PageTables, Table
from memshell.profiles import PROFILES

SMALL = st.integers(0, 60)
EDITS = st.lists(st.tuples(st.booleans(), SMALL, SMALL, st.sampled_from("abc")), max_size=25)


def naive_runs(positions):
    runs = []
    for at in sorted(positions):
        if runs and runs[-1][1] == at and runs[-1][2] == positions[at]:
            runs[-1] = (runs[-1][0], at + 1, positions[at])
        else:
            runs.append((at, at + 1, positions[at]))
    return runs


@given(EDITS, SMALL, SMALL)
def test_a_range_map_is_a_dict_of_positions(edits, low, high):
    runs, naive = RangeMap(), {}
    for is_set, start, end, value in edits:
        if is_set:
            runs.set(start, end, value)
            naive |= dict.fromkeys(range(start, end), value)
        else:
            runs.delete(start, end)
            naive = {at: kept for at, kept in naive.items() if not start <= at < end}
    seen = {at: value for start, end, value in runs.items() for at in range(start, end)}
    assert naive_runs(seen) == naive_runs(naive)
    assert all(a < b for a, b, _ in runs.items())
    assert all(b <= c for (_, b, _), (c, _, _) in pairwise(runs.items()))
    assert [runs.get(at) for at in range(62)] == [naive.get(at) for at in range(62)]
    inside = {at: value for at, value in naive.items() if low <= at < high}
    assert [(at, v) for a, b, v in runs.items(low, high) for at in range(a, b)] == sorted(inside.items())
    gaps = [at for a, b in runs.gaps(low, high) for at in range(a, b)]
    assert gaps == [at for at in range(low, high) if at not in naive]
    assert runs.intersects(low, high) == bool(inside)
    assert runs.covers(low, high) == (len(inside) == max(high - low, 0))


TABLES = st.tuples(st.sampled_from(["pmd", "pte"]), st.integers(0, 11), st.integers(1, 4), st.integers(0, 5))
OWNERS = ("early", "buddy", "fragment")


@given(st.lists(st.tuples(st.booleans(), TABLES, st.sampled_from(OWNERS)), max_size=30))
def test_page_tables_are_a_dict_of_tables(edits):
    tables, naive, span = PageTables(), {}, 64
    for put, (level, at, count, pfn), owner in edits:
        for n in range(at, at + count):
            key = level, n * span
            if not put or key in naive:
                assert tables.pop(key, None) == naive.pop(key, None)
        if put:
            first = Table(pfn * (owner != "early"), owner, span)
            tables.set_run(level, at * span, (at + count) * span, first)
            step = owner == "buddy"
            naive |= {(level, (at + n) * span): first._replace(pfn=first.pfn + n * step) for n in range(count)}
        copy = tables.copy()
        assert list(tables.items()) == sorted(naive.items()) == list(copy.items())
        assert len(tables) == len(naive)
        assert tables == copy
        assert not list(tables.keys_of_unshared(copy))
    pages = [table.pfn for table in naive.values() if table.owner == "fragment"]
    assert [tables.shares(pfn) for pfn in range(6)] == [pages.count(pfn) for pfn in range(6)]


RUNS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc")), min_size=1, max_size=12)


@pytest.mark.parametrize("largest", [512, 6])
@given(EDITS, SMALL, RUNS)
def test_runs_at_once_are_the_runs(largest, edits, start, lengths):
    with mock.patch.multiple(ranges, LARGEST=largest, PIECE=largest // 2):
        at_once, singly = RangeMap(), RangeMap()
        for _, low, high, value in edits:
            at_once.set(low, high, value)
            singly.set(low, high, value)
        runs = []
        for length, value in lengths:
            if not runs or runs[-1][2] != value:
                runs.append((start, start + length, value))
                start += length
        at_once.set_runs(runs)
        for run in runs:
            singly.set(*run)
        assert list(at_once.items()) == list(singly.items())
        assert [at_once.get(at) for at in range(130)] == [singly.get(at) for at in range(130)]


@pytest.fixture(scope="module")
def small_chunks():
    """Chunks of a few runs, so that a small map has many and every edit is near an edge of one."""
    with mock.patch.multiple(ranges, LARGEST=6, PIECE=3):
        yield


def runs_of(naive, low, high):
    return [(max(a, low), min(b, high), v) for a, b, v in naive_runs(naive) if max(a, low) < min(b, high)]


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), SMALL, SMALL, st.sampled_from("abc")), max_size=60),
    st.lists(st.tuples(SMALL, SMALL), max_size=8),
)
def test_copies_diverge_and_chunks_are_never_seen(edits, asked):
    """Up to four copies of a map are changed in turn: what is done to one shows in no other, at whatever edge it is."""
    maps = [(RangeMap(), {})]
    for which, what, start, end, value in edits:
        runs, naive = maps[which % len(maps)]
        if not what and len(maps) < 4:
            maps.append((runs.copy(), naive.copy()))
        elif what == 1:
            runs.delete(start, end)
            for at in range(start, end):
                naive.pop(at, None)
        else:
            runs.set(start, end, value)
            naive |= dict.fromkeys(range(start, end), value)
    for runs, naive in maps:
        assert list(runs.items()) == naive_runs(naive)
        assert (len(runs), bool(runs)) == (len(naive_runs(naive)), bool(naive))
        assert [runs.get(at) for at in range(-1, 62)] == [naive.get(at) for at in range(-1, 62)]
        whole = {at: run for run in naive_runs(naive) for at in range(*run[:2])}
        assert [runs.run_at(at) for at in range(-1, 62)] == [whole.get(at) for at in range(-1, 62)]
        for low, high in asked:
            assert list(runs.items(low, high)) == runs_of(naive, low, high)
            assert list(runs.items_reversed(low, high)) == runs_of(naive, low, high)[::-1]
            assert runs.covers(low, high) == all(at in naive for at in range(low, high))
            assert runs.intersects(low, high) == any(at in naive for at in range(low, high))
            holes = {at: "hole" for at in range(low, high) if at not in naive}
            assert list(runs.gaps(low, high)) == [run[:2] for run in naive_runs(holes)]
    for (runs, naive), (others, other_naive) in pairwise(maps):
        assert (runs == others) == (naive == other_naive)


def test_thousands_of_runs_come_and_go():
    """4,000 runs set one by one, every third taken out of a copy, all deleted at once in another."""
    runs = RangeMap()
    for at in range(4000):
        runs.set(at * 10, at * 10 + 7, at % 5)
    every = [(at * 10, at * 10 + 7, at % 5) for at in range(4000)]
    thinned, emptied = runs.copy(), runs.copy()
    for at in range(0, 4000, 3):
        thinned.delete(at * 10, at * 10 + 7)
    emptied.delete(5, 39995)
    assert list(runs.items()) == every
    assert list(thinned.items()) == [run for run in every if run[0] % 30]
    assert list(emptied.items()) == [(0, 5, 0), (39995, 39997, 4)]
    assert list(thinned.gaps(0, 40000))[:2] == [(0, 10), (17, 20)]
    for at in range(3999, -1, -1):
        runs.delete(at * 10, at * 10 + 7)
    assert not runs
    assert runs == RangeMap()


@given(EDITS)
def test_setting_joins_equal_neighbours(edits):
    runs = RangeMap()
    for _, start, end, value in edits:
        runs.set(start, end, value)
    assert all(b < c or v != w for (_, b, v), (c, _, w) in pairwise(runs.items()))


@pytest.fixture(scope="module")
def small_entries():
    """Chunks of a few entries."""
    with mock.patch.multiple(sorted_map, LARGEST=6, PIECE=3):
        yield


@pytest.mark.usefixtures("small_entries")
@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), SMALL), max_size=80), SMALL, SMALL)
def test_a_sorted_map_is_a_dict_in_order_and_copies_diverge(tuples, edits, low, high):
    """Up to four copies, keyed by numbers or by tuples, are changed in turn."""
    maps = [(SortedMap(), {})]

    def key(at):
        return ("abc"[at % 3], at) if tuples else at

    for value, (which, what, at) in enumerate(edits):
        entries, naive = maps[which % len(maps)]
        if not what and len(maps) < 4:
            maps.append((entries.copy(), naive.copy()))
        elif what == 1:
            assert entries.pop(key(at), None) == naive.pop(key(at), None)
        else:
            entries[key(at)] = naive[key(at)] = value
    low, high = key(low), key(high)
    for entries, naive in maps:
        assert list(entries.items()) == sorted(naive.items())
        assert (list(entries), list(entries.values())) == (sorted(naive), [naive[k] for k in sorted(naive)])
        assert (len(entries), bool(entries), entries == naive) == (len(naive), bool(naive), True)
        assert [entries.get(key(at)) for at in range(61)] == [naive.get(key(at)) for at in range(61)]
        assert [key(at) in entries for at in range(61)] == [key(at) in naive for at in range(61)]
        assert list(entries.above(low)) == [(k, v) for k, v in sorted(naive.items()) if k >= low]
        assert list(entries.below(low)) == [(k, v) for k, v in sorted(naive.items(), reverse=True) if k < low]
        assert entries.between(low, high) == [k for k in sorted(naive) if low <= k < high]
    for (entries, naive), (others, other_naive) in pairwise(maps):
        different = {k for k in naive.keys() | other_naive.keys() if naive.get(k) != other_naive.get(k)}
        assert different <= {*entries.keys_of_unshared(others), *others.keys_of_unshared(entries)}
        assert (entries == others) == (naive == other_naive)


def test_copies_share_what_neither_changed():
    """Of 4,000 blocks one is changed: the difference is looked for in its chunk alone."""
    before = SortedMap(dict.fromkeys(range(4000), "offline"))
    after = before.copy()
    after[1234] = "online"
    assert 1234 in set(after.keys_of_unshared(before))
    assert len(list(after.keys_of_unshared(before))) <= sorted_map.LARGEST
    assert before[1234] == "offline"


# --- free lists ---

MAX_ORDER = 4
PIECES = st.lists(st.tuples(st.integers(0, 127), st.integers(1, 40)), max_size=12)


class NaiveBuddy:
    """A set of (pfn, order), and the loop of __free_one_page() to the letter."""

    def __init__(self):
        self.blocks = set()

    def free(self, pfn, order):
        while order < MAX_ORDER and (pfn ^ 1 << order, order) in self.blocks:
            self.blocks.remove((pfn ^ 1 << order, order))
            pfn &= ~(1 << order)
            order += 1
        self.blocks.add((pfn, order))

    def pages(self):
        return {at for pfn, order in self.blocks for at in range(pfn, pfn + (1 << order))}


def chunks_of(area):
    return {(chunk.pfn, chunk.order) for chunk in area.chunks()}


@given(PIECES, st.integers(0, 150), st.integers(0, 60))
def test_the_free_lists_are_those_of_the_kernels_loop(pieces, low, size):
    """Freed in bulk or page by page: the same blocks; and a range taken out leaves exactly the rest."""
    area, one_by_one, naive = FreeArea(MAX_ORDER), FreeArea(MAX_ORDER), NaiveBuddy()
    done = set()
    for start, count in pieces:
        if done & set(range(start, start + count)):
            continue
        done |= set(range(start, start + count))
        area.free_range(start, start + count, MigrateType.MOVABLE)
        pfn = start
        while pfn < start + count:
            order = order_of(pfn, start + count - pfn, MAX_ORDER)
            one_by_one.free_one_page(pfn, order, MigrateType.MOVABLE)
            naive.free(pfn, order)
            pfn += 1 << order
    assert chunks_of(area) == chunks_of(one_by_one) == naive.blocks
    assert area.counts() == [sum(order == o for _, order in naive.blocks) for o in range(MAX_ORDER + 1)]
    taken = area.take_range(low, low + size)
    inside = {at for at in naive.pages() if low <= at < low + size}
    assert {at for a, b, _ in taken for at in range(a, b)} == inside
    left = {at for pfn, order in chunks_of(area) for at in range(pfn, pfn + (1 << order))}
    assert left == {at for at in naive.pages() if not low <= at < low + size}
    assert all(pfn % (1 << order) == 0 for pfn, order in chunks_of(area))


@given(PIECES, PIECES)
def test_copies_of_the_free_lists_diverge(pieces, others):
    area = FreeArea(MAX_ORDER)
    for start, count in pieces:
        area.take_range(start, start + count)
        area.free_range(start, start + count, MigrateType.MOVABLE)
    before, copy = chunks_of(area), area.copy()
    for start, count in others:
        copy.take_range(start, start + count)
    assert chunks_of(area) == before
    after = chunks_of(copy)
    area.take_range(0, 200)
    assert (chunks_of(area), chunks_of(copy)) == (set(), after)


def test_a_block_can_be_on_a_list_twice():
    """Broken kernels free what is free already: both entries stay, and go one by one."""
    area = FreeArea(MAX_ORDER)
    for _ in range(2):
        area.add(8, 2, MigrateType.MOVABLE)
    assert area.counts()[2] == 2
    assert [chunk.pfn for chunk in area.chunks()] == [8, 8]
    assert area.remove(8, 2, MigrateType.MOVABLE)
    assert area.copy().take_range(9, 10) == [(9, 10, MigrateType.MOVABLE)]
    assert area.remove(8, 2, MigrateType.MOVABLE)
    assert not area.remove(8, 2, MigrateType.MOVABLE)


@functools.cache
def booted():
    return boot(X86(), {"ram": "512M"}, PROFILES["v6.12"], Buddy()).mm


REQUESTS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(1, 700), st.booleans()), min_size=1, max_size=5
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(REQUESTS)
def test_many_allocations_at_once_are_many_allocations(requests):
    """alloc_bulk() takes the pages that as many alloc_pages() calls take, from the same lists."""
    bulk, single = booted().copy(), booted().copy()
    for tag, (order, count, movable) in enumerate(requests, start=1):
        owner = Owner.USER if movable else Owner.KERNEL
        taken = []
        for _ in range(count):
            pfn = alloc_pages(single, order, owner, movable=movable, tag=tag)
            if pfn is None:
                break
            taken.append(pfn)
        try:
            runs = alloc_bulk(bulk, count, order, owner, movable=movable, tag=tag)
        except KernelError:
            assert len(taken) < count
            return
        assert [at for a, b in runs for at in range(a, b, 1 << order)] == taken
    assert bulk.pages == single.pages
    assert bulk.free == single.free
    assert violations(bulk) == []


@settings(max_examples=30, deadline=None)
@given(REQUESTS)
def test_what_is_freed_is_as_free_as_before(requests):
    mm = booted().copy()
    free = sum(zone.free for zone in mm.zones.values())
    for tag, (order, count, movable) in enumerate(requests, start=1):
        try:
            alloc_bulk(mm, count, order, Owner.USER, movable=movable, tag=tag)
        except KernelError:
            assert violations(mm) == []
    for tag in range(1, len(requests) + 1):
        free_bulk(mm, tag)
    assert sum(zone.free for zone in mm.zones.values()) == free
    assert violations(mm) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20000), st.integers(1, 3000)), min_size=1, max_size=8))
def test_freeing_a_range_is_freeing_its_pieces(pieces):
    """free_range() of many pages and of the aligned pieces of them end in the same state."""
    whole = booted().copy()
    start = next(a for a, b, page in whole.pages.items() if page.owner is Owner.FREE and b - a > 30000)
    whole.free[0, whole.pages.get(start).zone].take_range(start, start + 24000)
    key = (0, whole.pages.get(start).zone)
    whole.pages.set(start, start + 24000, whole.pages.get(start)._replace(owner=Owner.KERNEL))
    whole.change_zone(key, free=whole.zones[key].free - 24000)
    split, done = whole.copy(), set()
    for offset, count in pieces:
        a, b = start + offset, min(start + offset + count, start + 24000)
        if a >= b or any(at in done for at in range(a, b)):
            continue
        done |= set(range(a, b))
        free_range(whole, a, b)
        pfn = a
        while pfn < b:
            order = order_of(pfn, b - pfn, whole.arch.max_order)
            free_range(split, pfn, pfn + (1 << order))
            pfn += 1 << order
    assert whole.free == split.free
    assert whole.pages == split.pages
    assert violations(whole) == []


@settings(max_examples=100, deadline=None)
@given(st.sets(SMALL, min_size=2), st.sets(SMALL), SMALL, SMALL)
def test_conflicts_of_a_region_are_those_of_the_whole_list(roots, children, a, b):
    """overlaps() looks at the end of the list only: two levels of resources, children inside their parents."""
    found = [Resource(low, high - 1, "root", 0) for low, high in list(pairwise(sorted(roots)))[::2]]
    for root in list(found):
        cuts = sorted(c for c in children if root.start <= c <= root.end)
        found += [Resource(low, high - 1, "child", 1) for low, high in pairwise([*cuts, root.end + 1])]
    found.sort(key=lambda r: (r.start, -r.end, r.depth))
    start, end = min(a, b), max(a, b)
    for depth in (0, 1):
        naive = [r for r in found if r.depth == depth and r.start <= end and r.end >= start]
        if depth and not any(r.depth == 0 and r.start <= start and r.end >= end for r in found):
            continue  # a region is looked for among the children of what spans it
        assert overlaps(SimpleNamespace(resources=Resources(found)), start, end, depth) == naive
