"""RangeMap: sorted half-open ranges of integers, each with a value."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

from memshell.mm.sorted_map import LARGEST, PIECE, Chunked

V = TypeVar("V")

LOWEST, HIGHEST = -1 << 64, 1 << 65  # below and above every pfn and every address


class Borders(Generic[V]):
    """A chunk: *values[i]* stands from *keys[i]* to the next key, None where nothing is set."""

    __slots__ = ("keys", "owner", "values")

    def __init__(self, keys: list[int], values: list[V | None], owner: object) -> None:
        self.keys = keys
        self.values = values
        self.owner = owner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Borders) and self.keys == other.keys and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def copy(self, owner: object) -> Borders[V]:
        """Return a copy that *owner* may write to."""
        return Borders(self.keys.copy(), self.values.copy(), owner)


class RangeMap(Chunked[int, Borders[V]]):
    """A map from integers to values (never None) that stores runs, not integers.

    Ranges are half-open and never overlap; neighbours with equal values are one run. All operations cost
    O(log runs) plus the runs that they touch; a copy shares what neither side changes. Used for pfns and for addresses.

    >>> m = RangeMap[str](); m.set(0, 10, "a"); m.set(4, 6, "b"); list(m.items())
    [(0, 4, 'a'), (4, 6, 'b'), (6, 10, 'a')]
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(LOWEST, Borders([LOWEST], [None], object()))

    def __len__(self) -> int:
        return sum(len(chunk.values) - chunk.values.count(None) for chunk in self._chunks)

    def __bool__(self) -> bool:
        return self._only is None or len(self._only.keys) > 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeMap):
            return NotImplemented
        if self._firsts == other._firsts:
            return all(a is b or a == b for a, b in zip(self._chunks, other._chunks, strict=True))
        return list(self.items()) == list(other.items())

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __repr__(self) -> str:
        return f"RangeMap({list(self.items())!r})"

    def get(self, position: int) -> V | None:
        """Return the value at *position*, or None where nothing is set."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, position, 1) - 1]
        return chunk.values[bisect_right(chunk.keys, position) - 1]

    def run_at(self, position: int) -> tuple[int, int, V] | None:
        """Return the whole run (start, end, value) around *position*, or None."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, position, 1) - 1]
        keys = chunk.keys
        i = bisect_right(keys, position)
        value = chunk.values[i - 1]
        return None if value is None else (keys[i - 1], keys[i] if i < len(keys) else self._next_first(position), value)

    def _next_first(self, position: int) -> int:
        """Return the first border behind the chunk of *position*."""
        at = self._index(position) + 1
        return self._firsts[at] if at < len(self._firsts) else HIGHEST

    def items(self, start: int | None = None, end: int | None = None) -> Iterator[tuple[int, int, V]]:
        """Yield (start, end, value) in order, clipped to [start, end) where given. Do not change the map meanwhile."""
        if start is None or end is None:
            return self._runs(LOWEST if start is None else start, HIGHEST if end is None else end)
        chunk = self._only or self._chunks[bisect_right(self._firsts, start, 1) - 1]
        keys = chunk.keys
        i = bisect_right(keys, start)
        if end <= keys[i] if i < len(keys) else self._only is not None:  # one run or nothing
            value = chunk.values[i - 1]
            return iter(() if value is None or start >= end else ((start, end, value),))
        return self._runs(start, end)

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        n = 0 if self._only is not None else self._index(start)
        keys, values = self._chunks[n].keys, self._chunks[n].values
        i = bisect_right(keys, start)
        a, value = start, values[i - 1]
        while True:
            k = bisect_left(keys, end, i)
            for at in range(i, k):
                if value is not None:
                    yield a, keys[at], value
                a, value = keys[at], values[at]
            n += 1
            if k < len(keys) or n == len(self._chunks):
                break
            keys, values, i = self._chunks[n].keys, self._chunks[n].values, 0
        if value is not None and a < end:
            yield a, end, value

    def items_reversed(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """Yield the same as `items`, from the end. Do not change the map meanwhile."""
        stop = HIGHEST
        for n in range(self._index(end), -1, -1):
            keys, values = self._chunks[n].keys, self._chunks[n].values
            for at in range(bisect_left(keys, end) - 1, -1, -1):
                a, b = keys[at], keys[at + 1] if at + 1 < len(keys) else stop
                if b <= start or start >= end:
                    return
                value = values[at]
                if value is not None:
                    yield max(a, start), min(b, end), value
            stop = self._firsts[n]

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) where nothing is set. Do not change the map meanwhile."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, start, 1) - 1]
        keys = chunk.keys
        i = bisect_right(keys, start)
        if end <= keys[i] if i < len(keys) else self._only is not None:  # one run or nothing
            return iter(() if chunk.values[i - 1] is not None or start >= end else ((start, end),))
        return self._holes(start, end)

    def _holes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for a, b, _ in self._runs(start, end):
            if start < a:
                yield start, a
            start = b
        if start < end:
            yield start, end

    def unshared(self, other: RangeMap[V]) -> Iterator[tuple[int, int]]:
        """Yield ranges outside of which this map and *other*, of which one is a copy, are equal; ask both sides."""
        shared = {id(chunk) for chunk in other.chunks()}
        for at, chunk in enumerate(self._chunks):
            if id(chunk) not in shared:
                yield self._firsts[at], self._firsts[at + 1] if at + 1 < len(self._firsts) else HIGHEST

    def covers(self, start: int, end: int) -> bool:
        """Whether every position of [start, end) is set."""
        return next(self.gaps(start, end), None) is None

    def intersects(self, start: int, end: int) -> bool:
        """Whether any position of [start, end) is set."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, start, 1) - 1]
        i = bisect_right(chunk.keys, start)
        if chunk.values[i - 1] is not None:
            return start < end
        # what is behind a gap is a run
        return (chunk.keys[i] if i < len(chunk.keys) else self._next_first(start)) < end

    def set(self, start: int, end: int, value: V) -> None:
        """Set [start, end) to *value*, over whatever stood there."""
        if start < end:
            self._put(start, end, value)

    def set_runs(self, runs: list[tuple[int, int, V]]) -> None:
        """Set runs that follow each other without a gap, each with another value than the one before."""
        if len(runs) < 3 or runs[0][2] == runs[-1][2]:
            for run in runs:
                self.set(*run)
            return
        (start, second, value), (_, end, last) = runs[0], runs[-1]
        self.set(start, end, last)
        self.set(start, second, value)
        chunk = self._only or self._chunks[self._index(second)]
        if chunk.owner is not self._owner:
            chunk = self._own(chunk, second)
        i = bisect_left(chunk.keys, second)
        chunk.keys[i : i + 1] = [first for first, _, _ in runs[1:]]
        chunk.values[i : i + 1] = [new for _, _, new in runs[1:]]
        if len(chunk.keys) > LARGEST:
            self._split(second)

    def delete(self, start: int, end: int) -> None:
        """Leave nothing set on [start, end)."""
        if start < end:
            self._put(start, end, None)

    def _put(self, start: int, end: int, value: V | None) -> None:
        """Let *value* stand on [start, end): the borders there go, but where it differs from its neighbours."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, start, 1) - 1]
        i = bisect_left(chunk.keys, start)
        k = bisect_right(chunk.keys, end, i)
        if self._only is None and (not i or (k == len(chunk.keys) and chunk is not self._chunks[-1])):
            self._put_at_edge(start, end, value)
            return
        before, after = chunk.values[i - 1], chunk.values[k - 1]
        left, right = before is value or before == value, after is value or after == value
        if i == k and left:
            return  # inside of a run of *value*
        if chunk.owner is not self._owner:
            chunk = self._own(chunk, start)
        keys, values = chunk.keys, chunk.values
        if left and right:
            del keys[i:k], values[i:k]
        elif left:
            keys[i:k], values[i:k] = (end,), (after,)
        elif right:
            keys[i:k], values[i:k] = (start,), (value,)
        else:
            keys[i:k], values[i:k] = (start, end), (value, after)
        if len(keys) > LARGEST:
            self._split(start)

    def _put_at_edge(self, start: int, end: int, value: V | None) -> None:
        """Do as `_put` where [start, end) meets a chunk's edge: chunks whose common border goes become one."""
        first, last = self._index(start), self._index(end)
        before, after = self._value_before(start, first), self.get(end)
        if start == self._firsts[first] and before == value:
            first -= 1
        at_edge = end == self._firsts[last] and after != value
        chunk = self._joined(first, last - at_edge)
        i = bisect_left(chunk.keys, start)
        k = bisect_right(chunk.keys, end, i)
        left: list[tuple[int, V | None]] = [] if before == value else [(start, value)]
        right = [] if after == value or at_edge else [(end, after)]
        chunk.keys[i:k] = [key for key, _ in left + right]
        chunk.values[i:k] = [new for _, new in left + right]
        if len(chunk.keys) > LARGEST:
            self._split(start)

    def _value_before(self, start: int, at: int) -> V | None:
        """Return the value that ends at *start*, which belongs to the chunk at the place *at*."""
        chunk = self._chunks[at]
        i = bisect_left(chunk.keys, start)
        return chunk.values[i - 1] if i else self._chunks[at - 1].values[-1]

    def _joined(self, first: int, last: int) -> Borders[V]:
        """Make one chunk of those at the places *first* to *last*, this map's own."""
        old = self._chunks[first : last + 1]
        if first == last and old[0].owner is self._owner:
            return old[0]
        keys = [key for chunk in old for key in chunk.keys]
        new = Borders(keys, [value for chunk in old for value in chunk.values], self._owner)
        self._replace(first, last + 1, [self._firsts[first]], [new])
        return new

    def _split(self, position: int) -> None:
        """Cut the chunk of *position*, this map's own, into pieces."""
        at = self._index(position)
        keys, values = self._chunks[at].keys, self._chunks[at].values
        cuts = range(0, len(keys), PIECE)
        new = [Borders(keys[i : i + PIECE], values[i : i + PIECE], self._owner) for i in cuts]
        self._replace(at, at + 1, [keys[i] for i in cuts], new)
