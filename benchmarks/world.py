"""Worlds of any size, as Kubernetes objects with the manager's decisions on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ipam.address import Address, parse_interface
from ncp.translate.intent import Fabric, Translation, apply_all, start

FABRIC = Fabric("bench", 5000, (parse_interface("100.64.0.1/16"), parse_interface("fd98::1/64")), 1500, False, "node1")
TEAMS = 5
CONTAINER_PORTS = [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9100}]
Change = tuple[str, tuple[str, str], dict[str, Any] | None]


def namespace(index: int, *, dual: bool = True, team: int | None = None) -> Change:
    """Namespace ``ns<index>`` with its segment; every fifth is of one team, unless another is given."""
    gateways = [
        str(Address(4, 0x0A040001 + (index << 12))) + "/20",
        *([str(Address(6, (0xFD0000100004 << 80) + (index << 64) + 1)) + "/64"] if dual else []),
    ]
    decided = [{"vni": 5001 + index, "router": 5001 + index, "gateways": gateways, "snat": True}]
    name = f"ns{index}"
    meta = {
        "name": name,
        "uid": name,
        "labels": {"team": f"t{index % TEAMS if team is None else team}"},
        "annotations": {"ncp/segments": orjson.dumps(decided).decode()},
    }
    return "Namespace", ("", name), {"metadata": meta}


def pod(
    index: int,
    number: int,
    node: str,
    *,
    dual: bool = True,
    replicas: int = 5,
    unlike: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Change:
    """Pod ``p<number>`` of namespace ``ns<index>`` on a node.

    Args:
        index: of the namespace.
        number: of the pod in it: each ``replicas`` after one another are of one app, and labelled so.
        node: where it is.
        dual: with an IPv6 address beside the IPv4 one.
        replicas: pods of an app.
        unlike: with a label that no other pod has, as pods of a StatefulSet have.
        labels: more of them.
    """
    v4 = 0x0A040002 + (index << 12) + number
    v6 = (0xFD0000100004 << 80) + (index << 64) + 2 + number
    decided = {
        "vni": 5001 + index,
        "mac": ":".join(f"{byte:02x}" for byte in (0x024E << 32 | v4).to_bytes(6, "big")),
        "addresses": [f"{Address(4, v4)}/20", *([f"{Address(6, v6)}/64"] if dual else [])],
    }
    name, ns = f"p{number}", f"ns{index}"
    own = {"statefulset.kubernetes.io/pod-name": name} if unlike else {}
    meta = {
        "name": name,
        "namespace": ns,
        "uid": f"{ns}-{name}",
        "labels": {"app": f"a{number // replicas}", **own, **(labels or {})},
        "annotations": {"ncp/port": orjson.dumps(decided).decode()},
    }
    spec = {"nodeName": node, "containers": [{"name": "main", "ports": CONTAINER_PORTS}]}
    return "Pod", (ns, name), {"metadata": meta, "spec": spec, "status": {"phase": "Running"}}


def node(number: int, *, dual: bool = True) -> Change:
    """Node ``node<number>``."""
    addresses = [
        {"type": "InternalIP", "address": f"192.168.50.{10 + number}"},
        *([{"type": "InternalIP", "address": f"fd50::{10 + number}"}] if dual else []),
    ]
    return "Node", ("", f"node{number}"), {"metadata": {"name": f"node{number}"}, "status": {"addresses": addresses}}


def world(namespaces: int, pods: int, *, nodes: int = 1, dual: bool = True, **options: Any) -> Iterator[Change]:
    """Every object of a world of ``namespaces`` × ``pods``, pods spread over the nodes; ``options`` are those of pods."""
    yield from (node(number + 1, dual=dual) for number in range(nodes))
    for index in range(namespaces):
        yield namespace(index, dual=dual)
        yield from (pod(index, number, f"node{number % nodes + 1}", dual=dual, **options) for number in range(pods))


def translated(namespaces: int, pods: int, **options: Any) -> Translation:
    """A world's translation."""
    return apply_all(start(FABRIC), world(namespaces, pods, **options))[0]


def attachments(state: Translation, at: str = "node1") -> dict[str, int]:
    """Every port of a node attached, from OpenFlow port 16 up."""
    local = sorted(name for name, port in state.intent.ports.items() if port.node == at)
    return {name: 16 + index for index, name in enumerate(local)}
