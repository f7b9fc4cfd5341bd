"""Chunked: what the big containers of a machine share, a row of chunks that copies have in common until one writes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Generic, Protocol, Self, TypeVar


class Ordered(Protocol):
    """What a key has to be: one that knows whether it is lower than another."""

    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Ordered)

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
