"""Specs of policies: some that every server refuses, with the field and the reason it names, and some it takes."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from .client import Object

END_PORT = "endPort of network policies"
LABEL_VALUES = "values of label selectors are checked"
RULES = "validation rules"


class Refused(NamedTuple):
    """A spec that is refused. ``reason`` is the newest Kubernetes' word, ``needs`` what an old one does not check."""

    spec: Object
    field: str
    reason: str
    needs: str = ""

    def __str__(self) -> str:
        return shortened(self.spec)


def shortened(spec: Object) -> str:
    """Return a spec as a test's name shows it."""
    return str(spec)[:90]


def _one(direction: str, **rule: Any) -> Object:
    return {direction: [rule]}


def _requirement(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def _block(cidr: str, *excepts: str) -> Object:
    return _one("egress", to=[{"ipBlock": {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}}])


def _port(**port: Any) -> Object:
    return _one("ingress", ports=[port])


_EXPRESSION = "spec.podSelector.matchExpressions[0]"
_PEER = "spec.egress[0].to[0]"
_PORT = "spec.ingress[0].ports[0]"
_INVALID, _REQUIRED, _FORBIDDEN, _UNSUPPORTED = (
    f"FieldValue{word}" for word in ("Invalid", "Required", "Forbidden", "NotSupported")
)

NETWORK_POLICY_REFUSED = [
    Refused({"podSelector": _requirement("a", "Is", "b")}, f"{_EXPRESSION}.operator", _INVALID),
    Refused({"podSelector": _requirement("a", "In")}, f"{_EXPRESSION}.values", _REQUIRED),
    Refused({"podSelector": _requirement("a", "NotIn")}, f"{_EXPRESSION}.values", _REQUIRED),
    Refused({"podSelector": _requirement("a", "Exists", "b")}, f"{_EXPRESSION}.values", _FORBIDDEN),
    Refused({"podSelector": _requirement("a", "DoesNotExist", "b")}, f"{_EXPRESSION}.values", _FORBIDDEN),
    Refused({"podSelector": _requirement("", "Exists")}, f"{_EXPRESSION}.key", _INVALID),
    Refused({"podSelector": _requirement("no spaces", "Exists")}, f"{_EXPRESSION}.key", _INVALID),
    Refused({"podSelector": _requirement("a", "In", "b", "c d")}, f"{_EXPRESSION}.values[1]", _INVALID, LABEL_VALUES),
    Refused({"podSelector": {"matchLabels": {"-a": "b"}}}, "spec.podSelector.matchLabels", _INVALID),
    Refused({"podSelector": {"matchLabels": {"a": "b" * 64}}}, "spec.podSelector.matchLabels", _INVALID),
    Refused(_one("egress", to=[{}]), _PEER, _REQUIRED),
    Refused(_one("ingress", **{"from": [{"podSelector": {}}, {}]}), "spec.ingress[0].from[1]", _REQUIRED),
    Refused(_one("egress", to=[{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]), _PEER, _FORBIDDEN),
    Refused(_one("egress", to=[{"ipBlock": {"cidr": "::/0"}, "namespaceSelector": {}}]), _PEER, _FORBIDDEN),
    Refused(
        _one("egress", to=[{"podSelector": _requirement("a", "Is")}]),
        f"{_PEER}.podSelector.matchExpressions[0].operator",
        _INVALID,
    ),
    Refused(
        _one("egress", to=[{"namespaceSelector": {"matchLabels": {"a": "b c"}}}]),
        f"{_PEER}.namespaceSelector.matchLabels",
        _INVALID,
    ),
    Refused(_block(""), f"{_PEER}.ipBlock.cidr", _REQUIRED),
    Refused(_one("egress", to=[{"ipBlock": {"except": ["10.0.0.0/9"]}}]), f"{_PEER}.ipBlock.cidr", _REQUIRED),
    *(
        Refused(_block(cidr), f"{_PEER}.ipBlock.cidr", _INVALID)
        for cidr in (
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/255.0.0.0",
            "fd00::/129",
            "fe80::1%eth0/64",
            "all",
        )
    ),
    *(
        Refused(_block("10.0.0.0/8", text), f"{_PEER}.ipBlock.except[0]", _INVALID)
        for text in ("10.1.0.0", "10.0.0.0/8", "10.0.0.0/7", "192.0.2.0/24", "fd00::/64")
    ),
    *(Refused(_port(protocol=protocol), f"{_PORT}.protocol", _UNSUPPORTED) for protocol in ("ICMP", "tcp", "", "Any")),
    *(
        Refused(_port(port=port), f"{_PORT}.port", _INVALID)
        for port in (0, -1, 65536, "", "Web", "-web", "web-", "a--b", "80", "sixteen-letters-")
    ),
    Refused(_port(endPort=90), f"{_PORT}.endPort", _INVALID, END_PORT),
    Refused(_port(port="web", endPort=90), f"{_PORT}.endPort", _INVALID, END_PORT),
    Refused(_port(port=90, endPort=89), f"{_PORT}.endPort", _INVALID, END_PORT),
    Refused(_port(port=90, endPort=65536), f"{_PORT}.endPort", _INVALID, END_PORT),
    Refused({"policyTypes": ["Ingress", "Sideways"]}, "spec.policyTypes[1]", _UNSUPPORTED),
    Refused({"policyTypes": ["Ingress", "Egress", "Ingress"]}, "spec.policyTypes", _INVALID),
]

NETWORK_POLICY_TAKEN = [
    {"podSelector": _requirement("example.org/a", "NotIn", "b", "")},
    {"podSelector": {"matchLabels": {"a": ""}, **_requirement("a", "DoesNotExist")}},
    {"ingress": [{}], "egress": [{}], "policyTypes": ["Egress", "Ingress"]},
    _one("ingress", **{"from": [{"podSelector": {}, "namespaceSelector": {}}]}),
    _block("0.0.0.0/0", "0.0.0.0/1", "255.255.255.255/32"),
    _block("10.1.2.3/8", "10.255.255.255/9"),
    _block("::/0", "fd00::/8"),
    _port(),
    _port(port=1),
    _port(port=65535, protocol="SCTP"),
    _port(port="80a"),
    _port(port="fifteen-letters", protocol="UDP"),
]

DEFAULT_TYPES = [
    ({}, ["Ingress"]),
    ({"ingress": [{}]}, ["Ingress"]),
    ({"egress": []}, ["Ingress"]),
    ({"egress": [{}]}, ["Ingress", "Egress"]),
    ({"egress": [{}], "policyTypes": []}, ["Ingress", "Egress"]),
    ({"egress": [{}], "policyTypes": ["Ingress"]}, ["Ingress"]),
    ({"policyTypes": ["Egress"]}, ["Egress"]),
]


def cluster_policy(name: str, **spec: Any) -> Object:
    """Return a ClusterNetworkPolicy; a field that is None is left out."""
    whole = {"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}, **spec}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {field: value for field, value in whole.items() if value is not None},
    }


_NAMESPACES = {"namespaces": {}}
_TYPE, _LONG, _MANY, _DUPLICATE = (f"FieldValue{word}" for word in ("TypeInvalid", "TooLong", "TooMany", "Duplicate"))


def _out(*networks: str, **rule: Any) -> Object:
    to = [{"networks": list(networks)}] if networks else [copy.deepcopy(_NAMESPACES)]
    return {"egress": [{"action": "Deny", "to": to, **rule}]}


def _protocol(**protocol: Any) -> Object:
    return _out(protocols=[protocol])


_RULE = "spec.egress[0]"
_PROTOCOL = f"{_RULE}.protocols[0]"

CLUSTER_POLICY_REFUSED = [
    Refused({"tier": None}, "spec.tier", _REQUIRED),
    Refused({"tier": "NetworkPolicy"}, "spec.tier", _UNSUPPORTED),
    Refused({"priority": None}, "spec.priority", _REQUIRED),
    Refused({"priority": -1}, "spec.priority", _INVALID),
    Refused({"priority": 1001}, "spec.priority", _INVALID),
    Refused({"priority": 2**31}, "spec.priority", _INVALID),
    Refused({"priority": "10"}, "spec.priority", _TYPE),
    Refused({"subject": {}}, "spec.subject", _INVALID),
    Refused({"subject": {**_NAMESPACES, "pods": {"podSelector": {}}}}, "spec.subject", _MANY),
    Refused({"subject": {"pods": {}}}, "spec.subject.pods.podSelector", _REQUIRED),
    Refused({"egress": _out()["egress"] * 26}, "spec.egress", _MANY),
    Refused(_out(action="Drop"), f"{_RULE}.action", _UNSUPPORTED),
    Refused(_out(name="n" * 101), f"{_RULE}.name", _LONG),
    Refused(_out(to=[]), f"{_RULE}.to", _INVALID),
    Refused(_out(to=[_NAMESPACES] * 26), f"{_RULE}.to", _MANY),
    Refused(_out(to=[{}]), f"{_RULE}.to[0]", _INVALID),
    Refused(_out(to=[{"networks": []}]), f"{_RULE}.to[0].networks", _INVALID),
    Refused(_out("10.0.0.0/8", "10.0.0.0/8"), f"{_RULE}.to[0].networks[1]", _DUPLICATE),
    Refused(_out("1" * 44), f"{_RULE}.to[0].networks[0]", _LONG),
    Refused(_protocol(), _PROTOCOL, _INVALID),
    Refused(_protocol(tcp={"destinationPort": {"number": 1}}, udp={}), _PROTOCOL, _MANY),
    Refused(_protocol(tcp={}), f"{_PROTOCOL}.tcp", _INVALID),
    Refused(_protocol(tcp={"destinationPort": {"number": 0}}), f"{_PROTOCOL}.tcp.destinationPort.number", _INVALID),
    Refused(
        _protocol(udp={"destinationPort": {"range": {"start": 1}}}),
        f"{_PROTOCOL}.udp.destinationPort.range.end",
        _REQUIRED,
    ),
    *(
        Refused(
            _protocol(sctp={"destinationPort": {"range": {"start": start, "end": end}}}),
            f"{_PROTOCOL}.sctp.destinationPort.range",
            _INVALID,
            RULES,
        )
        for start, end in ((9, 9), (9, 8))
    ),
    *(
        Refused(_out("fd00::/8", text), f"{_RULE}.to[0].networks[1]", _INVALID, RULES)
        for text in ("10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "::ffff:10.0.0.0/104", "fe80::1%eth0/64", "")
    ),
]

CLUSTER_POLICY_TAKEN = [
    {"priority": 0},
    {"priority": 1000, "tier": "Baseline", "subject": {"pods": {"podSelector": {}}}},
    {"ingress": [], "egress": _out()["egress"] * 25},
    _out("0.0.0.0/0", "::/0", "10.1.2.3/8"),
    _protocol(destinationNamedPort="web"),
    _protocol(tcp={"destinationPort": {"range": {"start": 1, "end": 65535}}}),
]


def security_policy(name: str, **spec: Any) -> Object:
    """Return a SecurityPolicy."""
    return {
        "apiVersion": "crd.nsx.vmware.com/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def _rules(**rule: Any) -> Object:
    return {"rules": [{"action": "Allow", "direction": "In", **rule}]}


_FIRST = "spec.rules[0]"

SECURITY_POLICY_REFUSED = [
    Refused({"priority": -1}, "spec.priority", _INVALID),
    Refused({"priority": 1001}, "spec.priority", _INVALID),
    Refused({"appliedTo": [{}]}, "spec.appliedTo[0]", _INVALID),
    Refused({"appliedTo": [{"namespaceSelector": {}}]}, "spec.appliedTo[0]", _INVALID),
    Refused({"rules": [{"action": "Allow"}]}, f"{_FIRST}.direction", _REQUIRED),
    Refused({"rules": [{"direction": "In"}]}, f"{_FIRST}.action", _REQUIRED),
    Refused(_rules(action="Deny"), f"{_FIRST}.action", _UNSUPPORTED),
    Refused(_rules(direction="in"), f"{_FIRST}.direction", _UNSUPPORTED),
    Refused(_rules(sources=[{}]), f"{_FIRST}.sources[0]", _INVALID),
    Refused(_rules(sources=[{"ipBlocks": [{}]}]), f"{_FIRST}.sources[0].ipBlocks[0].cidr", _REQUIRED),
    Refused(_rules(**{"from": [{"ipBlocks": [{"cidr": "10.0.0.0"}]}]}), f"{_FIRST}.from[0].ipBlocks[0].cidr", _TYPE),
    Refused(
        _rules(to=[{"ipBlocks": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/33"]}]}]),
        f"{_FIRST}.to[0].ipBlocks[0].except[0]",
        _TYPE,
    ),
    Refused(
        _rules(sources=[{"podSelector": _requirement("a", "Is")}]),
        f"{_FIRST}.sources[0].podSelector.matchExpressions[0].operator",
        _UNSUPPORTED,
    ),
    Refused(_rules(ports=[{"protocol": "ICMP"}]), f"{_FIRST}.ports[0].protocol", _UNSUPPORTED),
    Refused(_rules(ports=[{"port": 0}]), f"{_FIRST}.ports[0].port", _INVALID),
    Refused(_rules(ports=[{"port": 65536}]), f"{_FIRST}.ports[0].port", _INVALID),
    Refused(_rules(ports=[{"port": ""}]), f"{_FIRST}.ports[0].port", _INVALID),
    Refused(_rules(ports=[{"port": 1.5}]), f"{_FIRST}.ports[0].port", _TYPE),
    Refused(_rules(ports=[{"port": 1, "endPort": 65536}]), f"{_FIRST}.ports[0].endPort", _INVALID),
]

SECURITY_POLICY_TAKEN = [
    {},
    {"priority": 1000, "rules": []},
    {"appliedTo": [{"podSelector": {}}, {"vmSelector": {"matchLabels": {"a": "b"}}}]},
    *(_rules(action=action) for action in ("Allow", "Drop", "Reject")),
    *(_rules(direction=direction) for direction in ("In", "Ingress", "Out", "Egress")),
    _rules(appliedTo=[{"podSelector": _requirement("a", "NotIn", "b")}]),
    _rules(sources=[{"podSelector": {}, "namespaceSelector": _requirement("a", "Exists")}, {"vmSelector": {}}]),
    _rules(**{"from": [{"ipBlocks": [{"cidr": "10.1.2.3/8", "except": ["10.0.0.0/9"]}, {"cidr": "fd00::/8"}]}]}),
    _rules(direction="Out", destinations=[{"podSelector": {}}]),
    _rules(direction="Egress", to=[{"podSelector": {}}]),
    _rules(name="web", ports=[{"port": 80, "endPort": 90}, {"port": "http", "protocol": "UDP"}, {"protocol": "SCTP"}]),
]
