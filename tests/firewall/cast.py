"""A small cast to ask the oracle about, and policies and questions in their shortest form.

| Namespace | Labels | Pods |
|---|---|---|
| red | team=a, env=prod | web (node1), api (node2), db (node1) |
| blue | team=b, env=prod | web (node2), job (node1, without labels) |
| green | none | web (node3) |

Beside them, ``outside`` is a host on no node, and ``node1`` stands for the node and for its host-network pods.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from firewall import clusterpolicy, networkpolicy, securitypolicy
from firewall.labels import labels_of
from firewall.rules import Address, Cidr, Identity, NamedPort, Protocol, Section
from firewall.verdict import Connection, Verdict, Workload, judge, world


def address(text: str) -> Address:
    found = ipaddress.ip_address(text)
    return found.version, int(found)


def prefix(text: str) -> Cidr:
    found = ipaddress.ip_network(text)
    return found.version, int(found.network_address), found.prefixlen


NAMESPACES = {
    "red": labels_of({"team": "a", "env": "prod"}),
    "blue": labels_of({"team": "b", "env": "prod"}),
    "green": labels_of({}),
}
ADDRESSES = {
    "red/web": ("10.4.1.2", "fd00:10:4:1::2"),
    "red/api": ("10.4.1.3", "fd00:10:4:1::3"),
    "red/db": ("10.4.1.4", "fd00:10:4:1::4"),
    "blue/web": ("10.4.2.2", "fd00:10:4:2::2"),
    "blue/job": ("10.4.2.3", "fd00:10:4:2::3"),
    "green/web": ("10.4.3.2", "fd00:10:4:3::2"),
    "node1": ("192.168.50.11", "fd50::11"),
    "node2": ("192.168.50.12", "fd50::12"),
    "outside": ("203.0.113.9", "2001:db8::9"),
}
_AT = {
    (name, family): address(text) for name, (four, six) in ADDRESSES.items() for family, text in ((4, four), (6, six))
}
PODS = frozenset(name for name in ADDRESSES if "/" in name)
EVERYBODY = frozenset(ADDRESSES)
NODES = {name: (_AT[name, 4], _AT[name, 6]) for name in ("node1", "node2")}
BLOCKS = (prefix("10.4.0.0/16"), prefix("fd00:10:4::/48"))


def _workload(name: str, node: str, labels: dict[str, str], *ports: tuple[str, Protocol, int]) -> Workload:
    identity = Identity(name.partition("/")[0], labels_of(labels), tuple(sorted(NamedPort(*each) for each in ports)))
    return Workload(name, identity, (_AT[name, 4], _AT[name, 6]), node)


WORKLOADS = (
    _workload("red/web", "node1", {"app": "web", "stage": "front"}, ("http", "tcp", 8080), ("dns", "udp", 53)),
    _workload("red/api", "node2", {"app": "api", "stage": "back"}, ("http", "tcp", 80), ("dns", "tcp", 53)),
    _workload("red/db", "node1", {"app": "db", "stage": "back"}),
    _workload("blue/web", "node2", {"app": "web"}, ("http", "tcp", 8081), ("dns", "tcp", 5353), ("dns", "udp", 5353)),
    _workload("blue/job", "node1", {}),
    _workload("green/web", "node3", {"app": "web"}),
)


def ask(
    sections: list[Section], source: str, destination: str, protocol: Protocol | None = "tcp", port: int = 80,
    *, family: int = 4, **options: Any,
) -> Verdict:  # fmt: skip
    """The verdict on a connection between two of the cast, or between addresses."""
    where = world(sections, WORKLOADS, NAMESPACES, nodes=NODES, blocks=BLOCKS, **options)
    ends = [_AT.get((each, family)) or address(each.removeprefix("@")) for each in (source, destination)]
    return judge(where, Connection(ends[0], ends[1], protocol, port))


def senders(sections: list[Section], to: str, *what: Any, **options: Any) -> set[str]:
    """Who of the others may begin a connection to a pod."""
    return {each for each in EVERYBODY - {to} if ask(sections, each, to, *what, **options).allowed}


def receivers(sections: list[Section], of: str, *what: Any, **options: Any) -> set[str]:
    """To whom of the others a pod may begin a connection."""
    return {each for each in EVERYBODY - {of} if ask(sections, of, each, *what, **options).allowed}


def having(**labels: str) -> dict[str, Any]:
    """The selector of these labels, as JSON."""
    return {"matchLabels": labels}


def _object(name: str, namespace: str, annotations: dict[str, str] | None, spec: object) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "annotations": annotations}, "spec": spec}


def network_policy(
    name: str = "np", *, namespace: str = "red", annotations: dict[str, str] | None = None, **spec: Any
) -> Section:
    """A NetworkPolicy; of every pod of its namespace, unless told."""
    return networkpolicy.section(_object(name, namespace, annotations, {"podSelector": {}, **spec}))


def cluster_policy(name: str = "cnp", *, annotations: dict[str, str] | None = None, **spec: Any) -> Section:
    """A ClusterNetworkPolicy; of tier Admin and the pods of red, unless told."""
    whole = {"tier": "Admin", "priority": 50, "subject": {"namespaces": having(team="a")}, **spec}
    return clusterpolicy.section(_object(name, "", annotations, whole))


def security_policy(
    name: str = "sp", *, namespace: str = "red", annotations: dict[str, str] | None = None, **spec: Any
) -> Section:
    """A SecurityPolicy."""
    return securitypolicy.section(_object(name, namespace, annotations, spec))
