"""A lab's underlay as frozen values: nodes, the networks they sit on, routers between those, and the world outside.

Nothing here touches the machine. A :class:`Topology` that exists is valid: its constructor refuses names and addresses
that do not fit together, and says which object, field and value it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ipam.address import Address, Family, Interface, Prefix

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
UPLINK_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")
RESERVED = ("ul", "ext")
RESERVED_DEVICES = re.compile(r"ul\d+|br-.*|ncp-node0|gnv0|lo")
MIN_MTU = 1280  # RFC 8200 section 5: what IPv6 asks of every link
MAX_MTU = 9000
MAX_VLAN = 4094  # IEEE 802.1Q: 0 is no VLAN, 4095 is reserved
MAX_ASN = 2**32 - 2  # RFC 7300: the last one is reserved
EXIT, EDGE = "exit", "edge"
ROLES = (EXIT, EDGE)
EDGE_ASN = 65000
"""The autonomous system that the cluster is to the routers outside (private use, RFC 6996)."""


class TopologyError(ValueError):
    """A topology that cannot be built; the message names the object, the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Network:
    """One Ethernet segment of the underlay, with at most one prefix per family.

    ``vlan`` is the tag (IEEE 802.1Q) its frames carry on the wires to nodes, 0 for none. Everybody else sits at an access port.
    """

    name: str
    prefixes: tuple[Prefix, ...]
    mtu: int = 1500
    vlan: int = 0

    def prefix(self, family: Family) -> Prefix | None:
        """The segment's prefix of a family."""
        return next((prefix for prefix in self.prefixes if prefix.family == family), None)


@dataclass(frozen=True, slots=True)
class Link:
    """An attachment to a network, with the addresses held there (their lengths are those of the network)."""

    network: str
    addresses: tuple[Interface, ...]

    def address(self, family: Family) -> Address | None:
        """The first address of a family."""
        return next((one.address for one in self.addresses if one.family == family), None)


@dataclass(frozen=True, slots=True)
class Uplink:
    """An edge's way to a network outside. ``name`` is the device's that the node's agent makes; the addresses are on that."""

    name: str
    link: Link


@dataclass(frozen=True, slots=True)
class Node:
    """A host of the cluster: its underlay link carries the tunnels, its addresses are its Kubernetes InternalIPs."""

    name: str
    link: Link
    rack: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    uplinks: tuple[Uplink, ...] = ()


@dataclass(frozen=True, slots=True)
class Router:
    """A router between two or more networks. With an ``asn`` it speaks BGP: with edges, and with an external host that does, too."""

    name: str
    links: tuple[Link, ...]
    asn: int = 0


@dataclass(frozen=True, slots=True)
class External:
    """The host outside: ``upstream`` are addresses on it that stand for everything beyond the underlay.

    With an ``asn`` it speaks BGP with the routers on its network that do; else it has static routes.
    """

    link: Link
    upstream: tuple[Interface, ...] = ()
    asn: int = 0


@dataclass(frozen=True, slots=True)
class Topology:
    """An underlay and the hosts on it.

    Raises:
        TopologyError: when the parts do not fit together.
    """

    name: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    external: External
    routers: tuple[Router, ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        check(self)

    @property
    def edges(self) -> tuple[Node, ...]:
        """The nodes that pods' traffic to the outside may leave by; which one does is decided as they come and go."""
        return tuple(node for node in self.nodes if EDGE in node.roles)

    @property
    def exit_node(self) -> Node | None:
        """The node that pods' traffic to the outside leaves by where no node is an edge: the one with that role, else the first."""
        if self.edges:
            return None
        return next((node for node in self.nodes if EXIT in node.roles), self.nodes[0])

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            TopologyError: there is none; the message lists those there are.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise TopologyError(f"no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    def links(self) -> dict[str, tuple[Link, ...]]:
        """Every host and router with its links, by name; the external host is ``ext``."""
        hosts = {node.name: (node.link, *(uplink.link for uplink in node.uplinks)) for node in self.nodes}
        routers = {router.name: router.links for router in self.routers}
        return hosts | routers | {"ext": (self.external.link,)}

    def neighbouring(self, network: str) -> tuple[Router, ...]:
        """Routers on a network that speak BGP."""
        return tuple(each for each in self.routers if each.asn and network in {link.network for link in each.links})


def check(topology: Topology) -> None:
    """Refuse what cannot be built.

    Raises:
        TopologyError: naming the object, the field, the value and what is allowed.
    """
    _check_names(topology)
    for network in topology.networks:
        _check_network(network)
    _check_disjoint(topology)
    networks = {network.name: network for network in topology.networks}
    for owner, links in topology.links().items():
        for link in links:
            _check_link(owner, link, networks)
    _check_unique_addresses(topology)
    for node in topology.nodes:
        _check_wires(node, networks)
    for router in topology.routers:
        joined = {link.network for link in router.links}
        if len(joined) < 2 or len(joined) < len(router.links):
            raise TopologyError(
                f"router {router.name}: links: joins {sorted(joined)}; wants two or more networks, each once"
            )
    _check_systems(topology)
    _check_roles(topology)
    _check_reachable(topology)


def _check_names(topology: Topology) -> None:
    if not topology.nodes:
        raise TopologyError(f"topology {topology.name}: nodes: empty; wants at least one node")
    _check_name("topology", topology.name)
    for kind, names in (
        ("network", [network.name for network in topology.networks]),
        ("node or router", [*(node.name for node in topology.nodes), *(one.name for one in topology.routers)]),
    ):
        seen: set[str] = set()
        for name in names:
            _check_name(kind, name)
            if name in seen:
                raise TopologyError(f"{kind} {name}: name: used twice; names are unique")
            seen.add(name)
            if kind != "network" and (name in RESERVED or name.startswith("p-")):
                raise TopologyError(
                    f"{kind} {name}: name: {name!r} is reserved (ul, ext and p-… name parts of the lab)"
                )


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TopologyError(f"{kind} {name!r}: name: wants up to 30 of a-z, 0-9 and '-', not at its ends")


def _check_network(network: Network) -> None:
    families = [prefix.family for prefix in network.prefixes]
    if not families or len(set(families)) != len(families):
        said = [str(prefix) for prefix in network.prefixes]
        raise TopologyError(f"network {network.name}: prefixes: {said}; wants one prefix per family, at least one")
    if not MIN_MTU <= network.mtu <= MAX_MTU:
        raise TopologyError(f"network {network.name}: mtu: {network.mtu}; wants {MIN_MTU} to {MAX_MTU}")
    if not 0 <= network.vlan <= MAX_VLAN:
        raise TopologyError(
            f"network {network.name}: vlan: {network.vlan}; wants 1 to {MAX_VLAN}, or 0 for untagged frames"
        )


def _check_disjoint(topology: Topology) -> None:
    places = [(f"network {network.name}", prefix) for network in topology.networks for prefix in network.prefixes]
    places += [("external host", one.prefix) for one in topology.external.upstream]
    for index, (where, prefix) in enumerate(places):
        for other, earlier in places[:index]:
            if prefix.overlaps(earlier):
                raise TopologyError(f"{where}: {prefix} overlaps {earlier} of {other}; prefixes must be disjoint")


def _check_link(owner: str, link: Link, networks: Mapping[str, Network]) -> None:
    network = networks.get(link.network)
    if network is None:
        raise TopologyError(f"{owner}: link: no network {link.network!r}; there are {', '.join(sorted(networks))}")
    families = [one.family for one in link.addresses]
    if sorted(families) != sorted(prefix.family for prefix in network.prefixes):
        said, wanted = [str(one) for one in link.addresses], [str(prefix) for prefix in network.prefixes]
        raise TopologyError(f"{owner}: addresses: {said}; wants one in each of {wanted} of network {network.name}")
    for one in link.addresses:
        prefix = network.prefix(one.family)
        if one.prefix != prefix:
            raise TopologyError(f"{owner}: addresses: {one} is not in {prefix} of network {network.name}")
        if one.family == 4 and one.value in (prefix.value, prefix.last) and prefix.length < 31:
            raise TopologyError(f"{owner}: addresses: {one} is the network's own or its broadcast address")


def _check_unique_addresses(topology: Topology) -> None:
    holder: dict[Address, str] = {}
    for owner, links in topology.links().items():
        for address in (one.address for link in links for one in link.addresses):
            if address in holder:
                raise TopologyError(f"{owner}: addresses: {address} is already {holder[address]}'s")
            holder[address] = owner


def _check_wires(node: Node, networks: Mapping[str, Network]) -> None:
    """A node's wires: its underlay link takes no tags, and each further one is an edge's, under a name of its own."""
    if vlan := networks[node.link.network].vlan:
        raise TopologyError(
            f"node {node.name}: link: network {node.link.network} has VLAN {vlan}; only uplinks take tags"
        )
    if node.uplinks and EDGE not in node.roles:
        raise TopologyError(
            f"node {node.name}: uplinks: only a node of role 'edge' has some; its roles: {list(node.roles)}"
        )
    joined = {node.link.network}
    names: set[str] = set()
    for uplink in node.uplinks:
        where = f"node {node.name}: uplink {uplink.name}"
        if not UPLINK_NAME.fullmatch(uplink.name) or RESERVED_DEVICES.fullmatch(uplink.name) or uplink.name in names:
            raise TopologyError(
                f"{where}: name: wants up to 15 of a-z, 0-9 and '-', first a letter, another for each; taken are ul0, ul1, …, br-…, "
                "ncp-node0, gnv0 and lo"
            )
        if uplink.link.network in joined:
            raise TopologyError(f"{where}: link: the node is on network {uplink.link.network} already")
        names.add(uplink.name)
        joined.add(uplink.link.network)


def _check_systems(topology: Topology) -> None:
    """Numbers of autonomous systems, and whether those that are to speak have somebody to speak to."""
    speakers = [(f"router {router.name}", router.asn) for router in topology.routers]
    for who, asn in (*speakers, ("external host", topology.external.asn)):
        if not 0 <= asn <= MAX_ASN or asn == EDGE_ASN:
            raise TopologyError(
                f"{who}: asn: {asn}; wants 1 to {MAX_ASN} but {EDGE_ASN}, which is the edges', or 0 for no BGP"
            )
    if topology.external.asn and not topology.neighbouring(topology.external.link.network):
        raise TopologyError(
            f"external host: asn: no router on its network {topology.external.link.network} has an asn; give one to a router, too"
        )


def _check_roles(topology: Topology) -> None:
    for node in topology.nodes:
        for role in node.roles:
            if role not in ROLES:
                raise TopologyError(f"node {node.name}: roles: {role!r}; allowed: {', '.join(ROLES)}")
    exits = [node.name for node in topology.nodes if EXIT in node.roles]
    if len(exits) > 1:
        raise TopologyError(f"topology {topology.name}: nodes {', '.join(exits)}: roles: only one may be 'exit'")
    if exits and topology.edges:
        edges = ", ".join(node.name for node in topology.edges)
        raise TopologyError(
            f"node {exits[0]}: roles: 'exit' beside edges ({edges}); where there are edges one of those is the exit"
        )


def _check_reachable(topology: Topology) -> None:
    reached = spread(topology, {topology.external.link.network})
    for node in topology.edges:
        for uplink in node.uplinks:
            if uplink.link.network not in reached:
                raise TopologyError(
                    f"node {node.name}: uplink {uplink.name}: no router joins network {uplink.link.network} to the external host's"
                )
    reached = spread(topology, reached | {node.link.network for node in topology.edges if node.uplinks})
    for node in topology.nodes:
        if node.link.network not in reached:
            raise TopologyError(
                f"node {node.name}: link: no router joins network {node.link.network} to the external host's"
            )


def spread(topology: Topology, start: Iterable[str]) -> set[str]:
    """Names of the networks that routers join to the given ones, these included."""
    reached = set(start)
    while True:
        more = {
            link.network
            for router in topology.routers
            if reached & {link.network for link in router.links}
            for link in router.links
        }
        if more <= reached:
            return reached
        reached |= more
