"""What a ``networking.k8s.io/v1`` NetworkPolicy means.

Follows the API's own words (NetworkPolicySpec). Where they leave something open:

- A rule without ``ports`` is about every protocol, ICMP included; one with ports is about those alone.
- Peers by label are pods of the pod network. Host-network pods have their node's address and are reached by ``ipBlock``.
- ``ipBlock`` counts every address, pods' too, as ClusterNetworkPolicy says of ``networks``; of virtual addresses it sees
  the member's, because destination translation comes first.
- A pod always reaches itself, and the node it is on, in both directions.
- A named port is the port of that name on the pod the packets go to. A pod without it is not matched.
"""

from __future__ import annotations

from typing import Any

from firewall.reading import (
    Json,
    Unreadable,
    chosen,
    established_of,
    ip_block,
    listed,
    mapping,
    port_range,
    protocol,
    selector,
    source_of,
)
from firewall.rules import Direction, IpBlock, NamedService, Peer, PodGroup, Rule, Section, Service

KIND = "NetworkPolicy"
_BOTH: frozenset[Direction] = frozenset({"ingress", "egress"})
_TYPES: dict[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}


def section(policy: Json) -> Section:
    """The section a NetworkPolicy asks for; one with a ``fault`` where it cannot be understood."""
    source = source_of(KIND, policy)
    applied_to = PodGroup(source.namespace)
    try:
        spec = mapping(policy.get("spec"), "spec")
        applied_to = PodGroup(source.namespace, pods=selector(spec.get("podSelector"), "spec.podSelector"))
        rules = (*_rules(spec, "ingress", source.namespace), *_rules(spec, "egress", source.namespace))
        isolates, established = _isolates(spec), established_of(policy)
    except Unreadable as error:
        return Section(source, "NetworkPolicy", (applied_to,), isolates=_BOTH, fault=str(error))
    rules = tuple(rule for rule in rules if rule.direction in isolates)
    return Section(source, "NetworkPolicy", (applied_to,), rules, isolates, established=established)


def _isolates(spec: Json) -> frozenset[Direction]:
    """By ``policyTypes``; where that is missing, ingress, and egress if there are egress rules."""
    types = listed(spec.get("policyTypes"), "spec.policyTypes")
    if not types:
        return _BOTH if spec.get("egress") else frozenset({"ingress"})
    found = set()
    for number, each in enumerate(types):
        found.add(_TYPES[chosen(each, tuple(_TYPES), f"spec.policyTypes[{number}]")])
    return frozenset(found)


def _rules(spec: Json, direction: Direction, namespace: str) -> tuple[Rule, ...]:
    peers = "from" if direction == "ingress" else "to"
    found = []
    for index, each in enumerate(listed(spec.get(direction), f"spec.{direction}")):
        where = f"spec.{direction}[{index}]"
        body = mapping(each, where)
        named = listed(body.get(peers), f"{where}.{peers}")
        ports = listed(body.get("ports"), f"{where}.ports")
        found.append(
            Rule(
                direction,
                "allow",
                index,
                tuple(_peer(one, f"{where}.{peers}[{n}]", namespace) for n, one in enumerate(named)) or None,
                tuple(_service(one, f"{where}.ports[{n}]") for n, one in enumerate(ports)) or None,
            )
        )
    return tuple(found)


def _peer(value: object, where: str, namespace: str) -> Peer:
    body = mapping(value, where)
    by_label = {"podSelector", "namespaceSelector"} & {name for name, part in body.items() if part is not None}
    if body.get("ipBlock") is not None:
        if by_label:
            raise Unreadable(f"{where}: ipBlock stands beside {', '.join(sorted(by_label))}; allowed: alone")
        block: IpBlock = ip_block(body["ipBlock"], f"{where}.ipBlock")
        return block
    if not by_label:
        raise Unreadable(f"{where}: says nobody; allowed: podSelector, namespaceSelector, both, or ipBlock")
    pods = selector(body.get("podSelector"), f"{where}.podSelector")
    if body.get("namespaceSelector") is None:
        return PodGroup(namespace, pods=pods)
    return PodGroup(namespaces=selector(body["namespaceSelector"], f"{where}.namespaceSelector"), pods=pods)


def _service(value: object, where: str) -> Service | NamedService:
    body: dict[str, Any] = dict(mapping(value, where))
    kind = protocol(body.get("protocol"), f"{where}.protocol")
    port, last = body.get("port"), body.get("endPort")
    if port is None or isinstance(port, str):
        if last is not None:
            raise Unreadable(f"{where}.endPort: {last!r}; allowed only beside a port that is a number")
        return Service(kind) if port is None else NamedService(port, kind)
    return port_range(kind, port, last, where)
