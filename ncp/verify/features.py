"""The features of policies that conformance cases are made of, alone and in pairs. Pure.

A feature changes a draft, or adds drafts beside it. Two that fill the same place of a rule stand beside each other there (two
peers, two ports); two kinds of policy are two policies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from firewall.rules import Direction
from ncp.verify.drafts import Action, Draft, Kind, Port
from ncp.verify.ground import LABEL, Ground, whole

Json = dict[str, Any]
Group: TypeAlias = Literal["direction", "subject", "peer", "port", "structure", "kind"]
Change: TypeAlias = Callable[[Ground, Draft], Draft]

BOTH: Final[tuple[Direction, ...]] = ("ingress", "egress")
_NETWORK_ONLY: Final = frozenset({"default-types"})


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing policies can say; ``more`` are policies beside the one that is changed."""

    name: str
    group: Group
    doc: str
    change: Change = lambda ground, draft: draft
    more: Callable[[Ground, Draft], tuple[Draft, ...]] = lambda ground, draft: ()


def drafts(ground: Ground, *features: Feature) -> tuple[Draft, ...]:
    """The policies that have these features."""
    kinds = [feature for feature in features if feature.group == "kind"]
    if len(kinds) > 1 or (kinds and any(feature.name in _NETWORK_ONLY for feature in features)):
        found = [feature.change(ground, Draft()) for feature in features]
    else:
        draft = Draft()
        for feature in features:
            draft = feature.change(ground, draft)
        found = [draft]
    for feature in features:
        found += feature.more(ground, found[0])
    return tuple(found)


def _set(**changes: Any) -> Change:
    return lambda ground, draft: replace(draft, **changes)


def _peer(peer: Json) -> Change:
    return lambda ground, draft: replace(draft, peers=(*draft.peers, peer))


def _blocks(of: Callable[[Ground], list[Json]]) -> Change:
    def change(ground: Ground, draft: Draft) -> Draft:
        return replace(draft, peers=(*draft.peers, *({"ipBlock": block} for block in of(ground))))

    return change


def _ports(*ports: Port) -> Change:
    return lambda ground, draft: replace(draft, ports=(*draft.ports, *ports))


def _kind(kind: Kind, action: Action, priority: int) -> Change:
    return _set(kind=kind, action=action, priority=priority)


def _beside(**changes: Any) -> Callable[[Ground, Draft], tuple[Draft, ...]]:
    return lambda ground, draft: (replace(Draft(), **changes),)


def _contrary(ground: Ground, draft: Draft) -> tuple[Draft, ...]:
    """What is asked after a draft, about everybody, and says the opposite; of a NetworkPolicy, what is asked before it."""
    if draft.kind == "network":
        peer: Json = {"namespaceSelector": {"matchLabels": {LABEL: "z"}}}
        return (replace(Draft(), kind="admin", priority=7, directions=draft.directions, subject=(), peers=(peer,)),)
    opposite: Action = "deny" if draft.action in ("allow", "pass") else "allow"
    later = replace(draft, action=opposite, priority=draft.priority + 2, subject=(), is_about_anyone=True, peers=())
    return (replace(later, ports=(), has_more_rules=False),)


def _of(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def _networks(ground: Ground) -> list[Json]:
    return [{"cidr": str(each)} for each in ground.networks["y"]]


def _networks_except(ground: Ground) -> list[Json]:
    return [
        {"cidr": str(each), "except": [whole(one) for one in ground.pods["y/a"] if one.family == each.family]}
        for each in ground.networks["y"]
    ]


_EVERYBODY: Final[tuple[tuple[str, Any], ...]] = ()
_X, _Y = ({"matchLabels": {LABEL: space}} for space in ("x", "y"))

FEATURES: Final = (
    Feature("egress", "direction", "about what pods send", _set(directions=("egress",))),
    Feature("both-ways", "direction", "about what pods send and get", _set(directions=BOTH)),
    Feature("subject-all", "subject", "about every pod", _set(subject=_EVERYBODY)),
    Feature("subject-notin", "subject", "NotIn", _set(subject=tuple(_of("pod", "NotIn", "b").items()))),
    Feature("peer-anyone", "peer", "no peers named", _set(is_about_anyone=True)),
    Feature("peer-neighbours", "peer", "podSelector of everybody", _peer({"podSelector": {}})),
    Feature("peer-namespace", "peer", "namespaceSelector", _peer({"namespaceSelector": _Y})),
    Feature(
        "peer-both",
        "peer",
        "namespaceSelector and podSelector",
        _peer({"namespaceSelector": _Y, "podSelector": {"matchLabels": {"pod": "b"}}}),
    ),
    Feature(
        "peer-in",
        "peer",
        "In, of namespaces and of pods",
        _peer({"namespaceSelector": _of(LABEL, "In", "y", "z"), "podSelector": _of("pod", "In", "a", "c")}),
    ),
    Feature(
        "peer-exists",
        "peer",
        "Exists, of namespaces and of pods",
        _peer({"namespaceSelector": _of("team", "Exists"), "podSelector": _of("tier", "Exists")}),
    ),
    Feature(
        "peer-absent",
        "peer",
        "DoesNotExist, of namespaces and of pods",
        _peer({"namespaceSelector": _of("team", "DoesNotExist"), "podSelector": _of("tier", "DoesNotExist")}),
    ),
    Feature("peer-block", "peer", "ipBlock", _blocks(_networks)),
    Feature("peer-except", "peer", "ipBlock with except", _blocks(_networks_except)),
    Feature(
        "peer-host",
        "peer",
        "ipBlock of a node and of a host outside",
        _blocks(lambda ground: [{"cidr": whole(each)} for each in ground.hosts]),
    ),
    Feature("port-number", "port", "a port, of TCP and of SCTP", _ports(Port("TCP", 80), Port("SCTP", 81))),
    Feature("port-range", "port", "endPort", _ports(Port("UDP", 81, 90))),
    Feature("port-name", "port", "a port by its name", _ports(Port("TCP", "web"))),
    Feature("port-protocol", "port", "a protocol alone", _ports(Port("SCTP"))),
    Feature("deny-all", "structure", "a policy without rules", more=_beside(subject=(), directions=BOTH, has_rules=False)),
    Feature(
        "allow-all",
        "structure",
        "a policy with an empty rule",
        more=_beside(subject=(), directions=BOTH, is_about_anyone=True),
    ),
    Feature("several-rules", "structure", "more than one rule", _set(has_more_rules=True)),
    Feature(
        "several-policies",
        "structure",
        "more than one policy on a pod",
        more=_beside(subject=(), peers=({"podSelector": {"matchLabels": {"pod": "c"}}},), ports=(Port("TCP", 81),)),
    ),
    Feature("default-types", "structure", "no policyTypes", _set(names_types=False)),
    Feature("order", "structure", "two policies at odds, by priority or tier", more=_contrary),
    Feature("admin-accept", "kind", "ClusterNetworkPolicy, Admin, Accept", _kind("admin", "allow", 10)),
    Feature("admin-deny", "kind", "ClusterNetworkPolicy, Admin, Deny", _kind("admin", "deny", 20)),
    Feature("admin-pass", "kind", "ClusterNetworkPolicy, Admin, Pass", _kind("admin", "pass", 15)),
    Feature("baseline-accept", "kind", "ClusterNetworkPolicy, Baseline, Accept", _kind("baseline", "allow", 10)),
    Feature("baseline-deny", "kind", "ClusterNetworkPolicy, Baseline, Deny", _kind("baseline", "deny", 20)),
    Feature("security-allow", "kind", "SecurityPolicy, Allow", _kind("security", "allow", 3)),
    Feature("security-drop", "kind", "SecurityPolicy above NetworkPolicies, Drop", _kind("security", "deny", 5)),
    Feature("security-reject", "kind", "SecurityPolicy below NetworkPolicies, Reject", _kind("security", "reject", 50)),
)  # fmt: skip
BY_NAME: Final = {feature.name: feature for feature in FEATURES}
