"""Groups that choose among the members of a pool, evenly. Pure.

A pool is one group, where the switch's own hash can choose (``dp_hash``, up to :data:`SLOTS` members) with a second one for what its
slots leave over, or where one message holds it (``balancing.WHOLE``). A larger pool has two levels: a group of :data:`SHARES` shares,
each of which stands for one of the groups below, and these hold the members in chunks.

All buckets of a ``hash`` group weigh the same, because Open vSwitch gives a packet to the bucket with the highest product of hash
and weight, which is not in proportion to weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from heapq import heapify, heapreplace
from typing import Final

from sdn.compile.balancing import Pool
from sdn.pipeline import flow as f
from sdn.pipeline.registers import MEMBER
from sdn.pipeline.tables import T
from sdn.services import Algorithm

SLOTS: Final = 256
"""A switch chooses members by a table of this many slots at most; more members need a hash of every new connection."""
SPILL: Final = 1 << 31
"""This bit marks the group that shares out what the slots leave over."""
SHARES: Final = 1024
"""Buckets above chunks. The more they are, the closer to even: of 64 chunks, the most there are, each has about 16."""
LOWER: Final = 1
"""What hashes of groups below others begin with, so that they have nothing to do with the choice made above."""


def group_entries(
    number: int, pool: Pool, algorithm: Algorithm, chunks: Sequence[int | None] = ()
) -> tuple[f.GroupEntry, ...]:
    """The groups of a pool, each after those it names; the last is the pool's own and has its number.

    ``chunks`` are the numbers of the groups that the members of a large pool are shared out to. What the switch's own hash leaves
    over goes to a second group, which hashes every new connection and is exact.
    """
    marks = list(pool.members.values())
    if len(marks) < 2:
        return ()
    client = f"ipv{pool.family}_src"
    fields = (client,) if algorithm == "client" else (client, f"{pool.port.protocol}_src")
    if chunks:
        return _two_levels(number, marks, [each for each in chunks if each is not None], fields)
    if algorithm == "client" or len(marks) > SLOTS:
        return (f.GroupEntry(number, "select", _buckets(marks, 1), "hash", fields),)
    share, left = divmod(SLOTS, len(marks))
    whole = _buckets(marks, share)
    if not left:
        return (f.GroupEntry(number, "select", whole),)
    over = f.GroupEntry(number | SPILL, "select", _buckets(marks, 1), "hash", fields)
    # A bucket of weight 1 makes the switch use all its slots.
    spill = [f.Bucket(SPILL + n, (f.Group(over.id),), weight) for n, weight in enumerate((1, left - 1)) if weight]
    return over, f.GroupEntry(number, "select", (*whole, *spill))


def _buckets(marks: Iterable[int], weight: int) -> tuple[f.Bucket, ...]:
    return tuple([_bucket(mark, weight) for mark in marks])


@lru_cache(1 << 16)
def _bucket(mark: int, weight: int) -> f.Bucket:
    return f.Bucket(mark, (MEMBER.set(mark), f.Resubmit(T["members"])), weight)


@lru_cache(1 << 16)
def _share(number: int, chunk: int) -> f.Bucket:
    return f.Bucket(number, (f.Group(chunk),), 1)


def _two_levels(
    number: int, marks: Iterable[int], chunks: Sequence[int], fields: tuple[str, ...]
) -> tuple[f.GroupEntry, ...]:
    inside: list[list[int]] = [[] for _ in chunks]
    count = len(chunks)
    for mark in marks:
        inside[chunk_of(mark, count)].append(mark)
    lower = [
        f.GroupEntry(chunk, "select", _buckets(those, 1), "hash", fields, LOWER)
        for chunk, those in zip(chunks, inside, strict=True)
    ]
    seats = apportioned([len(those) for those in inside], SHARES)
    shares = tuple(
        _share(place * SHARES + seat, chunk)
        for place, (chunk, own) in enumerate(zip(chunks, seats, strict=True))
        for seat in range(own)
    )
    return *lower, f.GroupEntry(number, "select", shares, "hash", fields)


def chunk_of(mark: int, chunks: int) -> int:
    """Which of so many chunks a member is in, by its own number alone.

    One chunk more splits one of those there were, and nobody else moves (linear hashing: Litwin, VLDB 1980).
    """
    above = 1 << (chunks - 1).bit_length()  # the smallest power of two that is not below
    place = mark & (above - 1)
    return place if place < chunks else place - above // 2


def apportioned(sizes: Sequence[int], seats: int) -> list[int]:
    """So many seats in proportion to sizes, by the method of Webster: who grows by one takes at most one seat from one other, as
    long as there are no more seats than all are together."""
    given = [0] * len(sizes)
    claims = [(-float(size), place) for place, size in enumerate(sizes)]
    heapify(claims)
    for _ in range(seats):
        place = claims[0][1]
        given[place] += 1
        heapreplace(claims, (-sizes[place] / (2 * given[place] + 1), place))
    return given
