"""Who has which address of named pools, and what objects show of that. No clock, no I/O, no thread.

An address counts as free only when no object shows it any more, whatever became of the writes: two objects never show one
address because of us. For a while after that others are given before it, as long as there are others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from math import inf
from typing import Final, Generic, TypeVar

from ipam.address import Address, Family
from ipam.pool import IpPool, Usage
from ncp.settings_types import AddressPool

K = TypeVar("K", bound=Hashable)


class Holdings(Generic[K]):
    """Addresses of pools by holder. ``freed`` is set when one comes back; whoever reads it resets it.

    ``name`` says how the holder under a key is called; no two may be called the same. ``rest``: seconds others are given
    before an address that was released.
    """

    def __init__(self, pools: Iterable[AddressPool], rest: float, name: Callable[[K], str]) -> None:
        self.pools = {pool.name: IpPool.of(pool.ranges) for pool in pools}
        self.rest = rest
        self.given: dict[K, tuple[str, dict[Family, Address]]] = {}  # uid, and addresses by family
        self.freed = False
        self._name: Final = name
        self._shown: dict[Address, set[K]] = {}  # by address of the pools: objects that are at it
        self._moved: set[Address] = set()  # addresses that an object came to be at, or ceased to

    # -- looking ------------------------------------------------------------------------------------------------------

    def pool_of(self, address: Address) -> str | None:
        """The pool that has an address."""
        return next((name for name, pool in self.pools.items() if pool.covers(address)), None)

    def ours(self, addresses: Iterable[Address | None]) -> list[Address]:
        """Those of them that are of the pools, each once."""
        return list(dict.fromkeys(each for each in addresses if each and self.pool_of(each)))

    def held(self, key: K) -> dict[Family, Address]:
        """What an object has, by family; a copy."""
        return dict(self.given.get(key, ("", {}))[1])

    def uid(self, key: K) -> str:
        """The uid of the object that has something under a key; empty where none has."""
        return self.given.get(key, ("", {}))[0]

    def holder(self, address: Address) -> str | None:
        """What the object is called that has an address."""
        name = self.pool_of(address)
        return None if name is None else self.pools[name].holder(address)

    def others_at(self, address: Address, key: K) -> list[str]:
        """What other objects are called that are at an address, whether they may or not."""
        return sorted(self._name(each) for each in self._shown.get(address, set()) - {key})

    def usage(self) -> list[tuple[str, Family, Usage]]:
        """Addresses of each pool and family, counted."""
        return [(name, f, pool.usage(f)) for name, pool in sorted(self.pools.items()) for f in sorted(pool.families)]

    # -- changing -----------------------------------------------------------------------------------------------------

    def see(self, key: K, before: Iterable[Address], after: Iterable[Address]) -> None:
        """An object is at addresses of the pools, and was at others before."""
        before, after = tuple(before), tuple(after)
        for address in before:
            self._shown[address].discard(key)
        for address in after:
            self._shown.setdefault(address, set()).add(key)
        self._moved.update(before, after)

    def expire(self, now: float) -> None:
        """End the rests that are over."""
        self.pools = {name: pool.expire(now) for name, pool in self.pools.items()}

    def hold(self, key: K, uid: str, address: Address) -> None:
        """Give an address of the pools.

        Raises:
            AddressHeld: another has it.
            ValueError: the object has another one of that family from the same pool.
        """
        name = self.pool_of(address)
        assert name is not None
        self.pools[name] = self.pools[name].claim(address, self._name(key))
        self.given.setdefault(key, (uid, {}))[1][address.family] = address

    def allocate(self, key: K, uid: str, family: Family, names: Iterable[str]) -> Address | None:
        """Give the next free address of the first of these pools that has one; None: none has."""
        for name in names:
            address, _ = self.pools[name].allocate(self._name(key), family)
            if address is not None:
                self.hold(key, uid, address)
                return address
        return None

    def release(self, key: K, address: Address, now: float) -> None:
        """Take an address back from who has it."""
        _, held = self.given[key]
        del held[address.family]
        if not held:
            del self.given[key]
        self._lay_to_rest(address, now)

    def follow_shown(self, now: float) -> None:
        """Keep addresses aside that only an object's word has; those that none shows any more are free."""
        for address in sorted(self._moved):
            name = self.pool_of(address)
            if name is None or self.holder(address) is not None:
                continue
            if self._shown.get(address) or self.pools[name].rest_of(address) == inf:
                self._lay_to_rest(address, now)
            if not self._shown.get(address):
                self._shown.pop(address, None)
        self._moved.clear()

    def _lay_to_rest(self, address: Address, now: float) -> None:
        """Let an address rest that nobody has any more: for as long as an object shows it, and then for a while."""
        name = self.pool_of(address)
        if name is None:
            return
        until = inf if self._shown.get(address) else now + self.rest
        self.pools[name] = self.pools[name].rest(address, until)
        self.freed |= until < inf


def words(families: Iterable[Family]) -> str:
    """Families for people: ``IPv4 or IPv6``."""
    return " or ".join(f"IPv{family}" for family in families)
