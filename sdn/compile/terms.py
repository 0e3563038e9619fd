"""Match terms and small action sequences that several compilers share."""

from __future__ import annotations

from typing import Final

from ipam.address import Address, Prefix
from sdn.model import Origin
from sdn.pipeline.flow import Action, CopyField, DecTtl, Flow, Goto, Match, Term
from sdn.pipeline.registers import NEXT_HOP_V4, NEXT_HOP_V6
from sdn.pipeline.tables import T

ETH_IPV4: Final[Term] = ("eth_type", 0x0800, None)
ETH_ARP: Final[Term] = ("eth_type", 0x0806, None)
ETH_IPV6: Final[Term] = ("eth_type", 0x86DD, None)
ICMPV4: Final[Match] = (ETH_IPV4, ("ip_proto", 1, None))
ICMPV6: Final[Match] = (ETH_IPV6, ("ip_proto", 58, None))
ETH_IP: Final[dict[int, Term]] = {4: ETH_IPV4, 6: ETH_IPV6}

TTL_EXCEEDED: Final = b"\x01"
TOO_BIG: Final = b"\x02"
REJECTED: Final = b"\x03"
LOGGED: Final = b"\x04"
UNSERVED: Final = b"\x05"
SOURCE_TRANSLATED: Final = b"\x06"
"""First byte of the userdata of a packet sent to the controller: what to do with it."""

NEXT_HOPS: Final = {4: NEXT_HOP_V4, 6: NEXT_HOP_V6}
"""By family: the register of the address that is looked up."""


def goto(table: str) -> Goto:
    """Continue in the named table."""
    return Goto(T[table])


def flow(table: str, priority: int, match: Match, actions: tuple[Action, ...], origin: Origin) -> Flow:
    """A flow in the named table."""
    return Flow(T[table], priority, match, actions, origin)


def to_address(address: Address) -> Match:
    """Packets for one address."""
    name = "ipv4_dst" if address.family == 4 else "ipv6_dst"
    return (ETH_IP[address.family], (name, address.value, None))


def from_address(address: Address) -> Match:
    """Packets from one address."""
    name = "ipv4_src" if address.family == 4 else "ipv6_src"
    return (ETH_IP[address.family], (name, address.value, None))


def to_prefix(prefix: Prefix) -> Match:
    """Packets for any address of a prefix; length 0 means every address of the family."""
    if prefix.length == 0:
        return (ETH_IP[prefix.family],)
    name = "ipv4_dst" if prefix.family == 4 else "ipv6_dst"
    return (ETH_IP[prefix.family], (name, prefix.value, prefix.mask))


def from_prefix(prefix: Prefix) -> Match:
    """Packets from any address of a prefix; length 0 means every address of the family."""
    return tuple((name.replace("_dst", "_src"), value, mask) for name, value, mask in to_prefix(prefix))


def route_priority(prefix: Prefix) -> int:
    """Longest prefix first; IPv4 and IPv6 lengths are never compared with each other."""
    return 100 + prefix.length


def link_local(mac: int) -> Address:
    """The IPv6 link-local address a kernel makes from a MAC address (modified EUI-64, RFC 4291 appendix A)."""
    high, low = mac >> 24, mac & 0xFFFFFF
    interface = ((high ^ 0x020000) << 40) | (0xFFFE << 24) | low
    return Address(6, (0xFE80 << 112) | interface)


def next_hop(address: Address) -> Term:
    """Packets whose next hop is ``address``."""
    return NEXT_HOPS[address.family].match(address.value)


def next_hop_within(prefix: Prefix) -> Term:
    """Packets whose next hop is any address of a prefix."""
    return NEXT_HOPS[prefix.family].register, prefix.value, prefix.mask


TO_DESTINATION: Final[dict[int, Action]] = {
    4: CopyField("ipv4_dst", NEXT_HOP_V4.register, 32),
    6: CopyField("ipv6_dst", NEXT_HOP_V6.register, 128),
}
"""By family: the next hop is the destination itself, as on a connected route."""

DEC_TTL: Final = DecTtl()
