"""Addresses as plain integers with a family; text only at the edges.

A family is 4 or 6 everywhere, and a thing that has "an address" has a tuple of them: there is never "the IP".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import netaddr

Family = Literal[4, 6]

WIDTH: Final[dict[int, int]] = {4: 32, 6: 128}
"""Bits of an address, by family."""


class Address(NamedTuple):
    """One IPv4 or IPv6 address. Sorts by family, then value."""

    family: Family
    value: int

    def __str__(self) -> str:
        if self.family == 4:  # members of services are written by the thousand, and this is many times as fast
            value = self.value
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return str(netaddr.IPAddress(self.value, self.family))


class Prefix(NamedTuple):
    """A network: ``value`` has no bits set below ``length``."""

    family: Family
    value: int
    length: int

    def __str__(self) -> str:
        return f"{netaddr.IPAddress(self.value, self.family)}/{self.length}"

    @property
    def mask(self) -> int:
        """The netmask as an integer."""
        width = WIDTH[self.family]
        return ((1 << self.length) - 1) << (width - self.length)

    @property
    def last(self) -> int:
        """The highest address value inside."""
        return self.value | ((1 << (WIDTH[self.family] - self.length)) - 1)

    def covers(self, other: Address | Prefix) -> bool:
        """Whether an address, or the whole of another prefix, is inside."""
        if isinstance(other, Prefix) and other.length < self.length:
            return False
        return other.family == self.family and self.value <= other.value <= self.last

    def __contains__(self, other: object) -> bool:
        return isinstance(other, Address | Prefix) and self.covers(other)

    def overlaps(self, other: Prefix) -> bool:
        """Whether any address is in both."""
        return self.family == other.family and self.value <= other.last and other.value <= self.last


class Interface(NamedTuple):
    """An address together with the length of the prefix it sits in, as on a network interface."""

    family: Family
    value: int
    length: int

    def __str__(self) -> str:
        return f"{netaddr.IPAddress(self.value, self.family)}/{self.length}"

    @property
    def address(self) -> Address:
        """The address alone."""
        return Address(self.family, self.value)

    @property
    def prefix(self) -> Prefix:
        """The network the address sits in."""
        shift = WIDTH[self.family] - self.length
        return Prefix(self.family, (self.value >> shift) << shift, self.length)


@lru_cache(1 << 16)
def parse_address(text: str) -> Address:
    """``"10.4.0.2"`` → Address.

    Raises:
        ValueError: not an IPv4 or IPv6 address in its usual notation.
    """
    try:
        ip = netaddr.IPAddress(text.strip(), flags=netaddr.INET_PTON)
    except (netaddr.AddrFormatError, ValueError, TypeError) as error:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from error
    return Address(ip.version, int(ip))


def parse_interface(text: str) -> Interface:
    """``"10.4.0.2/24"`` → Interface.

    Raises:
        ValueError: no such address, no length, or a length out of range.
    """
    head, slash, tail = text.strip().partition("/")
    address = parse_address(head)
    if not slash or not tail.isdigit() or int(tail) > WIDTH[address.family]:
        raise ValueError(f"{text!r} is not ADDRESS/LENGTH with a length of 0 to {WIDTH[address.family]}")
    return Interface(address.family, address.value, int(tail))


def parse_prefix(text: str) -> Prefix:
    """``"10.4.0.0/16"`` → Prefix.

    Raises:
        ValueError: not a prefix, or bits set below its length (the message names the prefix meant).
    """
    interface = parse_interface(text)
    prefix = interface.prefix
    if prefix.value != interface.value:
        raise ValueError(f"{text!r} has bits set below its length; did you mean {prefix}?")
    return prefix
