"""The pipeline: read it like a table of contents.

To add a table: put it where packets should meet it, declare what it matches, writes and goes to and what a miss does,
say what it is for and what a traceflow observes there, then run ``make docs`` and add its flows in ``sdn.compile``.
Numbers, checks, names on the switch, ``docs/pipeline.md`` and traces follow from this file.
"""

from __future__ import annotations

from typing import Final

from sdn.pipeline.spec import Miss, Pipeline, RegField, Table

GATEWAY_MAC: Final = 0x025056564452
"""The MAC address of every logical router port: one virtual MAC, as for any distributed router."""

GENEVE_PORT: Final = 1
"""OpenFlow port of the tunnel."""

NODE_PORT: Final = 2
"""OpenFlow port of the node's own interface into the overlay."""

FROM_POD: Final = 1
FROM_NODE: Final = 2
FROM_TUNNEL: Final = 3

SOURCE: Final = RegField("source", 0, 0, 1, "Where the packet entered: 1 a pod, 2 the node itself, 3 the tunnel.")
TOO_BIG: Final = RegField("too_big", 0, 2, 2, "The packet does not fit the tunnel.")
OUTPUT: Final = RegField("output", 1, 0, 15, "OpenFlow port the packet will leave by.")
SEGMENT: Final = RegField("segment", 2, 0, 23, "VNI of the logical switch the packet is on.")
ROUTER: Final = RegField("router", 3, 0, 23, "Number of the tier-1 router the packet is at.")

NEXT_HOP_V4: Final = RegField("next_hop_v4", 8, 0, 31, "IPv4 address whose MAC address is looked up.")
NEXT_HOP_V6: Final = RegField("next_hop_v6", 4, 0, 127, "IPv6 address whose MAC address is looked up.", span=4)
NEXT_HOP_MAC: Final = RegField("next_hop_mac", 10, 0, 47, "The MAC address that was found.", span=2)

_IP_DST = {"eth_type", "ipv4_dst", "ipv6_dst"}
_TTL = {"nw_ttl"}
_REPLY = {
    "eth_src", "eth_dst", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "nw_ttl", "icmpv4_type", "icmpv6_type",
}  # fmt: skip

PIPELINE: Final = Pipeline(
    fields=(SOURCE, TOO_BIG, OUTPUT, SEGMENT, ROUTER, NEXT_HOP_V6, NEXT_HOP_V4, NEXT_HOP_MAC),
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
        ("arp-unanswered", "an ARP request for an address nobody on the segment has, or an ARP reply"),
        ("nd-unanswered", "a neighbour or router solicitation that nobody on the segment answers"),
        ("to-router", "sent to a logical router's own address, and not an echo request"),
        ("link-local", "a link-local or multicast address cannot be routed"),
        ("no-route", "no route leads to the destination"),
        ("no-neighbour", "the destination is in a segment's subnet, and no port has that address"),
        ("multicast", "broadcast or multicast that the fabric does not carry"),
        ("unknown-mac", "no port of the segment has the destination MAC address"),
        ("no-output", "the packet reached the end without a port to leave by"),
    ),
    tables=(
        Table(
            "classify",
            "Say where a packet comes from: a pod's port with its own MAC address, the node itself, or the tunnel; "
            "and put it on its segment.",
            matches=frozenset({"in_port", "eth_src"}),
            writes=frozenset({"source", "segment", "router"}),
            goes_to=("spoof_guard", "mtu", "l2_forward"),
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
            goes_to=("nd_guard", "mtu"),
            miss=Miss(reason="ethertype"),
            observes="spoof guard",
        ),
        Table(
            "nd_guard",
            "Let a pod's port speak only for itself in IPv6 neighbour discovery, and never as a router.",
            matches=frozenset({"in_port", "eth_type", "ip_proto", "icmpv6_type", "nd_sll"}),
            goes_to=("mtu",),
            miss=Miss(table="mtu"),
            observes="spoof guard",
        ),
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
            goes_to=("gateway", "neighbour", "l2_forward"),
            miss=Miss(table="l2_forward"),
            observes="received from the segment",
        ),
        Table(
            "gateway",
            "Answer echo requests to logical routers; keep what cannot be routed from being routed.",
            matches=frozenset({"source", "eth_type", "ipv4_dst", "ipv6_dst", "ip_proto", "icmpv4_type", "icmpv6_type"}),
            writes=frozenset(_REPLY),
            goes_to=("tier1_out", "tier0"),
            miss=Miss(table="tier1_out"),
            observes="router received",
        ),
        Table(
            "tier1_out",
            "Route at the sender's tier-1 router: to a segment of its own, else up to tier-0. TTL falls by one.",
            matches=frozenset({"router", *_IP_DST, *_TTL}),
            writes=frozenset({"segment", "next_hop_v4", "next_hop_v6"}),
            goes_to=("tier0", "neighbour"),
            miss=Miss(reason="no-route"),
            observes="tier-1 routed",
        ),
        Table(
            "tier0",
            "Route at tier-0: down to the tier-1 router that owns the destination's subnet, to a node, or out. "
            "TTL falls by one.",
            matches=frozenset({*_IP_DST, *_TTL}),
            writes=frozenset({"router", "segment", "next_hop_v4", "next_hop_v6", "next_hop_mac"}),
            goes_to=("tier1_in", "neighbour", "resolved"),
            miss=Miss(reason="no-route"),
            observes="tier-0 routed",
        ),
        Table(
            "tier1_in",
            "Route at the receiver's tier-1 router: onto the segment that holds the destination. TTL falls by one.",
            matches=frozenset({"router", *_IP_DST, *_TTL}),
            writes=frozenset({"segment", "next_hop_v4", "next_hop_v6"}),
            goes_to=("neighbour",),
            miss=Miss(reason="no-route"),
            observes="tier-1 routed",
        ),
        Table(
            "neighbour",
            "The ARP and neighbour table of every segment: which MAC address an IP address is at.",
            matches=frozenset({"segment", "next_hop_v4", "next_hop_v6", "eth_type", "ip_proto", "icmpv6_type"}),
            writes=frozenset({"next_hop_mac"}),
            goes_to=("resolved",),
            miss=Miss(reason="no-neighbour"),
            observes="next hop resolved",
        ),
        Table(
            "resolved",
            "Use the MAC address that was found: as a routed packet's destination, or to answer the request on the spot.",
            matches=frozenset({"next_hop_mac", "eth_type", "arp_op", "ip_proto", "icmpv6_type"}),
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
            writes=frozenset({"output", "tunnel_id", "tun_ipv4_dst", "tun_ipv6_dst"}),
            goes_to=("deliver",),
            miss=Miss(reason="unknown-mac"),
            observes="forwarded",
        ),
        Table(
            "deliver",
            "Send the packet out of the port it was given.",
            matches=frozenset({"output"}),
            goes_to=(),
            miss=Miss(reason="no-output"),
            observes="delivered",
        ),
    ),
)

T: Final = PIPELINE.numbers
