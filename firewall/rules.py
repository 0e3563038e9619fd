"""What a firewall is made of: groups, services, rules and sections, as frozen values.

A *section* is what one policy object asks for. It applies to pods (``applied_to``), holds rules in order, and may
*isolate*: what no rule of an isolating section of the same tier allows is dropped. Sections are asked tier by tier:

| Tier | From | Decides |
|---|---|---|
| Admin | ClusterNetworkPolicy, tier Admin | by priority, then rule order; Pass goes on below |
| Application | SecurityPolicy above ``top_section_priority`` | by priority, then rule order |
| NetworkPolicy | NetworkPolicy | allowed by any rule, else dropped where a policy isolates |
| Application | SecurityPolicy from there to ``baseline_section_priority`` | as above |
| Baseline | ClusterNetworkPolicy, tier Baseline | as Admin |
| Default | ``baseline_policy_type`` | in rule order |
| Application | SecurityPolicy from ``baseline_section_priority`` on | as above |

What no tier decides is allowed. Addresses are ``(family, value)`` and prefixes ``(family, value, length)`` with family 4
or 6: the tuples of ``ipam.address``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import netaddr

from firewall.labels import EVERYTHING, Labels, Selector

Address: TypeAlias = tuple[int, int]
Cidr: TypeAlias = tuple[int, int, int]

Direction: TypeAlias = Literal["ingress", "egress"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")

Action: TypeAlias = Literal["allow", "drop", "reject", "pass"]

Protocol: TypeAlias = Literal["tcp", "udp", "sctp"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("tcp", "udp", "sctp")

Tier: TypeAlias = Literal["Admin", "Application", "NetworkPolicy", "Baseline", "Default"]

Established: TypeAlias = Literal["keep", "recheck", "cut"]
"""What becomes of a connection that a later change forbids, from the mildest to the strictest.

``keep``: it goes on until it ends. ``recheck``: nothing of it is carried any more. ``cut``: the same, and its ends are
told by a TCP reset.
"""
ESTABLISHED: Final[tuple[Established, ...]] = ("keep", "recheck", "cut")


class NamedPort(NamedTuple):
    """A container port that has a name."""

    name: str
    protocol: Protocol
    number: int


class Identity(NamedTuple):
    """Everything about a pod that a policy may ask for: pods with the same identity are treated alike."""

    namespace: str
    labels: Labels = ()
    ports: tuple[NamedPort, ...] = ()  # sorted


@dataclass(frozen=True)
class PodGroup:
    """Pods by namespace (one, or those a selector selects) and by label. Host-network pods are in no group."""

    namespace: str = ""  # of this namespace only; empty: of those that ``namespaces`` selects
    namespaces: Selector = EVERYTHING
    pods: Selector = EVERYTHING

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.namespace, self.namespaces, self.pods))

    def contains(self, identity: Identity, namespace_labels: Mapping[str, str]) -> bool:
        """Whether pods of that identity, in a namespace with those labels, are in the group."""
        if self.namespace:
            if self.namespace != identity.namespace:
                return False
        elif not self.namespaces.selects(namespace_labels):
            return False
        return not self.pods.requirements or self.pods.selects(dict(identity.labels))


class IpBlock(NamedTuple):
    """Addresses of a prefix, less those of some others within it. Addresses of pods count like any other."""

    cidr: Cidr
    excepts: tuple[Cidr, ...] = ()

    def contains(self, address: Address) -> bool:
        """Whether an address is in the block."""
        return inside(self.cidr, address) and not any(inside(each, address) for each in self.excepts)

    def prefixes(self) -> tuple[Cidr, ...]:
        """The fewest prefixes that cover exactly the block's addresses."""
        return _prefixes(self) if self.excepts else (self.cidr,)


@lru_cache(1 << 10)
def _prefixes(block: IpBlock) -> tuple[Cidr, ...]:
    left = netaddr.IPSet([_network(block.cidr)]) - netaddr.IPSet([_network(each) for each in block.excepts])
    return tuple((each.version, each.first, each.prefixlen) for each in left.iter_cidrs())


Peer: TypeAlias = PodGroup | IpBlock


class Service(NamedTuple):
    """Destination ports ``first`` to ``last`` of a protocol, both included."""

    protocol: Protocol
    first: int = 0
    last: int = 65535


class NamedService(NamedTuple):
    """The destination pod's container port of that name (and protocol, where one is given)."""

    name: str
    protocol: Protocol | None = None

    def on(self, identity: Identity) -> frozenset[Service]:
        """The ports it means on pods of an identity; none where they have no port of that name."""
        return frozenset(
            Service(each.protocol, each.number, each.number)
            for each in identity.ports
            if each.name == self.name and self.protocol in (None, each.protocol)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to new connections of one direction with these peers and services.

    ``peers`` and ``services`` None mean any; empty, that it matches nothing. ``applied_to`` None means where the
    section applies.
    """

    direction: Direction
    action: Action
    index: int  # among the rules of the object, as its author counts them: per direction, or over all
    peers: tuple[Peer, ...] | None = None
    services: tuple[Service | NamedService, ...] | None = None
    name: str = ""
    applied_to: tuple[PodGroup, ...] | None = None


FAIL_CLOSED: Final = tuple(Rule(direction, "drop", 0, name="fails closed") for direction in DIRECTIONS)
"""The rules of a section whose object cannot be understood, where isolation is not a thing of its own."""


class Source(NamedTuple):
    """The object a section is from."""

    kind: str
    namespace: str
    name: str
    uid: str = ""

    @property
    def key(self) -> str:
        """A name of the object among all."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Section:
    """What one policy asks for. ``fault`` says why it could not be understood: then it allows nothing, and drops all."""

    source: Source
    tier: Tier
    applied_to: tuple[PodGroup, ...]
    rules: tuple[Rule, ...] = ()
    isolates: frozenset[Direction] = field(default_factory=frozenset)
    priority: int = 0  # within its tier: the lowest is asked first; then by name
    established: Established | None = None  # None: as the cluster says
    fault: str = ""

    @property
    def key(self) -> str:
        """A name of the section among all."""
        return self.source.key

    def targets(self) -> frozenset[PodGroup]:
        """Whose connections it has a say about: pods that it isolates, and those that its rules apply to."""
        found = set(self.applied_to) if self.isolates else set()
        for rule in self.rules:
            found.update(self.applied_to if rule.applied_to is None else rule.applied_to)
        return frozenset(found)


def inside(cidr: Cidr, address: Address) -> bool:
    """Whether a prefix holds an address."""
    family, value, length = cidr
    shift = (32 if family == 4 else 128) - length
    return address[0] == family and address[1] >> shift == value >> shift


def _network(cidr: Cidr) -> netaddr.IPNetwork:
    family, value, length = cidr
    return netaddr.IPNetwork((value, length), version=family)
