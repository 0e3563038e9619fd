"""Policies as people write them, as Kubernetes objects: a mix for worlds of any size, and one of many pods with many others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.world import TEAMS, Change

CLUSTER_EVERY = 20
"""Of so many policies, one is a ClusterNetworkPolicy."""
NAME = "kubernetes.io/metadata.name"
_OUTSIDE = {
    4: {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]},
    6: {"cidr": "::/0", "except": ["fd00::/8", "fe80::/10"]},
}
Json = dict[str, Any]


def mixed(namespaces: int, count: int, *, dual: bool = True) -> Iterator[Change]:
    """``count`` policies spread over ``namespaces``: each namespace has some of every kind as their number grows."""
    for number in range(count):
        if number % CLUSTER_EVERY == CLUSTER_EVERY - 1:
            yield cluster_policy(number // CLUSTER_EVERY)
        else:
            space, turn = number % namespaces, number // namespaces
            yield network_policy(f"policy{number}", space, _KINDS[(space + turn) % len(_KINDS)](space, dual))


def network_policy(name: str, space: int, spec: Json) -> Change:
    """A NetworkPolicy in namespace ``ns<space>``."""
    ns = f"ns{space}"
    meta = {"name": name, "namespace": ns, "uid": f"{ns}-{name}", "generation": 1}
    return "NetworkPolicy", (ns, name), {"metadata": meta, "spec": spec}


def cluster_policy(number: int) -> Change:
    """A ClusterNetworkPolicy with a priority of its own."""
    name = f"cluster{number}"
    tier, spec = _CLUSTER_KINDS[number % len(_CLUSTER_KINDS)](number)
    meta = {"name": name, "uid": name, "generation": 1}
    return "ClusterNetworkPolicy", ("", name), {"metadata": meta, "spec": {"tier": tier, "priority": number, **spec}}


def app(number: int) -> Json:
    """Selects the pods of app ``a<number>``."""
    return {"matchLabels": {"app": f"a{number}"}}


def team(number: int) -> Json:
    """Selects the namespaces of a team."""
    return {"matchLabels": {"team": f"t{number % TEAMS}"}}


def _deny_all(space: int, dual: bool) -> Json:
    return {"podSelector": {}, "policyTypes": ["Ingress"]}


def _within_namespace(space: int, dual: bool) -> Json:
    return {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}


def _from_team(space: int, dual: bool) -> Json:
    peers = [{"namespaceSelector": team(space // TEAMS), "podSelector": app(1)}]
    return {"podSelector": app(0), "ingress": [{"from": peers, "ports": [{"port": "http"}]}]}


def _from_outside(space: int, dual: bool) -> Json:
    peers = [{"ipBlock": _OUTSIDE[family]} for family in ((4, 6) if dual else (4,))]
    ports = [{"port": 443}, {"port": 8443, "endPort": 8449}]
    return {"podSelector": app(1), "ingress": [{"from": peers, "ports": ports}]}


def _dns_and_own(space: int, dual: bool) -> Json:
    dns = {"namespaceSelector": {"matchLabels": {NAME: "ns0"}}, "podSelector": app(0)}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53}]
    egress = [{"to": [dns], "ports": ports}, {"to": [{"podSelector": {}}]}]
    return {"podSelector": app(2), "egress": egress, "policyTypes": ["Egress"]}


_KINDS: tuple[Callable[[int, bool], Json], ...] = (
    _deny_all,
    _within_namespace,
    _from_team,
    _dns_and_own,
    _from_outside,
)


def _no_metadata_server(number: int) -> tuple[str, Json]:
    deny = {"action": "Deny", "to": [{"networks": ["169.254.169.254/32"]}]}
    return "Admin", {"subject": {"namespaces": {}}, "egress": [deny]}


def _monitoring(number: int) -> tuple[str, Json]:
    peers = [{"pods": {"namespaceSelector": {"matchLabels": {NAME: "ns1"}}, "podSelector": app(0)}}]
    accept = {"action": "Accept", "from": peers, "protocols": [{"destinationNamedPort": "metrics"}]}
    return "Admin", {"subject": {"namespaces": {}}, "ingress": [accept]}


def _teams_apart(number: int) -> tuple[str, Json]:
    deny = {"action": "Deny", "from": [{"namespaces": team(number + 1)}]}
    return "Baseline", {"subject": {"namespaces": team(number)}, "ingress": [deny]}


_CLUSTER_KINDS = (_no_metadata_server, _monitoring, _teams_apart)


def wide(space: int = 0) -> Change:
    """App ``a0`` is open to app ``a1`` on three ports."""
    ports = [{"port": port} for port in (80, 443, 8080)]
    spec = {"podSelector": app(0), "ingress": [{"from": [{"podSelector": app(1)}], "ports": ports}]}
    return network_policy("wide", space, spec)
