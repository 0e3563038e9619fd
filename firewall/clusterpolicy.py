"""What a ``policy.networking.k8s.io/v1alpha2`` ClusterNetworkPolicy means.

Follows the API's own words; where they leave something open:

- Policies of one tier and priority are asked in the order of their names.
- A peer or protocol of a kind that is not known here fails closed, as the API asks: an Accept rule with it matches nothing, a
  Deny or Pass rule becomes "deny all".
- A policy that cannot be understood drops what its subject selects, in its tier and at its priority where those can be read.
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
MAX_NETWORKS = 25
_TIERS: tuple[Tier, ...] = ("Admin", "Baseline")
_ACTIONS: dict[str, Action] = {"Accept": "allow", "Deny": "drop", "Pass": "pass"}


class _Unknown(Exception):
    """A peer or protocol of a kind that a later version of the API may have."""


def section(policy: Json) -> Section:
    """The section a ClusterNetworkPolicy asks for; one with a ``fault`` where it cannot be understood."""
    source = source_of(KIND, policy)
    tier: Tier = "Admin"
    priority, applied_to = 0, PodGroup()
    try:
        spec = mapping(policy.get("spec"), "spec")
        applied_to = _subject(spec.get("subject"))
        tier = chosen(spec.get("tier"), _TIERS, "spec.tier")
        priority = whole(spec.get("priority"), 0, MAX_PRIORITY, "spec.priority")
        rules = (*_rules(spec, "ingress"), *_rules(spec, "egress"))
        established = established_of(policy)
    except Unreadable as error:
        return Section(source, tier, (applied_to,), FAIL_CLOSED, priority=priority, fault=str(error))
    return Section(source, tier, (applied_to,), rules, priority=priority, established=established)


def _subject(value: object) -> PodGroup:
    body = mapping(value, "spec.subject")
    try:
        return _pods(body, "spec.subject")
    except _Unknown as error:
        raise Unreadable(f"spec.subject: {sorted(body)}; allowed: namespaces, or pods") from error


def _pods(body: Json, where: str) -> PodGroup:
    if set(body) == {"namespaces"} and body["namespaces"] is not None:
        return PodGroup(namespaces=selector(body["namespaces"], f"{where}.namespaces"))
    if set(body) == {"pods"}:
        pods = mapping(body["pods"], f"{where}.pods")
        if pods.get("podSelector") is not None and set(pods) <= {"podSelector", "namespaceSelector"}:
            return PodGroup(
                namespaces=selector(pods.get("namespaceSelector"), f"{where}.pods.namespaceSelector"),
                pods=selector(pods["podSelector"], f"{where}.pods.podSelector"),
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
    if not all_known:
        return Rule(direction, "drop", index, name=name) if action != "allow" else Rule(direction, action, index, ())
    return Rule(direction, action, index, tuple(peers), tuple(services) if protocols else None, name)


def _peers(body: Json, where: str, direction: Direction) -> list[Peer]:
    if set(body) == {"networks"} and direction == "egress":
        networks = listed(body["networks"], f"{where}.networks")
        if not 1 <= len(networks) <= MAX_NETWORKS:
            raise Unreadable(f"{where}.networks: {len(networks)} networks; allowed: 1 to {MAX_NETWORKS}")
        return [IpBlock(cidr(each, f"{where}.networks[{number}]")) for number, each in enumerate(networks)]
    return [_pods(body, where)]


def _service(body: Json, where: str) -> Service | NamedService:
    if set(body) == {"destinationNamedPort"} and isinstance(body["destinationNamedPort"], str):
        return NamedService(body["destinationNamedPort"])
    for protocol in PROTOCOLS:
        if set(body) == {protocol}:
            here = f"{where}.{protocol}.destinationPort"
            asked = mapping(body[protocol], f"{where}.{protocol}")
            port = mapping(asked.get("destinationPort"), here)
            if set(asked) != {"destinationPort"}:
                raise _Unknown
            if set(port) == {"number"}:
                number = whole(port["number"], 1, 65535, f"{here}.number")
                return Service(protocol, number, number)
            if set(port) == {"range"}:
                ends = mapping(port["range"], f"{here}.range")
                first = whole(ends.get("start"), 1, 65534, f"{here}.range.start")
                return Service(protocol, first, whole(ends.get("end"), first + 1, 65535, f"{here}.range.end"))
    raise _Unknown
