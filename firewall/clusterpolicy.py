"""What a ``policy.networking.k8s.io/v1alpha2`` ClusterNetworkPolicy means.

Follows the API's own words; where they leave something open:

- Policies of one tier and priority are asked in the order of their names.
- A peer or protocol of a kind that is not known here fails closed, as the API asks: an Accept rule with it matches nothing
  by it, a Deny or Pass rule becomes "deny all".
"""

from __future__ import annotations

from firewall.reading import (
    Json,
    Unreadable,
    chosen,
    cidr,
    established_of,
    listed,
    mapping,
    selector,
    source_of,
    whole,
)
from firewall.rules import (
    FAIL_CLOSED,
    PROTOCOLS,
    Action,
    Direction,
    IpBlock,
    NamedService,
    Peer,
    PodGroup,
    Rule,
    Section,
    Service,
    Tier,
)

KIND = "ClusterNetworkPolicy"
MAX_PRIORITY = 1000
MAX_RULES = 25
_TIERS: tuple[Tier, ...] = ("Admin", "Baseline")
_ACTIONS: dict[str, Action] = {"Accept": "allow", "Deny": "drop", "Pass": "pass"}


class _Unknown(Exception):
    """A peer or protocol of a kind that a later version of the API may have."""


def section(policy: Json) -> Section:
    """The section a ClusterNetworkPolicy asks for; one with a ``fault`` where it cannot be understood."""
    source = source_of(KIND, policy)
    tier: Tier = "Admin"
    applied_to = PodGroup()
    try:
        spec = mapping(policy.get("spec"), "spec")
        tier = chosen(spec.get("tier"), _TIERS, "spec.tier")
        applied_to = _subject(spec.get("subject"))
        priority = whole(spec.get("priority"), 0, MAX_PRIORITY, "spec.priority")
        rules = (*_rules(spec, "ingress"), *_rules(spec, "egress"))
        established = established_of(policy)
    except Unreadable as error:
        return Section(source, tier, (applied_to,), FAIL_CLOSED, fault=str(error))
    return Section(source, tier, (applied_to,), rules, priority=priority, established=established)


def _subject(value: object) -> PodGroup:
    body = mapping(value, "spec.subject")
    try:
        return _pods(body, "spec.subject")
    except _Unknown as error:
        raise Unreadable(f"spec.subject: {sorted(body)}; allowed: namespaces, or pods") from error


def _pods(body: Json, where: str) -> PodGroup:
    if set(body) == {"namespaces"}:
        return PodGroup(namespaces=selector(body["namespaces"], f"{where}.namespaces"))
    if set(body) == {"pods"}:
        pods = mapping(body["pods"], f"{where}.pods")
        return PodGroup(
            namespaces=selector(pods.get("namespaceSelector"), f"{where}.pods.namespaceSelector"),
            pods=selector(pods.get("podSelector"), f"{where}.pods.podSelector"),
        )
    raise _Unknown


def _rules(spec: Json, direction: Direction) -> tuple[Rule, ...]:
    rules = listed(spec.get(direction), f"spec.{direction}")
    if len(rules) > MAX_RULES:
        raise Unreadable(f"spec.{direction}: {len(rules)} rules; allowed: at most {MAX_RULES}")
    return tuple(
        _rule(mapping(each, f"spec.{direction}[{index}]"), direction, index) for index, each in enumerate(rules)
    )


def _rule(body: Json, direction: Direction, index: int) -> Rule:
    where = f"spec.{direction}[{index}]"
    action = _ACTIONS[chosen(body.get("action"), tuple(_ACTIONS), f"{where}.action")]
    name = str(body.get("name") or "")
    side = "from" if direction == "ingress" else "to"
    named = listed(body.get(side), f"{where}.{side}")
    if not named:
        raise Unreadable(f"{where}.{side}: names nobody; allowed: at least one peer")
    protocols = listed(body.get("protocols"), f"{where}.protocols")
    peers: list[Peer] = []
    services: list[Service | NamedService] = []
    all_known = True
    for number, each in enumerate(named):
        try:
            peers += _peers(mapping(each, f"{where}.{side}[{number}]"), f"{where}.{side}[{number}]", direction)
        except _Unknown:
            all_known = False
    for number, each in enumerate(protocols):
        try:
            services.append(_service(mapping(each, f"{where}.protocols[{number}]"), f"{where}.protocols[{number}]"))
        except _Unknown:
            all_known = False
    if not all_known and action != "allow":
        return Rule(direction, "drop", index, name=name)
    return Rule(direction, action, index, tuple(peers), tuple(services) if protocols else None, name)


def _peers(body: Json, where: str, direction: Direction) -> list[Peer]:
    if set(body) == {"networks"} and direction == "egress":
        networks = listed(body["networks"], f"{where}.networks")
        return [IpBlock(cidr(each, f"{where}.networks[{number}]")) for number, each in enumerate(networks)]
    return [_pods(body, where)]


def _service(body: Json, where: str) -> Service | NamedService:
    if set(body) == {"destinationNamedPort"} and isinstance(body["destinationNamedPort"], str):
        return NamedService(body["destinationNamedPort"])
    for protocol in PROTOCOLS:
        if set(body) == {protocol}:
            port = mapping(mapping(body[protocol], f"{where}.{protocol}").get("destinationPort"), where)
            if not port:
                return Service(protocol)
            if set(port) == {"number"}:
                number = whole(port["number"], 1, 65535, f"{where}.{protocol}.destinationPort.number")
                return Service(protocol, number, number)
            if set(port) == {"range"}:
                ends = mapping(port["range"], f"{where}.{protocol}.destinationPort.range")
                first = whole(ends.get("start"), 1, 65535, f"{where}.{protocol}.destinationPort.range.start")
                last = whole(ends.get("end"), first, 65535, f"{where}.{protocol}.destinationPort.range.end")
                return Service(protocol, first, last)
    raise _Unknown
