"""PageTables: the page-table pages of a machine, kept as runs of tables that lie side by side."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping
from typing import NamedTuple

from memshell.mm.ranges import HIGHEST, LOWEST, RangeMap
from memshell.mm.sorted_map import SortedMap

FRAGMENTS = ("half", "fragment")


class Table(NamedTuple):
    """One page-table page (or fragment of one)."""

    pfn: int
    owner: str  # "early", "buddy", "half" or "fragment" (two or more share the page), "slab" (not modelled)
    span: int  # bytes of addresses that it covers
    pages: int = 1


class Run(NamedTuple):
    """Tables of *span* bytes side by side: the page of the one at an address is address/span * *step* + *shift*."""

    span: int
    step: int  # pages; 0: all are in one page, or in none that is known
    shift: int
    owner: str

    def pfns(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the pages [first, last) of the tables at [start, end), None where they are in none that is known."""
        if self.owner in FRAGMENTS:
            return self.shift, self.shift + 1
        first, last = (at // self.span * self.step + self.shift for at in (start, end))
        return (first, last) if self.owner == "buddy" else None

    def address(self, start: int, pfn: int) -> int:
        """Return the address of the table that has *pfn*; *start* is where the run begins."""
        return (pfn - self.shift) // self.step * self.span if self.step else start

    def table(self, address: int) -> Table:
        """Return the table at *address*."""
        return Table(address // self.span * self.step + self.shift, self.owner, self.span, self.step or 1)


class _Items(ItemsView[tuple[str, int], Table]):
    """The tables; a run at a time."""

    __slots__ = ()
    _mapping: PageTables

    def __iter__(self) -> Iterator[tuple[tuple[str, int], Table]]:
        for level, a, b, run in self._mapping.all_runs():
            yield from (((level, at), run.table(at)) for at in range(a, b, run.span))


class PageTables(MutableMapping[tuple[str, int], Table]):
    """(level, first address) -> table, in order. Tables of one level cover as many bytes each.

    >>> tables = PageTables(); tables["pte", 0] = Table(5, "buddy", 64); tables["pte", 64] = Table(6, "buddy", 64)
    >>> [(at, table.pfn) for (_, at), table in tables.items()], [(start, end) for start, end, _ in tables.runs("pte")]
    ([(0, 5), (64, 6)], [(0, 128)])
    """

    __slots__ = ("_levels", "_shares")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all tables."""
        self._levels: dict[str, RangeMap[Run]] = {}
        self._shares: SortedMap[int, int] = SortedMap()  # a page that fragments share -> how many

    def copy(self) -> PageTables:
        """Return an independent copy."""
        new = PageTables()
        new._levels = {level: runs.copy() for level, runs in self._levels.items()}
        new._shares = self._shares.copy()
        return new

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PageTables) and self._filled() == other._filled()

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def _filled(self) -> dict[str, RangeMap[Run]]:
        return {level: runs for level, runs in self._levels.items() if runs}

    def __getitem__(self, key: tuple[str, int]) -> Table:
        table = self.get(key)
        if table is None:
            raise KeyError(key)
        return table

    def get(self, key: tuple[str, int], default: Table | None = None) -> Table | None:  # type: ignore[override]
        """Return the table that begins at an address, or *default*."""
        level, address = key
        runs = self._levels.get(level)
        run = runs.get(address) if runs is not None else None
        return default if run is None or address % run.span else run.table(address)

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __setitem__(self, key: tuple[str, int], table: Table) -> None:
        level, address = key
        self.set_run(level, address, address + table.span, table)

    def set_run(self, level: str, start: int, end: int, first: Table) -> None:
        """Put tables like *first*, which is at *start*, side by side up to *end*, each on the pages behind the one before."""
        step = first.pages if first.owner == "buddy" else 0
        if first.owner in FRAGMENTS:
            self._shares[first.pfn] = self._shares.get(first.pfn, 0) + (end - start) // first.span
        run = Run(first.span, step, first.pfn - start // first.span * step, first.owner)
        runs = self._levels.get(level)
        if runs is None:
            runs = self._levels[level] = RangeMap()
        runs.set(start, end, run)

    def __delitem__(self, key: tuple[str, int]) -> None:
        table = self[key]
        if table.owner in FRAGMENTS:
            self._shares[table.pfn] -= 1
            if not self._shares[table.pfn]:
                del self._shares[table.pfn]
        self.delete_run(key[0], key[1], key[1] + table.span)

    def delete_run(self, level: str, start: int, end: int) -> None:
        """Take out the tables at [start, end), none of which is a fragment."""
        self._levels[level].delete(start, end)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((level, at) for level, a, b, run in self.all_runs() for at in range(a, b, run.span))

    def items(self) -> ItemsView[tuple[str, int], Table]:
        """Return the tables, in order."""
        return _Items(self)

    def __len__(self) -> int:
        return sum((b - a) // run.span for _, a, b, run in self.all_runs())

    def __bool__(self) -> bool:
        return any(self._levels.values())

    def levels(self) -> list[str]:
        """Return the names of the levels that have tables."""
        return sorted(self._filled())

    def runs(self, level: str, start: int | None = None, end: int | None = None) -> Iterator[tuple[int, int, Run]]:
        """Yield (start, end, run) of the tables of one level in order, clipped to [start, end) where given."""
        runs = self._levels.get(level)
        return iter(()) if runs is None else runs.items(start, end)

    def all_runs(self) -> Iterator[tuple[str, int, int, Run]]:
        """Yield (level, start, end, run) of all tables, in order."""
        return ((level, a, b, run) for level in self.levels() for a, b, run in self.runs(level))

    def gaps(self, level: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that no table of *level* covers."""
        runs = self._levels.get(level)
        return iter(((start, end),)) if runs is None else runs.gaps(start, end)

    def intersects(self, level: str, start: int, end: int) -> bool:
        """Whether a table of *level* covers any of [start, end)."""
        runs = self._levels.get(level)
        return runs is not None and runs.intersects(start, end)

    def shares(self, pfn: int) -> int:
        """Return how many fragments are in the page *pfn*."""
        return self._shares.get(pfn, 0)

    def keys_of_unshared(self, other: PageTables) -> Iterator[tuple[str, int]]:
        """Yield the keys of the tables that *other* may not have: those in chunks that the two do not share."""
        for level, runs in sorted(self._levels.items()):
            known = other._levels.get(level)
            for low, high in runs.unshared(known) if known is not None else [(LOWEST, HIGHEST)]:
                for a, b, run in runs.items(low, high):
                    yield from ((level, at) for at in range(a, b, run.span))
