"""Two small persistent collections: every change gives a new value and shares almost all of the old one.

They make ledgers cheap to change: one allocation among 10,000 copies a few dozen entries, not 10,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_SHARDS: Final = 128
_EMPTY: Final[dict[Any, Any]] = {}
_PAGE: Final = 1024  # numbers in one page of Numbers
_FULL: Final = (1 << _PAGE) - 1


class Table(Mapping[K, V], Generic[K, V]):
    """An immutable mapping with cheap :meth:`put` and :meth:`drop`.

    Iteration order is not defined (string hashes differ from run to run): sort before showing anything.
    """

    __slots__ = ("_len", "_shards")

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        shards: list[dict[K, V]] = [_EMPTY] * _SHARDS
        for key, value in items.items() if isinstance(items, Mapping) else items:
            at = hash(key) % _SHARDS
            if shards[at] is _EMPTY:
                shards[at] = {}
            shards[at][key] = value
        self._shards = tuple(shards)
        self._len = sum(map(len, shards))

    def _with(self, at: int, shard: dict[K, V], length: int) -> Table[K, V]:
        new: Table[K, V] = object.__new__(Table)
        new._shards = (*self._shards[:at], shard, *self._shards[at + 1 :])
        new._len = length
        return new

    def put(self, key: K, value: V) -> Table[K, V]:
        """This table with ``key`` set to ``value``."""
        at = hash(key) % _SHARDS
        old = self._shards[at]
        return self._with(at, {**old, key: value}, self._len + (key not in old))

    def drop(self, key: K) -> Table[K, V]:
        """This table without ``key``; itself when the key is not there."""
        at = hash(key) % _SHARDS
        old = self._shards[at]
        if key not in old:
            return self
        shard = dict(old)
        del shard[key]
        return self._with(at, shard, self._len - 1)

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) % _SHARDS][key]

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._len

    def __hash__(self) -> int:
        raise TypeError("a Table is not hashable")

    def __repr__(self) -> str:
        return f"Table({dict(self)!r})"


class Numbers:
    """An immutable set of non-negative integers that finds its lowest gap fast, however far apart its members are."""

    __slots__ = ("_len", "_pages")

    def __init__(self, members: Iterable[int] = ()) -> None:
        pages: dict[int, int] = {}
        for n in members:
            pages[n // _PAGE] = pages.get(n // _PAGE, 0) | 1 << (n % _PAGE)
        self._pages = pages
        self._len = sum(bits.bit_count() for bits in pages.values())

    def _with(self, page: int, bits: int, length: int) -> Numbers:
        new = object.__new__(Numbers)
        new._pages = {**self._pages, page: bits}
        if not bits:
            del new._pages[page]
        new._len = length
        return new

    def add(self, n: int) -> Numbers:
        """This set and ``n``."""
        if n in self:
            return self
        page = n // _PAGE
        return self._with(page, self._pages.get(page, 0) | 1 << (n % _PAGE), self._len + 1)

    def remove(self, n: int) -> Numbers:
        """This set without ``n``."""
        if n not in self:
            return self
        page = n // _PAGE
        return self._with(page, self._pages[page] & ~(1 << (n % _PAGE)), self._len - 1)

    def gap(self, first: int, last: int) -> int | None:
        """The lowest number from ``first`` to ``last`` (both included) that is not a member."""
        while first <= last:
            page, offset = divmod(first, _PAGE)
            free = ~self._pages.get(page, 0) & (_FULL >> offset << offset)
            if free:
                n = page * _PAGE + (free & -free).bit_length() - 1
                return n if n <= last else None
            first = (page + 1) * _PAGE
        return None

    def __contains__(self, n: object) -> bool:
        return isinstance(n, int) and bool(self._pages.get(n // _PAGE, 0) >> (n % _PAGE) & 1)

    def __iter__(self) -> Iterator[int]:
        for page in sorted(self._pages):
            bits = self._pages[page]
            while bits:
                low = bits & -bits
                yield page * _PAGE + low.bit_length() - 1
                bits ^= low

    def __len__(self) -> int:
        return self._len

    def __eq__(self, other: object) -> bool:
        return self._pages == other._pages if isinstance(other, Numbers) else NotImplemented

    def __hash__(self) -> int:
        raise TypeError("Numbers are not hashable")

    def __repr__(self) -> str:
        return f"Numbers({list(self)!r})"
