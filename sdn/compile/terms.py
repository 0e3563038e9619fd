"""Match terms and small action sequences that several compilers share."""

from __future__ import annotations

from typing import Final

from ipam.address import Address, Prefix
from sdn.model import Origin
from sdn.pipeline.flow import Action, CopyField, DecTtl, Flow, Goto, Match, SetField, Term
from sdn.pipeline.tables import T

ETH_IPV4: Final[Term] = ("eth_type", 0x0800, None)
ETH_ARP: Final[Term] = ("eth_type", 0x0806, None)
ETH_IPV6: Final[Term] = ("eth_type", 0x86DD, None)
ICMPV4: Final[Match] = (ETH_IPV4, ("ip_proto", 1, None))
ICMPV6: Final[Match] = (ETH_IPV6, ("ip_proto", 58, None))
ETH_IP: Final[dict[int, Term]] = {4: ETH_IPV4, 6: ETH_IPV6}

TTL_EXCEEDED: Final = b"\x01"
TOO_BIG: Final = b"\x02"
"""First byte of the userdata of a packet sent to the controller: what to answer."""

SWAP_ETH: Final[tuple[Action, ...]] = (CopyField("eth_src", "eth_dst", 48),)
"""Send back to the sender; the caller then sets ``eth_src``."""


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


def route_priority(prefix: Prefix) -> int:
    """Longest prefix first; IPv4 and IPv6 lengths are never compared with each other."""
    return 100 + prefix.length


def link_local(mac: int) -> Address:
    """The IPv6 link-local address a kernel makes from a MAC address (modified EUI-64, RFC 4291 appendix A)."""
    high, low = mac >> 24, mac & 0xFFFFFF
    interface = ((high ^ 0x020000) << 40) | (0xFFFE << 24) | low
    return Address(6, (0xFE80 << 112) | interface)


def answer_arp(mac: int, address: Address) -> tuple[Action, ...]:
    """Turn an ARP request for ``address`` into its reply (RFC 826)."""
    return (
        CopyField("eth_src", "eth_dst", 48),
        SetField("eth_src", mac),
        SetField("arp_op", 2),
        CopyField("arp_sha", "arp_tha", 48),
        SetField("arp_sha", mac),
        CopyField("arp_spa", "arp_tpa", 32),
        SetField("arp_spa", address.value),
    )


def answer_solicitation(mac: int, address: Address, *, router: bool) -> tuple[Action, ...]:
    """Turn a neighbour solicitation into its advertisement, finished in table nd_reply (RFC 4861 section 4.4)."""
    flags = 0xE0000000 if router else 0x60000000  # R, S, O
    return (
        CopyField("eth_src", "eth_dst", 48),
        SetField("eth_src", mac),
        CopyField("ipv6_src", "ipv6_dst", 128),
        SetField("ipv6_src", address.value),
        SetField("nd_options_type", 2),  # the source link-layer option becomes the target's
        SetField("nd_reserved", flags),
        SetField("icmpv6_type", 136),
        goto("nd_reply"),
    )


DEC_TTL: Final = DecTtl()
