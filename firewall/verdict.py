"""May this connection begin, and which policy says so: the reference that flows are held against.

Written apart from the compiler and as plainly as possible: it walks the sections themselves and knows nothing of groups
with members, numbers or priorities of flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from firewall.labels import Labels
from firewall.order import NETWORK_POLICIES, PRIORITIES, STAGES, Priorities, rank
from firewall.rules import (
    Action,
    Address,
    Cidr,
    Direction,
    Identity,
    NamedService,
    Peer,
    PodGroup,
    Protocol,
    Rule,
    Section,
    Service,
    Source,
    inside,
)


class Workload(NamedTuple):
    """A pod of the pod network."""

    name: str
    identity: Identity
    addresses: tuple[Address, ...]
    node: str


@dataclass(frozen=True)
class World:
    """Everything a verdict depends on."""

    stages: tuple[tuple[Section, ...], ...]  # the sections by tier, each in the order it is asked, see :func:`world`
    owners: Mapping[Address, Workload]
    namespaces: Mapping[str, Labels]
    nodes: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    blocks: tuple[
        Cidr, ...
    ] = ()  # where pods' addresses are from: who has one that no pod has is kept from policed pods

    def at(self, address: Address) -> Workload | None:
        """The pod that has an address."""
        return self.owners.get(address)


class Connection(NamedTuple):
    """A connection that somebody wants to begin. ``protocol`` None is any other than TCP, UDP and SCTP."""

    source: Address
    destination: Address
    protocol: Protocol | None
    port: int = 0


class Cause(NamedTuple):
    """Who decided: a rule of a policy (counted from 0), or with ``rule`` None the isolation it asks for."""

    source: Source
    direction: Direction
    rule: int | None = None
    name: str = ""

    @property
    def brief(self) -> str:
        """The cause without the name its author gave the rule."""
        if self.rule is None:
            return f"{self.source} isolates {self.direction}"
        return f"{self.source} {self.direction} rule {self.rule}"

    def __str__(self) -> str:
        return f"{self.brief} ({self.name})" if self.name else self.brief


class Verdict(NamedTuple):
    """The answer. ``causes`` are the rules that allow it at either end, the one rule that does not, or every policy that
    isolates; none where nobody had an opinion."""

    action: Action  # never "pass"
    why: str
    causes: tuple[Cause, ...] = ()
    direction: Direction | None = None  # which end of the connection refused; None: it may begin

    @property
    def allowed(self) -> bool:
        """Whether the connection may begin."""
        return self.action == "allow"


def world(
    sections: Iterable[Section],
    workloads: Iterable[Workload],
    namespaces: Mapping[str, Labels],
    *,
    nodes: Mapping[str, tuple[Address, ...]] | None = None,
    blocks: tuple[Cidr, ...] = (),
    priorities: Priorities = PRIORITIES,
) -> World:
    """A world with its sections in the order they are asked. Of pods that share an address the last one given has it."""
    stages: list[list[Section]] = [[] for _ in range(STAGES)]
    for each in sections:
        stages[rank(each, priorities)].append(each)
    ordered = tuple(tuple(sorted(stage, key=lambda each: (each.priority, each.key))) for stage in stages)
    owners = {address: each for each in workloads for address in each.addresses}
    return World(ordered, owners, namespaces, nodes or {}, blocks)


def judge(where: World, connection: Connection) -> Verdict:
    """What becomes of a new connection: asked at the sender's port, then at the receiver's."""
    source, destination = where.at(connection.source), where.at(connection.destination)
    if source is not None and destination is not None and source.name == destination.name:
        return Verdict("allow", "a pod reaches itself")
    egress = decide(where, "egress", source, destination, connection) if source else None
    if egress is not None and not egress.allowed:
        return egress
    ingress = decide(where, "ingress", destination, source, connection) if destination else None
    if ingress is not None and not ingress.allowed:
        return ingress
    said = [each for each in (egress, ingress) if each is not None]
    causes = tuple(cause for each in said for cause in each.causes)
    return Verdict("allow", "; ".join(each.why for each in said) or "no pod of ours is at either end", causes)


def decide(where: World, direction: Direction, own: Workload, peer: Workload | None, connection: Connection) -> Verdict:
    """What is said at one pod's port of a connection that it begins (egress) or is to take (ingress).

    ``peer`` is the pod at the other end, if it is one.
    """
    if direction == "egress":
        question = _Question(direction, own, peer, connection.destination, connection)
        return _decide(where, question, to_own_node=connection.destination in where.nodes.get(own.node, ()))
    if connection.source in where.nodes.get(own.node, ()):
        return Verdict("allow", f"{own.name}'s own node reaches it")
    is_stranger = peer is None and any(inside(block, connection.source) for block in where.blocks)
    if is_stranger and _is_asked(where, own, "ingress"):
        return Verdict("drop", "the sender has a pod's address, and no pod has it", (), "ingress")
    return _decide(where, _Question(direction, own, peer, connection.source, connection), to_own_node=False)


def _is_asked(where: World, own: Workload, direction: Direction) -> bool:
    """Whether any policy is about a direction of a pod."""
    return any(
        (direction in section.isolates and _among(where, section.applied_to, own))
        or any(
            rule.direction == direction
            and _among(where, section.applied_to if rule.applied_to is None else rule.applied_to, own)
            for rule in section.rules
        )
        for stage in where.stages
        for section in stage
    )


class _Question(NamedTuple):
    """May ``own`` begin (egress) or take (ingress) a connection with whoever is at ``address``?"""

    direction: Direction
    own: Workload
    peer: Workload | None  # who is there, if a pod
    address: Address
    connection: Connection


def _decide(where: World, asked: _Question, *, to_own_node: bool) -> Verdict:
    for number, stage in enumerate(where.stages):
        if number == NETWORK_POLICIES:
            if to_own_node:
                return Verdict("allow", f"{asked.own.name} reaches its own node")
            found = _together(where, stage, asked)
        else:
            found = _one_by_one(where, stage, asked)
        if found is not None:
            return found
    return Verdict("allow", f"no policy decides on {asked.direction} of {asked.own.name}")


def _one_by_one(where: World, stage: tuple[Section, ...], asked: _Question) -> Verdict | None:
    """The first rule that matches decides."""
    for section in stage:
        for rule in section.rules:
            if _matches(where, section, rule, asked):
                if rule.action == "pass":
                    return None
                cause = Cause(section.source, asked.direction, rule.index, rule.name)
                refused = None if rule.action == "allow" else asked.direction
                return Verdict(rule.action, str(cause), (cause,), refused)
    return None


def _together(where: World, stage: tuple[Section, ...], asked: _Question) -> Verdict | None:
    """Any rule that matches allows: what one policy allows, no other takes away."""
    isolating = [s for s in stage if asked.direction in s.isolates and _among(where, s.applied_to, asked.own)]
    causes = tuple(
        Cause(section.source, asked.direction, rule.index, rule.name)
        for section in isolating
        for rule in section.rules
        if _matches(where, section, rule, asked)
    )
    if causes:
        return Verdict("allow", " or ".join(str(each) for each in causes), causes)
    if not isolating:
        return None
    causes = tuple(Cause(each.source, asked.direction) for each in isolating)
    return Verdict("drop", " and ".join(str(each) for each in causes), causes, asked.direction)


def _among(where: World, groups: tuple[PodGroup, ...], pod: Workload) -> bool:
    labels = dict(where.namespaces.get(pod.identity.namespace, ()))
    return any(group.contains(pod.identity, labels) for group in groups)


def _matches(where: World, section: Section, rule: Rule, asked: _Question) -> bool:
    if rule.direction != asked.direction:
        return False
    if not _among(where, section.applied_to if rule.applied_to is None else rule.applied_to, asked.own):
        return False
    if rule.peers is not None and not any(_is(where, each, asked) for each in rule.peers):
        return False
    receiver = asked.own if asked.direction == "ingress" else asked.peer
    return rule.services is None or any(_serves(each, receiver, asked.connection) for each in rule.services)


def _is(where: World, peer: Peer, asked: _Question) -> bool:
    if isinstance(peer, PodGroup):
        return asked.peer is not None and _among(where, (peer,), asked.peer)
    return peer.contains(asked.address)


def _serves(service: Service | NamedService, receiver: Workload | None, connection: Connection) -> bool:
    if isinstance(service, NamedService):
        meant = service.on(receiver.identity) if receiver else frozenset()
        return any(_serves(each, receiver, connection) for each in meant)
    return service.protocol == connection.protocol and service.first <= connection.port <= service.last
