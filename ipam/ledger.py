"""Who has which address of one subnet.

Addresses are given in turn: the search starts after the one given last and wraps, so that a released address is the
last to come back. On top of that it rests: nobody but its former owner gets it before a given time. The network
address, the gateway (the first host address) and the broadcast address (IPv4) are never given.

Time is an argument: seconds on whatever clock the caller keeps; the ledger only compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ipam.address import WIDTH, Address, Interface, Prefix
from ipam.persistent import Numbers, Table
from ipam.pool import AddressHeld, AddressRange


class Rest(NamedTuple):
    """Until when an address rests, and who had it (empty: not known any more)."""

    until: float
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One subnet: held, resting and free addresses. Every change gives a new ledger and costs microseconds."""

    subnet: Prefix
    cursor: int = 1  # offset of the address given last
    soonest: float = float("inf")  # no rest ends before this time
    _busy: Numbers = field(default_factory=Numbers)  # offsets held or resting
    _held: Table[int, str] = field(default_factory=Table)
    _owners: Table[str, int] = field(default_factory=Table)
    _resting: Table[int, Rest] = field(default_factory=Table)
    _aside: tuple[AddressRange, ...] = ()

    @classmethod
    def of(cls, subnet: Prefix) -> Ledger:
        """A ledger with every usable address free.

        Raises:
            ValueError: the subnet has no usable address beside its gateway.
        """
        ledger = cls(subnet)
        if ledger.usable < 1:
            limit = WIDTH[subnet.family] - 2
            raise ValueError(f"subnet {subnet} is too small for a gateway and a pod: its length is more than /{limit}")
        return ledger

    @classmethod
    def rebuild(
        cls,
        subnet: Prefix,
        held: Mapping[str, Address],
        resting: Mapping[Address, Rest] | None = None,
        last: Address | None = None,
    ) -> Ledger:
        """The ledger that shows exactly these holders and rests; ``last`` is the address given last, if known.

        Raises:
            AddressHeld: two owners show the same address.
            ValueError: an address is not a usable one of the subnet.
        """
        ledger = cls.of(subnet)
        for owner, address in sorted(held.items(), key=lambda item: (item[1], item[0])):
            ledger = ledger.claim(address, owner)
        for address, rest in sorted((resting or {}).items()):
            ledger = ledger.rest(address, rest.until, rest.owner)
        return replace(ledger, cursor=1 if last is None else last.value - subnet.value)

    @property
    def gateway(self) -> Interface:
        """The router's address in the subnet."""
        return Interface(self.subnet.family, self.subnet.value + 1, self.subnet.length)

    @property
    def _end(self) -> int:
        """The highest usable offset."""
        return self.subnet.last - self.subnet.value - (1 if self.subnet.family == 4 else 0)

    @property
    def usable(self) -> int:
        """How many addresses can be given in all."""
        return self._end - 1

    @property
    def held(self) -> int:
        """How many addresses have an owner."""
        return len(self._held)

    @property
    def resting(self) -> int:
        """How many addresses rest."""
        return len(self._resting)

    @property
    def free(self) -> int:
        """How many addresses neither have an owner nor rest (those set aside count as free)."""
        return self.usable - self.held - self.resting

    def holders(self) -> dict[Address, str]:
        """Owner of every held address, sorted by address."""
        return {self._address(offset): self._held[offset] for offset in sorted(self._held)}

    def rests(self) -> dict[Address, Rest]:
        """Every resting address, sorted."""
        return {self._address(offset): self._resting[offset] for offset in sorted(self._resting)}

    def address(self, owner: str) -> Address | None:
        """The address an owner holds."""
        offset = self._owners.get(owner)
        return None if offset is None else self._address(offset)

    def holder(self, address: Address) -> str | None:
        """Who holds an address."""
        return self._held.get(address.value - self.subnet.value) if self.subnet.covers(address) else None

    def rest_of(self, address: Address) -> Rest | None:
        """The rest of an address, if it rests."""
        return self._resting.get(address.value - self.subnet.value) if self.subnet.covers(address) else None

    def is_usable(self, address: Address) -> bool:
        """Whether an address of the subnet can be given at all."""
        return self.subnet.covers(address) and 2 <= address.value - self.subnet.value <= self._end

    def lowest_free(self, span: AddressRange) -> Address | None:
        """The lowest address of a range that nobody holds and that does not rest, set aside or not."""
        base = self.subnet.value
        offset = self._busy.gap(max(2, span.first - base), min(self._end, span.last - base))
        return None if offset is None else self._address(offset)

    def allocate(self, owner: str, now: float) -> tuple[Address | None, Ledger]:
        """The owner's address: the one it holds already, or the next free one; None when none is free at ``now``."""
        if (own := self._owners.get(owner)) is not None:
            return self._address(own), self
        ledger = self.expire(now)
        start = max(2, ledger.cursor + 1)
        offset = ledger._gap(start, ledger._end)
        if offset is None:
            offset = ledger._gap(2, min(start - 1, ledger._end))
        if offset is None:
            return None, ledger
        return self._address(offset), replace(ledger._give(offset, owner), cursor=offset)

    def claim(self, address: Address, owner: str) -> Ledger:
        """Give exactly this address, resting or set aside or not; the caller knows why it may.

        Raises:
            AddressHeld: somebody else holds it.
            ValueError: it is not a usable address of the subnet, or the owner holds another one.
        """
        if not self.is_usable(address):
            raise ValueError(f"address {address} cannot be given in subnet {self.subnet}")
        offset = address.value - self.subnet.value
        holder = self._held.get(offset)
        if holder == owner:
            return self
        if holder is not None:
            raise AddressHeld(address, holder)
        if (own := self._owners.get(owner)) is not None:
            raise ValueError(f"{owner} holds {self._address(own)} already; release it before claiming {address}")
        return self._give(offset, owner)

    def release(self, owner: str, until: float) -> Ledger:
        """Take back an owner's address and let it rest; nothing happens when it holds none."""
        offset = self._owners.get(owner)
        if offset is None:
            return self
        ledger = replace(self, _held=self._held.drop(offset), _owners=self._owners.drop(owner))
        return ledger._lay(offset, Rest(until, owner))

    def rest(self, address: Address, until: float, owner: str = "") -> Ledger:
        """Let a free address rest, or rest longer; nothing happens when it is held or cannot be given."""
        if not self.is_usable(address) or self.holder(address) is not None:
            return self
        return self._lay(address.value - self.subnet.value, Rest(until, owner))

    def expire(self, now: float) -> Ledger:
        """This ledger with every rest ended that ends at or before ``now``."""
        if now < self.soonest:
            return self
        busy, resting = self._busy, self._resting
        for offset, rest in self._resting.items():
            if rest.until <= now:
                resting = resting.drop(offset)
                busy = busy.remove(offset)
        soonest = min((rest.until for rest in resting.values()), default=float("inf"))
        return replace(self, _busy=busy, _resting=resting, soonest=soonest)

    def go_on(self, address: Address, leap: int = 0) -> Ledger:
        """This ledger with its search going on ``leap`` addresses behind one, at most an eighth of the subnet."""
        if not self.is_usable(address):
            return self
        place = address.value - self.subnet.value - 2 + min(leap, self.usable // 8)
        return replace(self, cursor=place % self.usable + 2)

    def set_aside(self, ranges: Iterable[AddressRange]) -> Ledger:
        """Keep these addresses from :meth:`allocate`; they can still be claimed. Replaces what was set aside before."""
        own = (span for span in ranges if span.family == self.subnet.family)
        inside = (span for span in own if span.last >= self.subnet.value and span.first <= self.subnet.last)
        return replace(self, _aside=tuple(sorted(inside)))

    def _gap(self, first: int, last: int) -> int | None:
        """The lowest offset of a stretch that is free and not set aside."""
        while (offset := self._busy.gap(first, last)) is not None:
            value = self.subnet.value + offset
            over = [span.last for span in self._aside if span.first <= value <= span.last]
            if not over:
                return offset
            first = max(over) - self.subnet.value + 1
        return None

    def _address(self, offset: int) -> Address:
        return Address(self.subnet.family, self.subnet.value + offset)

    def _give(self, offset: int, owner: str) -> Ledger:
        return replace(
            self,
            _busy=self._busy.add(offset),
            _held=self._held.put(offset, owner),
            _owners=self._owners.put(owner, offset),
            _resting=self._resting.drop(offset),
        )

    def _lay(self, offset: int, rest: Rest) -> Ledger:
        return replace(
            self,
            _busy=self._busy.add(offset),
            _resting=self._resting.put(offset, rest),
            soonest=min(self.soonest, rest.until),
        )
