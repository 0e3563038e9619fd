"""What a ``crd.nsx.vmware.com/v1alpha1`` SecurityPolicy means: rules with priority, applied-to, allow, drop and reject.

The resource has the shape of NSX's own operator. Rules are asked in their order; a rule's ``appliedTo`` counts where the
policy has none, and where neither has one the policy is about all pods of its namespace. ``vmSelector`` selects workloads of
virtual machines, of which there are none: a peer or target with it alone is nobody. A policy that cannot be understood drops
what it applies to, at its priority where that can be read.
"""

from __future__ import annotations

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
    whole,
)
from firewall.rules import FAIL_CLOSED, Action, Direction, NamedService, Peer, PodGroup, Rule, Section, Service

KIND = "SecurityPolicy"
MAX_PRIORITY = 1000
_ACTIONS: dict[str, Action] = {"Allow": "allow", "Drop": "drop", "Reject": "reject"}
_DIRECTIONS: dict[str, Direction] = {"In": "ingress", "Ingress": "ingress", "Out": "egress", "Egress": "egress"}
_PEERS = frozenset({"podSelector", "namespaceSelector", "ipBlocks", "vmSelector"})
_SIDES: dict[Direction, tuple[str, str]] = {"ingress": ("sources", "from"), "egress": ("destinations", "to")}


def section(policy: Json) -> Section:
    """The section a SecurityPolicy asks for; one with a ``fault`` where it cannot be understood."""
    source = source_of(KIND, policy)
    priority = 0
    applied_to: tuple[PodGroup, ...] = (PodGroup(source.namespace),)
    try:
        spec = mapping(policy.get("spec"), "spec")
        if spec.get("appliedTo"):
            applied_to = _targets(spec["appliedTo"], "spec.appliedTo", source.namespace)
        priority = whole(spec.get("priority", 0), 0, MAX_PRIORITY, "spec.priority")
        whole_policy = bool(spec.get("appliedTo"))
        rules = tuple(
            _rule(mapping(each, f"spec.rules[{index}]"), index, source.namespace, whole_policy)
            for index, each in enumerate(listed(spec.get("rules"), "spec.rules"))
        )
        established = established_of(policy)
    except Unreadable as error:
        return Section(source, "Application", applied_to, FAIL_CLOSED, priority=priority, fault=str(error))
    return Section(source, "Application", applied_to, rules, priority=priority, established=established)


def _targets(value: object, where: str, namespace: str) -> tuple[PodGroup, ...]:
    found = []
    for number, each in enumerate(listed(value, where)):
        here = f"{where}[{number}]"
        body = mapping(each, here)
        named = {name for name, part in body.items() if part is not None}
        if named - {"podSelector", "vmSelector"} or not named:
            raise Unreadable(f"{here}: {sorted(body)}; allowed: podSelector, vmSelector")
        if "podSelector" in named:
            found.append(PodGroup(namespace, pods=selector(body["podSelector"], f"{here}.podSelector")))
    return tuple(found)


def _rule(body: Json, index: int, namespace: str, whole_policy: bool) -> Rule:
    where = f"spec.rules[{index}]"
    action = _ACTIONS[chosen(body.get("action"), tuple(_ACTIONS), f"{where}.action")]
    direction = _DIRECTIONS[chosen(body.get("direction"), tuple(_DIRECTIONS), f"{where}.direction")]
    own, other = _SIDES[direction], _SIDES["egress" if direction == "ingress" else "ingress"]
    for name in other:
        if body.get(name):
            raise Unreadable(f"{where}.{name}: stands in a rule of direction {direction}; allowed: {', '.join(own)}")
    applied_to = None
    if body.get("appliedTo") and not whole_policy:
        applied_to = _targets(body["appliedTo"], f"{where}.appliedTo", namespace)
    named = [(name, n, each) for name in own for n, each in enumerate(listed(body.get(name), f"{where}.{name}"))]
    peers = tuple(peer for name, n, each in named for peer in _peers(each, f"{where}.{name}[{n}]", namespace))
    ports = listed(body.get("ports"), f"{where}.ports")
    services = tuple(_service(each, f"{where}.ports[{number}]") for number, each in enumerate(ports))
    name = str(body.get("name") or "")
    return Rule(direction, action, index, peers if named else None, services or None, name, applied_to)


def _peers(value: object, where: str, namespace: str) -> list[Peer]:
    body = {name: part for name, part in mapping(value, where).items() if part is not None}
    if set(body) - _PEERS or not body:
        raise Unreadable(f"{where}: {sorted(body)}; allowed: {', '.join(sorted(_PEERS))}")
    blocks = listed(body.get("ipBlocks"), f"{where}.ipBlocks")
    if "ipBlocks" in body and not blocks:
        raise Unreadable(f"{where}.ipBlocks: names no block; allowed: at least one")
    found: list[Peer] = [ip_block(each, f"{where}.ipBlocks[{number}]") for number, each in enumerate(blocks)]
    if "vmSelector" in body and "podSelector" not in body:
        return found
    pods = selector(body.get("podSelector"), f"{where}.podSelector")
    if "namespaceSelector" in body:
        found.append(PodGroup(namespaces=selector(body["namespaceSelector"], f"{where}.namespaceSelector"), pods=pods))
    elif "podSelector" in body:
        found.append(PodGroup(namespace, pods=pods))
    return found


def _service(value: object, where: str) -> Service | NamedService:
    body = mapping(value, where)
    kind = protocol(body.get("protocol"), f"{where}.protocol")
    port, last = body.get("port"), body.get("endPort")
    if port is None or isinstance(port, str):
        if last is not None:
            raise Unreadable(f"{where}.endPort: {last!r}; allowed only beside a port that is a number")
        if port is not None and port.isdigit():
            raise Unreadable(f"{where}.port: {port!r}; allowed: a number without quotes, or a container port's name")
        return Service(kind) if port is None else NamedService(port, kind)
    return port_range(kind, port, last, where)
