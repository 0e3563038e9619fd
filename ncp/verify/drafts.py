"""A policy as conformance cases think of it, and how each kind of policy object says it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from firewall.rules import Direction
from ncp.kube.resources import CLUSTER_NETWORK_POLICIES, NETWORK_POLICIES, SECURITY_POLICIES, Resource
from ncp.verify.ground import LABEL, Ground

Json = dict[str, Any]
Kind: TypeAlias = Literal["network", "admin", "baseline", "security"]
Action: TypeAlias = Literal["allow", "deny", "pass", "reject"]

OWN: Final = "x"
"""The namespace whose pods drafts are about."""
NEIGHBOUR: Final[Json] = {"podSelector": {"matchLabels": {"pod": "b"}}}
"""Who is spoken of where nothing else is said: b of the own namespace."""
_RESOURCES: Final[dict[Kind, Resource]] = {
    "network": NETWORK_POLICIES,
    "admin": CLUSTER_NETWORK_POLICIES,
    "baseline": CLUSTER_NETWORK_POLICIES,
    "security": SECURITY_POLICIES,
}
_CLUSTER_ACTIONS: Final[dict[Action, str]] = {"allow": "Accept", "deny": "Deny", "reject": "Deny", "pass": "Pass"}
_SECURITY_ACTIONS: Final[dict[Action, str]] = {"allow": "Allow", "deny": "Drop", "reject": "Reject", "pass": "Allow"}
_SECURITY_SIDES: Final[dict[Direction, tuple[str, str]]] = {"ingress": ("In", "sources"), "egress": ("Out", "destinations")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a rule: a number, a range, a name, or (None) all of the protocol."""

    protocol: str
    port: int | str | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What a policy is to say. Peers are written as NetworkPolicy writes them."""

    kind: Kind = "network"
    action: Action = "allow"
    priority: int = 0
    directions: tuple[Direction, ...] = ("ingress",)
    subject: tuple[tuple[str, Any], ...] = (("matchLabels", {"pod": "a"}),)
    peers: tuple[Json, ...] = ()  # none: NEIGHBOUR
    is_about_anyone: bool = False
    ports: tuple[Port, ...] = ()  # none: all
    has_more_rules: bool = False
    has_rules: bool = True
    names_types: bool = True


def policy(ground: Ground, draft: Draft, name: str) -> Json:
    """The object that says it."""
    write = {"network": _network, "admin": _cluster, "baseline": _cluster, "security": _security}[draft.kind]
    resource = _RESOURCES[draft.kind]
    where = {"namespace": ground.namespace(OWN)} if resource.namespaced else {}
    named = name if resource.namespaced else f"{ground.prefix}{name}"
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": named, **where},
        "spec": write(draft),
    }


def _rules(draft: Draft) -> list[tuple[list[Json] | None, tuple[Port, ...]]]:
    """Peers (None: anyone) and ports of each rule."""
    if not draft.has_rules:
        return []
    if draft.is_about_anyone and draft.peers:
        found: list[tuple[list[Json] | None, tuple[Port, ...]]] = [
            (list(draft.peers), draft.ports),
            (None, (Port("TCP", 81),)),
        ]
    else:
        found = [(None if draft.is_about_anyone else list(draft.peers or (NEIGHBOUR,)), draft.ports)]
    if draft.has_more_rules:
        third = {"namespaceSelector": {"matchLabels": {LABEL: "z"}}, "podSelector": {"matchLabels": {"pod": "c"}}}
        found.append(([third], (Port("UDP", 81), Port("TCP", 81))))
    return found


# -- NetworkPolicy --------------------------------------------------------------------------------------------------


def _network(draft: Draft) -> Json:
    spec: Json = {"podSelector": dict(draft.subject)}
    if draft.names_types:
        spec["policyTypes"] = [each.capitalize() for each in draft.directions]
    for direction in draft.directions:
        side = "from" if direction == "ingress" else "to"
        spec[direction] = [
            {
                **({side: peers} if peers is not None else {}),
                **({"ports": [_network_port(each) for each in ports]} if ports else {}),
            }
            for peers, ports in _rules(draft)
        ]
    return spec


def _network_port(port: Port) -> Json:
    number = {"port": port.port} if port.port is not None else {}
    return {"protocol": port.protocol, **number, **({"endPort": port.last} if port.last else {})}


# -- ClusterNetworkPolicy -------------------------------------------------------------------------------------------


def _cluster(draft: Draft) -> Json:
    directions = draft.directions
    if any("ipBlock" in peer for peer in draft.peers):
        directions = ("egress",)  # addresses can only be sent to
    pods = {"namespaceSelector": {"matchLabels": {LABEL: OWN}}, "podSelector": dict(draft.subject)}
    spec: Json = {"tier": draft.kind.capitalize(), "priority": draft.priority, "subject": {"pods": pods}}
    for direction in directions:
        side = "from" if direction == "ingress" else "to"
        spec[direction] = [
            {
                "action": _CLUSTER_ACTIONS[draft.action],
                side: _anyone(direction) if peers is None else [_cluster_peer(each) for each in peers],
                **({"protocols": [_cluster_port(each) for each in ports]} if ports else {}),
            }
            for peers, ports in _rules(draft)
        ]
    return spec


def _anyone(direction: Direction) -> list[Json]:
    networks: list[Json] = [{"networks": ["0.0.0.0/0", "::/0"]}] if direction == "egress" else []
    return [{"namespaces": {}}, *networks]


def _cluster_peer(peer: Json) -> Json:
    if "ipBlock" in peer:
        return {"networks": [peer["ipBlock"]["cidr"]]}
    spaces = peer.get("namespaceSelector", {"matchLabels": {LABEL: OWN}})
    if "podSelector" not in peer:
        return {"namespaces": spaces}
    return {"pods": {"namespaceSelector": spaces, "podSelector": peer["podSelector"]}}


def _cluster_port(port: Port) -> Json:
    if isinstance(port.port, str):
        return {"destinationNamedPort": port.port}
    if port.port is None:
        asked: Json = {"range": {"start": 1, "end": 65535}}
    elif port.last:
        asked = {"range": {"start": port.port, "end": port.last}}
    else:
        asked = {"number": port.port}
    return {port.protocol.lower(): {"destinationPort": asked}}


# -- SecurityPolicy -------------------------------------------------------------------------------------------------


def _security(draft: Draft) -> Json:
    rules = []
    for direction in draft.directions:
        way, side = _SECURITY_SIDES[direction]
        rules += [
            {
                "action": _SECURITY_ACTIONS[draft.action],
                "direction": way,
                **({side: [_security_peer(each) for each in peers]} if peers is not None else {}),
                **({"ports": [_network_port(each) for each in ports]} if ports else {}),
            }
            for peers, ports in _rules(draft)
        ]
    return {"priority": draft.priority, "appliedTo": [{"podSelector": dict(draft.subject)}], "rules": rules}


def _security_peer(peer: Json) -> Json:
    return {"ipBlocks": [peer["ipBlock"]]} if "ipBlock" in peer else peer
