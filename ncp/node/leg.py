"""From services, their endpoints and the nodes to what one node's kernel is to do for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ipam.address import Address, Prefix
from ncp.plumbing.leg import ServiceLeg, spanning
from ncp.translate.objects import TERMINAL, Object
from sdn.announce import Standing, Wish, announcers
from sdn.model import Intent
from sdn.outside import addresses_outside
from sdn.services import Slice

HostPort = tuple[str, int]
"""Protocol (``tcp``, ``udp``, ``sctp``) and number."""


def service_leg(
    intent: Intent,
    standings: Mapping[str, Standing],
    me: str,
    *,
    host_ports: Iterable[HostPort] = (),
    node_ports: tuple[int, int] = (30000, 32767),
    held: Iterable[Prefix] = (),
) -> ServiceLeg:
    """What node ``me`` is to do.

    Nodes' addresses are neither routed into the overlay nor announced: they are the nodes' own. Of a service that has one of ours as an
    external address, the ports are host ports here. What pods are outside is routed and announced by the node that lets traffic out. Addresses of load balancers are announced; externalIPs are not, as whoever may
    write a Service could take any address of the network with them.

    Args:
        intent: services, slices and nodes.
        standings: what nodes say of themselves, by name.
        me: the node's name.
        host_ports: those of the node's own pods.
        node_ports: first and last port that the cluster gives to services on every node.
        held: prefixes for cluster addresses that have been routed so far; they stay.
    """
    way_out = intent.tier0.exit_node

    def edge(address: Address) -> frozenset[str] | None:
        """Where there are edges, the active one answers on its networks: they notice soonest that it is gone."""
        edges = way_out in intent.nodes and intent.nodes[way_out].edge and way_out in standings
        there = edges and any(network.covers(address) for network in standings[way_out].networks)
        return frozenset({way_out}) if there else None

    taken = {address for node in intent.nodes.values() for address in node.addresses}
    own = frozenset(intent.nodes[me].addresses if me in intent.nodes else ())
    hosts: set[Address] = set()
    ports = set(host_ports)
    wishes: list[Wish] = []
    for name, server in intent.services.items():
        outside = {*server.external, *server.balancers}
        hosts |= outside - taken
        if outside & own:
            ports.update((port.protocol, port.port) for port in server.ports)
        if server.balancers:
            only = nodes_with_members(intent.slices.get(name, {}).values()) if "external" in server.local else None
            wishes += [
                Wish(each, edge(each) if only is None else only) for each in server.balancers if each not in taken
            ]
    chosen = announcers(wishes, standings)
    outer = addresses_outside(intent) - taken if intent.tier0.exit_node == me else frozenset()
    hosts |= outer
    return ServiceLeg(
        cluster=spanning((each for server in intent.services.values() for each in server.internal), held),
        hosts=tuple(sorted(hosts)),
        host_ports=tuple(sorted(ports)),
        node_ports=node_ports,
        announced=tuple(sorted({*(address for address, name in chosen.items() if name == me), *outer})),
    )


def nodes_with_members(slices: Iterable[Slice]) -> frozenset[str]:
    """Nodes with a ready endpoint; where none is ready, those with one that still serves while it terminates (KEP-1669)."""
    endpoints = [each for part in slices for each in part.endpoints if each.node]
    ready = frozenset(each.node for each in endpoints if each.ready)
    return ready or frozenset(each.node for each in endpoints if each.serving and each.terminating)


def local_endpoints(slices: Iterable[Slice], me: str) -> int:
    """Ready endpoints on a node, those that terminate left aside. One that has an address of each family counts once."""
    found: dict[int, set[Address]] = {4: set(), 6: set()}
    for part in slices:
        for each in part.endpoints:
            if each.node == me and each.ready and not each.terminating:
                found[each.address.family].add(each.address)
    return max(len(addresses) for addresses in found.values())


def host_ports_of(pod: Object, me: str) -> frozenset[HostPort]:
    """Ports of a node that a pod on it asks for (core/v1 ContainerPort); none once it is finished, or on the node's own network."""
    spec = pod.get("spec") or {}
    phase = (pod.get("status") or {}).get("phase")
    if spec.get("nodeName") != me or spec.get("hostNetwork") or phase in TERMINAL:
        return frozenset()
    return frozenset(
        ((each.get("protocol") or "TCP").lower(), int(each["hostPort"]))
        for container in _lasting(spec)
        for each in container.get("ports") or ()
        if each.get("hostPort")
    )


def _lasting(spec: Mapping[str, object]) -> Iterator[Mapping]:
    """Containers that run as long as the pod does, sidecars included."""
    yield from spec.get("containers") or ()
    yield from (each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always")
