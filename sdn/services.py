"""Virtual servers and who stands behind them: what a Kubernetes Service and its EndpointSlices mean. Pure.

Which endpoints a node's packets go to follows Kubernetes: ready ones; where there is none, those that still serve while they
terminate; under a traffic policy ``Local`` only those of the node itself (KEP-1669, KEP-2086); else, where hints are given and usable,
those meant for the node or its zone (KEP-2433, KEP-3015).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from firewall.rules import Protocol
from ipam.address import Address, Prefix

if TYPE_CHECKING:
    from sdn.model import Origin

Algorithm: TypeAlias = Literal["even", "client"]
"""How a pool chooses: members share connections evenly, or each client keeps to one for as long as members stay the same."""
ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "ROUND_ROBIN": "even",
    "WEIGHTED_ROUND_ROBIN": "even",
    "IP_HASH": "client",
}
"""By the names NCP has for them; here all members weigh the same."""
Scope: TypeAlias = Literal["internal", "external"]
"""Whether a packet was sent to a cluster address or one for clients outside."""


class ServicePort(NamedTuple):
    """One port of a virtual server. ``node_port`` is 0 where it has none; ``only`` says at which of its addresses, if not at all."""

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0
    only: Address | None = None


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """What a Service asks of the network."""

    name: str  # "namespace/name"
    origin: Origin
    ports: tuple[ServicePort, ...]
    internal: tuple[Address, ...] = ()  # cluster addresses
    external: tuple[Address, ...] = ()  # externalIPs
    balancers: tuple[Address, ...] = ()  # of load balancers
    sources: tuple[Prefix, ...] = ()  # whom load balancers' addresses serve; none: everybody
    host: str = ""  # the node whose own addresses serve as well (host ports)
    affinity: int = 0  # seconds a client stays with a member; 0: it does not
    local: frozenset[Scope] = frozenset()  # where only members of the packet's own node count
    takes_unready: bool = False
    translated: tuple[
        Address, ...
    ] = ()  # whom its members are outside, at most one address a family; none: as their namespace

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All of its own, whoever they are for."""
        return tuple(dict.fromkeys((*self.internal, *self.external, *self.balancers)))

    @property
    def families(self) -> tuple[int, ...]:
        """The address families it is served in."""
        return tuple(sorted({each.family for each in self.addresses}))


class Endpoint(NamedTuple):
    """One address behind a service, with the conditions it is in."""

    address: Address
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = frozenset()  # it is meant for clients there; none: for anybody
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Slice:
    """Endpoints that have the same ports: numbers by port name and protocol."""

    ports: tuple[tuple[str, Protocol, int], ...]
    endpoints: tuple[Endpoint, ...]
    _known: dict[tuple[str, str, int], dict[Member, Endpoint]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _on: dict[str, frozenset[Address]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def on(self, node: str) -> frozenset[Address]:
        """Addresses of those on a node."""
        found = self._on.get(node)
        if found is None:
            found = self._on[node] = frozenset(each.address for each in self.endpoints if each.node == node)
        return found

    def behind(self, port: ServicePort, family: int) -> Mapping[Member, Endpoint]:
        """Who of them stands behind a port. It is found once: of the slices of a service, one at a time changes."""
        asked = (port.name, port.protocol, family)
        found = self._known.get(asked)
        if found is None:
            numbers = [number for name, protocol, number in self.ports if (name, protocol) == asked[:2]]
            found = {}
            for endpoint in self.endpoints:
                for number in numbers if endpoint.address.family == family else ():
                    member = Member(endpoint.address, number)
                    found[member] = _better(found.get(member), endpoint)
            self._known[asked] = found
        return found


class Member(NamedTuple):
    """Where packets to a virtual server are sent."""

    address: Address
    port: int


class Place(NamedTuple):
    """Where a packet to a virtual server starts: hints and ``Local`` look at it."""

    node: str
    zone: str = ""


def members(
    server: VirtualServer, slices: Iterable[Slice], port: ServicePort, family: int, place: Place, *, local: bool
) -> tuple[Member, ...]:
    """Where packets of one family to a port go from a place (``local``: on its node), sorted."""
    found = endpoints(slices, port, family)
    if local:
        found = {member: each for member, each in found.items() if each.node == place.node}
    ready = {member: each for member, each in found.items() if each.ready or server.takes_unready}
    if not ready:  # whoever still serves takes all: hints are for those that are ready, as for kube-proxy
        return tuple(sorted(member for member, each in found.items() if each.serving and each.terminating))
    return tuple(sorted(ready if local else _hinted(ready, place)))


def endpoints(slices: Iterable[Slice], port: ServicePort, family: int) -> dict[Member, Endpoint]:
    """Everybody of one family who stands behind a port, in whatever condition; an address that several slices have counts once."""
    found: dict[Member, Endpoint] = {}
    for each in slices:
        here = each.behind(port, family)
        both = found.keys() & here.keys() if found else ()
        better = {member: _better(found[member], here[member]) for member in both}
        found.update(here)
        found.update(better)
    return found


def _better(old: Endpoint | None, new: Endpoint) -> Endpoint:
    """Of two that say different things of one address, the one in the better condition (slices may overlap while they change)."""
    return new if old is None or _condition(new) > _condition(old) else old


def _condition(endpoint: Endpoint) -> tuple[bool, bool, bool]:
    return endpoint.ready, endpoint.serving, not endpoint.terminating


def _hinted(chosen: dict[Member, Endpoint], place: Place) -> dict[Member, Endpoint]:
    """Those meant for the place. Hints count only where every endpoint has some and one is meant for the place."""
    for hints, here in (("nodes", place.node), ("zones", place.zone)):
        if here and all(getattr(each, hints) for each in chosen.values()):
            meant = {member: each for member, each in chosen.items() if here in getattr(each, hints)}
            if meant:
                return meant
    return chosen
