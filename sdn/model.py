"""The logical network as frozen values: what should be, with no idea of Kubernetes or OpenFlow.

One :class:`Intent` holds everything. Its maps are never changed in place: :meth:`Intent.replace` returns a new one.
References (port → switch, port → node) are resolved by the compiler; a reference to nothing is a
:class:`Problem` there, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from firewall.labels import Labels
from firewall.order import PRIORITIES, Priorities
from firewall.rules import Action, Established, Identity, Section
from ipam.address import Address, Interface, Prefix
from sdn.services import Algorithm, Slice, VirtualServer


class Origin(NamedTuple):
    """Who asked for something: a Kubernetes object, or a part of the fabric itself (kind ``Fabric``)."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    detail: str = ""

    def about(self, detail: str) -> Origin:
        """The same origin, with what this part of its realisation is for."""
        return Origin(self.kind, self.namespace, self.name, self.uid, detail)

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}" + (f" ({self.detail})" if self.detail else "")


class Problem(NamedTuple):
    """Something that could not be realised, and why: ``reason`` is machine-readable, ``message`` is for people."""

    origin: Origin
    reason: str
    message: str


MAX_DOMAIN: Final = 4095
"""The highest number of a routing domain."""


@dataclass(frozen=True, slots=True)
class LogicalSwitch:
    """One L2 segment of a namespace. ``gateways`` are its router's interfaces on it, one per subnet and family."""

    name: str  # "<namespace>/<index>"
    vni: int  # 1 .. 2**24 - 1, unique in the fabric; also the switch's number in the pipeline
    router: int  # number of the tier-1 router it hangs off: its namespace's own, or 1 for the cluster's
    gateways: tuple[Interface, ...]
    origin: Origin
    snat: bool = True
    translated: tuple[
        Address, ...
    ] = ()  # whom its pods are outside, at most one address a family; none yet: they do not get out
    domain: int = (
        0  # its routing domain, 0 .. MAX_DOMAIN; 0: the cluster's own, which has nodes, services and the outside
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """An address outside that is one pod's own, both ways (1:1 NAT). ``name`` is ``namespace/name``, ``port`` the pod's port."""

    name: str
    origin: Origin
    port: str
    external: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Tier0:
    """The shared router above all tier-1 routers, with a transit segment that reaches every node."""

    transit_vni: int
    gateways: tuple[Interface, ...]  # its addresses on the transit segment
    exit_node: str = ""  # the node that default-routed traffic leaves by; empty: no way out


@dataclass(frozen=True, slots=True)
class TransportNode:
    """A host with our switch: its tunnel endpoint, and its own addresses as reached over the transit segment."""

    name: str
    tep: Address
    addresses: tuple[Address, ...]
    mac: int  # of its port on the transit segment
    origin: Origin
    zone: str = ""  # where it stands, for hints of services
    edge: bool = False  # whether traffic to the outside may leave by it


@dataclass(frozen=True, slots=True)
class LogicalPort:
    """Where a workload attaches. ``name`` is ``namespace/pod``; ``identity`` is what the firewall knows it by."""

    name: str
    vni: int
    mac: int
    addresses: tuple[Address, ...]
    node: str
    origin: Origin
    identity: Identity


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """What holds for the whole firewall."""

    priorities: Priorities = PRIORITIES
    logged: frozenset[Action] = frozenset()  # actions whose rules are logged
    established: Established = "recheck"  # where a policy does not say


NatFirewallMatch: TypeAlias = Literal["internal", "external", "bypass"]
"""What rules about packets to a bound address see: the pod's own address, the one outside, or nothing as none is asked."""
NAT_FIREWALL_MATCH: Final[Mapping[str, NatFirewallMatch]] = {
    "MATCH_INTERNAL_ADDRESS": "internal",
    "MATCH_EXTERNAL_ADDRESS": "external",
    "BYPASS": "bypass",
}
"""By the names NCP has for them."""
SnatLogging: TypeAlias = Literal["none", "basic", "extended"]
FREE_PORTS: Final = (1024, 65535)
"""Where a connection keeps the port it has, if that is free, and gets any other if it is not."""


@dataclass(frozen=True, slots=True)
class NatSettings:
    """What holds for all translation."""

    ports: tuple[int, int] = FREE_PORTS  # first and last that connections leave from
    firewall_match: NatFirewallMatch = "internal"
    logging: SnatLogging = "none"  # of new connections: nothing, who is whom, or the whole tuple
    host_ports: bool = False  # whether a pod sees its node instead of who came to a host port of it by the node


@dataclass(frozen=True, slots=True)
class Intent:
    """Everything the logical network should be."""

    tier0: Tier0
    single_tier: bool = False
    mtu: int = 1500  # of the underlay; pods get pod_mtu()
    switches: Mapping[int, LogicalSwitch] = field(default_factory=dict)  # by VNI
    nodes: Mapping[str, TransportNode] = field(default_factory=dict)  # by name
    ports: Mapping[str, LogicalPort] = field(default_factory=dict)  # by name
    blocks: tuple[Prefix, ...] = ()  # where pods' addresses are from
    domains: Mapping[int, tuple[Prefix, ...]] = field(default_factory=dict)  # the same in the routing domains above 0
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    sections: Mapping[str, Section] = field(default_factory=dict)  # by key
    namespaces: Mapping[str, Labels] = field(default_factory=dict)  # their labels, by name
    algorithm: Algorithm = "even"
    services: Mapping[str, VirtualServer] = field(default_factory=dict)  # by "namespace/name"
    slices: Mapping[str, Mapping[str, Slice]] = field(default_factory=dict)  # by service, then by the slice's own name
    snat_families: frozenset[int] = (
        frozenset()
    )  # where pods are translated on their way out, unless their segment is not
    bindings: Mapping[str, Binding] = field(default_factory=dict)  # by name
    nat: NatSettings = field(default_factory=lambda: NatSettings())

    def domain_of(self, port: LogicalPort) -> int:
        """The routing domain that a port's addresses are of."""
        switch = self.switches.get(port.vni)
        return switch.domain if switch else 0

    def replace(self, **changes: Any) -> Intent:
        """A copy with the given fields replaced."""
        return replace(self, **changes)


def pod_mtu(underlay_mtu: int, tep_family: int) -> int:
    """Largest IP packet a pod may send so that it fits the underlay after Geneve encapsulation.

    Outer IP (20 or 40) + UDP 8 + Geneve 8 + one 8-byte option reserved for tracing + inner Ethernet 14 (RFC 8926).
    """
    return underlay_mtu - ((20 if tep_family == 4 else 40) + 8 + 8 + 8 + 14)
