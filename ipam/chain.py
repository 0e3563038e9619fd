"""The subnets of one namespace in order of creation: a further one is used when those before it are full.

A link has one ledger per family; who gets an address gets one of every family of the same link, or none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ipam.address import Address
from ipam.ledger import Ledger
from ipam.pool import AddressHeld, AddressRange

Link = tuple[Ledger, ...]


class Grant(NamedTuple):
    """Addresses given together, lowest family first, and the place in the chain of the link they are from."""

    link: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The ledgers of a namespace. Every change gives a new chain."""

    links: tuple[Link, ...] = ()

    def extend(self, link: Link) -> Chain:
        """This chain with a further link at its end."""
        return Chain((*self.links, link))

    def allocate(self, owner: str, now: float) -> tuple[Grant | None, Chain]:
        """Addresses from the first link that has one free in every family; None when all are full."""
        for at, link in enumerate(self.links):
            changed: list[Ledger] = []
            given: list[Address] = []
            for ledger in link:
                address, ledger = ledger.allocate(owner, now)
                if address is None:
                    break
                changed.append(ledger)
                given.append(address)
            else:
                return Grant(at, tuple(given)), self._swap(at, tuple(changed))
        return None, self

    def claim(self, at: int, owner: str, addresses: Iterable[Address]) -> Chain:
        """Give exactly these addresses of one link, all or none.

        Raises:
            AddressHeld: somebody else holds one.
            ValueError: an address is not a usable one of that link, or the owner holds another one there.
        """
        link = self.links[at]
        for address in addresses:
            place = next((i for i, ledger in enumerate(link) if ledger.is_usable(address)), None)
            if place is None:
                subnets = ", ".join(str(ledger.subnet) for ledger in link)
                raise ValueError(f"address {address} cannot be given in {subnets}")
            link = (*link[:place], link[place].claim(address, owner), *link[place + 1 :])
        return self._swap(at, link)

    def release(self, owner: str, until: float) -> Chain:
        """Take back all that an owner holds and let it rest."""
        return Chain(tuple(tuple(ledger.release(owner, until) for ledger in link) for link in self.links))

    def rest(self, address: Address, until: float, owner: str = "") -> Chain:
        """Let a free address rest; nothing happens when it is held or in no subnet of the chain."""
        return Chain(tuple(tuple(ledger.rest(address, until, owner) for ledger in link) for link in self.links))

    def expire(self, now: float) -> Chain:
        """This chain with every rest ended that ends at or before ``now``."""
        return Chain(tuple(tuple(ledger.expire(now) for ledger in link) for link in self.links))

    def set_aside(self, ranges: Iterable[AddressRange]) -> Chain:
        """Keep these addresses from :meth:`allocate`; replaces what was set aside before."""
        spans = tuple(ranges)
        return Chain(tuple(tuple(ledger.set_aside(spans) for ledger in link) for link in self.links))

    def go_on(self, address: Address, leap: int) -> Chain:
        """This chain with the search in the address's subnet going on ``leap`` addresses behind it."""
        return Chain(tuple(tuple(ledger.go_on(address, leap) for ledger in link) for link in self.links))

    def ledgers(self) -> Iterator[Ledger]:
        """Every ledger, link by link."""
        for link in self.links:
            yield from link

    def holder(self, address: Address) -> str | None:
        """Who holds an address."""
        return next((who for ledger in self.ledgers() if (who := ledger.holder(address)) is not None), None)

    @property
    def soonest(self) -> float:
        """No rest ends before this time."""
        return min((ledger.soonest for ledger in self.ledgers()), default=float("inf"))

    def _swap(self, at: int, link: Link) -> Chain:
        return Chain((*self.links[:at], link, *self.links[at + 1 :]))


__all__ = ["AddressHeld", "Chain", "Grant", "Link"]
