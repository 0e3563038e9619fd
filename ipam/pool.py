"""Pools of single addresses: SNAT addresses, virtual addresses of services.

Time is an argument: seconds on whatever clock the caller keeps; a pool only compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from typing import NamedTuple

from ipam.address import Address, Family, parse_address, parse_prefix
from ipam.persistent import Numbers, Table


class AddressRange(NamedTuple):
    """Consecutive addresses of one family, both ends included."""

    family: Family
    first: int
    last: int

    def __str__(self) -> str:
        first, last = Address(self.family, self.first), Address(self.family, self.last)
        return str(first) if first == last else f"{first}-{last}"

    def covers(self, address: Address) -> bool:
        """Whether an address is one of them."""
        return address.family == self.family and self.first <= address.value <= self.last

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return self.last - self.first + 1


class AddressHeld(ValueError):
    """An address asked for belongs to somebody else."""

    def __init__(self, address: Address, holder: str) -> None:
        super().__init__(f"address {address} is held by {holder}")
        self.address = address
        self.holder = holder


def parse_ranges(text: str) -> tuple[AddressRange, ...]:
    """``"10.0.0.1-10.0.0.9, 10.1.0.0/28, fd00::5"`` → ranges, in the order written.

    A prefix means all of its addresses.

    Raises:
        ValueError: something in the list is no address, range or prefix; a range runs backwards or across families;
            two entries overlap; the list is empty.
    """
    ranges = [_parse_range(part.strip()) for part in text.split(",") if part.strip()]
    if not ranges:
        raise ValueError(f"{text!r} names no address; write addresses, FIRST-LAST ranges or prefixes")
    ordered = sorted(ranges)
    for one, other in pairwise(ordered):
        if one.family == other.family and other.first <= one.last:
            raise ValueError(f"{one} overlaps {other} in {text!r}")
    return tuple(ranges)


def _parse_range(text: str) -> AddressRange:
    if "/" in text:
        prefix = parse_prefix(text)
        return AddressRange(prefix.family, prefix.value, prefix.last)
    head, _, tail = text.partition("-")
    first = parse_address(head)
    last = parse_address(tail) if tail else first
    if first.family != last.family or first.value > last.value:
        raise ValueError(f"{text!r} is not FIRST-LAST of one family with FIRST not above LAST")
    return AddressRange(first.family, first.value, last.value)


class Usage(NamedTuple):
    """How many addresses are free, held and resting."""

    free: int
    held: int
    resting: int


@dataclass(frozen=True, slots=True)
class IpPool:
    """Addresses handed out singly, lowest free first in the order of the ranges; one address per owner and family.

    A released address may rest: others are given before it, and it only where there is no other. One whose rest has no
    end (``inf``) is kept from :meth:`allocate` until it is given another.
    """

    ranges: tuple[AddressRange, ...]
    _used: tuple[Numbers, ...]  # one set of offsets per range, of addresses held or resting
    _owners: Table[tuple[str, int], Address] = field(default_factory=Table)
    _holders: Table[Address, str] = field(default_factory=Table)
    _resting: Table[Address, float] = field(default_factory=Table)  # until when

    @classmethod
    def of(cls, ranges: Iterable[AddressRange]) -> IpPool:
        """An unused pool."""
        ranges = tuple(ranges)
        return cls(ranges, tuple(Numbers() for _ in ranges))

    @property
    def size(self) -> int:
        """How many addresses the pool has in all."""
        return sum(r.size for r in self.ranges)

    @property
    def held(self) -> int:
        """How many addresses are given."""
        return len(self._holders)

    @property
    def families(self) -> frozenset[Family]:
        """Families it has addresses of."""
        return frozenset(span.family for span in self.ranges)

    def usage(self, family: Family) -> Usage:
        """Its addresses of one family, counted."""
        held = sum(1 for address in self._holders if address.family == family)
        resting = sum(1 for address in self._resting if address.family == family)
        size = sum(span.size for span in self.ranges if span.family == family)
        return Usage(size - held - resting, held, resting)

    def covers(self, address: Address) -> bool:
        """Whether an address is one of the pool's."""
        return any(span.covers(address) for span in self.ranges)

    def allocate(self, owner: str, family: Family = 4) -> tuple[Address | None, IpPool]:
        """The owner's address: the one it holds already, or the lowest free one, or, where none is free, the one whose
        rest ends first; None when the pool is exhausted."""
        if (own := self._owners.get((owner, family))) is not None:
            return own, self
        for at, span in enumerate(self.ranges):
            if span.family != family:
                continue
            offset = self._used[at].gap(0, span.size - 1)
            if offset is not None:
                address = Address(family, span.first + offset)
                return address, self._give(at, address, owner)
        rests = [(until, a) for a, until in self._resting.items() if a.family == family and until < inf]
        if not rests:
            return None, self
        _, address = min(rests)
        return address, self._give(self._place(address), address, owner)

    def claim(self, address: Address, owner: str) -> IpPool:
        """Give exactly this address, resting or not.

        Raises:
            AddressHeld: somebody else has it.
            ValueError: it is not in the pool, or the owner has another one of that family.
        """
        holder = self._holders.get(address)
        if holder == owner:
            return self
        if holder is not None:
            raise AddressHeld(address, holder)
        if (own := self._owners.get((owner, address.family))) is not None:
            raise ValueError(f"{owner} holds {own} already; release it before claiming {address}")
        if not self.covers(address):
            raise ValueError(f"address {address} is not in the pool {', '.join(map(str, self.ranges))}")
        return self._give(self._place(address), address, owner)

    def release(self, owner: str) -> IpPool:
        """Take back all that an owner holds; nothing happens when it holds nothing."""
        pool = self
        for family in (4, 6):
            address = pool._owners.get((owner, family))
            if address is not None:
                pool = pool._free(address)
        return pool

    def rest(self, address: Address, until: float) -> IpPool:
        """Take an address of the pool back from whoever has it, and let it rest until a time instead of what was said
        before."""
        at = self._place(address)
        pool = self._free(address)
        used = pool._used[at].add(address.value - self.ranges[at].first)
        return replace(
            pool, _used=(*pool._used[:at], used, *pool._used[at + 1 :]), _resting=pool._resting.put(address, until)
        )

    def expire(self, now: float) -> IpPool:
        """This pool with every rest ended that ends at or before ``now``."""
        pool = self
        for address, until in self._resting.items():
            if until <= now:
                pool = pool._free(address)
        return pool

    def holder(self, address: Address) -> str | None:
        """Who has an address."""
        return self._holders.get(address)

    def rest_of(self, address: Address) -> float | None:
        """Until when an address rests, if it does."""
        return self._resting.get(address)

    def _place(self, address: Address) -> int:
        """The number of the range that an address of the pool is in."""
        return next(at for at, span in enumerate(self.ranges) if span.covers(address))

    def _free(self, address: Address) -> IpPool:
        at, owners, holder = self._place(address), self._owners, self._holders.get(address)
        used = self._used[at].remove(address.value - self.ranges[at].first)
        return replace(
            self,
            _used=(*self._used[:at], used, *self._used[at + 1 :]),
            _owners=owners if holder is None else owners.drop((holder, address.family)),
            _holders=self._holders.drop(address),
            _resting=self._resting.drop(address),
        )

    def _give(self, at: int, address: Address, owner: str) -> IpPool:
        used = self._used[at].add(address.value - self.ranges[at].first)
        return replace(
            self,
            _used=(*self._used[:at], used, *self._used[at + 1 :]),
            _owners=self._owners.put((owner, address.family), address),
            _holders=self._holders.put(address, owner),
            _resting=self._resting.drop(address),
        )
