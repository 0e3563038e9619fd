"""Register fields, and the fixed numbers of the pipeline."""

from __future__ import annotations

from typing import Final

from sdn.pipeline.spec import RegField

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
KNOWN: Final = RegField("known", 0, 3, 3, "The packet is of an SCTP association that is known.")
FIRST: Final = RegField("first", 0, 4, 4, "The packet is the first of its connection.")
HAIRPIN: Final = RegField("hairpin", 0, 5, 5, "A pod's packet to a virtual server comes back to the pod itself.")
OUTSIDE: Final = RegField(
    "outside", 0, 6, 6, "The packet came to the node from somebody who is neither a pod nor the node itself."
)
HOST_PORT: Final = RegField(
    "host_port",
    0,
    7,
    7,
    "The packet was sent to a host port, and the pod behind it is to see the node instead of the client.",
)
DOMAIN: Final = RegField(
    "domain",
    0,
    8,
    19,
    "Routing domain of the pod the packet is from, or for: whose addresses it speaks of. 0: the cluster's own.",
)
OUTPUT: Final = RegField("output", 1, 0, 15, "OpenFlow port the packet will leave by.")
ZONE: Final = RegField("zone", 1, 16, 31, "Conntrack zone: that of the pod's port the firewall is asked at.")
SEGMENT: Final = RegField("segment", 2, 0, 23, "VNI of the logical switch the packet is on.")
ROUTER: Final = RegField("router", 3, 0, 23, "Number of the tier-1 router the packet is at.")

NEXT_HOP_V4: Final = RegField("next_hop_v4", 8, 0, 31, "IPv4 address whose MAC address is looked up.")
NEXT_HOP_V6: Final = RegField("next_hop_v6", 4, 0, 127, "IPv6 address whose MAC address is looked up.", span=4)
NEXT_HOP_MAC: Final = RegField("next_hop_mac", 10, 0, 47, "The MAC address that was found.", span=2)
OWNER: Final = RegField("owner", 9, 0, 23, "VNI of the segment that the address looked up is on.")

OWN: Final = RegField("own", 13, 0, 31, "Identity of the pod at whose port the firewall is asked.")
PEER: Final = RegField("peer", 12, 0, 31, "Identity of who is at the other end; 0: nobody we know.")
RULE: Final = RegField("rule", 14, 0, 31, "Number of the rule that allowed the connection; 0: nobody had to.")
SERVICE: Final = RegField("service", 15, 0, 23, "What the firewall is asked about: IP protocol and destination port.")

NODE_MAC: Final = 0x024D << 32
"""What the MAC addresses of nodes' own ports begin with, and no other's of ours does."""
NODE_MAC_MASK: Final = 0xFFFF << 32

HAIRPIN_ZONE: Final = 0xFFF0
"""Conntrack zone, beyond all ports, in which pods and nodes that reach themselves are given another address to answer to."""

POOL: Final = RegField(
    "pool", 16, 32, 63, "Number of the pool of members a packet to a virtual server goes to.", span=2
)
MEMBER: Final = RegField(
    "member", 16, 0, 31, "Number, in its pool, of the member that was chosen; 0: none yet.", span=2
)

A_POD: Final = 1 << 31
"""This bit of an identity says that it is a pod's."""

STRANGER: Final = 1
"""The identity of an address that only pods have, and no pod we know has."""
