"""The topologies that come with the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipam.address import Interface, Prefix, parse_interface, parse_prefix
from topologies.spec import EDGE, EXIT, External, Link, Network, Node, Router, Topology, TopologyError, Uplink

ZONE = "topology.kubernetes.io/zone"
UPSTREAM = (parse_interface("203.0.113.1/24"), parse_interface("2001:db8:113::1/64"))
"""Addresses for documentation (RFC 5737, RFC 3849) that stand for the world beyond the underlay."""
UPSTREAM_ASN, OUTSIDE_ASN = 65100, 65200
"""Autonomous systems of the upstream routers and of the external host beyond them (private use, RFC 6996)."""
MAX_NODES = 32
DEFAULT = "three-nodes"


def one_node() -> Topology:
    """A single node: everything but tunnels."""
    return flat("one-node", 1, "one node beside the external host")


def three_nodes(count: int = 3) -> Topology:
    """Nodes on one Ethernet segment.

    Raises:
        TopologyError: a count out of range.
    """
    if not 1 <= count <= MAX_NODES:
        raise TopologyError(f"topology three-nodes: nodes: {count}; wants 1 to {MAX_NODES}")
    return flat("three-nodes", count, "nodes on one segment, the default; --nodes sets how many")


def flat(name: str, count: int, summary: str) -> Topology:
    """``count`` nodes and the external host on one dual-stack segment."""
    network = _underlay()
    return Topology(
        name=name,
        summary=summary,
        networks=(network,),
        nodes=tuple(
            Node(f"node{number}", _link(network, 10 + number), roles=(EXIT,) if number == 1 else ())
            for number in range(1, count + 1)
        ),
        external=External(_link(network, 250), UPSTREAM),
    )


def two_racks() -> Topology:
    """Two racks of two nodes, each rack a network of its own, and a router between them and the external host."""
    rack_a = Network("rack-a", (parse_prefix("192.168.51.0/24"), parse_prefix("fd51::/64")))
    rack_b = Network("rack-b", (parse_prefix("192.168.52.0/24"), parse_prefix("fd52::/64")))
    uplink = Network("uplink", (parse_prefix("192.168.59.0/24"), parse_prefix("fd59::/64")))
    placed = ((rack_a, 1), (rack_a, 2), (rack_b, 3), (rack_b, 4))
    return Topology(
        name="two-racks",
        summary="two racks of two nodes on different subnets, a routed underlay",
        networks=(rack_a, rack_b, uplink),
        nodes=tuple(
            Node(
                f"node{number}",
                _link(rack, 10 + number),
                rack=rack.name,
                labels={ZONE: rack.name},
                roles=(EXIT,) if number == 1 else (),
            )
            for rack, number in placed
        ),
        routers=(Router("r", tuple(_link(network, 1) for network in (rack_a, rack_b, uplink))),),
        external=External(_link(uplink, 250), UPSTREAM),
    )


def edge() -> Topology:
    """A worker and an edge, whose uplink leads to one router that speaks BGP: the least that has all of it."""
    underlay, uplink, outside = _underlay(), _uplink("uplink-a", 10, 120), _outside()
    return Topology(
        name="edge",
        summary="a worker and an edge with one uplink (VLAN 120) to a router that speaks BGP",
        networks=(underlay, uplink, outside),
        nodes=(
            Node("node1", _link(underlay, 11)),
            Node("edge1", _link(underlay, 21), roles=(EDGE,), uplinks=(Uplink("up-a", _link(uplink, 11)),)),
        ),
        routers=(Router("up1", (_link(uplink, 1), _link(outside, 1)), UPSTREAM_ASN),),
        external=External(_link(outside, 250), UPSTREAM),
    )


def edges() -> Topology:
    """Two workers and two edges, two uplinks each, to two routers; nothing but BGP says where anything is.

    The external host speaks it, too, so that the loss of a router, or of what leads to one, is survived.
    """
    underlay, outside = _underlay(), _outside()
    uplinks = (_uplink("uplink-a", 10, 120), _uplink("uplink-b", 20, 130))
    return Topology(
        name="edges",
        summary="two workers and two edges, each with two uplinks (VLAN 120 and 130) to routers that speak BGP",
        networks=(underlay, *uplinks, outside),
        nodes=(
            *(Node(f"node{number}", _link(underlay, 10 + number)) for number in (1, 2)),
            *(
                Node(
                    f"edge{number}",
                    _link(underlay, 20 + number),
                    roles=(EDGE,),
                    uplinks=tuple(
                        Uplink(name, _link(each, 10 + number))
                        for name, each in zip(("up-a", "up-b"), uplinks, strict=True)
                    ),
                )
                for number in (1, 2)
            ),
        ),
        routers=tuple(
            Router(f"up{number}", (_link(each, 1), _link(outside, number)), UPSTREAM_ASN)
            for number, each in enumerate(uplinks, 1)
        ),
        external=External(_link(outside, 250), UPSTREAM, OUTSIDE_ASN),
    )


CATALOG: Mapping[str, Callable[[], Topology]] = {
    "one-node": one_node,
    "three-nodes": three_nodes,
    "two-racks": two_racks,
    "edge": edge,
    "edges": edges,
}


def named(name: str, nodes: int | None = None) -> Topology:
    """The topology of that name, with another number of nodes where it scales.

    Raises:
        TopologyError: no such topology, or one that does not scale.
    """
    if name not in CATALOG:
        raise TopologyError(f"no topology {name!r}; there are {', '.join(CATALOG)}, or give a JSON or YAML file")
    if nodes is None:
        return CATALOG[name]()
    if name != "three-nodes":
        raise TopologyError(
            f"topology {name}: nodes: its number of nodes is fixed; only three-nodes scales with --nodes"
        )
    return three_nodes(nodes)


def _underlay() -> Network:
    return Network("underlay", (parse_prefix("192.168.50.0/24"), parse_prefix("fd50::/64")))


def _uplink(name: str, number: int, vlan: int) -> Network:
    prefixes = (parse_prefix(f"192.168.{number}.0/24"), parse_prefix(f"fd00:192:168:{number}::/64"))
    return Network(name, prefixes, vlan=vlan)


def _outside() -> Network:
    return Network("outside", (parse_prefix("192.168.90.0/24"), parse_prefix("fd90::/64")))


def _link(network: Network, host: int) -> Link:
    return Link(network.name, tuple(_nth(prefix, host) for prefix in network.prefixes))


def _nth(prefix: Prefix, host: int) -> Interface:
    """The n-th host, its number written as people read it: .11 and ::11 for 11."""
    offset = host if prefix.family == 4 else int(str(host), 16)
    return Interface(prefix.family, prefix.value + offset, prefix.length)
