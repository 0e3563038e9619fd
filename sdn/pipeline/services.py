"""The tables that send packets to a virtual server on to one of its members, at the port of whoever sends them."""

from __future__ import annotations

from typing import Final

from sdn.pipeline.spec import Miss, Table

_IP: Final = {"eth_type", "ip_proto", "ipv4_dst", "ipv6_dst"}
_PORTS: Final = {"tcp_dst", "udp_dst", "sctp_dst"}

SERVICES: Final = (
    Table(
        "services",
        "Find the pool behind the virtual server a new connection is for, and its client's member where it stays with one; "
        "reject what no member is there for. Packets to the one pod that is bound to an address are translated at once. Virtual servers are of the "
        "cluster's own routing domain: what is on a segment of another goes by them.",
        matches=frozenset({"source", "outside", "segment", "ct_state", *_IP, "ipv4_src", "ipv6_src", *_PORTS}),
        writes=frozenset({"pool", "host_port", "ct_mark", "hairpin", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst"}),
        goes_to=("node_ports", "select", "affinity", "egress_concern", "egress_count"),
        miss=Miss(table="egress_concern"),
        observes="virtual server looked up",
    ),
    Table(
        "node_ports",
        "The same for packets to a node's own address: by port alone. What the node got from outside and is no service's port, the "
        "node is given back.",
        matches=frozenset({"source", "outside", "eth_type", "ip_proto", *_PORTS}),
        writes=frozenset({"pool", "output", "eth_src", "eth_dst"}),
        goes_to=("select", "affinity", "egress_concern", "deliver"),
        miss=Miss(table="egress_concern"),
        observes="node port looked up",
    ),
    Table(
        "affinity",
        "What the switch notes itself: which member a client's connections to a pool go to, where the service asks for it.",
        matches=frozenset({"pool", "eth_type", "ipv4_src", "ipv6_src"}),
        writes=frozenset({"member"}),
        goes_to=(),
        miss=Miss(back=True),
        observes="affinity looked up",
        learned=True,
    ),
    Table(
        "select",
        "Choose a member of the pool: a group does. TCP connections begin with a SYN; what belongs to none is reset.",
        matches=frozenset({"pool", "member", "ct_state", "eth_type", "ip_proto", "tcp_flags"}),
        writes=frozenset({"member"}),
        goes_to=("members",),
        miss=Miss(reason="no-member"),
        observes="member chosen",
    ),
    Table(
        "members",
        "Translate the destination to the member, for all packets of the connection. The firewall is asked about the member, and "
        "until it has let the connection begin, the connection's mark says so.",
        matches=frozenset({"pool", "member", "eth_type", "ip_proto", "ipv4_src", "ipv6_src"}),
        writes=frozenset(
            {"pool", "member", "ct_mark", "hairpin", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "sctp_dst"}
        ),
        goes_to=("egress_concern", "egress_count"),
        miss=Miss(reason="no-member"),
        observes="sent to a member",
    ),
)
