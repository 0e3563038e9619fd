"""The pipeline: read it like a table of contents.

To add a table: put it where packets should meet it, declare what it matches, writes and goes to and what a miss does,
say what it is for and what a traceflow observes there, then run ``make docs`` and add its flows in ``sdn.compile``.
Numbers, checks, names on the switch, ``docs/pipeline.md`` and traces follow from this file.
"""

from __future__ import annotations

from typing import Final

from firewall.rules import DIRECTIONS
from sdn.pipeline.firewall import firewall, stage
from sdn.pipeline.nat import NAT
from sdn.pipeline.registers import (
    DOMAIN,
    FIRST,
    HAIRPIN,
    HOST_PORT,
    KNOWN,
    MEMBER,
    NEXT_HOP_MAC,
    NEXT_HOP_V4,
    NEXT_HOP_V6,
    OUTPUT,
    OUTSIDE,
    OWN,
    OWNER,
    PEER,
    POOL,
    ROUTER,
    RULE,
    SEGMENT,
    SERVICE,
    SOURCE,
    TOO_BIG,
    ZONE,
)
from sdn.pipeline.services import SERVICES
from sdn.pipeline.spec import Miss, Pipeline, Table

_IP_DST = {"eth_type", "ipv4_dst", "ipv6_dst"}
_TTL = {"nw_ttl"}
_REPLY = {
    "eth_src", "eth_dst", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "nw_ttl", "icmpv4_type", "icmpv6_type",
}  # fmt: skip

_EGRESS: Final = firewall("egress", then="mtu")

PIPELINE: Final = Pipeline(
    fields=(
        *(SOURCE, TOO_BIG, KNOWN, FIRST, HAIRPIN, OUTSIDE, HOST_PORT, DOMAIN, OUTPUT, ZONE, SEGMENT, ROUTER),
        *(NEXT_HOP_V6, NEXT_HOP_V4, OWNER, NEXT_HOP_MAC, PEER, OWN, RULE, SERVICE, POOL, MEMBER),
    ),
    drops=(
        ("spoof-mac", "the source MAC address is not bound to the port, or the port is not a logical port"),
        ("spoof-ip", "the source IP address is not bound to the port"),
        ("spoof-arp", "the sender addresses inside an ARP packet are not bound to the port"),
        (
            "spoof-nd",
            "a neighbour solicitation whose link-layer address is not bound to the port, or any advertisement: "
            "the fabric advertises for pods, a pod never has to",
        ),
        ("ra-guard", "a pod may not advertise or redirect to routers"),
        (
            "nd-consumed",
            "a genuine advertisement or duplicate address probe: neighbours are answered by the fabric",
        ),
        ("ethertype", "neither IPv4, IPv6 nor ARP"),
        ("ct-invalid", "connection tracking finds that the packet belongs to no connection it could belong to"),
        ("unknown-sender", "the source is an address that only pods have, and no pod we know of has it"),
        ("arp-unanswered", "an ARP request for an address nobody on the segment has, or an ARP reply"),
        ("nd-unanswered", "a neighbour or router solicitation that nobody on the segment answers"),
        ("to-router", "sent to a logical router's own address, and not an echo request"),
        ("link-local", "a link-local or multicast address cannot be routed"),
        ("no-route", "no route leads to the destination in the sender's routing domain"),
        ("no-neighbour", "the destination is in a segment's subnet, and no port has that address"),
        ("multicast", "broadcast or multicast that the fabric does not carry"),
        ("unknown-mac", "no port of the segment has the destination MAC address"),
        ("no-member", "a connection to a virtual server whose member was given up in that moment"),
        (
            "no-local-member",
            "from outside to a service with externalTrafficPolicy Local that has no member on this node",
        ),
        ("source-range", "to a load balancer's address from outside its service's loadBalancerSourceRanges"),
        (
            "not-from-outside",
            "from outside to a pod that is somebody else there: it is reached by virtual servers and bindings alone",
        ),
        ("no-snat-address", "to the outside from a pod of a namespace that has no address there yet"),
        ("standby", "to the outside by an edge that is not the active one"),
        ("no-output", "the packet reached the end without a port to leave by"),
    ),
    tables=(
        Table(
            "classify",
            "Say where a packet comes from: a pod's port with its own MAC address, the node itself, or the tunnel; "
            "and put it on its segment, in its routing domain.",
            matches=frozenset({"in_port", "eth_src", "eth_type", "ipv4_src", "ipv6_src"}),
            writes=frozenset({"source", "outside", "domain", "segment", "router", "zone", "own"}),
            goes_to=("spoof_guard", "egress_track", "mtu", "l2_forward"),
            miss=Miss(reason="spoof-mac"),
            observes="received",
        ),
        Table(
            "spoof_guard",
            "Let a pod's port send only from the addresses bound to it.",
            matches=frozenset(
                {
                    "in_port",
                    "eth_type",
                    "ipv4_src",
                    "ipv6_src",
                    "arp_spa",
                    "arp_sha",
                    "ip_proto",
                    "icmpv6_type",
                }
            ),
            goes_to=("nd_guard", "egress_track", "mtu"),
            miss=Miss(reason="ethertype"),
            observes="spoof guard",
        ),
        Table(
            "nd_guard",
            "Let a pod's port speak only for itself in IPv6 neighbour discovery, and never as a router.",
            matches=frozenset({"in_port", "eth_type", "ipv6_dst", "ip_proto", "icmpv6_type", "nd_sll"}),
            goes_to=("mtu",),
            miss=Miss(table="egress_track"),
            observes="spoof guard",
        ),
        *_EGRESS[:2],
        *SERVICES,
        *_EGRESS[2:],
        Table(
            "mtu",
            "Measure IP packets against the tunnel. The switch follows a packet both ways from here (it fits; it does not), "
            "and credits both to the flows they meet: so the next table parts them at once, and only its flow for what is "
            "too big counts packets that fitted.",
            matches=frozenset({"eth_type"}),
            writes=frozenset({"too_big"}),
            goes_to=("too_big",),
            miss=Miss(table="requests"),
            observes="MTU check",
        ),
        Table(
            "too_big",
            "Answer what is too big for the tunnel: ICMP fragmentation needed, or packet too big.",
            matches=frozenset({"too_big", "eth_type"}),
            goes_to=("requests",),
            miss=Miss(table="requests"),
            observes="MTU check",
        ),
        Table(
            "requests",
            "Tell ARP requests and neighbour solicitations, whose answer is looked up like any next hop, from packets "
            "for the router and packets for the segment.",
            matches=frozenset({"eth_type", "eth_dst", "arp_op", "ip_proto", "icmpv6_type"}),
            writes=frozenset({"next_hop_v4", "next_hop_v6"}),
            goes_to=("gateway", "next_hop", "l2_forward"),
            miss=Miss(table="l2_forward"),
            observes="received from the segment",
        ),
        Table(
            "gateway",
            "Answer echo requests to logical routers; keep what cannot be routed from being routed.",
            matches=frozenset(
                {"source", "domain", "eth_type", "ipv4_dst", "ipv6_dst", "ip_proto", "icmpv4_type", "icmpv6_type"}
            ),
            writes=frozenset(_REPLY),
            goes_to=("tier1_out", "tier0"),
            miss=Miss(table="tier1_out"),
            observes="router received",
        ),
        Table(
            "tier1_out",
            "Route at the sender's tier-1 router: to a segment of its own, else up to tier-0. TTL falls by one.",
            matches=frozenset({"domain", "router", *_IP_DST, *_TTL}),
            writes=frozenset({"segment", "next_hop_v4", "next_hop_v6"}),
            goes_to=("tier0", "next_hop"),
            miss=Miss(reason="no-route"),
            observes="tier-1 routed",
        ),
        Table(
            "tier0",
            "Route at tier-0: down to the tier-1 router that owns the destination's subnet, to a node, or out. What answers "
            "somebody who came by a node goes back by that node. TTL falls by one.",
            matches=frozenset({"source", "domain", "next_hop_mac", *_IP_DST, *_TTL}),
            writes=frozenset({"router", "segment", "next_hop_v4", "next_hop_v6", "next_hop_mac"}),
            goes_to=("tier1_in", "next_hop", "resolved"),
            miss=Miss(reason="no-route"),
            observes="tier-0 routed",
        ),
        Table(
            "tier1_in",
            "Route at the receiver's tier-1 router: onto the segment that holds the destination. TTL falls by one.",
            matches=frozenset({"domain", "router", *_IP_DST, *_TTL}),
            writes=frozenset({"segment", "next_hop_v4", "next_hop_v6"}),
            goes_to=("next_hop",),
            miss=Miss(reason="no-route"),
            observes="tier-1 routed",
        ),
        Table(
            "next_hop",
            "Look the next hop up in the neighbour table. The gateway's link-local address is on every segment.",
            matches=frozenset({"next_hop_v6"}),
            writes=frozenset({"next_hop_mac", "owner"}),
            goes_to=("on_segment", "resolved", "neighbour"),
            miss=Miss(reason="no-neighbour"),
            observes="next hop looked up",
        ),
        Table(
            "on_segment",
            "Take the answer only from the segment the packet is on.",
            matches=frozenset({"segment", "owner", "eth_type", "ip_proto", "icmpv6_type"}),
            goes_to=("resolved",),
            miss=Miss(reason="no-neighbour"),
            observes="next hop resolved",
        ),
        Table(
            "resolved",
            "Use the MAC address that was found: as a routed packet's destination, or to answer the request on the spot.",
            matches=frozenset({"source", "next_hop_mac", "eth_type", "arp_op", "ip_proto", "icmpv6_type"}),
            writes=frozenset(
                {"eth_src", "eth_dst", "arp_op", "arp_sha", "arp_tha", "arp_spa", "arp_tpa", "ipv6_src", "ipv6_dst"}
                | {"icmpv6_type", "nd_reserved", "nd_options_type"}
            ),
            goes_to=("nd_reply", "l2_forward"),
            miss=Miss(reason="no-neighbour"),
            observes="next hop resolved",
        ),
        Table(
            "nd_reply",
            "Finish a neighbour advertisement: its target's MAC address is the one it is sent from.",
            matches=frozenset({"eth_type", "ip_proto", "icmpv6_type"}),
            writes=frozenset({"nd_tll"}),
            goes_to=(),
            miss=Miss(reason="nd-unanswered"),
            observes="ARP/ND answered",
        ),
        Table(
            "l2_forward",
            "Switch by destination MAC address: to a port here, or through the tunnel to the node that has it.",
            matches=frozenset({"source", "segment", "eth_dst"}),
            writes=frozenset({"output", "zone", "own", "domain", "tunnel_id", "tun_ipv4_dst", "tun_ipv6_dst"}),
            goes_to=("ingress_track", "deliver"),
            miss=Miss(reason="unknown-mac"),
            observes="forwarded",
        ),
        *firewall("ingress", then="deliver"),
        *NAT,
        Table(
            "deliver",
            "Send the packet out of the port it was given; back to where it came from only what a pod sends itself through a service, "
            "and what the node has to have back.",
            matches=frozenset({"output", "hairpin"}),
            writes=frozenset({"in_port_nxm"}),
            goes_to=(),
            miss=Miss(reason="no-output"),
            observes="delivered",
        ),
        Table(
            "neighbour",
            "Who has an address in a routing domain: its MAC address, its segment, and its identity for the firewall. The ARP and neighbour "
            "table of every segment in one, asked from the tables that name it.",
            matches=frozenset({"domain", "next_hop_v4", "next_hop_v6"}),
            writes=frozenset({"next_hop_mac", "owner", "peer"}),
            goes_to=(),
            miss=Miss(back=True),
            observes="address looked up",
        ),
        Table(
            "associations",
            "What the switch notes itself: SCTP associations of pods here, both ways, when a rule lets one begin, for Open "
            "vSwitch's userspace connection tracking knows no ports of SCTP; and, for a moment, that later fragments of a new "
            "connection may follow its first.",
            matches=frozenset(
                {"zone", *_IP_DST, "ipv4_src", "ipv6_src", "ip_proto", "sctp_src", "sctp_dst", "ip_frag"}
            ),
            writes=frozenset({"known", "rule"}),
            goes_to=(),
            miss=Miss(back=True),
            observes="association looked up",
            learned=True,
        ),
        Table(
            "translations",
            "What the switch notes itself: to which member an SCTP association with a virtual server goes, and, for what the member "
            "answers, what the virtual server is; and to which pod goes what answers one that is somebody else outside. Connection "
            "tracking could not tell their ports.",
            matches=frozenset({"zone", *_IP_DST, "ipv4_src", "ipv6_src", "ip_proto", "sctp_src", "sctp_dst"}),
            writes=frozenset(
                {"ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "sctp_src", "sctp_dst", "hairpin", "outside"}
            ),
            goes_to=(),
            miss=Miss(back=True),
            observes="translation looked up",
            learned=True,
        ),
        Table(
            "epoch",
            "One flow that the node makes anew, looking at another bit of the packet's mark, whenever the firewall's flows change. "
            "No packet has a mark; but every new connection's entry in the switch's cache says which bits were looked at, and so "
            "the switch gives up all entries from before a change instead of amending them (docs/decisions/0008-epoch.md).",
            matches=frozenset({"pkt_mark"}),
            goes_to=(),
            miss=Miss(back=True),
            observes="epoch looked up",
            learned=True,
        ),
    ),
)

T: Final = PIPELINE.numbers

_DECIDING: Final = ("track", "state", "concern", "ask", "admin", "application", "baseline")
_FIREWALL: Final = frozenset(T[stage(direction, name)] for direction in DIRECTIONS for name in _DECIDING)


def is_firewall(table: int) -> bool:
    """Whether a table's flows decide what may pass, so that none of them may be missing."""
    return table in _FIREWALL


def is_learned(table: int) -> bool:
    """Whether a table's flows are made by the switch or the node as they go, and belong to no program."""
    return table < len(PIPELINE.tables) and PIPELINE.tables[table].learned
