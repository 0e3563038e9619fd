"""What conformance cases are played on: nine pods in three namespaces, two ports, three protocols. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ipam.address import WIDTH, Address, Prefix

Json = dict[str, Any]

SPACES: Final = ("x", "y", "z")
NAMES: Final = ("a", "b", "c")
PORTS: Final = (80, 81)
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
LABEL: Final = "verify"
"""Label of the namespaces: which of x, y and z it is."""
PREFIX: Final = "verify-"
"""Before the names of the namespaces, so that nobody else's are touched."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The nine pods as they are there: addresses decide what an ``ipBlock`` is about."""

    pods: Mapping[str, tuple[Address, ...]]  # by "x/a"
    networks: Mapping[str, tuple[Prefix, ...]]  # of the namespaces' segments, by "x"
    hosts: tuple[Address, ...] = ()  # of a node and of the external host, where there is one
    prefix: str = PREFIX

    def namespace(self, space: str) -> str:
        """The namespace that plays x, y or z."""
        return self.prefix + space


def example(prefix: str = PREFIX) -> Ground:
    """A ground nobody stands on: for lists of cases, and tests."""
    networks = {
        space: (Prefix(4, 0x0A040000 + (number << 8), 24), Prefix(6, (0xFD0000100004 << 80) + (number << 64), 64))
        for number, space in enumerate(SPACES)
    }
    pods = {
        f"{space}/{pod}": tuple(Address(each.family, each.value + 2 + number) for each in networks[space])
        for space in SPACES
        for number, pod in enumerate(NAMES)
    }
    hosts = (Address(4, 0xC0A8320B), Address(6, (0xFD50 << 112) | 0x11))
    return Ground(pods, networks, hosts, prefix)


REACHABLE: Final = {"ncp/no_snat": "true"}
"""Annotations of namespaces whose pods are reached from outside."""


def namespace_object(ground: Ground, space: str) -> Json:
    """One of the namespaces; y is the one with a team."""
    labels = {LABEL: space, **({"team": "blue"} if space == "y" else {})}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": ground.namespace(space), "labels": labels, "annotations": REACHABLE},
    }


def pod_object(ground: Ground, name: str, nodes: Iterable[str]) -> Json:
    """One of the pods, ``x/a``, on one of the nodes: neighbours in a namespace and in a row stand on different ones.

    Every port of every protocol is served. ``web`` names another port on c than on a and b; c has a tier.
    """
    space, pod = name.split("/")
    there = sorted(nodes)
    index = SPACES.index(space) + NAMES.index(pod)
    web = PORTS[1] if pod == "c" else PORTS[0]
    ports = [
        {"containerPort": port, "protocol": protocol, **({"name": "web"} if (port, protocol) == (web, "TCP") else {})}
        for port in PORTS
        for protocol in PROTOCOLS
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": ground.namespace(space), "labels": pod_labels(pod)},
        "spec": {
            "nodeName": there[index % len(there)],
            "containers": [{"name": "main", "image": "lab/responder", "ports": ports}],
            "terminationGracePeriodSeconds": 0,
        },
    }


def pod_labels(pod: str) -> dict[str, str]:
    """The labels of a pod by its short name."""
    return {"pod": pod, **({"tier": "back"} if pod == "c" else {})}


def whole(address: Address) -> str:
    """The block of one address."""
    return f"{address}/{WIDTH[address.family]}"
