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
RESERVED = ("ul", "ext")
MIN_MTU = 1280  # RFC 8200 section 5: what IPv6 asks of every link
MAX_MTU = 9000
EXIT = "exit"
ROLES = (EXIT,)


class TopologyError(ValueError):
    """A topology that cannot be built; the message names the object, the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Network:
    """One Ethernet segment of the underlay, with at most one prefix per family."""

    name: str
    prefixes: tuple[Prefix, ...]
    mtu: int = 1500

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
class Node:
    """A host of the cluster: its underlay link carries the tunnels, its addresses are its Kubernetes InternalIPs."""

    name: str
    link: Link
    rack: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Router:
    """A router of the underlay, between two or more networks."""

    name: str
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class External:
    """The host outside: ``upstream`` are addresses on it that stand for everything beyond the underlay."""

    link: Link
    upstream: tuple[Interface, ...] = ()


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
    def exit_node(self) -> Node:
        """The node that pods' traffic to the outside leaves by: the one with that role, else the first."""
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
        hosts = {node.name: (node.link,) for node in self.nodes}
        routers = {router.name: router.links for router in self.routers}
        return hosts | routers | {"ext": (self.external.link,)}


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
    for router in topology.routers:
        joined = {link.network for link in router.links}
        if len(joined) < 2 or len(joined) < len(router.links):
            raise TopologyError(
                f"router {router.name}: links: joins {sorted(joined)}; wants two or more networks, each once"
            )
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


def _check_roles(topology: Topology) -> None:
    for node in topology.nodes:
        for role in node.roles:
            if role not in ROLES:
                raise TopologyError(f"node {node.name}: roles: {role!r}; allowed: {', '.join(ROLES)}")
    exits = [node.name for node in topology.nodes if EXIT in node.roles]
    if len(exits) > 1:
        raise TopologyError(f"topology {topology.name}: nodes {', '.join(exits)}: roles: only one may be 'exit'")


def _check_reachable(topology: Topology) -> None:
    reached = spread(topology, {topology.external.link.network})
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
