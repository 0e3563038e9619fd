"""What the routers of a topology are configured with: FRR's configuration, as text. Pure.

A router peers with the edges on its networks, whichever address they come from, and with the external host where that speaks BGP. It
tells each what it heard of the other, and its own networks; where the external host does not speak it, edges hear of a default route
unconditionally. Addresses of the edges that the topology knows are named, so that either side may begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipam.address import Address, Prefix
from topologies.spec import EDGE_ASN, Link, Router, Topology

EDGES = {4: "edges4", 6: "edges6"}
"""The peer group of whoever is an edge, by the family of the session, which carries routes of its own family alone."""
KEEPALIVE, HOLD, RECONNECT = 1, 3, 1  # seconds
BFD_INTERVAL, BFD_MULTIPLIER = 300, 3  # milliseconds, and packets missed
PROFILE = "lab"
MULTIPATH = 8


@dataclass(frozen=True, slots=True)
class Peer:
    """A router or external host that is spoken to."""

    address: Address
    asn: int
    name: str


def speakers(topology: Topology) -> tuple[str, ...]:
    """Who runs FRR, by the name in :meth:`Topology.links`: routers, and ``ext`` for the external host."""
    routers = tuple(router.name for router in topology.routers if router.asn)
    return (*routers, "ext") if topology.external.asn else routers


def configuration(topology: Topology, owner: str) -> dict[str, str]:
    """What each of FRR's daemons is configured with for one of :func:`speakers`, in the order to start them."""
    router = next((router for router in topology.routers if router.name == owner), None)
    lines = _external(topology) if router is None else _router(topology, router)
    return {"zebra": _text(owner, ()), "bfdd": _text(owner, _detection()), "bgpd": _text(owner, lines)}


def edge_peers(topology: Topology) -> tuple[Peer, ...]:
    """The routers that edges are to speak to."""
    networks = {uplink.link.network for node in topology.edges for uplink in node.uplinks}
    return tuple(
        Peer(one.address, router.asn, router.name)
        for router in topology.routers
        if router.asn
        for link in router.links
        if link.network in networks
        for one in link.addresses
    )


def _router(topology: Topology, router: Router) -> list[str]:
    networks = {link.network for link in router.links}
    own = [prefix for link in router.links for prefix in topology.network(link.network).prefixes]
    edges = [
        Peer(one.address, EDGE_ASN, node.name)
        for node in topology.edges
        for uplink in node.uplinks
        if uplink.link.network in networks
        for one in uplink.link.addresses
    ]
    outside = topology.external
    others = []
    if outside.asn and outside.link.network in networks:
        others = [Peer(one.address, outside.asn, "ext") for one in outside.link.addresses]
    ranges = [prefix for prefix in own if any(peer.address in prefix for peer in edges)]
    lines = [
        *_head(router.asn, router.links),
        *(line for group in EDGES.values() for line in _group(group)),
        *(f" bgp listen range {prefix} peer-group {EDGES[prefix.family]}" for prefix in ranges),
        *(line for peer in edges for line in _member(peer)),
        *_peers(others),
    ]
    for family, group in EDGES.items():
        default = [] if outside.asn else [f"  neighbor {group} default-originate"]
        lines += _family(family, own, [group, *_addresses(others, family)], default)
    return [*lines, "exit"]


def _external(topology: Topology) -> list[str]:
    outside = topology.external
    routers = [
        Peer(one.address, router.asn, router.name)
        for router in topology.neighbouring(outside.link.network)
        for link in router.links
        if link.network == outside.link.network
        for one in link.addresses
    ]
    lines = [*_head(outside.asn, (outside.link,)), *_peers(routers)]
    for family in EDGES:
        names = _addresses(routers, family)
        default = [f"  neighbor {name} default-originate" for name in names]
        lines += _family(family, [one.prefix for one in outside.upstream], names, default)
    return [*lines, "exit"]


def _detection() -> Iterator[str]:
    yield from ("bfd", f" profile {PROFILE}")
    yield f"  receive-interval {BFD_INTERVAL}"
    yield f"  transmit-interval {BFD_INTERVAL}"
    yield f"  detect-multiplier {BFD_MULTIPLIER}"
    yield from (" exit", "exit")


def _head(asn: int, links: Iterable[Link]) -> Iterator[str]:
    yield f"router bgp {asn}"
    yield from (
        f" bgp router-id {each.address}" for link in list(links)[-1:] for each in link.addresses if each.family == 4
    )
    yield " no bgp ebgp-requires-policy"  # a lab's routers tell all they know: what edges tell is what is looked at
    yield " no bgp default ipv4-unicast"
    yield " no bgp network import-check"
    yield " bgp bestpath as-path multipath-relax"
    yield f" timers bgp {KEEPALIVE} {HOLD}"


def _group(group: str) -> Iterator[str]:
    yield f" neighbor {group} peer-group"
    yield f" neighbor {group} remote-as {EDGE_ASN}"
    yield from _manner(group)


def _member(peer: Peer) -> Iterator[str]:
    yield f" neighbor {peer.address} peer-group {EDGES[peer.address.family]}"
    yield from _description(peer)


def _peers(peers: Iterable[Peer]) -> Iterator[str]:
    for peer in peers:
        yield f" neighbor {peer.address} remote-as {peer.asn}"
        yield from _manner(str(peer.address))
        yield from _description(peer)


def _manner(peer: str) -> Iterator[str]:
    yield f" neighbor {peer} timers connect {RECONNECT}"
    yield f" neighbor {peer} advertisement-interval 0"
    yield f" neighbor {peer} bfd"
    yield f" neighbor {peer} bfd profile {PROFILE}"


def _description(peer: Peer) -> Iterator[str]:
    yield f" neighbor {peer.address} description {peer.name}"


def _family(family: int, prefixes: Iterable[Prefix], names: Iterable[str], more: Iterable[str]) -> Iterator[str]:
    yield f" address-family ipv{family} unicast"
    yield from (f"  network {prefix}" for prefix in prefixes if prefix.family == family)
    yield from (f"  neighbor {name} activate" for name in names)
    yield from more
    yield f"  maximum-paths {MULTIPATH}"
    yield " exit-address-family"


def _addresses(peers: Iterable[Peer], family: int) -> list[str]:
    return [str(peer.address) for peer in peers if peer.address.family == family]


def _text(name: str, lines: Iterable[str]) -> str:
    return "\n".join((f"hostname {name}", "log stdout", *lines, ""))
