"""What a router speaks BGP with, and what it hears, as frozen values. Pure.

Words are those of RFC 4271 and of FRR's manual.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipam.address import Address, Prefix

BFD_MULTIPLIER = 3
"""Intervals without a packet of BFD after which a neighbor is gone."""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A router to peer with. Routes of the family of its address are exchanged with it, no others."""

    address: Address
    asn: int  # equal to ours: internal BGP
    bfd: bool = True
    source: Address | None = None  # our end; none: what the kernel chooses
    password: str = ""  # TCP MD5 signature (RFC 2385); empty: none
    multihop: bool = False  # it is not on any link of ours
    keepalive: int = 1  # seconds between messages that say we are there
    hold: int = 3  # seconds without a message after which it is gone


@dataclass(frozen=True, slots=True)
class Speaker:
    """One router: who it is, whom it peers with, what it announces."""

    asn: int
    router_id: Address  # of IPv4: unique among the routers of an AS (RFC 6286)
    neighbors: tuple[Neighbor, ...] = ()
    prefixes: tuple[Prefix, ...] = ()  # announced, whether the kernel has routes to them or not
    learn: bool = True  # take routes from neighbors
    own: tuple[Prefix, ...] = ()  # nothing inside is taken from neighbors: it is reached in another way
    multipath: int = 8  # next hops of one route at most
    hostname: str = "ncp"
    bfd_interval: int = 300  # milliseconds between packets of BFD


@dataclass(frozen=True, slots=True)
class Peer:
    """A neighbor as the daemon sees it now."""

    address: Address
    asn: int
    state: str  # of RFC 4271 section 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm, Established
    reason: str = ""  # why it is not established, as far as known
    seconds: int = 0  # established for
    received: int = 0  # prefixes taken from it
    sent: int = 0  # prefixes announced to it
    bfd: str = ""  # up, down, init; empty: there is no BFD with it

    @property
    def up(self) -> bool:
        """Whether routes are exchanged with it."""
        return self.state == "Established"


@dataclass(frozen=True, slots=True)
class Learned:
    """A route that neighbors told us of, and the next hops chosen."""

    prefix: Prefix
    next_hops: tuple[Address, ...]
