"""Worlds of any size, as Kubernetes objects with the manager's decisions on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ipam.address import Address, parse_interface
from ncp.translate.intent import Fabric, Translation, apply_all, start

FABRIC = Fabric("bench", 5000, (parse_interface("100.64.0.1/16"), parse_interface("fd98::1/64")), 1500, False, "node1")
Change = tuple[str, tuple[str, str], dict[str, Any]]


def namespace(index: int) -> Change:
    """Namespace ``ns<index>`` with its segment."""
    gateways = [
        str(Address(4, 0x0A040001 + (index << 8))) + "/24",
        str(Address(6, (0xFD0000100004 << 80) + (index << 64) + 1)) + "/64",
    ]
    decided = [{"vni": 5001 + index, "router": 5001 + index, "gateways": gateways, "snat": True}]
    name = f"ns{index}"
    meta = {"name": name, "uid": name, "annotations": {"ncp/segments": orjson.dumps(decided).decode()}}
    return "Namespace", ("", name), {"metadata": meta}


def pod(index: int, number: int, node: str, *, dual: bool = True) -> Change:
    """Pod ``p<number>`` of namespace ``ns<index>`` on a node."""
    v4 = 0x0A040002 + (index << 8) + number
    v6 = (0xFD0000100004 << 80) + (index << 64) + 2 + number
    decided = {
        "vni": 5001 + index,
        "mac": ":".join(f"{byte:02x}" for byte in (0x024E << 32 | v4).to_bytes(6, "big")),
        "addresses": [f"{Address(4, v4)}/24", *([f"{Address(6, v6)}/64"] if dual else [])],
    }
    name, ns = f"p{number}", f"ns{index}"
    meta = {
        "name": name,
        "namespace": ns,
        "uid": f"{ns}-{name}",
        "annotations": {"ncp/port": orjson.dumps(decided).decode()},
    }
    return "Pod", (ns, name), {"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": "Running"}}


def node(number: int) -> Change:
    """Node ``node<number>``."""
    addresses = [
        {"type": "InternalIP", "address": f"192.168.50.{10 + number}"},
        {"type": "InternalIP", "address": f"fd50::{10 + number}"},
    ]
    return "Node", ("", f"node{number}"), {"metadata": {"name": f"node{number}"}, "status": {"addresses": addresses}}


def world(namespaces: int, pods: int, *, nodes: int = 1, dual: bool = True) -> Iterator[Change]:
    """Every object of a world of ``namespaces`` × ``pods``, pods spread over the nodes."""
    yield from (node(number + 1) for number in range(nodes))
    for index in range(namespaces):
        yield namespace(index)
        yield from (pod(index, number, f"node{number % nodes + 1}", dual=dual) for number in range(pods))


def translated(namespaces: int, pods: int, **options: Any) -> Translation:
    """A world's translation."""
    return apply_all(start(FABRIC), world(namespaces, pods, **options))[0]


def attachments(state: Translation, at: str = "node1") -> dict[str, int]:
    """Every port of a node attached, from OpenFlow port 16 up."""
    local = sorted(name for name, port in state.intent.ports.items() if port.node == at)
    return {name: 16 + index for index, name in enumerate(local)}
