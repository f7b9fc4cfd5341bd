"""RangeMap: sorted half-open ranges of integers, each with a value."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class RangeMap(Generic[V]):
    """A map from integers to values that stores runs, not integers.

    Ranges are half-open and never overlap; neighbours with equal values are one run. All operations cost
    O(log runs) plus the runs that they touch (and a memory move of the lists). Used for pfns and for addresses.

    >>> m = RangeMap[str](); m.set(0, 10, "a"); m.set(4, 6, "b"); list(m.items())
    [(0, 4, 'a'), (4, 6, 'b'), (6, 10, 'a')]
    """

    __slots__ = ("_ends", "_starts", "_values")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeMap):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends and self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __repr__(self) -> str:
        return f"RangeMap({list(self.items())!r})"

    def copy(self) -> RangeMap[V]:
        """Return an independent copy; values are shared."""
        new: RangeMap[V] = RangeMap()
        new._starts, new._ends, new._values = self._starts.copy(), self._ends.copy(), self._values.copy()
        return new

    def get(self, position: int) -> V | None:
        """Return the value at *position*, or None where nothing is set."""
        i = bisect_right(self._starts, position) - 1
        return self._values[i] if i >= 0 and position < self._ends[i] else None

    def run_at(self, position: int) -> tuple[int, int, V] | None:
        """Return the whole run (start, end, value) around *position*, or None."""
        i = bisect_right(self._starts, position) - 1
        if i < 0 or position >= self._ends[i]:
            return None
        return self._starts[i], self._ends[i], self._values[i]

    def items(self, start: int | None = None, end: int | None = None) -> Iterator[tuple[int, int, V]]:
        """Yield (start, end, value) in order, clipped to [start, end) where given. Do not change the map meanwhile."""
        i = 0 if start is None else max(bisect_right(self._starts, start) - 1, 0)
        n = len(self._starts) if end is None else bisect_left(self._starts, end)
        starts, ends, values = self._starts, self._ends, self._values
        for k in range(i, n):
            a, b = starts[k], ends[k]
            if start is not None and a < start:
                a = start
            if end is not None and b > end:
                b = end
            if a < b:
                yield a, b, values[k]

    def items_reversed(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """Yield the same as `items`, from the end. Do not change the map meanwhile."""
        starts, ends, values = self._starts, self._ends, self._values
        for k in range(bisect_left(starts, end) - 1, -1, -1):
            a, b = max(starts[k], start), min(ends[k], end)
            if b <= start:
                return
            if a < b:
                yield a, b, values[k]

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) where nothing is set."""
        for a, b, _ in self.items(start, end):
            if start < a:
                yield start, a
            start = b
        if start < end:
            yield start, end

    def covers(self, start: int, end: int) -> bool:
        """Whether every position of [start, end) is set."""
        return next(self.gaps(start, end), None) is None

    def intersects(self, start: int, end: int) -> bool:
        """Whether any position of [start, end) is set."""
        i = bisect_right(self._starts, start) - 1
        if i >= 0 and start < self._ends[i]:
            return start < end
        return i + 1 < len(self._starts) and self._starts[i + 1] < end

    def set(self, start: int, end: int, value: V) -> None:
        """Set [start, end) to *value*, over whatever stood there."""
        if start >= end:
            return
        i, k = self._cut(start, end)
        starts, ends, values = self._starts, self._ends, self._values
        if i and ends[i - 1] == start and values[i - 1] == value:
            i -= 1
            start = starts[i]
        if k < len(starts) and starts[k] == end and values[k] == value:
            end = ends[k]
            k += 1
        starts[i:k], ends[i:k], values[i:k] = [start], [end], [value]

    def delete(self, start: int, end: int) -> None:
        """Forget [start, end)."""
        if start < end:
            i, k = self._cut(start, end)
            del self._starts[i:k], self._ends[i:k], self._values[i:k]

    def _cut(self, start: int, end: int) -> tuple[int, int]:
        """Split the runs at both borders; return the index range of the runs inside."""
        starts, ends, values = self._starts, self._ends, self._values
        i = bisect_right(starts, start) - 1
        if i < 0 or ends[i] <= start:
            i += 1
        elif starts[i] < start:
            starts.insert(i + 1, start)
            ends.insert(i + 1, ends[i])
            values.insert(i + 1, values[i])
            ends[i] = start
            i += 1
        k = bisect_left(starts, end, i)
        if k > i and ends[k - 1] > end:
            starts.insert(k, end)
            ends.insert(k, ends[k - 1])
            values.insert(k, values[k - 1])
            ends[k - 1] = end
        return i, k
