"""Static routes of an underlay, computed from its topology."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipam.address import Address, Family, Prefix
from topologies.spec import Link, Topology

EVERYTHING: dict[Family, Prefix] = {4: Prefix(4, 0, 0), 6: Prefix(6, 0, 0)}


class Route(NamedTuple):
    """To ``prefix`` by way of the neighbour ``via``, which is on the network named ``network``."""

    prefix: Prefix
    via: Address
    network: str


def routes(topology: Topology, owner: str, blocks: Iterable[Prefix] = ()) -> tuple[Route, ...]:
    """The static routes of one host or router (the external host is ``ext``).

    Networks it is not on lie behind a router, everything unknown behind the external host, and ``blocks`` (where pods
    have their addresses) behind the exit node. Nodes get no route to the blocks here: a node reaches pods by its own
    port into the overlay. Beside routers that speak BGP, those who do have no static routes, an edge has none by its uplinks (its agent
    makes those, and hears there where to go), and an external host that does not speak it gives everything to such a router.
    """
    nodes = {node.name: node for node in topology.nodes}
    external = topology.external
    speaks = {router.name for router in topology.routers if router.asn and external.asn} | (
        {"ext"} if external.asn else set()
    )
    if owner in speaks:
        return ()
    links = (nodes[owner].link,) if owner in nodes else topology.links()[owner]
    joined = {link.network for link in links}
    found = [
        Route(prefix, *hop)
        for network in topology.networks
        if network.name not in joined
        for prefix in network.prefixes
        if (hop := _next_hop(topology, links, network.name, prefix.family))
    ]
    if owner != "ext" and not (owner in nodes and nodes[owner].uplinks):
        found += _towards(topology, links, external.link, EVERYTHING.values())
    if owner not in nodes and topology.exit_node is not None:
        found += _towards(topology, links, topology.exit_node.link, blocks)
    if owner == "ext":
        found += [
            Route(EVERYTHING[one.family], one.address, link.network)
            for router in topology.neighbouring(external.link.network)[:1]
            for link in router.links
            if link.network == external.link.network
            for one in link.addresses
        ]
    return tuple(found)


def _towards(topology: Topology, links: tuple[Link, ...], target: Link, prefixes: Iterable[Prefix]) -> list[Route]:
    found = []
    for prefix in prefixes:
        hop = _hop_to(topology, links, target, prefix.family)
        if hop:
            found.append(Route(prefix, *hop))
    return found


def _hop_to(topology: Topology, links: tuple[Link, ...], target: Link, family: Family) -> tuple[Address, str] | None:
    """The neighbour through which ``target`` is reached: itself on a shared network, else a router."""
    if any(link.network == target.network for link in links):
        address = target.address(family)
        return (address, target.network) if address else None
    return _next_hop(topology, links, target.network, family)


def _next_hop(topology: Topology, links: tuple[Link, ...], network: str, family: Family) -> tuple[Address, str] | None:
    """The neighbouring router on a shortest way to ``network``; the first by name where several are as short."""
    distance = {network: 0}
    frontier = [network]
    while frontier:
        current = frontier.pop(0)
        for router in topology.routers:
            names = {link.network for link in router.links if link.address(family)}
            if current in names:
                for name in sorted(names - set(distance)):
                    distance[name] = distance[current] + 1
                    frontier.append(name)
    best: tuple[int, str, Address, str] | None = None
    for link in links:
        for router in topology.routers:
            own = next((one for one in router.links if one.network == link.network), None)
            address = own.address(family) if own else None
            far = [distance[one.network] for one in router.links if one.network in distance]
            if own is None or address is None or own in links or not far:
                continue
            candidate = (min(far), router.name, address, link.network)
            best = min(best, candidate) if best else candidate
    return (best[2], best[3]) if best else None
