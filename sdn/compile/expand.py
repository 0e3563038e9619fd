"""One section of the firewall on one node: its rules as groups of identities, prefixes and services, then as claims on flows.

A *clause* is a flow that several rules may share: a table, a priority and a match. A small rule claims
clauses directly, and each decides; any other claims one per element of each dimension, of which Open vSwitch makes the product.
One more member is one more clause, or one more claim on a clause that is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple, TypeAlias, TypeVar

from firewall.rules import Cidr, Direction, Identity, IpBlock, NamedPort, NamedService, PodGroup, Rule, Section, Service
from sdn.compile.levels import Level
from sdn.compile.terms import ETH_IP
from sdn.pipeline.flow import Match, Term
from sdn.pipeline.registers import A_POD, OWN, PEER, SERVICE
from sdn.pipeline.spec import RegField

ANY_POD: Final = PodGroup()
_FEW: Final = 8
_NUMBER: Final = {"tcp": 6, "udp": 17, "sctp": 132}

T = TypeVar("T")
Numbering: TypeAlias = Callable[[Identity], int | None]
"""An identity's number; those that have none are nowhere on the switch, and left out."""
Members: TypeAlias = Callable[[PodGroup], frozenset[Identity]]
Subject: TypeAlias = Identity | PodGroup
"""Whom something is about: pods of an identity, or ANY_POD."""
Element: TypeAlias = Identity | Cidr | PodGroup
"""Of the peers: an identity, a prefix, or ANY_POD."""


class Variant(NamedTuple):
    """One product of a rule: these pods here, with these peers (None: any), for these services (None: any)."""

    own: frozenset[Subject]
    peers: frozenset[Element] | None
    services: frozenset[Service] | None

    @property
    def is_empty(self) -> bool:
        """Whether it matches nothing."""
        return not self.own or self.peers == frozenset() or self.services == frozenset()

    @property
    def is_direct(self) -> bool:
        """Whether a flow for every combination is less than a conjunction, and stays cheap to turn into one.

        Only one dimension may have several elements, so that a further one is one flow, and not many.
        """
        sizes = [len(each) for each in (self.own, self.peers, self.services) if each is not None]
        return len(sizes) == 1 or (max(sizes) <= _FEW and sizes.count(1) >= len(sizes) - 1)

    def is_like(self, other: Variant) -> bool:
        """Whether another differs in members alone."""
        return self.services == other.services and (self.peers is None) == (other.peers is None)

    def without(self, other: Variant) -> Variant:
        """Less what one that is like it has, in each dimension."""
        return Variant(self.own - other.own, _less(self.peers, other.peers), _less(self.services, other.services))


def _less(some: frozenset[T] | None, others: frozenset[T] | None) -> frozenset[T] | None:
    return None if some is None or others is None else some - others


def variants(section: Section, rule: Rule, members: Members, here: Members) -> tuple[Variant, ...]:
    """A rule's products: one, or one for each meaning its named ports have on the pods concerned; those with nobody left out."""
    groups = section.applied_to if rule.applied_to is None else rule.applied_to
    own = subjects(groups, here)
    peers = None if rule.peers is None else union(_elements(each, members) for each in rule.peers)
    if rule.services is None:
        found = [Variant(own, peers, None)]
    else:
        fixed = frozenset(each for each in rule.services if isinstance(each, Service))
        named = tuple(each for each in rule.services if isinstance(each, NamedService))
        if named and rule.direction == "ingress":
            asked = union(map(here, groups))
            found = [Variant(some, peers, fixed | meant) for meant, some in _by_meaning(named, asked).items()]
        else:
            found = [Variant(own, peers, fixed)]
            if named:
                asked = members(ANY_POD) if asks_any_pod(rule) else _identities(peers or frozenset())
                found += [Variant(own, some, meant) for meant, some in _by_meaning(named, asked).items()]
    return tuple(sorted((each for each in found if not each.is_empty), key=_by_services))


def asks_any_pod(rule: Rule) -> bool:
    """Whether a rule names ports of pods that may be any: what a name means has to be asked of everybody."""
    named = any(isinstance(each, NamedService) for each in rule.services or ())
    return named and rule.direction == "egress" and (rule.peers is None or ANY_POD in rule.peers)


def subjects(groups: Collection[PodGroup], here: Members) -> frozenset[Subject]:
    """Whom on this node some groups select: ANY_POD, and not each, where that is everybody."""
    everybody = ANY_POD in groups and here(ANY_POD)
    return frozenset({ANY_POD}) if everybody else union(map(here, groups))


def union(sets: Iterable[frozenset[T]]) -> frozenset[T]:
    """All members of some sets. Where there is one set it is that, for a group may be large and has been made already."""
    found = list(sets)
    return found[0] if len(found) == 1 else frozenset().union(*found)


def _elements(peer: PodGroup | IpBlock, members: Members) -> frozenset[Element]:
    if isinstance(peer, IpBlock):
        return frozenset(peer.prefixes())
    return frozenset({ANY_POD}) if peer == ANY_POD else members(peer)


def _identities(elements: frozenset[Element]) -> frozenset[Identity]:
    return frozenset(each for each in elements if isinstance(each, Identity))


@lru_cache(64)
def _by_meaning(
    named: tuple[NamedService, ...], pods: frozenset[Identity]
) -> Mapping[frozenset[Service], frozenset[Identity]]:
    """Pods by what the names mean on them. Remembered, for many policies may name the same ports of the same pods."""
    by_ports: dict[tuple[NamedPort, ...], list[Identity]] = defaultdict(list)
    for pod in pods:
        by_ports[pod.ports].append(pod)
    found: dict[frozenset[Service], frozenset[Identity]] = {}
    for some in by_ports.values():
        meant: frozenset[Service] = frozenset().union(*(each.on(some[0]) for each in named))
        found[meant] = found.get(meant, frozenset()).union(some)
    return found


def _by_services(variant: Variant) -> list[Service]:
    return sorted(variant.services or ())


class Clause(NamedTuple):
    """A flow that rules share."""

    table: str
    priority: int
    match: Match


def direct(variant: Variant, level: Level, direction: Direction, number: Numbering) -> list[Clause]:
    """The clauses of a product, each of which decides."""
    dimensions = _dimensions(variant, direction, number)
    return [Clause(*level, tuple(term for part in parts for term in part)) for parts in product(*dimensions)]


def joint(variant: Variant, level: Level, direction: Direction, number: Numbering) -> list[tuple[Clause, int, int]]:
    """The clauses of a product, each with its dimension and how many there are: at least two, the second of them any packet."""
    dimensions = _dimensions(variant, direction, number)
    if len(dimensions) == 1:
        dimensions.append([()])
    return [
        (Clause(*level, match), dimension, len(dimensions))
        for dimension, matches in enumerate(dimensions)
        for match in matches
    ]


def _dimensions(variant: Variant, direction: Direction, number: Numbering) -> list[list[Match]]:
    found: list[list[Match]] = [[match for each in variant.own if (match := pods(each, OWN, number)) is not None]]
    if variant.peers is not None:
        found.append([match for each in variant.peers if (match := _peer(each, direction, number)) is not None])
    if variant.services is not None:
        found.append([(term,) for each in variant.services for term in service_terms(each)])
    return found


def pods(whom: Subject, register: RegField, number: Numbering) -> Match | None:
    """The match of a register that holds some pods; None where they have no number."""
    if isinstance(whom, PodGroup):
        return ((register.register, A_POD, A_POD),)
    at = number(whom)
    return None if at is None else (register.match(at),)


def _peer(peer: Element, direction: Direction, number: Numbering) -> Match | None:
    if isinstance(peer, Identity | PodGroup):
        return pods(peer, PEER, number)
    family, value, length = peer
    name = f"ipv{family}_{'src' if direction == 'ingress' else 'dst'}"
    width = 32 if family == 4 else 128
    if not length:
        return (ETH_IP[family],)
    return (ETH_IP[family], (name, value, ((1 << length) - 1) << (width - length)))


def service_terms(service: Service) -> list[Term]:
    """The fewest values with masks of the service register that cover a range of ports exactly."""
    protocol, first, last = _NUMBER[service.protocol] << 16, service.first, service.last
    found: list[Term] = []
    while first <= last:
        size = min(first & -first or 1 << 16, 1 << ((last - first + 1).bit_length() - 1))
        found.append((SERVICE.register, protocol | first, SERVICE.mask & ~(size - 1)))
        first += size
    return found
