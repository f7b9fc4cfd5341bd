"""SortedMap: a dict in the order of its keys; and the row of chunks that a container shares with its copies until one writes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import ItemsView as Items
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from itertools import chain, takewhile
from typing import Any, Generic, Protocol, Self, TypeVar, overload


class Ordered(Protocol):
    """What a key has to be: one that knows whether it is lower than another."""

    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Ordered)
V = TypeVar("V")
T = TypeVar("T")

LARGEST = 512  # entries of a chunk; a larger one is cut in pieces of half of it
PIECE = LARGEST // 2


class Chunk(Protocol):
    """A piece of a container. Only the container that has *owner* may write to it."""

    owner: object

    def copy(self, owner: object) -> Self:
        """Return a copy that *owner* may write to."""


C = TypeVar("C", bound=Chunk)


class Chunked(Generic[K, C]):
    """A row of chunks, each with the lowest key that it may hold; a key below the second's is the first one's.

    A copy costs the same whatever the size: both sides keep all chunks, and who writes takes a copy of that chunk first.
    """

    __slots__ = ("_chunks", "_firsts", "_index_shared", "_only", "_owner")

    def __init__(self, first: K, chunk: C) -> None:
        self._owner = chunk.owner
        self._firsts = [first]
        self._chunks = [chunk]
        self._only: C | None = chunk  # the chunk, while there is one
        self._index_shared = False

    def copy(self) -> Self:
        """Return an independent copy; keys and values are shared."""
        new = object.__new__(type(self))
        new._firsts, new._chunks, new._only = self._firsts, self._chunks, self._only
        self._owner, new._owner = object(), object()
        self._index_shared = new._index_shared = True
        return new

    def chunks(self) -> Sequence[C]:
        """Return the chunks in order, to look at."""
        return self._chunks

    def _index(self, key: K) -> int:
        """Return the place of the chunk that *key* belongs to."""
        return bisect_right(self._firsts, key, 1) - 1

    def _own(self, chunk: C, key: K) -> C:
        """Return the copy of *chunk*, which is the one of *key*, that this container may write to."""
        mine = chunk.copy(self._owner)
        if self._only is not None:
            self._only, self._chunks = mine, [mine]
            return mine
        at = self._index(key)
        self._replace(at, at + 1, [self._firsts[at]], [mine])
        return mine

    def _replace(self, i: int, k: int, firsts: list[K], chunks: list[C]) -> None:
        """Put *chunks* at the places [i, k)."""
        if self._index_shared:
            self._firsts, self._chunks, self._index_shared = self._firsts.copy(), self._chunks.copy(), False
        self._firsts[i:k], self._chunks[i:k] = firsts, chunks
        self._only = self._chunks[0] if len(self._chunks) == 1 else None


class Entries(Generic[K, V]):
    """A chunk: a dict, and its keys in order."""

    __slots__ = ("keys", "owner", "values")

    def __init__(self, keys: list[K], values: dict[K, V], owner: object) -> None:
        self.keys = keys
        self.values = values
        self.owner = owner

    def copy(self, owner: object) -> Entries[K, V]:
        """Return a copy that *owner* may write to."""
        return Entries(self.keys.copy(), self.values.copy(), owner)

    def items(self) -> Iterable[tuple[K, V]]:
        """Return the entries in order."""
        return zip(self.keys, self.in_order(), strict=True)

    def in_order(self) -> Iterator[V]:
        """Return the values in the order of their keys."""
        return map(self.values.__getitem__, self.keys)


class SortedMap(Chunked[K, Entries[K, V]], MutableMapping[K, V]):
    """A dict whose keys can be compared: ints, or tuples of one kind. A look costs what it costs a dict, a change O(log n).

    >>> m = SortedMap({3: "c", 1: "a"}); c = m.copy(); m[2] = "b"; list(m), list(c)
    ([1, 2, 3], [1, 3])
    """

    __slots__ = ()

    def __init__(self, entries: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self.clear()
        self.update(entries)

    def clear(self) -> None:
        """Remove all entries."""
        first: Any = None  # the lowest key of the first chunk is never asked for
        super().__init__(first, Entries([], {}, object()))

    def __len__(self) -> int:
        return sum(len(chunk.keys) for chunk in self._chunks)

    def __bool__(self) -> bool:
        return self._only is None or bool(self._only.keys)

    def __repr__(self) -> str:
        return f"SortedMap({dict(self.items())!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SortedMap) and self._chunks is other._chunks:
            return True
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __getitem__(self, key: K) -> V:
        return (self._only or self._chunks[bisect_right(self._firsts, key, 1) - 1]).values[key]

    @overload
    def get(self, key: K, /) -> V | None: ...

    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...

    def get(self, key: K, /, default: V | T | None = None) -> V | T | None:
        """Return the value of *key*, or *default*."""
        return (self._only or self._chunks[bisect_right(self._firsts, key, 1) - 1]).values.get(key, default)

    def __contains__(self, key: Any) -> bool:
        return key in (self._only or self._chunks[bisect_right(self._firsts, key, 1) - 1]).values

    def __setitem__(self, key: K, value: V) -> None:
        chunk = self._only or self._chunks[bisect_right(self._firsts, key, 1) - 1]
        if chunk.owner is not self._owner:
            chunk = self._own(chunk, key)
        if key not in chunk.values:
            insort(chunk.keys, key)
        chunk.values[key] = value
        if len(chunk.keys) > LARGEST:
            self._split(key)

    def __delitem__(self, key: K) -> None:
        chunk = self._only or self._chunks[bisect_right(self._firsts, key, 1) - 1]
        if key not in chunk.values:
            raise KeyError(key)
        if chunk.owner is not self._owner:
            chunk = self._own(chunk, key)
        del chunk.values[key]
        del chunk.keys[bisect_left(chunk.keys, key)]
        if not chunk.keys and self._only is None:
            at = self._index(key)
            self._replace(at, at + 1, [], [])

    def _split(self, key: K) -> None:
        """Cut the chunk of *key*, this map's own, into pieces."""
        at = self._index(key)
        old = self._chunks[at]
        cuts = [old.keys[i : i + PIECE] for i in range(0, len(old.keys), PIECE)]
        new = [Entries(keys, {k: old.values[k] for k in keys}, self._owner) for keys in cuts]
        self._replace(at, at + 1, [self._firsts[at], *(keys[0] for keys in cuts[1:])], new)

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(chunk.keys for chunk in self._chunks)

    def items(self) -> Items[K, V]:
        """Return the entries, in the order of the keys."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Return the values, in the order of the keys."""
        return _Values(self)

    def last(self) -> K:
        """Return the highest key. Raises IndexError where there is none."""
        return self._chunks[-1].keys[-1]

    def between(self, low: K, high: K) -> list[K]:
        """Return the keys from *low* on, before *high*, in order."""
        chunk = self._only or self._chunks[bisect_right(self._firsts, low, 1) - 1]
        i = bisect_left(chunk.keys, low)
        k = bisect_left(chunk.keys, high, i)
        if k < len(chunk.keys) or self._only is not None:
            return chunk.keys[i:k]
        return list(takewhile(lambda key: key < high, (key for key, _ in self.above(low))))

    def above(self, key: K) -> Iterator[tuple[K, V]]:
        """Yield the entries from *key* on, in order. Do not change the map meanwhile."""
        first = self._index(key)
        for chunk in self._chunks[first:]:
            at = bisect_left(chunk.keys, key) if chunk is self._chunks[first] else 0
            for k in chunk.keys[at:]:
                yield k, chunk.values[k]

    def below(self, key: K) -> Iterator[tuple[K, V]]:
        """Yield the entries before *key*, the last first. Do not change the map meanwhile."""
        for n in range(self._index(key), -1, -1):
            chunk = self._chunks[n]
            for at in range(bisect_left(chunk.keys, key) - 1, -1, -1):
                yield chunk.keys[at], chunk.values[chunk.keys[at]]

    def keys_of_unshared(self, other: SortedMap[K, V]) -> Iterator[K]:
        """Yield the keys whose chunks *other* does not share: all that may have another value there, or none."""
        shared = set(other.chunks())
        return chain.from_iterable(chunk.keys for chunk in self._chunks if chunk not in shared)


class _Items(Items[K, V]):
    """The entries; a chunk at a time."""

    __slots__ = ()
    _mapping: SortedMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(chunk.items() for chunk in self._mapping.chunks())


class _Values(ValuesView[V]):
    """The values; a chunk at a time."""

    __slots__ = ()
    _mapping: SortedMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(chunk.in_order() for chunk in self._mapping.chunks())
